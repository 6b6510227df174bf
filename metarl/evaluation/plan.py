"""Defines what an evaluation of an acting agent plays, and the header that its file gets under any protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

from metarl.envs import Suite, Task, make_vec
from metarl.envs.suites import balanced_subset
from metarl.envs.user_defined import find_suite
from metarl.errors import UserError
from metarl.evaluation.control_schema import Played
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.runs.provenance import PACKAGES, git_commit
from metarl.system.file_names import suffix
from metarl.system.machine import versions
from metarl.system.ranges import check
from metarl.training.control import Setup
from metarl.training.setup import trained_control

NUM_ENVS = 25
"""Goals played together; fixed, because the last digits of a matrix product depend on the number of rows."""


@dataclass(frozen=True)
class Plan:
    """What an evaluation plays."""

    trials: int = 1
    """Trials per goal."""
    episodes: int | None = None
    """Episodes per trial; default: as trained."""
    seed: int = 0
    """Seed of the actions."""
    train_goals: int = 50
    """How many train goals to evaluate on, spread evenly over the tasks; 0: none. All held-out goals are always used."""
    validation_goals: int = 0
    """How many validation goals (of the train tasks, neither trained on nor held out), spread evenly over the tasks."""
    suite: str | None = None
    """Evaluate on the held-out goals of another suite. If the run's suite is your own: its file, PATH.py:NAME."""
    suite_seed: int | None = None
    """Use another suite seed, which gives other held-out goals. Goals that the run trained on are refused."""
    engine: str = "auto"
    """auto, native or python; with --protocol metaworld, auto means python, stock's environments."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check(
            self,
            trials="[1, inf)",
            episodes="[1, inf)",
            train_goals="[0, inf)",
            validation_goals="[0, 100000]",
            seed="[0, inf)",
            suite_seed="[0, 4294967294]",
        )

    @property
    def suffix(self) -> str:
        """The part of a file's name that tells how the plan differs from the default."""
        names = {
            "trials": "t",
            "episodes": "e",
            "seed": "s",
            "suite": "",
            "suite_seed": "g",
            "train_goals": "tr",
            "validation_goals": "v",
        }
        return suffix(self, names)


def prepare(run: Run, checkpoint: Checkpoint, plan: Plan) -> tuple[Setup, Suite]:
    """Restore the agent from a checkpoint, and find the suite whose held-out goals are played.

    Raises:
        UserError: the suite does not fit the run's task ids, or its observation and action spaces.
    """
    setup = trained_control(run, checkpoint, device=plan.device, engine=plan.engine)
    o = setup.options
    seed = o.suite_seed if plan.suite_seed is None else plan.suite_seed
    shown = find_suite(plan.suite or setup.suite.name, seed, o.goals, o.task_id and plan.suite is None)
    if shown.test and shown.test.task_ids != setup.suite.train.task_ids:
        raise UserError(f"the run was trained with --task-id, and has no ids for {shown.name}")
    if shown.test and shown.train.make is not setup.suite.train.make:
        env = make_vec(shown.test, 1, engine=plan.engine)
        spaces = env.single_observation_space.shape, env.single_action_space
        env.close()
        if spaces != (setup.env.single_observation_space.shape, setup.env.single_action_space):
            raise UserError(f"{shown.name} has other observation or action spaces than {setup.suite.name}, on which it trained")
    return setup, shown


def header(run: Run, checkpoint: Checkpoint, setup: Setup, shown: Suite, seed: int) -> Played:
    """The part of the file that all protocols share: run, agent, suite, seeds, machine and versions."""
    o, trained = setup.options, setup.suite
    return {
        "run": run.path.name,
        "agent": run.experiment.agent,
        "suite": shown.name,
        "suite_seed": shown.seed,
        "trained_on": {"suite": trained.name, "suite_seed": trained.seed},
        "run_seed": o.seed,
        "checkpoint": checkpoint.path.name,
        "step": checkpoint.step,
        "adapt_every": setup.adapt_every,
        "max_episode_steps": o.max_episode_steps,
        "reward": o.reward,
        "seed": seed,
        "device": setup.source.device.type,
        "packages": versions(PACKAGES),
        "git_commit": git_commit(),
    }


def refuse_trained(held_out: Sequence[Task], trained: Suite) -> None:
    """Raise UserError if the run trained on some of the held-out goals."""
    shared = set(held_out) & set(trained.train.tasks)
    if shared:
        raise UserError(
            f"the run trained on {len(shared)} of the {len(held_out)} held-out goals ({trained.name}, suite seed "
            f"{trained.seed}): figures on them would say nothing about adaptation. Choose another --suite-seed"
        )


def goals_by_side(plan: Plan, trained: Suite, shown: Suite, sides: Sequence[str]) -> dict[str, Sequence[Task]]:
    """The goals of each of these sides, without sides that have none."""
    held_out = shown.test.tasks if shown.test and "test" in sides else ()
    refuse_trained(held_out, trained)
    count = plan.validation_goals if "validation" in sides else 0
    validation = trained.validation(count).tasks if count else ()
    train = balanced_subset(trained.train.tasks, plan.train_goals) if "train" in sides else ()
    return {side: some for side, some in {"train": train, "validation": validation, "test": held_out}.items() if some}
