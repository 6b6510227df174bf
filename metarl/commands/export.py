"""`metarl export`: writes a trained agent as an ONNX graph."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.errors import UserError
from metarl.sharing.onnx_export import TOLERANCE, Adaptation, difference, exported, to_onnx
from metarl.sharing.opening import open_run
from metarl.system.console import say
from metarl.system.files import write_atomically, writing
from metarl.system.user_code import arguments, name_again


@dataclass(frozen=True)
class Export:
    """Export a trained agent as ONNX, for use without metarl, torch or Meta-World.

    The graph of RL² computes one step, with the hidden state as an input and an output. That of MAML and related agents is the
    policy, either shared or adapted to a task by playing some episodes there. That of a few-shot learner turns support, labels
    and queries into logits. The file's metadata explains its inputs and outputs and how to use them.
    """

    run: tyro.conf.Positional[Path]
    """A run directory, a checkpoint's folder in one, or pretrained:NAME."""
    out: Path | None = None
    """The file to write. Default: exports/<checkpoint>.onnx in the run directory."""
    adaptation: Annotated[Adaptation, tyro.conf.arg(name="")] = Adaptation()
    agent: str | None = None
    """If the run's agent is your own: its file, PATH.py:NAME. metarl runs only files that you name here."""
    suite: str | None = None
    """If the run's suite is your own and --episodes plays on it: its file, PATH.py:NAME."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        run, requested = open_run(self.run)
        checkpoint = run.usable(requested, "exporting")
        command = f"metarl export {run.path}{arguments(run.config, '')}"
        needed = ("agent", "suite") if self.adaptation.episodes else ("agent",)
        for change in name_again(checkpoint.config, self.agent, self.suite, how=command, needed=needed):
            say(f"Beware: {change}")
        graph, metadata, name = exported(run, checkpoint, self.adaptation)
        content = to_onnx(graph, metadata)
        largest = difference(content, graph) if importlib.util.find_spec("onnxruntime") else None
        if largest is not None and not largest <= TOLERANCE:
            raise UserError(f"onnxruntime's outputs differ from torch's by {largest:.1e} of their size: nothing was written")
        path = self.out or run.path / "exports" / f"{name}.onnx"
        with writing(str(path)):
            write_atomically(path, content)
        if not self.quiet:
            say(f"written: {path} ({len(content) / 1e6:.2f} MB)")
            for title, entries in (("inputs", metadata["inputs"]), ("outputs", metadata["outputs"])):
                say(f"{title}:" + "".join(f"\n  {key}: {value}" for key, value in json.loads(entries).items()))
            say(metadata["use"])
            size = "of the outputs' size (of 1, where that is below 1)"
            comparison = (
                "onnxruntime is not installed: not checked" if largest is None else f"largest difference {largest:.1e} {size}"
            )
            say(f"onnxruntime against torch: {comparison}")
        return 0
