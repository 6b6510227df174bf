"""`metarl pack`: writes a trained agent to a folder that can be shared."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from metarl.sharing.opening import open_run
from metarl.sharing.packing import pack
from metarl.system.console import say


@dataclass(frozen=True)
class Pack:
    """Pack a trained agent for others: weights (safetensors), settings, evaluation, a video if there is one, a model card.

    The card follows Hugging Face's format. The folder contains no paths of this machine, no pickle and no code. Use it as
    `pretrained:FOLDER`, or as `pretrained:NAME` if METARL_PRETRAINED names its parent directory.
    """

    run: tyro.conf.Positional[Path]
    """A run directory, or a checkpoint's folder in one."""
    out: Path | None = None
    """The folder to write; its name becomes the model's. Default: packed/<agent>_<suite>_s<seed>."""
    license: str = "mit"
    """The model's license, as Hugging Face writes it: mit, apache-2.0, cc-by-4.0, other, ..."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        run, requested = open_run(self.run)
        checkpoint = run.usable(requested, "packing")
        folder, evaluated = pack(run, checkpoint, self.out, self.license)
        if not self.quiet:
            size = sum(file.stat().st_size for file in folder.iterdir())
            say(f"written: {folder} ({size / 1e6:.1f} MB): {', '.join(sorted(file.name for file in folder.iterdir()))}")
            if not evaluated:
                say(f"It is not evaluated, and its card says so: metarl evaluate {self.run}, then pack it again")
        return 0
