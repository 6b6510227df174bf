"""README, docs and the model cards as Markdown shows them: links, images and marks are whole."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("agents/pretrained/*/README.md"))]


def inline(text: str) -> Iterator[list[Token]]:
    """What stands in each paragraph, heading and cell."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "inline":
            yield token.children or []


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get where such pages are shown."""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_are_whole(page):
    text = page.read_text()
    body = re.sub(r"\A---\n.*?^---\n", "", text, flags=re.MULTILINE | re.DOTALL)  # of cards, for machines
    targets = []
    for children in inline(body):
        shown = "".join(token.content for token in children if token.type == "text")
        assert not re.search(r"\]\(|\]\[|!\[|\*\*|`", shown), f"this is shown as it is written: {shown}"
        targets += [str(t.attrs.get("href") or t.attrs.get("src")) for t in children if t.type in ("link_open", "image")]
    for target in targets:
        if target.startswith("http"):
            assert re.fullmatch(r"https?://[\w-]+(\.[\w-]+)+(/\S*)?", target), target
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path) if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_who_was_told_to_run_a_script_is_told_how_to_run_metarl():
    """The scripts install into a virtual environment, whose commands the shell does not know until it is activated."""
    for place in (ROOT / "README.md", ROOT / "scripts" / "quickstart"):
        assert re.search(r"source \S*/bin/activate", place.read_text()), place
