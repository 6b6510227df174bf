"""Comparing evaluations: two on the same goals or episodes, and several runs with the seeds of each agent together.

`contents` are evaluations (see `metarl.evaluation.schema`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from metarl.agents import CONTROL, FEW_SHOT
from metarl.errors import UserError
from metarl.evaluation import intervals as statistics
from metarl.evaluation.aggregates import Array, aggregate
from metarl.evaluation.intervals import Interval
from metarl.evaluation.measures import Measure, headline, measured
from metarl.evaluation.schema import Content
from metarl.evaluation.vocabulary import MODE, SIDES, classes
from metarl.system.counts import plural

NEEDED = {
    "suite": "suite",
    "suite_seed": "suite seed (other goals)",
    "max_episode_steps": "length of an episode",
    "reward": "reward function",
    "terminate_on_success": "terminate on success",
}
"""What evaluations of agents that act must have in common, and how it is called."""
NEEDED_OF_FEW_SHOT = {"split": "split", "ways": "number of ways", "measure": "measure"}
"""What evaluations of few-shot learners on one data set must have in common."""
EPISODES = {
    "seed": "seed of the episodes",
    "queries": "number of queries",
    "shots": "number of shots",
    "episodes": "number of episodes",
}
"""What evaluations of few-shot learners must have in common too for their episodes to be the same."""
OPTIONS = {
    CONTROL: ("num_envs", "episodes_per_trial", "max_episode_steps", "reward", "goals", "suite_seed", "terminate_on_success"),
    FEW_SHOT: ("ways", "shots", "queries", "meta_batch", "rotations", "split_seed", "image_size", "sentence_encoder"),
}
"""Options of training that make runs differ in more than their seed, by kind of training."""


@dataclass(frozen=True)
class Paired:
    """Two evaluations on the same goals or episodes."""

    difference: Interval
    """The second minus the first, every task weighing the same."""
    improvement: Interval | None
    """Share of goals or episodes on which the second is better, ties counting half; None: they are not the same ones."""
    count: int
    """How many goals or episodes they have in common."""


class Pairing(Protocol):
    """How evaluations of one kind are compared on a side."""

    @property
    def side(self) -> str:
        """Train, validation or test."""

    @property
    def unit(self) -> str:
        """What two evaluations are paired by."""

    @property
    def where(self) -> str:
        """The side in words."""

    def problems(self, contents: Sequence[Content]) -> list[str]:
        """What forbids to compare these evaluations, a sentence each; empty: nothing does."""

    def measures(self, contents: Sequence[Content]) -> tuple[Measure, ...]:
        """What all of them measured."""

    def points(self, contents: Sequence[Content]) -> dict[str, int]:
        """The amounts of experience that stand in a table, and their places in the curves."""

    def scores(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Array:
        """(runs, tasks) after an amount of experience."""

    def level(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Interval:
        """The mean of the runs after an amount of experience."""

    def summary(self, contents: Sequence[Content], measure: Measure) -> dict[str, Interval]:
        """What a table says of these runs of one agent, by what it is called."""

    def paired(self, a: Content, b: Content, measure: Measure, at: int = -1) -> Paired:
        """The evaluation `b` minus `a`."""

    def common(self, a: Content, b: Content) -> tuple[Content, Content]:
        """Both evaluations, without what only one of them has."""


@dataclass(frozen=True)
class ByGoal:
    """The comparison of agents that act, on the goals of a side and with a kind of actions."""

    side: str
    mode: str = MODE
    unit = "goal"

    @property
    def where(self) -> str:
        """The side and the actions in words."""
        return f"{SIDES[self.side]}, {self.mode} actions"

    def problems(self, contents: Sequence[Content]) -> list[str]:
        """See `Pairing`.

        Trials of different lengths may be compared: how much experience agents need is what sets them apart.
        """
        found = differing(contents, NEEDED)
        goals = [_goals(content["sides"][self.side]) for content in contents if self.side in content["sides"]]
        if any(set(some) != set(goals[0]) for some in goals):
            found.append(f"the {self.side} goals are not the same")
        return found

    def measures(self, contents: Sequence[Content]) -> tuple[Measure, ...]:
        """See `Pairing`."""
        return measured(*contents)

    def points(self, contents: Sequence[Content]) -> dict[str, int]:
        """See `Pairing`."""
        return {"first episode": 0, "last episode": -1}

    def scores(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Array:
        """See `Pairing`: each run's mean over a task's goals and trials; tasks in the order of the first run's goals.

        Raises:
            UserError: an evaluation lacks the side, the mode or a task.
        """
        by_run = [self._by_task(content, measure, at) for content in contents]
        for content, tasks in zip(contents, by_run):
            if tasks.keys() != by_run[0].keys():
                raise UserError(f"{content['run']} was not evaluated on the same tasks as {contents[0]['run']}")
        return np.array([[np.mean(tasks[name]) for name in by_run[0]] for tasks in by_run])

    def paired(self, a: Content, b: Content, measure: Measure, at: int = -1) -> Paired:
        """See `Pairing`; on the goals that both have.

        Raises:
            UserError: an evaluation lacks the side or the mode, or they have no goal in common.
        """
        first, second = (self._by_goal(content, measure, at) for content in (a, b))
        both = [goal for goal in first if goal in second]
        if not both:
            raise UserError(f"{a['run']} and {b['run']} have no {self.side} goal in common")
        one, other = (np.array([found[goal] for goal in both]) for found in (first, second))
        names = [name for name, _ in both]
        interval = statistics.difference if measure.bounded else statistics.mean
        won = (other > one) + 0.5 * (other == one)
        return Paired(interval(other - one, names), statistics.proportion(won, names), len(both))

    def level(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Interval:
        """See `Pairing`; over runs and tasks."""
        return aggregate(self.scores(contents, measure, at))["mean"]

    def summary(self, contents: Sequence[Content], measure: Measure) -> dict[str, Interval]:
        """See `Pairing`; of the last episode."""
        names = ("mean", "interquartile mean", "median of tasks")
        return dict(zip(names, aggregate(self.scores(contents, measure)).values()))

    def common(self, a: Content, b: Content) -> tuple[Content, Content]:
        """See `Pairing`."""
        one, other = (_of(content, self.side, "goals") for content in (a, b))
        return self.only(a, other), self.only(b, one)

    def tasks(self, content: Content) -> list[str]:
        """The names of the side's tasks."""
        return list(dict.fromkeys(name for name, _ in content["sides"][self.side]["goals"]))

    def of_task(self, content: Content, task: str) -> Content:
        """The evaluation on the side's goals of a task."""
        return self.only(content, [goal for goal in content["sides"][self.side]["goals"] if goal[0] == task])

    def only(self, content: Content, goals: Sequence[Any]) -> Content:
        """The evaluation with none but these goals of the side; a goal is its task's name and parameters."""
        whole = content["sides"][self.side]
        mine = [i for i, goal in enumerate(whole["goals"]) if goal in goals]
        figures = {mode: {k: [v[i] for i in mine] for k, v in found.items()} for mode, found in whole["figures"].items()}
        return {**content, "sides": {self.side: {"goals": [whole["goals"][i] for i in mine], "figures": figures}}}

    def _by_goal(self, content: Content, measure: Measure, at: int) -> dict[tuple[str, str], float]:
        """The mean over trials by goal, that is by task name and parameters."""
        figures = _of(content, self.side, "figures")
        if self.mode not in figures:
            raise UserError(f"the evaluation of {content['run']} has no {self.mode} actions; it has {', '.join(figures)}")
        values = np.array(figures[self.mode][measure.key])
        return dict(zip(_goals(content["sides"][self.side]), values[:, :, at].mean(1).tolist()))

    def _by_task(self, content: Content, measure: Measure, at: int) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for (name, _), value in self._by_goal(content, measure, at).items():
            found.setdefault(name, []).append(value)
        return found


