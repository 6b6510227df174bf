"""`metarl evaluate`: the evaluation of a run's checkpoint, in a file that says all that is needed to repeat it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.agents import AGENTS, EXAMPLES, entry
from metarl.agents.baselines import goal_blind
from metarl.arguments import Named, glance
from metarl.console import Progress, say
from metarl.counts import plural
from metarl.curves import plot, table
from metarl.devices import one_thread
from metarl.envs import SUITES, Suite, Task, TaskDistribution, make_vec
from metarl.envs.own import find_suite
from metarl.envs.suites import some_of
from metarl.errors import UserError
from metarl.evaluate import MODES, evaluate, side_content
from metarl.kept import Kept
from metarl.learner import Metrics
from metarl.machine import versions
from metarl.names import file_name, suffix
from metarl.pretrained import is_packed
from metarl.ranges import check
from metarl.robots import Setup, trained
from metarl.run import PACKAGES, Checkpoint, Run, git_commit, open_run
from metarl.shown import keep
from metarl.statistics import CONFIDENCE
from metarl.userfiles import arguments, is_named, label_of, name_again, run_file

PROTOCOL = "all-goals"
SLOTS = 25
"""Goals that are played together, always: a matrix product's last digits depend on the number of its rows."""


@dataclass(frozen=True)
class Plan:
    """What is played in an evaluation."""

    trials: int = 1
    """Trials a goal."""
    episodes: int | None = None
    """Episodes a trial; default: as trained."""
    seed: int = 0
    """Of the actions."""
    train_goals: int = 50
    """How many of the train goals to evaluate on, spread evenly over the tasks; 0: none. Held-out goals: always all."""
    validation_goals: int = 0
    """How many goals of the train tasks that are neither trained on nor held out, spread evenly over the tasks."""
    suite: str | None = None
    """Another suite, whose held-out goals are played. Of a run on a suite of your own: its file, PATH.py:NAME."""
    suite_seed: int | None = None
    """Another suite seed: other held-out goals. Those that the run trained on are refused."""
    engine: str = "auto"
    """auto, native or python; with --protocol metaworld auto is python, stock's environments."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check(
            self, trials="[1, inf)", episodes="[1, inf)", train_goals="[0, inf)", validation_goals="[0, 100000]",
            seed="[0, inf)", suite_seed="[0, 4294967294]",
        )  # fmt: skip

    @property
    def suffix(self) -> str:
        """What a file's name says of a plan that is not the default."""
        names = {"trials": "t", "episodes": "e", "seed": "s", "suite": "", "suite_seed": "g", "train_goals": "tr",
                 "validation_goals": "v"}  # fmt: skip
        return suffix(self, names)


def evaluate_checkpoint(
    run: Run, checkpoint: Checkpoint, plan: Plan, *, sides: Sequence[str] = ("train", "validation", "test"),
    modes: Sequence[str] = MODES, protocol: str = PROTOCOL, quiet: bool = False, warnings: Sequence[str] = (),
) -> tuple[dict[str, Any], Path]:  # fmt: skip
    """Evaluate a checkpoint and write evaluations/<protocol>_<checkpoint>.json.

    What was interrupted goes on where it stopped. The file is the same, bit for bit, whenever and with however many
    threads it is made on a machine.

    Args:
        sides: which of these to play, as far as the suite and the plan have them.
        modes: see `metarl.evaluate.evaluate`.
        protocol: begins the file's name.
        warnings: what a reader of the file should know.

    Returns:
        The file's content, and where it is.

    Raises:
        UserError: held-out goals that the run trained on, or nothing to evaluate on.
    """
    setup, shown = prepare(run, checkpoint, plan)
    o, trained = setup.options, setup.suite
    goals = _goals(plan, trained, shown, sides)
    if not goals or ("test" in sides and shown is not trained and "test" not in goals):
        raise UserError(f"{shown.name} holds nothing out: evaluate on train goals (--train-goals)")
    content: dict[str, Any] = {
        **header(run, checkpoint, setup, shown, plan.seed), "protocol": protocol, "trials": plan.trials,
        "episodes": plan.episodes or o.episodes_per_trial, "terminate_on_success": o.terminate_on_success,
        "engine": setup.env.engine.name, "confidence": CONFIDENCE, **({"warnings": list(warnings)} if warnings else {}),
    }  # fmt: skip
    name = f"{protocol}_{checkpoint.path.name}{plan.suffix}"
    counts = {side: len(tasks) for side, tasks in goals.items()}
    work = {**content, "modes": list(modes), "weights": checkpoint.digest, "goals": counts}
    kept = Kept(run.path / "evaluations" / f".{name}.partial", work)
    each = plan.trials * content["episodes"] * o.horizon * len(modes)
    total = sum(map(len, goals.values())) * each
    with one_thread(), Progress(total, what="steps of evaluation", quiet=quiet) as bar:
        done, found = 0, {}
        for side, tasks in goals.items():
            pool = replace((shown.test if side == "test" else None) or trained.train, tasks=tuple(tasks))
            found[side] = _play_side(setup, side, pool, content, modes, kept, partial(_move, bar, done))
            done += len(tasks) * each
    content["sides"] = found
    path = run.store(content, name)
    kept.finish()
    return content, path


