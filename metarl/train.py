"""Training: the one loop, and `metarl train`."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from safetensors.torch import save as save_tensors

from metarl.agents import AGENTS, find
from metarl.cache import write_atomically
from metarl.console import Progress, say
from metarl.counts import Count
from metarl.devices import choose_device
from metarl.envs import MetaVectorEnv, Suite, make_vec, suite
from metarl.errors import UserError, unknown
from metarl.learner import Agent, Metrics, NonFiniteError
from metarl.machine import EnergyMeter
from metarl.rollout import Trials
from metarl.run import Run, copied, default_path, open_run, refuse_existing, split


@dataclass(frozen=True)
class TrainOptions:
    """Options that every agent shares."""

    seed: int = 1
    """Of weights, sampling and exploration. It does not move the goals."""
    suite_seed: int = 1
    """Decides the goals, train and held out."""
    goals: Count = 50
    """Goals of each task; Meta-World's own number is 50."""
    task_id: bool = False
    """Show the task as one-hot (multi-task suites)."""
    steps: Count = 2_000_000
    """Environment steps over all slots, such as 2e6; rounded up to whole iterations."""
    num_envs: int = 20
    """Slots: tasks of an iteration."""
    episodes_per_trial: int = 10
    """Episodes in which the agent may adapt to a task."""
    horizon: int = 500
    """Steps of an episode."""
    device: str = "auto"
    """auto, cpu or cuda."""
    engine: str = "auto"
    """auto, native or python: see `metarl list`."""
    reward: str = "v2"
    """Meta-World's version of the reward: v2, or v1 (figures published before 2021)."""
    terminate_on_success: bool = False
    """End episodes at their first success. Agents then learn to stop just short of the goal and collect reward."""
    preset: str | None = None
    """Published settings instead of this project's own: see `metarl list`. Options given beside it still count."""
    run_dir: Path | None = None
    """Where the run is kept. Default: runs/<agent>_<suite>_s<seed>_<time>."""
    checkpoint_every: int = 1
    """Iterations between checkpoints."""
    keep_checkpoints: int = 3
    """How many of the newest checkpoints are kept; 0: all."""
    evaluate_every: int = 0
    """Iterations between evaluations during training; 0: none."""
    evaluate_on: str = "validation"
    """validation: goals of the train tasks that are neither trained on nor held out. test: the held-out goals; a run whose
    figures on them were seen while choices were made says little of new goals, so reports mark it."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "episodes_per_trial", "horizon", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.evaluate_every, self.keep_checkpoints, self.seed) < 0:
            raise UserError("evaluate_every, keep_checkpoints and seed must be at least 0")
        if self.evaluate_on not in ("validation", "test"):
            raise UserError(f"evaluate_on must be validation or test, not {self.evaluate_on!r}")

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of an iteration."""
        return self.num_envs * self.episodes_per_trial * self.horizon

    @property
    def iterations(self) -> int:
        """Iterations that reach `steps`."""
        return math.ceil(self.steps / self.steps_per_iteration)


class Setup(NamedTuple):
    """What a configuration stands for."""

    options: TrainOptions
    suite: Suite
    env: MetaVectorEnv
    agent: Agent
    source: Trials


def read_config(config: dict[str, Any]) -> tuple[Any, TrainOptions]:
    """The agent's settings and the options that config.json holds.

    Raises:
        UserError: it does not fit this version.
    """
    try:
        _, presets = find(config["agent"])
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in config["settings"].items()}
        return type(presets["default"].settings)(**settings), TrainOptions(**config["options"])
    except (TypeError, KeyError) as error:
        raise UserError(f"config.json does not fit this version: {error}") from None


