"""Which device computes."""

import torch

from metarl.errors import UserError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The device of a name of `DEVICES`; auto: the GPU where there is one.

    Raises:
        UserError: unknown name, or cuda where torch finds none.
    """
    if name not in DEVICES:
        raise UserError(f"device must be {', '.join(DEVICES)}, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        why = "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no GPU"
        raise UserError(f"no CUDA device: {why}; --device auto or cpu trains on the CPU")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