def prepare(run: Run, checkpoint: Checkpoint, plan: Plan) -> tuple[Setup, Suite]:
    """The agent as it was at a checkpoint, and the suite whose held-out goals are played."""
    setup = trained(run, checkpoint, device=plan.device, engine=plan.engine)
    o = setup.options
    seed = o.suite_seed if plan.suite_seed is None else plan.suite_seed
    shown = find_suite(plan.suite or setup.suite.name, seed, o.goals, o.task_id and plan.suite is None)
    if shown.test and shown.test.task_ids != setup.suite.train.task_ids:
        raise UserError(f"the run was trained with --task-id, and its ids say nothing of {shown.name}")
    if shown.test and shown.train.make is not setup.suite.train.make:
        env = make_vec(shown.test, 1, engine=plan.engine)
        spaces = env.single_observation_space.shape, env.single_action_space
        env.close()
        if spaces != (setup.env.single_observation_space.shape, setup.env.single_action_space):
            raise UserError(f"{shown.name} has other observation or action spaces than {setup.suite.name}, on which it trained")
    return setup, shown


def header(run: Run, checkpoint: Checkpoint, setup: Setup, shown: Suite, seed: int) -> dict[str, Any]:
    """What the files of all protocols say of what was evaluated on which suite, and by what."""
    o, trained = setup.options, setup.suite
    return {
        "run": run.path.name, "agent": run.config["agent"], "suite": shown.name, "suite_seed": shown.seed,
        "trained_on": {"suite": trained.name, "suite_seed": trained.seed}, "run_seed": o.seed,
        "checkpoint": checkpoint.path.name, "step": checkpoint.step,
        "adapt_every": setup.adapt_every, "horizon": o.horizon,
        "reward": o.reward, "seed": seed, "device": setup.source.device.type, "packages": versions(PACKAGES),
        "git_commit": git_commit(),
    }  # fmt: skip


def refuse_trained(held_out: Sequence[Task], trained: Suite) -> None:
    """Raise UserError where held-out goals are among those that the run trained on."""
    shared = set(held_out) & set(trained.train.tasks)
    if shared:
        raise UserError(
            f"the run trained on {len(shared)} of the {len(held_out)} held-out goals ({trained.name}, suite seed "
            f"{trained.seed}): figures on them would say nothing of adaptation. Choose another --suite-seed"
        )


def _move(bar: Progress, before: int, steps: int) -> None:
    bar.within(before + steps)


def _goals(plan: Plan, trained: Suite, shown: Suite, sides: Sequence[str]) -> dict[str, Sequence[Task]]:
    """The goals of each of these sides that has any."""
    held_out = shown.test.tasks if shown.test and "test" in sides else ()
    refuse_trained(held_out, trained)
    count = plan.validation_goals if "validation" in sides else 0
    validation = trained.validation(count).tasks if count else ()
    train = some_of(trained.train.tasks, plan.train_goals) if "train" in sides else ()
    return {side: some for side, some in {"train": train, "validation": validation, "test": held_out}.items() if some}