def set_up(config: dict[str, Any], num_envs: int | None = None, **changed: Any) -> Setup:
    """Make what config.json describes: suite, environments (num_envs: another number of them), an untrained agent.

    Args:
        config: as in config.json.
        num_envs: slots; None: as configured.
        changed: options that replace the configured ones.
    """
    settings, options = read_config(config)
    options = replace(options, **changed)
    agent_class, _ = find(config["agent"])
    made = suite(config["suite"], options.suite_seed, options.goals, options.task_id)
    device = choose_device(options.device)
    env = make_vec(
        made.train, num_envs or options.num_envs, engine=options.engine, horizon=options.horizon, reward=options.reward,
        terminate_on_success=options.terminate_on_success,
    )  # fmt: skip
    agent = agent_class(
        settings, env.single_observation_space, env.single_action_space, env.input_scale, seed=options.seed,
        device=device, total_iterations=options.iterations,
    )  # fmt: skip
    episodes, rest = divmod(options.episodes_per_trial, agent.phases)
    if rest or not episodes:
        env.close()
        raise UserError(
            f"a trial of this agent has {agent.phases} phases of equal length: episodes_per_trial must be a multiple of "
            f"{agent.phases}, not {options.episodes_per_trial}"
        )
    source = Trials(env, made.train, episodes, options.seed, device)
    return Setup(options, made, env, agent, source)


def configuration(agent: str, suite_name: str, options: TrainOptions, settings: Any) -> dict[str, Any]:
    """The content of config.json, but for what `Run.create` adds."""
    plain = {**asdict(options), "run_dir": None}
    return {"agent": agent, "suite": suite_name, "options": plain, "settings": asdict(settings)}


def train(run: Run, setup: Setup, start: int = 0, step: int = 0) -> None:
    """Train from iteration `start` to the end, with a checkpoint before the first step and at borders of iterations.

    Ctrl-C and SIGTERM give the current iteration up, save the last border and raise KeyboardInterrupt; a second one
    ends the process at once.

    Raises:
        UserError: a file could not be written, or the loss became NaN (what is needed to look into it is saved).
        KeyboardInterrupt: interrupted; the run can be resumed.
    """
    options, agent, source = setup.options, setup.agent, setup.source
    torch.set_num_threads(1)  # acting is many tiny products, which a second thread only slows down
    total = options.iterations
    border = (step, start, copied(agent.state_dict()))
    saved, meter = start, EnergyMeter()
    if start == 0:
        run.save(*border, options.keep_checkpoints)
    with _interruptible() as signals, Progress(total * options.steps_per_iteration, step, quiet=options.quiet) as bar:
        try:
            for iteration in range(start, total):
                began = time.perf_counter()
                source.progress = lambda share, s=step: bar.within(s + 0.5 * share * options.steps_per_iteration)  # type: ignore[misc]
                metrics = agent.iterate(source, iteration)
                seconds = time.perf_counter() - began
                report = source.report()
                taken = int(report.pop("steps"))
                if options.evaluate_every and (iteration + 1) % options.evaluate_every == 0:
                    metrics |= _evaluate(run, setup, step + taken)
                with signals.held():
                    step += taken
                    border = (step, iteration + 1, copied(agent.state_dict()))
                    line: dict[str, Any] = {"iteration": iteration, "step": step, **report, **metrics}
                    cost = {"seconds": round(seconds, 3), "steps_per_second": round(taken / seconds, 1)}
                    joules = meter.joules()
                    run.log({**line, **cost, **({} if joules is None else {"joules": round(joules, 1)})})
                    if (iteration + 1) % options.checkpoint_every == 0 or iteration + 1 == total:
                        run.save(*border, options.keep_checkpoints)
                        saved = iteration + 1
                bar.line(step, line, taken / seconds)
        except NonFiniteError as error:
            folder = run.path / f"failure-{iteration}"
            _keep_failure(folder, agent, error)
            raise UserError(
                f"iteration {iteration}: {error}. The last checkpoint stands; weights and data of the failing minibatch "
                f"are in {folder}"
            ) from None
        except KeyboardInterrupt:
            if border[1] > saved:
                run.save(*border, options.keep_checkpoints)
            given_up = f"iteration {border[1]} was given up; " if border[1] < total else ""
            say(f"\nInterrupted: {given_up}saved at {border[0]:,} steps. Go on with: metarl train --resume {run.path}")
            raise
        finally:
            setup.env.close()
            run.close()


