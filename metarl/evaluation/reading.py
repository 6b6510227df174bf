"""Reads evaluation files for commands, and reports a faulty file in a one-line UserError."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metarl.agents import CONTROL, FEW_SHOT
from metarl.errors import UserError
from metarl.evaluation import control_schema, fewshot_schema, schema
from metarl.evaluation.schema import FAULTS

CHECKS: dict[str, Callable[[dict[str, Any]], Any]] = {CONTROL: control_schema.whole, FEW_SHOT: fewshot_schema.whole}
"""The checker of evaluations, by kind of training."""


def training(content: Any) -> str | None:
    """The kind of training of the evaluated run; None if the protocol is neither `all-goals` nor `episodes`."""
    if not isinstance(content, dict) or not isinstance(content.get("sides"), dict):
        return None
    return FEW_SHOT if "measure" in content else CONTROL if "trials" in content else None


def checked(content: Any, file: Path) -> Any:
    """Check that an evaluation has everything a report uses, and return it.

    Args:
        content: the content of a file.
        file: its path.

    Raises:
        UserError: something is missing, or the protocol is neither `all-goals` nor `episodes`.
    """
    kind = training(content)
    if kind is None:
        raise UserError(f"{file} is not an evaluation of all goals or by episodes (metarl evaluate RUN makes one)")
    try:
        return CHECKS[kind](content)
    except KeyError:
        raise UserError(f"{file} was made by another version of metarl: evaluate that run again") from None
    except FAULTS:
        raise UserError(f"{file} is damaged or not an evaluation") from None


def evaluation(file: Path) -> Any:
    """Read and check the evaluation in a file.

    Raises:
        UserError: it cannot be read, is damaged, or its protocol is neither `all-goals` nor `episodes`.
    """
    try:
        content = schema.read(file)
    except OSError as error:
        raise UserError(f"could not read {file}: {error.strerror}") from None
    except FAULTS:
        raise UserError(f"{file} is damaged or not an evaluation") from None
    return checked(content, file)
