"""`metarl evaluate --agent module:factory SUITE`: evaluates an agent that metarl did not train, under either protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

import metarl
from metarl.commands.evaluating import check_seeds, show
from metarl.envs import Suite, Task, make_vec
from metarl.envs import suite as suite_named
from metarl.envs.suites import balanced_subset
from metarl.errors import UserError
from metarl.evaluation import metaworld as metaworld_protocol
from metarl.evaluation.all_goals import evaluate, side_content
from metarl.evaluation.checked_agent import CheckedAgent
from metarl.evaluation.control_schema import ControlHeader
from metarl.evaluation.external_agent import WithoutInfo, play, with_methods
from metarl.evaluation.intervals import CONFIDENCE
from metarl.evaluation.plan import NUM_ENVS, header
from metarl.evaluation.plots import plot
from metarl.evaluation.session import UNIT
from metarl.evaluation.tables import table
from metarl.evaluation.upstream_envs import Measurement
from metarl.evaluation.vocabulary import ALL_GOALS, METAWORLD, MODES
from metarl.gymnasium_ids import HORIZON
from metarl.runs.checkpoints import FORMAT
from metarl.runs.directory import Run
from metarl.runs.provenance import PACKAGES
from metarl.sharing.opening import open_run
from metarl.system.console import Progress
from metarl.system.file_names import file_name, suffix
from metarl.system.machine import versions
from metarl.system.ranges import check
from metarl.system.user_code import run_file, run_module, telling

_CHECKPOINT = "external"
"""The name of its checkpoint, in files: metarl has none."""


@dataclass(frozen=True)
class EvaluateExternal:
    """Evaluate an agent of your own that has the methods of metaworld.evaluation.MetaLearningAgent.

    Prints a table, and writes files and, for all-goals, a plot. metarl cannot know what your agent trained on:
    make sure that it never saw the test goals.
    """

    suite: tyro.conf.Positional[str]
    """The suite, such as ml1:reach-v3 or ml10."""
    agent: str
    """module:factory or file.py:factory; the factory takes no arguments and returns an agent. metarl executes the module."""
    protocol: Literal["all-goals", "metaworld"] = "all-goals"
    """all-goals: every goal counts equally; metaworld: Meta-World's own evaluation code and rules."""
    episodes: int = 10
    """Episodes per trial; metaworld: episodes of experience before the agent is measured."""
    adapt_every: int | None = None
    """Episodes between calls of `adapt`; default: 1; metaworld: all of them, as in Meta-World's own code."""
    max_episode_steps: int = HORIZON
    """Steps per episode."""
    trials: int = 1
    """all-goals: trials per goal."""
    train_goals: int = 50
    """all-goals: number of train goals to evaluate on besides the held-out ones; 0: none."""
    seed: int = 0
    """Seed of the resets; with metaworld, seed of the order of goals. It does not seed your agent."""
    seeds: int = 1
    """metaworld: number of evaluations, with the seeds seed, seed + 1, ..."""
    suite_seed: int = 1
    """Seed from which the goals are drawn."""
    goals: int = 50
    """Goals per task."""
    recurrent_info: bool = False
    """Append the previous action, reward and done to the observations, as Meta-World's recurrent_info_in_obs does."""
    reward: str = "v2"
    """Version of Meta-World's reward: v2 or v1."""
    engine: str = "auto"
    """auto, native or python; with metaworld, auto means python, Meta-World's own environments."""
    out: Path | None = None
    """The folder for the results. Default: evaluations/<agent>_<suite>."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        check(
            self,
            episodes="[1, inf)",
            max_episode_steps="[1, inf)",
            trials="[1, inf)",
            seeds="[1, inf)",
            adapt_every="[1, inf)",
            train_goals="[0, inf)",
            seed="[0, inf)",
            suite_seed="[0, 4294967294]",
            goals="[1, 100000]",
        )
        check_seeds(self.protocol, self.seeds)

    @property
    def _suffix(self) -> str:
        """The part of the file's name that tells which options differ from their defaults."""
        letters = {
            "episodes": "e",
            "adapt_every": "a",
            "max_episode_steps": "h",
            "trials": "t",
            "train_goals": "tr",
            "seed": "s",
            "seeds": "n",
            "suite_seed": "g",
            "goals": "of",
            "recurrent_info": "info",
            "reward": "",
        }
        return suffix(self, letters)

    def main(self) -> int:
        """Run the command."""
        factory = _factory(self.agent)
        self._new_agent(factory)  # fails before any work
        suite = suite_named(self.suite, self.suite_seed, self.goals)
        run = self._results(self.out or Path("evaluations", file_name(self.agent, self.suite)), suite)
        by_goals = self.protocol == ALL_GOALS
        content, name = (self._all_goals if by_goals else self._metaworld)(run, factory, suite)
        path = run.store(content, name)
        print_table = table if by_goals else metaworld_protocol.table
        stays = show(
            run,
            content,
            path,
            lambda run, content: print_table(content),
            plot if by_goals else None,
            keeps=by_goals,
            quiet=self.quiet,
            note=f"\nmetarl report {run.path} shows it, metarl compare sets it against other runs",
        )
        if not stays:
            run.write_config()
        return 0

    def _new_agent(self, factory: Callable[[], Any], env: Any = None) -> Any:
        with telling(f"{self.agent}: creating an agent"):
            agent = factory()
        return CheckedAgent(with_methods(agent, self.agent), self.agent, env)

    def _results(self, path: Path, suite: Suite) -> Run:
        """A directory that `metarl report` and `metarl compare` can read like a run's."""
        if (path / "checkpoints").exists():
            raise UserError(f"{path} is a run: name another --out")
        if (path / "config.json").exists():
            before = open_run(path)[0].config
            if (before["agent"], before["suite"]) != (self.agent, suite.name):
                raise UserError(f"{path} holds {before['agent']} on {before['suite']}: name another --out")
        options = {"suite_seed": suite.seed, "max_episode_steps": self.max_episode_steps, "reward": self.reward, "seed": 0}
        return Run(
            path,
            {
                "metarl": metarl.__version__,
                "format": FORMAT,
                "agent": self.agent,
                "suite": suite.name,
                "options": options,
                "settings": {},
                "packages": versions(PACKAGES),
            },
        )

    def _header(self, run: Run, suite: Suite, adapt_every: int) -> ControlHeader:
        return header(
            run,
            suite,
            suite,  # assumed: metarl cannot know what the agent trained on
            run_seed=0,
            checkpoint=_CHECKPOINT,
            step=0,
            adapt_every=adapt_every,
            max_episode_steps=self.max_episode_steps,
            reward=self.reward,
            seed=self.seed,
            device="cpu",
        )

    def _all_goals(self, run: Run, factory: Callable[[], Any], suite: Suite) -> tuple[Any, str]:
        goals: dict[str, Sequence[Task]] = {
            "train": balanced_subset(suite.train.tasks, self.train_goals),
            "test": suite.test.tasks if suite.test else (),
        }
        goals = {side: tasks for side, tasks in goals.items() if tasks}
        if not goals:
            raise UserError(f"{suite.name} holds nothing out: evaluate on train goals (--train-goals)")
        sides, engine = {}, self.engine
        each = self.trials * self.episodes * self.max_episode_steps * len(MODES)
        with Progress(sum(map(len, goals.values())) * each, what=UNIT, quiet=self.quiet) as bar:
            for side, tasks in goals.items():
                env = make_vec(
                    replace(suite.train, tasks=tuple(tasks)),
                    min(NUM_ENVS, len(tasks) * self.trials),
                    engine=self.engine,
                    max_episode_steps=self.max_episode_steps,
                    reward=self.reward,
                )
                engine = env.engine.name
                try:
                    curves, _ = evaluate(
                        self._new_agent(factory, env),
                        env,
                        tasks,
                        trials=self.trials,
                        episodes=self.episodes,
                        seed=self.seed,
                        device=torch.device("cpu"),
                        adapt_every=self.adapt_every or 1,
                        trial_of=partial(play, name=self.agent, info=self.recurrent_info),
                        progress=bar.part(len(tasks) * each),
                    )
                finally:
                    env.close()
                sides[side] = side_content(tasks, curves, None)
        content = {
            **self._header(run, suite, self.adapt_every or 1),
            "protocol": ALL_GOALS,
            "trials": self.trials,
            "episodes": self.episodes,
            "terminate_on_success": False,
            "engine": engine,
            "confidence": CONFIDENCE,
            "sides": sides,
        }
        return content, f"{ALL_GOALS}_{_CHECKPOINT}{self._suffix}"

    def _metaworld(self, run: Run, factory: Callable[[], Any], suite: Suite) -> tuple[Any, str]:
        if suite.test is None:
            raise UserError(f"{suite.name} holds nothing out: Meta-World's protocol measures held-out tasks")
        engine = "python" if self.engine == "auto" else self.engine
        every = self.adapt_every or self.episodes
        if self.episodes % every:
            raise UserError(f"episodes ({self.episodes}) must be a multiple of adapt_every ({every})")

        def make(view: Any) -> Any:
            agent = self._new_agent(factory, view)
            return agent if self.recurrent_info else WithoutInfo(agent)

        figures = {
            str(seed): metaworld_protocol.figure(
                make,
                Measurement(
                    suite.test,
                    seed,
                    self.max_episode_steps,
                    episodes=every,
                    steps=self.episodes // every,
                    reward=self.reward,
                    evaluations=metaworld_protocol.EVALUATIONS,
                ),
                engine,
            )
            for seed in range(self.seed, self.seed + self.seeds)
        }
        content = {
            **self._header(run, suite, every),
            "engine": engine,
            "episodes": self.episodes,
            **metaworld_protocol.rules(suite.test, figures),
        }
        return content, f"{METAWORLD}_{engine}_{_CHECKPOINT}{self._suffix}"


def _factory(name: str) -> Callable[[], Any]:
    """Return the factory that "module:factory" or "file.py:factory" names; this executes the module.

    Raises:
        UserError: the name has another form, or names nothing that can be called.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise UserError(f"--agent is module:factory or file.py:factory, not {name!r}")
    factory = run_file(name).value if place.endswith(".py") else getattr(run_module(place), attribute, None)
    if not callable(factory):
        raise UserError(f"{place} has no factory {attribute}")
    return factory
