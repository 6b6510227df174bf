"""`metarl pack`: write a trained agent to a folder for sharing, with its evaluation and a model card."""

import json
import os
import re
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_tensors

import metarl
from metarl.agents import AGENTS
from metarl.errors import UserError
from metarl.evaluation import control_schema, schema
from metarl.evaluation.reading import CHECKS
from metarl.evaluation.schema import Content
from metarl.evaluation.shown import as_trained, best, evaluations
from metarl.evaluation.vocabulary import METAWORLD
from metarl.runs.checkpoints import RESUME_ONLY, Checkpoint, split
from metarl.runs.directory import Run
from metarl.runs.looks import LOOKS
from metarl.sharing.card import card
from metarl.sharing.locations import CARD, CONFIG, EVALUATION, WEIGHTS
from metarl.sharing.packed import PACKED_FORMAT, open_packed
from metarl.system.file_names import file_name
from metarl.system.files import put_folder, write_atomically, writing
from metarl.training.setup import io_spec_of

_UNSAID: dict[str, Any] = {"run_dir": None, "device": "auto", "quiet": False, "debug": False}
"""Options that do not describe the model, and their values in a packed model."""


def pack(run: Run, checkpoint: Checkpoint, folder: Path | None = None, licence: str = "mit") -> tuple[Path, bool]:
    """Write a packed model.

    Args:
        folder: where to write it; default: packed/<agent>_<suite>_s<seed>.
        licence: its licence, by Hugging Face's identifier.

    Returns:
        The folder, and whether it includes an evaluation of the checkpoint.

    Raises:
        UserError: the run never trained, its agent or tasks come from a Python file, the folder exists and is not empty, or
            the licence is not one word.
    """
    if checkpoint.step == 0:
        raise UserError(f"{run.path} never trained: there is nothing to pack")
    agent, suite = run.config["agent"], run.config["suite"]
    if agent not in AGENTS or re.search(r"\.py\b", suite):
        raise UserError("an agent or suite from a Python file cannot be packed: a packed model holds no code")
    experiment = run.experiment
    if folder is None:
        folder = Path("packed", f"{file_name(agent, experiment.suite_name)}_s{experiment.options.seed}")
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise UserError(f"{folder} exists already: name another --out, or delete it")
    if not re.fullmatch(r"[\w.+-]+", licence):
        raise UserError(f"a licence is one word, such as mit or apache-2.0, not {licence!r}")
    tensors, rest = split({key: value for key, value in checkpoint.state.items() if key not in RESUME_ONLY})
    options = run.config["options"] | _UNSAID
    if "sentence_encoder" in options:
        options["sentence_encoder"] = experiment.encoder_name
    config = {
        "packed": PACKED_FORMAT,
        "metarl": metarl.__version__,
        "agent": agent,
        "suite": experiment.suite_name,
        "step": checkpoint.step,
        "iteration": checkpoint.iteration,
        "options": options,
        "settings": run.config["settings"],
        "io_spec": io_spec_of(experiment),
        "rest": rest,
        **{key: run.config.get(key) for key in ("packages", "python", "git_commit")},
    }
    check = CHECKS[experiment.training]
    stored = [content for content in evaluations(run) if _is_whole(content, check)]
    of_weights = best(content for content in stored if content["checkpoint"] == checkpoint.path.name)
    evaluation, stock, looks = (
        _moved(content, suite, experiment.suite_name) for content in (of_weights, _stock(run, checkpoint), run.looks())
    )
    films = sorted((run.path / "videos").glob(f"{checkpoint.path.name}*"), key=lambda file: file.stat().st_mtime)
    film = next((file for file in reversed(films) if file.suffix in (".mp4", ".gif")), None)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(str(folder)):
        try:
            write_atomically(temporary / WEIGHTS, save_tensors(tensors))
            write_atomically(temporary / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
            if evaluation is not None:
                write_atomically(temporary / EVALUATION, (json.dumps(evaluation) + "\n").encode())
            if film is not None:
                shutil.copyfile(film, temporary / f"video{film.suffix}")
            name = f"video{film.suffix}" if film else None
            if looks is not None:
                write_atomically(temporary / Path(LOOKS).name, "".join(f"{json.dumps(look)}\n" for look in looks).encode())
            text = card(folder.name, licence, config, evaluation, stock, name, looks, stored)
            write_atomically(temporary / CARD, text.encode())
            open_packed(temporary)  # check that the packed model can be read
            if folder.exists():
                folder.rmdir()
            put_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder, evaluation is not None


def _stock(run: Run, checkpoint: Checkpoint) -> Content | None:
    """The evaluation of this checkpoint by Meta-World's own protocol on the training suite, with the most seeds; or None."""
    by_seeds = []
    for file in sorted((run.path / "evaluations").glob(f"{METAWORLD}_*_{checkpoint.path.name}*.json")):
        try:
            content: Any = control_schema.whole_upstream(schema.read(file))
            by_seeds += [(len(content["sides"]["test"]["seeds"]), content)] if as_trained(content) else []
        except schema.FAULTS:
            continue
    return max(by_seeds, key=lambda seeds_and_content: seeds_and_content[0])[1] if by_seeds else None


def _is_whole(content: Content, check: Callable[[dict[str, Any]], Any]) -> bool:
    try:
        check(deepcopy(dict(content)))  # a copy, as the check removes damaged optional parts
    except schema.FAULTS:
        return False
    return True


def _moved(value: Any, place: str, name: str) -> Any:
    """A copy of JSON content in which the suite's name replaces its path on this machine."""
    if isinstance(value, dict):
        return {key: _moved(inner, place, name) for key, inner in value.items()}
    if isinstance(value, list):
        return value if value and isinstance(value[0], float) else [_moved(inner, place, name) for inner in value]
    path = place.partition(":")[2]
    return value.replace(place, name).replace(path, Path(path).name) if isinstance(value, str) and place != name else value
