"""Command line entry point: dispatch `metarl COMMAND` (see `COMMANDS`), importing only the module of that command."""

import errno
import logging
import os
import signal
import sys
from importlib import import_module
from itertools import pairwise

from metarl.errors import UserError, unknown
from metarl.system import streams
from metarl.system.interrupts import interrupt
from metarl.system.user_code import user_traceback

COMMANDS = {
    "train": ("metarl.commands.train", "", "train an agent on a suite, or resume a run"),
    "evaluate": ("metarl.commands.evaluate", "", "measure adaptation on trained and held-out tasks"),
    "compare": ("metarl.commands.compare", "Compare", "compare two runs on the same goals, or several with seeds grouped"),
    "render": ("metarl.commands.render", "Render", "make a video of the robot before and after it adapts"),
    "report": ("metarl.commands.report", "Report", "show runs on one page that opens offline: verdicts, curves, goals, videos"),
    "adapt": ("metarl.commands.adapt", "Adapt", "adapt a few-shot learner to your own few examples, and predict"),
    "export": ("metarl.commands.export", "Export", "write an agent as ONNX, for use without metarl or torch"),
    "pack": ("metarl.commands.pack", "Pack", "pack a trained agent to give away, with evaluation and model card"),
    "bench": ("metarl.commands.bench", "Bench", "measure steps per second against stock Meta-World, MuJoCo alone, EnvPool"),
    "profile": ("metarl.commands.profile", "", "measure where the time of training goes, next to MuJoCo alone"),
    "list": ("metarl.commands.catalogue", "Catalogue", "list suites, data sets, tasks, engines, agents, presets"),
    "doctor": ("metarl.commands.doctor", "Doctor", "check this machine: versions, threads, GPU, rendering, cache"),
}

REFUSALS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOTSUP,
}
"""System errors caused by the machine's state, reported without a traceback even if they name no file."""


RENAMED = {
    "--horizon": "--max-episode-steps",
    "--slots": "--num-envs",
    "--actions mean": "--actions deterministic",
    "--mode mean": "--mode deterministic",
}
"""Options of version 0.2, and options with their values, and their current names."""


def usage() -> str:
    """Return the help text of `metarl` itself."""
    commands = "\n".join(f"  {name:9s} {text}" for name, (_, _, text) in COMMANDS.items())
    return (
        "usage: metarl COMMAND ...\n\nMeta-reinforcement learning on Meta-World: train an agent that adapts, measure how well\n"
        f"it does on goals that it never saw, and watch it act.\n\n{commands}\n\n"
        "`metarl COMMAND --help` explains a command. To begin:\n"
        "  metarl train rl2 ml1:reach-v3\n  metarl evaluate RUN\n  metarl render RUN\n  metarl report RUN"
    )


def main() -> None:
    """Run the command line. Exit status: 0 done, 2 invalid input or refused by the system, 130 interrupted."""
    signal.signal(signal.SIGTERM, interrupt)  # ends as cleanly as Ctrl-C does
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's job in the background ignores it
        signal.signal(signal.SIGINT, interrupt)
    streams.prepare()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own need not be installed here; commands open no windows
    try:
        status = run(sys.argv[1:])
    except SystemExit as ended:  # tyro's own
        status = int(ended.code or 0)
    sys.exit(streams.finish(status))


def run(args: list[str]) -> int:
    """Run a command and return the exit status."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("metarl").setLevel(logging.WARNING if "--quiet" in args else logging.INFO)
    try:
        if not args or args[0] in ("-h", "--help"):
            print(usage())
            return 0 if args else 2
        if args[0] == "--version":
            from metarl import __version__

            print(f"metarl {__version__}")
            return 0
        if args[0] == "--tyro-print-completion":
            print(import_module("metarl.commands.completion").script("".join(args[1:2]), COMMANDS), end="")
            return 0
        if not sys.platform.startswith("linux"):
            raise UserError(f"metarl runs on Linux; this is {sys.platform}. A Linux container or WSL will do")
        words = [word for arg in args[1:] for word in arg.split("=", 1)]
        for name in (*words, *map(" ".join, pairwise(words))):
            if name in RENAMED:
                raise UserError(f"{name} is now {RENAMED[name]}")
        if args[0] not in COMMANDS:
            raise unknown("command", args[0], COMMANDS)
        module, name, _ = COMMANDS[args[0]]
        if not name:
            return import_module(module).command(args[1:])
        import tyro

        return tyro.cli(getattr(import_module(module), name), prog=f"metarl {args[0]}", args=args[1:]).main()
    except UserError as error:
        if "--debug" in args:
            raise
        print(f"metarl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback = user_traceback(error)  # of what happened in the user's own file
        said = _of_the_system(error) if traceback is None else f"an error in your own code:\n{traceback}"
        if said is None or "--debug" in args:
            raise
        print(f"metarl: {said}", file=sys.stderr)
        return 2


def _of_the_system(error: Exception) -> str | None:
    """Describe a system error in one line; None for other errors."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{str(error.filename)[:100]}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return f"system error: {error.strerror}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return "there is not enough memory for this: smaller sizes need less"
    return None


if __name__ == "__main__":
    main()
