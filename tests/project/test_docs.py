"""The documentation: every block of code in README.md and docs/ runs, and what the pages name is there.

Blocks of a page run in their order, in a temporary directory. Python: in one namespace; a block whose first line is `# NAME.py`
is written to that file instead. Commands of metarl: as they stand, with the options of `cheaper` after their own.
"""

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builders.fewshot_runs import make_pictures

from metarl import cli, envs
from metarl.agents import AGENTS, FEW_SHOT
from metarl.envs.rendering.opengl import find_backend
from metarl.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "bash", "csv"}
OTHERS = ("pip install ", "tensorboard ", "python examples/", "export ")
"""How lines of bash begin that are not run: they are no commands of metarl's."""


class Block(NamedTuple):
    """A fenced block: its language, the number of its first line, its text."""

    language: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(one[1], text.count("\n", 0, one.start(2)) + 1, one[2]) for one in found]


def commands(block: Block) -> list[list[str]]:
    """The commands of a block of bash, as words; a redirection to a file is left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if not line.startswith(OTHERS)]
    return [some[: some.index(">")] if ">" in some else some for some in words if some]


# ---------------------------------------------------------------------------------------------------------------------
# running them


def cheaper(args: list[str]) -> list[str]:
    """Options that make a command take a moment: they change sizes, and nothing that a page is about."""
    command, *rest = args
    if command == "train" and "--resume" in rest:
        return ["--steps", "400"] if "--steps" in rest else []
    if command == "train":
        few_shot = rest[0] in AGENTS and AGENTS[rest[0]].training == FEW_SHOT
        if few_shot:
            channels = [] if rest[0] == "nearest" else ["--channels", "4"]
            return "--updates 2 --steps 2 --meta-batch 2 --queries 1 --device cpu".split() + channels
        small = "--num-envs 2 --max-episode-steps 8 --steps 1 --goals 3 --device cpu".split()
        return small + SMALLER.get(rest[0], [])
    if command == "evaluate":
        if "--agent" in rest and not Path(rest[0]).exists():  # an agent of the user's own on a whole suite
            return "--goals 3 --max-episode-steps 8".split()
        if any(_agent(arg) in AGENTS and AGENTS[_agent(arg)].training == FEW_SHOT for arg in rest):
            return "--episodes 20 --queries 1".split()
        small = {
            "metaworld": "--engine native --seeds 1",
            "--trials": "--trials 2",
            "--validation-goals": "--validation-goals 3",
        }
        return " ".join(options for name, options in small.items() if name in rest).split()
    return EXTRA.get(command, [])


SMALLER = {
    "rl2": "--layers 8 --hidden 8 --minibatch 50 --epochs 1".split(),
    "maml-trpo": ["--layers", "8"],
}
EXTRA = {
    "render": "--goals 1 --size 128x96 --fps 5".split(),
    "bench": "--seconds 0.2 --contenders native,bare".split(),
}


def _agent(arg: str) -> str:
    config = Path(arg, "config.json")
    return json.loads(config.read_text())["agent"] if config.exists() else ""


def lacking(args: list[str]) -> str | None:
    """What this machine has not that the command needs; None: nothing."""
    if args[0] == "render":
        try:
            find_backend()
        except UserError as error:
            return str(error)
    if args[0] == "export" and not find_spec("onnx"):
        return "onnx is not installed"
    for data in {"omniglot", "clinc150"} & {arg.partition(":")[0] for arg in args}:
        if not Path(os.environ.get("METARL_DATA", ""), data).is_dir():
            return f"METARL_DATA does not hold {data}"
    return None


def run_command(args: list[str]) -> None:
    """Run a command; it must end with status 0."""
    status: Any
    try:
        status = cli.run([*args, *cheaper(args)])
    except SystemExit as ended:
        status = ended.code or 0
    assert status == 0, shlex.join(["metarl", *args])


def run_python(page: Path, block: Block, namespace: dict[str, Any]) -> None:
    """Run a block, or write the file that it is."""
    named = re.match(r"# (\w+\.py)\n", block.text)
    if named:
        Path(named[1]).write_text(block.text)
    else:  # empty lines before it, so that a traceback shows the page's lines
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of the page "First training", which other pages go on with."""
    folder = tmp_path_factory.mktemp("docs")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for args in (one for block in blocks(ROOT / "docs/first-training.md") for one in commands(block)):
            if args[1] == "train" and "--resume" not in args:
                run_command(args[1:])
    finally:
        os.chdir(before)
    return folder / "runs"


@pytest.fixture
def few_goals() -> Iterator[None]:
    """Twenty goals a task where a page does not say how many."""
    function = envs.suite.__wrapped__
    before = function.__defaults__
    envs.suite.cache_clear()
    function.__defaults__ = (before[0], 20, *before[2:])
    yield
    function.__defaults__ = before
    envs.suite.cache_clear()


