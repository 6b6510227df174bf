"""Defines what an evaluation of an acting agent plays, and the header that its file gets under any protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

from metarl.envs import Suite, Task, make_vec
from metarl.envs.suites import balanced_subset
from metarl.envs.user_defined import find_suite
from metarl.errors import UserError
from metarl.evaluation.control_schema import ControlHeader
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
    """auto, native or python; with --protocol metaworld, auto means python, Meta-World's own environments."""
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
    suite = find_suite(plan.suite or setup.suite.name, seed, o.goals, o.task_id and plan.suite is None)
    if suite.test and suite.test.task_ids != setup.suite.train.task_ids:
        raise UserError(f"the run was trained with --task-id, and has no ids for {suite.name}")
    if suite.test and suite.train.make is not setup.suite.train.make:
        env = make_vec(suite.test, 1, engine=plan.engine)
        spaces = env.single_observation_space.shape, env.single_action_space
        env.close()
        if spaces != (setup.env.single_observation_space.shape, setup.env.single_action_space):
            raise UserError(f"{suite.name} has other observation or action spaces than {setup.suite.name}, on which it trained")
    return setup, suite


def header(
    run: Run,
    suite: Suite,
    trained_on: Suite,
    *,
    run_seed: int,
    checkpoint: str,
    step: int,
    adapt_every: int | None,
    max_episode_steps: int,
    reward: str,
    seed: int,
    device: str,
) -> ControlHeader:
    """The part of the file that all protocols share: run, agent, suite, seeds, machine and versions.

    Args:
        run: the run that is evaluated.
        suite: the suite whose goals are played.
        trained_on: the suite of the training.
        run_seed, checkpoint, step, adapt_every, max_episode_steps, reward, seed, device: the values of these keys.
    """
    return {
        "run": run.path.name,
        "agent": run.config["agent"],
        "suite": suite.name,
        "suite_seed": suite.seed,
        "trained_on": {"suite": trained_on.name, "suite_seed": trained_on.seed},
        "run_seed": run_seed,
        "checkpoint": checkpoint,
        "step": step,
        "adapt_every": adapt_every,
        "max_episode_steps": max_episode_steps,
        "reward": reward,
        "seed": seed,
        "device": device,
        "packages": versions(PACKAGES),
        "git_commit": git_commit(),
    }


def checkpoint_header(run: Run, checkpoint: Checkpoint, setup: Setup, suite: Suite, seed: int) -> ControlHeader:
    """The header of an evaluation of a checkpoint, restored as `setup`, on a suite; `seed` is that of the actions."""
    o = setup.options
    return header(
        run,
        suite,
        setup.suite,
        run_seed=o.seed,
        checkpoint=checkpoint.path.name,
        step=checkpoint.step,
        adapt_every=setup.adapt_every,
        max_episode_steps=o.max_episode_steps,
        reward=o.reward,
        seed=seed,
        device=setup.source.device.type,
    )


def refuse_trained(held_out: Sequence[Task], trained: Suite) -> None:
    """Raise UserError if the run trained on some of the held-out goals."""
    shared = set(held_out) & set(trained.train.tasks)
    if shared:
        raise UserError(
            f"the run trained on {len(shared)} of the {len(held_out)} held-out goals ({trained.name}, suite seed "
            f"{trained.seed}): figures on them would say nothing about adaptation. Choose another --suite-seed"
        )


def goals_by_side(plan: Plan, trained: Suite, suite: Suite, sides: Sequence[str]) -> dict[str, Sequence[Task]]:
    """The goals of each of these sides, without sides that have none: held-out goals of `suite`, others of `trained`."""
    held_out = suite.test.tasks if suite.test and "test" in sides else ()
    refuse_trained(held_out, trained)
    count = plan.validation_goals if "validation" in sides else 0
    validation = trained.validation(count).tasks if count else ()
    train = balanced_subset(trained.train.tasks, plan.train_goals) if "train" in sides else ()
    return {side: goals for side, goals in {"train": train, "validation": validation, "test": held_out}.items() if goals}
