"""Shell completion: `metarl --tyro-print-completion bash` (or zsh) prints a script that completes all commands.

tyro writes a completion script for a single parser, so this module combines all commands, and the agents of `train`, into
one. The script contains every name: completing a command line does not run metarl.
"""

import re
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from typing import Annotated, Any, Union

import tyro

from metarl.agents import AGENTS, find
from metarl.commands import train
from metarl.errors import unknown
from metarl.runs.options import options_of

_FILES = {
    "bash": """
# If no completion matches, complete file names.
_metarl() {
  _tyro_metarl
  if [ -z "${COMPREPLY[*]}" ]; then COMPREPLY=(); fi
}
complete -o default -F _metarl metarl
""",
    "zsh": " || _files\n",
}


def script(shell: str, commands: dict[str, tuple[str, str, str]]) -> str:
    """Return the completion script for a shell.

    Args:
        shell: bash or zsh.
        commands: see `metarl.cli.COMMANDS`.

    Raises:
        UserError: the shell is neither bash nor zsh.
    """
    if shell not in _FILES:
        raise unknown("shell", shell, _FILES)
    training = {
        agent: train.parser(agent, options_of(agent)(), find(agent)[1]["default"].settings, suite_default="")
        for agent in AGENTS
    }
    parsers: dict[str, Any] = {"train": _combined(training)}
    for name, (module, options, _) in commands.items():
        if name not in parsers:
            parsers[name] = getattr(import_module(module), options or name.capitalize())
    output = StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        tyro.cli(_combined(parsers), prog="metarl", args=["--tyro-print-completion", shell])
    # the shell would read a description of several lines as several completions
    text = re.sub(r"^COMPLETION_SPEC = .*$", lambda spec: spec[0].replace(r"\n", " "), output.getvalue(), flags=re.MULTILINE)
    return text.rstrip() + _FILES[shell]


def _combined(parsers: dict[str, Any]) -> Any:
    """Combine parsers into one parser with subcommands."""
    return Union[tuple(Annotated[parser, tyro.conf.subcommand(name)] for name, parser in parsers.items())]  # noqa: UP007