def own_data(folder: Path) -> None:
    """The user's own examples that the page on few-shot learning speaks of."""
    make_pictures(folder / "plants", (f"plant{c}" for c in range(30)), 12, size=8)
    rows = ["text,label", *(f"words of kind {c} and number {i},label{c}" for c in range(30) for i in range(12))]
    (folder / "messages.csv").write_text("\n".join(rows))
    for c in range(3):
        shutil.copytree(folder / "plants" / f"plant{c}", folder / "garden" / f"plant{c}")
    shutil.copytree(folder / "plants" / "plant0", folder / "photographs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path, monkeypatch, few_goals, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as python run there has it
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    if page.stem == "few-shot":
        own_data(tmp_path)
    elif blocks(page) and page.stem not in ("README", "first-training"):
        shutil.copytree(request.getfixturevalue("trained"), tmp_path / "runs", symlinks=True)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    left_out = {}
    for block in blocks(page):
        if block.language == "python":
            run_python(page, block, namespace)
        elif block.language == "bash":
            for args in commands(block):
                reason = lacking(args[1:])
                if reason:
                    left_out[shlex.join(args)] = reason
                else:
                    run_command(args[1:])
    if left_out:
        pytest.skip("all ran but " + "; ".join(f"{line} ({reason})" for line, reason in left_out.items()))


def test_lines_about_gymnasium_run_in_a_process_that_does_nothing_else():
    """Here metarl.envs was imported long ago; a reader's process has nothing but what the lines themselves import."""
    lines = ["import gymnasium"]
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        found = re.findall(r"`(gymnasium\.make[^`]*)`", re.sub(r"\s+", " ", prose))
        lines += [re.sub(r"(make_vec\(.*)\)$", r"\1, goals=2)", line) for line in found]  # fewer resets to simulate
    in_blocks = [block.text for page in PAGES for block in blocks(page) if "gymnasium.make" in block.text]
    assert len(lines) > 2
    assert in_blocks
    for code in ("\n".join(lines), *in_blocks):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


# ---------------------------------------------------------------------------------------------------------------------
# what they name


def test_no_block_escapes():
    """Blocks have a language that is known here, and lines of bash are commands of metarl's or of others that are known."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES, (page.name, block.line)
            for args in commands(block) if block.language == "bash" else ():
                assert args[0] == "metarl", (page.name, block.line, args)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_names_are_there(page):
    text = page.read_text()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target
    for command in re.findall(r"`metarl ([a-z]\w*)", prose):
        assert command in cli.COMMANDS, command
    flowing = re.sub(r"\s+", " ", prose)
    for names, file in re.findall(r"((?:`[\w.]+`(?:, | and )?)+) in \[[\w./]+\]\(\.\./([\w./]+)\.py\)", flowing):
        module = import_module(".".join(["metarl", *file.removeprefix("metarl/").split("/")]))
        for name in re.findall(r"`([\w.]+)`", names):
            value: Any = module
            for part in name.split("."):
                assert hasattr(value, part), (name, file)
                value = getattr(value, part)


def test_every_page_can_be_found():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        assert page.stem == "index" or f"]({page.name})" in index
        assert page.stem == "index" or "](index.md)" in page.read_text()


# ---------------------------------------------------------------------------------------------------------------------
# docstrings (that there are any is ruff's rule D1)


def _public() -> Iterator[tuple[str, Any]]:
    """Functions, classes and methods of all modules, those of tasks and compiled code aside."""
    for path in sorted(ROOT.glob("metarl/*.py")) + sorted(ROOT.glob("metarl/*/*.py")):
        if path.stem not in ("__init__", "kernel"):
            module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for name, value in vars(module).items():
                if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_"):
                    yield f"{module.__name__}.{name}", value
                    for key, inner in vars(value).items() if inspect.isclass(value) else ():
                        if inspect.isfunction(inner) and not key.startswith("_"):
                            yield f"{module.__name__}.{name}.{key}", inner


def test_docstrings_name_the_parameters_that_there_are():
    """An "Args:" section names no parameter that the function, or the class's `__init__`, does not have."""
    wrong = []
    for name, value in _public():
        section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", (inspect.getdoc(value) or "") + "\n", re.MULTILINE)
        if section is None or not callable(value):
            continue
        said = {one.strip() for line in re.findall(r"^    (\w[\w, ]*):", section[1], re.MULTILINE) for one in line.split(",")}
        there = set(inspect.signature(inspect.unwrap(value)).parameters) - {"self"}
        if said - there:
            wrong.append(f"{name}: there is no {', '.join(sorted(said - there))}")
    assert not wrong, "\n".join(wrong)
