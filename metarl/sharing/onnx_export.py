"""`metarl export`: write agents as ONNX graphs for onnxruntime. The graphs include the input scaling."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

import metarl
from metarl.agents import CONTROL
from metarl.errors import UserError
from metarl.learner import State
from metarl.nn.graphs import Graph, Input
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.sharing.loading import restored
from metarl.system.devices import one_thread
from metarl.system.file_names import file_name
from metarl.system.ranges import check
from metarl.system.user_code import is_named, telling
from metarl.training.setup import io_spec_of

TOLERANCE = 1e-4
"""Largest accepted difference between onnxruntime and torch, relative to the output's size if that is above 1.

Policies differ by 1e-6. Squared distances are differences of larger numbers and less exact: 1e-5 was seen.
"""
_OPSET = 18
"""ONNX operator set that torch writes without conversion."""


@dataclass(frozen=True)
class Adaptation:
    """The task and experience that an agent adapts to before export."""

    episodes: int = 0
    """Agents that adapt weights (MAML): episodes on the task to adapt to before export; 0: export the shared policy."""
    task: str | None = None
    """Task to adapt to; default: the first of the side."""
    goal: int = 0
    """Index of the task's goal, from 0."""
    side: Literal["train", "test"] = "test"
    """Side to take the goal from: train goals, or held-out goals (test)."""
    seed: int = 0
    """Seed of the actions during adaptation, as in `metarl evaluate`."""

    def __post_init__(self) -> None:
        check(self, episodes="[0, inf)", goal="[0, inf)", seed="[0, inf)")
        if not self.episodes and (self.task is not None or self.goal):
            raise UserError("--task and --goal say what to adapt to: add --episodes to say how long")


def exported(run: Run, checkpoint: Checkpoint, adaptation: Adaptation) -> tuple[Graph, dict[str, str], str]:
    """The graph to export from a checkpoint, its metadata, and the file's name.

    Raises:
        UserError: the run never trained, its agent has no graph, or the task to adapt to does not exist.
    """
    experiment = run.experiment
    name = experiment.agent
    if checkpoint.step == 0:
        raise UserError(f"{run.path} never trained: its policy is still random")
    robots = experiment.training == CONTROL
    if adaptation.episodes and not robots:
        raise UserError("--episodes is for robots: the support of few-shot learners is an input of the graph")
    agent = restored(run, checkpoint, "cpu")
    if not hasattr(agent, "graph"):
        raise UserError(f"{name} cannot be exported: " + _REASONS.get(name, "its agent has no method `graph`"))
    file, state = checkpoint.path.name, agent.initial_state(1)
    adapted_to: dict[str, Any] = {}
    if adaptation.episodes:
        state, adapted_to = _adapted(run, checkpoint, adaptation)
        side = "_train" if adaptation.side == "train" else ""
        file += f"_{file_name(adapted_to['task'])}{side}_g{adaptation.goal}_e{adaptation.episodes}"
    graph = agent.graph(state)
    if is_named(name):
        with telling(f"{name}: its graph, called with its examples,"), torch.no_grad():
            graph.module(*(entry.example for entry in graph.inputs.values()))
    metadata = {
        "agent": name,
        "suite": experiment.suite_name,
        "suite_seed": str(getattr(experiment.options, "suite_seed", "")),
        "run_seed": str(experiment.options.seed),
        "sentence_encoder": experiment.encoder_name or "",
        "step": str(checkpoint.step),
        "git_commit": run.config.get("git_commit") or "",
        "metarl": metarl.__version__,
        "adapted_to": json.dumps(adapted_to),
        "inputs": json.dumps({key: entry.meaning for key, entry in graph.inputs.items()}),
        "outputs": json.dumps(graph.outputs),
        "use": graph.use,
        "carried": json.dumps(dict(graph.carried)),
        "actions": json.dumps(io_spec_of(experiment)["actions"]) if robots else "",
    }
    return graph, metadata, file


_BY_GRADIENTS = "it adapts by gradients on its support; among few-shot learners matching, proto and nearest can"
_REASONS = {
    "maml": _BY_GRADIENTS,
    "transfer": _BY_GRADIENTS,
    "random": "it has no policy",
    "scripted": "it has no policy",
}