@dataclass(frozen=True)
class ByEpisode:
    """The comparison of few-shot learners, on the episodes of a part of the classes."""

    side: str
    unit = "episode"

    @property
    def where(self) -> str:
        """The part in words."""
        return classes(self.side)

    def problems(self, contents: Sequence[Content]) -> list[str]:
        """See `Pairing`. Two learners are paired by episode, and so they need the same ones."""
        return unlike(contents) or differing(contents, EPISODES if len(contents) == 2 else {"shots": EPISODES["shots"]})

    def measures(self, contents: Sequence[Content]) -> tuple[Measure, ...]:
        """See `Pairing`.

        Raises:
            UserError: some are of classification and some of regression.
        """
        if differing(contents, {"measure": "measure"}):
            raise UserError("accuracies and errors cannot be compared")
        return (headline(*contents),)

    def points(self, contents: Sequence[Content]) -> dict[str, int]:
        """See `Pairing`; as many shots as all were measured with."""
        most = min(content["shots"] for content in contents)
        return {plural(k, "shot"): k for k in dict.fromkeys((0, 1, most)) if k <= most}

    def scores(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Array:
        """See `Pairing`; all episodes are of one task."""
        return np.array([[_of(content, self.side, "by_shots")[at][0]] for content in contents])

    def level(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Interval:
        """See `Pairing`; over runs, of a single run over its episodes."""
        if len(contents) == 1:
            return Interval(*_of(contents[0], self.side, "by_shots")[at])
        return aggregate(self.scores(contents, measure, at))["mean"]

    def summary(self, contents: Sequence[Content], measure: Measure) -> dict[str, Interval]:
        """See `Pairing`; of each amount of experience."""
        return {name: self.level(contents, measure, k) for name, k in self.points(contents).items()}

    def paired(self, a: Content, b: Content, measure: Measure, at: int = -1) -> Paired:
        """See `Pairing`; the difference of the means where the episodes are not the same ones."""
        if unlike([a, b]) or differing([a, b], EPISODES):
            return Paired(statistics.recovered(*(_of(content, self.side, "by_shots")[at] for content in (b, a))), None, 0)
        one, two = (np.array(_of(content, self.side, "figures"), float)[:, at] for content in (a, b))
        won = (measure.direction * (two - one) > 0) + 0.5 * (two == one)
        difference = statistics.change_of_episodes(measure.key, two, one, answers_of(a))
        return Paired(difference, statistics.proportion(won), len(one))

    def common(self, a: Content, b: Content) -> tuple[Content, Content]:
        """See `Pairing`; nothing has to go."""
        return a, b


def answers_of(content: Content) -> int:
    """How many queries an episode of a few-shot learner has."""
    return int(content["queries"] * content["ways"])


def unlike(contents: Sequence[Content]) -> list[str]:
    """What forbids to compare few-shot learners, a sentence each; of other data sets nothing else is to be said."""
    return differing(contents, {"suite": "data set"}) or differing(contents, NEEDED_OF_FEW_SHOT)


def differing(contents: Sequence[Content], needed: Mapping[str, str]) -> list[str]:
    """A sentence for each of these values, named in words, that is not the same in all evaluations."""
    found = []
    for key, name in needed.items():
        values = [content.get(key) for content in contents]
        if any(value != values[0] for value in values):
            each = ", ".join(f"{content['run']} has {value}" for content, value in zip(contents, values))
            found.append(f"the {name} differs: {each}")
    return found


def groups(contents: Sequence[Content]) -> dict[str, list[Content]]:
    """The seeds of one agent and settings together, by a label that says the agent and what sets its groups apart.

    Settings are those of training that a content carries under "settings", as `metarl.commands.compare.load` adds them.
    """
    found: dict[str, list[Content]] = {}
    for content in contents:
        found.setdefault(json.dumps(_traits(content), sort_keys=True, default=str), []).append(content)
    traits = [_traits(some[0]) for some in found.values()]
    labels = []
    for mine in traits:
        kin = [other for other in traits if other["agent"] == mine["agent"]]
        apart = [key for key in mine if any(other.get(key) != mine[key] for other in kin)]
        labels.append(", ".join([mine["agent"], *(f"{key} {mine[key]}" for key in apart)]))
    return dict(zip(labels, found.values()))


def _traits(content: Content) -> dict[str, Any]:
    """All but the seed that makes a run what it is."""
    same = {"agent": content["agent"], "step": content["step"], "adapt_every": content.get("adapt_every")}
    return {**same, "trained on": list(content["trained_on"].values()), **content.get("settings", {})}


def _of(content: Content, side: str, key: str) -> Any:
    """A value of a side.

    Raises:
        UserError: the evaluation lacks the side.
    """
    if side not in content["sides"]:
        what = "classes" if "measure" in content else "goals"
        raise UserError(f"the evaluation of {content['run']} has no {side} {what}; it has {', '.join(content['sides'])}")
    return content["sides"][side][key]


def _goals(side: Content) -> list[tuple[str, str]]:
    return [(name, json.dumps(params)) for name, params in side["goals"]]