def _play_side(
    setup: Setup, side: str, pool: TaskDistribution, content: dict[str, Any], modes: Sequence[str], kept: Kept,
    progress: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    trials, device, tasks = content["trials"], setup.source.device, pool.tasks
    env = make_vec(
        pool, min(SLOTS, len(tasks) * trials), engine=content["engine"] if pool.make is None else "auto",
        horizon=content["horizon"], reward=content["reward"], terminate_on_success=content["terminate_on_success"],
    )  # fmt: skip
    play = partial(evaluate, env=env, tasks=tasks, trials=trials, seed=content["seed"], device=device, kept=kept)
    try:
        curves, std = play(
            setup.agent, episodes=content["episodes"], adapt_every=setup.adapt_every or setup.source.episodes, modes=modes,
            progress=progress, part=side,
        )  # fmt: skip
        figures = side_content(tasks, curves, std, pool.axes)
        hover = None if std is None else goal_blind(setup.suite.train, tuple(std.tolist()), device)
        if hover is not None:
            blind, _ = play(hover, episodes=1, modes=("sampled",), part=f"{side} goal-blind")
            figures["goal_blind"] = side_content(tasks, blind, None)
    finally:
        env.close()
    return figures


_DURING = Plan(validation_goals=50)
"""What is played during training."""


def goals_during_training(setup: Setup) -> Sequence[Task]:
    """What `--evaluate-every` plays.

    Raises:
        UserError: there are no such goals.
    """
    side = setup.options.evaluate_on
    goals = _goals(_DURING, setup.suite, setup.suite, (side,)).get(side)
    if not goals:
        raise UserError(f"{setup.suite.name} holds nothing out for --evaluate-on test: --evaluate-on validation can be tried")
    return goals


def during_training(run: Run, setup: Setup, step: int) -> Metrics:
    """What `--evaluate-every` logs, of one trial a goal with sampled actions: see `TrainOptions.evaluate_on`."""
    o = setup.options
    checkpoint = Checkpoint(run.path / "checkpoints" / f"{step:012d}", step, 0, setup.agent.state_dict(), run.config)
    plan = replace(_DURING, engine=setup.env.engine.name, device=o.device)
    content, _ = evaluate_checkpoint(
        run, checkpoint, plan, sides=(o.evaluate_on,), modes=("sampled",), protocol="training", quiet=True
    )
    figures = content["sides"][o.evaluate_on]["by_episode"]["sampled"]
    return {f"{o.evaluate_on}_{measure}": figures[measure][-1][0] for measure in ("success", "return") if measure in figures}


@dataclass(frozen=True)
class Evaluate:
    """Evaluate runs on the goals that they trained on and on held-out goals: a table, evaluation.json and a plot.

    Every goal gets the same number of trials, every trial the same number of full episodes. Figures are shown by episode
    of the trial: episode 1 is before any experience (k = 0). An interrupted evaluation goes on where it stopped.

    An agent of your own is evaluated by metarl evaluate --agent module:factory SUITE.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """A run directory, or a checkpoint's folder in one; several: each is evaluated, and one plot shows them all."""
    plan: Annotated[Plan, tyro.conf.arg(name="")] = Plan()
    protocol: Literal["all-goals", "metaworld"] = "all-goals"
    """all-goals; or metaworld: the figure of Meta-World's own evaluation code, to stand beside published ones."""
    agent: str | None = None
    """Of a run of an agent of your own: its file, PATH.py:NAME. Files are run only where they are named here."""
    seeds: int = 1
    """metaworld: evaluations, with the seeds seed, seed + 1, ...; published figures are of one."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("name at least one run")
        check(self, seeds="[1, inf)")
        if self.seeds > 1 and self.protocol == PROTOCOL:
            raise UserError("seeds is of --protocol metaworld; all-goals repeats by --trials")
        plain = Plan()
        alike = (self.plan.trials, self.plan.train_goals, self.plan.validation_goals)
        if self.protocol != PROTOCOL and alike != (plain.trials, plain.train_goals, plain.validation_goals):
            raise UserError(
                "--trials, --train-goals and --validation-goals are of --protocol all-goals: stock's rules have none"
            )

    def main(self) -> int:
        """Run the command."""
        opened = [open_run(path) for path in self.runs]  # so that a wrong one is refused before any work
        try:
            contents = [self._one(run, named) for run, named in opened]
        except KeyboardInterrupt:
            say("\nInterrupted: the same command goes on where it stopped")
            raise
        if len(contents) > 1 and self.protocol == PROTOCOL:
            first, *others = (run.path for run, _ in opened)
            picture = first / "evaluations" / f"beside_{file_name(*(path.name for path in others))}.png"
            plot(contents, picture)
            if not self.quiet:
                say(f"\nall in one plot: {picture}")
        return 0

    def _one(self, run: Run, named: Path | None) -> dict[str, Any]:
        checkpoint = run.usable(named, "evaluating")
        if not self.quiet:
            say(f"Evaluating {run.path.name}, checkpoint {checkpoint.path.name} ({plural(checkpoint.step, 'step')})")
        how, plan = f"metarl evaluate {run.path}{arguments(run.config, '')}", self.plan
        changed = name_again(checkpoint.config, plan.suite, self.agent, how=how)
        for change in changed:
            say(f"Beware: {change}")
        if plan.suite and is_named(plan.suite):
            label = label_of(plan.suite)
            plan = replace(plan, suite=None if label == run.config["suite"] else label)
        if self.protocol != PROTOCOL:
            from metarl import metaworld_protocol

            return metaworld_protocol.command(run, checkpoint, plan, seeds=self.seeds, quiet=self.quiet)
        content, path = evaluate_checkpoint(run, checkpoint, plan, quiet=self.quiet, warnings=changed)
        stays = None
        if named is None and plan.suite is None and plan.suite_seed is None:
            stays = keep(run, path)
        picture = path.with_suffix(".png")
        plot([content], picture)
        if not self.quiet:
            table(content)
            say(f"\nwritten: {path}\n         {picture}")
            if stays:
                say(stays)
        return content


def command(args: list[str]) -> int:
    """`metarl evaluate`: of robots, or of a few-shot learner, as the first run that is named; or of an agent of one's own.

    `--agent` beside a run names the file of the agent that it trained; without a run it is an agent to evaluate.
    """
    few_shot, own = (import_module(f"metarl.{name}") for name in ("fewshot.evaluation", "own_evaluation"))
    given = glance(args, Evaluate, few_shot.Evaluate, own.EvaluateOwn)
    place = next((Path(text) for text in given.places if _is_run(text)), None)
    command: type[Any] = Evaluate
    if place is not None:
        command = few_shot.Evaluate if _training(place, given) == EXAMPLES else Evaluate
    elif "agent" in given.options:
        command = own.EvaluateOwn
    return tyro.cli(command, prog="metarl evaluate", args=args).main()


def _is_run(text: str) -> bool:
    """Whether this names a run, or is meant to; a suite is none, whatever folders there are."""
    path = Path(text)
    is_suite = text.partition(":")[0] in {suite.partition(":")[0] for suite in SUITES}
    return is_packed(path) or (path.is_dir() and (not is_suite or (path / "config.json").exists()))


def _training(place: Path, given: Named) -> str:
    """The kind of training of a run; "" where only a file that is not named knows it."""
    config = open_run(place)[0].config
    agent, named = config["agent"], given.options.get("agent")
    if is_named(named) and label_of(str(named)) == agent:
        return entry(run_file(str(named)).label).training
    if is_named(agent) and not given.help:  # its kind of training, and so its options, are unknown
        name_again(config, how=f"metarl evaluate {place}{arguments(config, '')}")
    return AGENTS[agent].training if agent in AGENTS else ""