def _adapted(run: Run, checkpoint: Checkpoint, adaptation: Adaptation) -> tuple[State, dict[str, Any]]:
    """The agent's state after some episodes on a task, played as in an evaluation, and a description of the task."""
    from metarl.envs import make_vec
    from metarl.evaluation.all_goals import trial_generator
    from metarl.rollouts.random_streams import RESETS, generator
    from metarl.rollouts.trials import play_trial
    from metarl.training.setup import trained_control

    setup = trained_control(run, checkpoint, device="cpu")
    adapt_every = setup.source.episodes
    if setup.agent.phases == 1:
        raise UserError(f"{run.experiment.agent} adapts no weights: export it without --episodes")
    if adaptation.episodes % adapt_every:
        raise UserError(f"this agent adapts after every {adapt_every} episodes: --episodes must be a multiple of {adapt_every}")
    tasks = getattr(setup.suite, adaptation.side)
    if tasks is None:
        raise UserError(f"{setup.suite.name} holds nothing out: --side train")
    name = adaptation.task or tasks.names[0]
    if name not in tasks.names:
        raise UserError(f"{setup.suite.name} has no task {name!r} on that side. There are: {', '.join(tasks.names)}")
    goals = [task for task in tasks.tasks if task.name == name]
    if adaptation.goal >= len(goals):
        raise UserError(f"{name} has goals 0 to {len(goals) - 1}, not {adaptation.goal}")
    task, o = goals[adaptation.goal], setup.options
    env = make_vec(
        replace(setup.suite.train, tasks=(task,)),
        1,
        engine=setup.env.engine.name,
        max_episode_steps=o.max_episode_steps,
        reward=o.reward,
        terminate_on_success=o.terminate_on_success,
    )
    trial = play_trial(
        env,
        setup.agent,
        [task],
        [trial_generator(adaptation.seed, task, 0)],
        episodes=adaptation.episodes,
        adapt_every=adapt_every,
        resets=lambda e: int(generator(adaptation.seed, RESETS, 0, e).integers(2**31)),
        device=torch.device("cpu"),
    )
    try:
        with one_thread():
            while True:
                next(trial)
    except StopIteration as ended:
        state = ended.value
    finally:
        env.close()
    params = list(task.params) if isinstance(task.params, tuple) else task.params
    side, goal, episodes = adaptation.side, adaptation.goal, adaptation.episodes
    return state, {"task": task.name, "params": params, "side": side, "goal": goal, "episodes": episodes}


def to_onnx(graph: Graph, metadata: dict[str, str]) -> bytes:
    """The content of the ONNX file. It is deterministic and contains no file names of this machine.

    Raises:
        UserError: onnx or onnxscript is not installed, or torch cannot export the graph.
    """
    if not all(map(importlib.util.find_spec, ("onnx", "onnxscript"))):
        raise UserError('metarl export needs onnx and onnxscript: pip install "metarl[export]"')
    import onnx

    dims = {axis: torch.export.Dim(axis) for entry in graph.inputs.values() for axis in entry.axes}
    shapes = tuple({i: dims[axis] for i, axis in enumerate(entry.axes)} for entry in graph.inputs.values())
    with _quiet():
        try:
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(entry.example for entry in graph.inputs.values()),
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=shapes,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"torch cannot export the graph of {metadata['agent']}: {reason}") from error
    assert program is not None
    model = program.model_proto
    _strip(model.graph)
    for function in model.functions:
        _strip(function)
    onnx.helper.set_model_props(model, metadata)
    model.doc_string = f"{metadata['agent']} on {metadata['suite']}. {graph.use}"
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _strip(part: Any) -> None:
    """Remove the source locations that torch records for each operation."""
    lists = [getattr(part, name, ()) for name in ("node", "input", "output", "value_info", "initializer")]
    for message in (part, *(entry for entries in lists for entry in entries if not isinstance(entry, str))):
        message.ClearField("doc_string")
        message.ClearField("metadata_props")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's logs and warnings."""
    before = {name: logging.getLogger(name).level for name in ("torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")}
    for name in before:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def difference(content: bytes, graph: Graph, steps: int = 10) -> float:
    """The largest difference between the outputs of onnxruntime and torch for random inputs.

    It is relative to the output's largest entry if that is above 1, since float32 has 24 bits at any size. Compares several
    steps, carrying the state along, once with all free axes of length 1 and once with different lengths.
    """
    run, rng = session(content), np.random.default_rng(0)
    axes = list(dict.fromkeys(axis for entry in graph.inputs.values() for axis in entry.axes))
    largest = 0.0
    for lengths in (dict.fromkeys(axes, 1), {axis: 3 + i for i, axis in enumerate(axes)}):
        carried: dict[str, np.ndarray] = {}
        for _ in range(steps):
            inputs = {name: _drawn(entry, lengths, rng) for name, entry in graph.inputs.items()} | carried
            answers = run(inputs)
            with torch.no_grad():
                expected = graph.module(*(torch.from_numpy(inputs[name]) for name in graph.inputs))
            for name, reference in zip(graph.outputs, expected):
                by_onnx, by_torch = answers[name], reference.numpy()
                same = by_onnx == by_torch  # infinities too
                differences = np.abs(np.where(same, 0.0, by_onnx) - np.where(same, 0.0, by_torch))
                size = np.abs(by_torch[np.isfinite(by_torch)]).max(initial=1.0)
                largest = max(largest, float(differences.max() / size), key=lambda x: (np.isnan(x), x))
            carried = {name: answers[output] for output, name in graph.carried.items()}
    return largest


def _drawn(entry: Input, lengths: dict[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = (*(lengths[axis] for axis in entry.axes), *entry.example.shape[len(entry.axes) :])
    if entry.example.dtype == torch.int64:
        return rng.integers(entry.below, size=shape)
    return rng.standard_normal(shape, np.float32)


def session(content: bytes) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """The file as a function of named arrays to named arrays, run by onnxruntime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    inference = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in inference.get_outputs()]
    return lambda inputs: dict(zip(names, inference.run(names, inputs)))
