"""Check the pages of `metarl report` in a real browser."""

from pathlib import Path
from typing import Any

from builders import browser
from hypothesis import strategies as st

from metarl import cli

JUNK = st.sampled_from([None, [], {}, "x", -1, 0, 10**400, [None], [[]], {"sampled": 1}, True, "<b>"])
"""Values that may replace any value in a damaged file."""

WAITS = """Promise.all([...document.querySelectorAll('img,video')].map(e => e.complete || e.readyState > 1 ? 0 :
           new Promise(done => ['load', 'loadeddata', 'error'].forEach(name => e.addEventListener(name, done)))))"""


def spoil(data: st.DataObject, content: Any) -> None:
    """Replace a random value in a file's content by one of `JUNK`."""
    container = content
    while True:
        key = data.draw(st.sampled_from(sorted(container) if isinstance(container, dict) else range(len(container))))
        if not isinstance(container[key], dict | list) or not container[key] or data.draw(st.integers(0, 3)) == 0:
            break
        container = container[key]
    container[key] = data.draw(JUNK)


def report(*args: Path | str) -> int:
    """Run `metarl report`; returns the exit status."""
    return cli.run(["report", *map(str, args), "--quiet"])


def check_page(chromium: browser.Browser, page: Path) -> None:
    """Assert that the page renders completely, without errors, and requests nothing outside itself."""
    chromium.open(page)
    chromium.run(WAITS)
    assert chromium.errors == []
    assert [url for url in chromium.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert chromium.run("[...document.images].filter(i => !i.naturalWidth || !i.alt).length") == 0
    assert chromium.run("[...document.querySelectorAll('video')].filter(v => v.readyState < 2 || !v.videoWidth).length") == 0
    assert chromium.run("document.scripts.length") == 0
    assert (
        chromium.run("[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.querySelector(a.hash)).length")
        == 0
    )


def text(chromium: browser.Browser) -> str:
    """The text of the page."""
    return plain(chromium.run("document.body.innerText"))


def plain(text: str) -> str:
    """Replace no-break spaces by plain ones."""
    return text.replace("\N{NO-BREAK SPACE}", " ")