def _evaluate(run: Run, setup: Setup, step: int) -> Metrics:
    from metarl.evaluation import during_training  # which needs this module

    return during_training(run, setup, step)


def _keep_failure(folder: Path, agent: Agent, error: NonFiniteError) -> None:
    tensors, _ = split({"data": error.tensors, "agent": agent.state_dict()})
    write_atomically(folder / "tensors.safetensors", save_tensors(tensors))


class _Signals:
    """SIGINT and SIGTERM as KeyboardInterrupt; what must not be cut in two holds it back.

    A mask of signals would not do: another thread would take the signal, and Python hand it to this one.
    """

    def __init__(self) -> None:
        self.holding = self.pending = False

    def handle(self, number: int, frame: Any) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_DFL)  # a second one ends the process at once
        if not self.holding:
            raise KeyboardInterrupt
        self.pending = True

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.pending:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[_Signals]:
    signals = _Signals()
    before = {one: signal.signal(one, signals.handle) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def start_training(agent: str, suite_name: str, options: TrainOptions, settings: Any) -> Run:
    """`metarl train AGENT SUITE`: a new run, trained to its end."""
    config = configuration(agent, suite_name, options, settings)
    path = options.run_dir or default_path(agent, suite_name, options.seed)
    refuse_existing(path)  # before the work, and after it nothing is left behind where the work was refused
    setup = set_up(config)
    run = Run.create(path, config)
    if not options.quiet:
        _announce(run, setup)
    train(run, setup)
    return run


RESUMABLE = (
    "steps",
    "device",
    "engine",
    "checkpoint_every",
    "keep_checkpoints",
    "evaluate_every",
    "evaluate_on",
    "quiet",
    "debug",
)
"""Options that a resumed run may be given anew; all others are part of its mathematics."""


def resume_training(path: Path, given: dict[str, Any]) -> Run:
    """`metarl train --resume RUN`: go on from the last whole checkpoint.

    Args:
        path: the run directory, or a checkpoint's folder in it.
        given: what config.json is to say: as it is, but for what is resumed with.

    Raises:
        UserError: what is given, or config.json, differs from what the checkpoint was trained with in more than `RESUMABLE`.
    """
    run, named = open_run(path)
    run.lock()
    checkpoint, problems = run.load(named)
    different = [line for name, line in _differences(checkpoint.config, given).items() if name not in RESUMABLE]
    if different:
        raise UserError(f"{run.path} was trained with other settings: {'; '.join(different)}. Start a new run with them")
    changed = {name: given["options"][name] for name in RESUMABLE if given["options"][name] != run.config["options"].get(name)}
    if given["options"]["device"] == "cuda" and "device" not in changed and not torch.cuda.is_available():
        say("This run was trained on a GPU and there is none here: going on on the CPU; figures will differ in the last digits")
        changed["device"] = "auto"
    setup = set_up(run.config, **changed)
    options = setup.options
    for problem in problems:
        say(f"{problem}: going on from the one before")
    setup.agent.load_state_dict(checkpoint.state)
    if checkpoint.iteration >= options.iterations:
        say(f"{run.path} is trained to its end, {checkpoint.step:,} steps; --steps trains it further")
        setup.env.close()
        return run
    for later in run.checkpoints():
        if int(later.name) > checkpoint.step and named:
            raise UserError(f"{run.path} has later checkpoints than {named.name}: resume the run, or copy it and delete them")
    run.config["options"] |= {key: value for key, value in asdict(options).items() if key in changed}
    run.write_config()
    run.drop_metrics_after(checkpoint.iteration)
    if not options.quiet:
        say(f"Going on at {checkpoint.step:,} steps")
        if "steps" in changed:
            say("Another length than before: what falls over training (learning rate, entropy bonus) follows the new one")
        _announce(run, setup)
    train(run, setup, checkpoint.iteration, checkpoint.step)
    return run


def _differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What two configurations differ in, in words, by the setting's name."""
    flat = [
        {"agent": c["agent"], "suite": c["suite"], **c["options"], **json.loads(json.dumps(c["settings"]))}
        for c in (before, now)
    ]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    return {name: f"{name} was {flat[0].get(name)}, not {flat[1].get(name)}" for name in names}


def _announce(run: Run, setup: Setup) -> None:
    o, total = setup.options, setup.options.iterations * setup.options.steps_per_iteration
    rounded = f" ({o.steps:,} rounded up to whole iterations)" if total != o.steps else ""
    say(
        f"Training {run.config['agent']} on {run.config['suite']} ({len(setup.suite.train)} train tasks): {total:,} steps"
        f"{rounded}, {o.iterations} iterations of {o.num_envs} trials of {o.episodes_per_trial} x {o.horizon} steps.\n"
        f"Engine {setup.env.engine.name}, device {setup.source.device}. Run directory: {run.path}"
    )


def _usage() -> str:
    agents = "\n".join(f"  {name:14s} {entry.help}" for name, entry in AGENTS.items())
    return (
        "usage: metarl train AGENT SUITE [options]      a new run\n"
        "       metarl train --resume RUN [options]     go on with one\n\n"
        f"agents:\n{agents}\n\nmetarl train rl2 --help shows all options; metarl list shows suites and presets.\n"
        "For example: metarl train rl2 ml1:reach-v3"
    )


def command(args: list[str]) -> int:
    """`metarl train`: parse, train. The agent's own settings are options too; a preset moves their defaults.

    With --resume the defaults are the run's own.
    """
    resumed = _value_of("--resume", args)
    if not args or (args[0].startswith("-") and resumed is None):
        say(_usage())
        return 0 if args and args[0] in ("-h", "--help") else 2
    agent = None if args[0].startswith("-") else args[0]
    run = open_run(Path(resumed))[0] if resumed else None
    chosen = agent or (run.config["agent"] if run else "")
    _, presets = find(chosen)
    name = _value_of("--preset", args) or "default"
    if name not in presets:
        raise unknown("preset", name, presets)
    own, shared = presets[name].settings, TrainOptions(**presets[name].options)
    if run is not None and run.config["agent"] == chosen:
        own, shared = read_config(run.config)
        shared = replace(shared, quiet=False, debug=False)

    @dataclass(frozen=True)
    class Train:
        suite: tyro.conf.Positional[str] = run.config["suite"] if run else tyro.MISSING
        """What to train on: ml1:reach-v3, ml10, ... (see `metarl list`)."""
        resume: Path | None = None
        """Go on with this run from its last whole checkpoint, exactly as if it had never stopped. Beside it there may be
        --steps, --device, --engine, --checkpoint-every, --keep-checkpoints, --evaluate-every, --evaluate-on, --quiet."""
        options: Annotated[TrainOptions, tyro.conf.arg(name="")] = shared
        settings: Annotated[type(own), tyro.conf.arg(name="")] = own  # type: ignore[valid-type]

    Train.__doc__ = f"Train {chosen} on a suite: {AGENTS[chosen].help}."
    given = tyro.cli(Train, prog=f"metarl train {chosen}", args=args[1:] if agent else args)
    if given.resume is None:
        start_training(chosen, given.suite, given.options, given.settings)
    else:
        now = configuration(chosen, given.suite, given.options, given.settings)
        if given.options.run_dir is not None:
            raise UserError("--run-dir is for new runs: a resumed run goes on where it is")
        resume_training(given.resume, now)
    return 0


def _value_of(option: str, args: list[str]) -> str | None:
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None
