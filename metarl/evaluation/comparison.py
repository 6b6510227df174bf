"""Compares evaluations: two on the same goals or episodes, or several runs grouped by agent and settings.

Used by `metarl compare` and reports. `contents` are evaluations (see `metarl.evaluation.schema`).
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
"""Keys in which evaluations of acting agents must agree, with their names in words."""
NEEDED_OF_FEW_SHOT = {"split": "split", "ways": "number of ways", "measure": "measure"}
"""Keys in which evaluations of few-shot learners on one data set must agree."""
EPISODES = {
    "seed": "seed of the episodes",
    "queries": "number of queries",
    "shots": "number of shots",
    "episodes": "number of episodes",
}
"""Further keys in which evaluations of few-shot learners must agree to have the same episodes."""
OPTIONS = {
    CONTROL: ("num_envs", "episodes_per_trial", "max_episode_steps", "reward", "goals", "suite_seed", "terminate_on_success"),
    FEW_SHOT: ("ways", "shots", "queries", "meta_batch", "rotations", "split_seed", "image_size", "sentence_encoder"),
}
"""Training options that put runs into different groups, by kind of training."""


@dataclass(frozen=True)
class Paired:
    """The paired comparison of two evaluations."""

    difference: Interval
    """The second minus the first; tasks weigh the same."""
    improvement: Interval | None
    """Share of goals or episodes on which the second is better, ties counting half; None: not the same episodes."""
    count: int
    """Number of goals or episodes in common."""


class Pairing(Protocol):
    """Compares evaluations of one kind on a side."""

    @property
    def side(self) -> str:
        """Train, validation or test."""

    @property
    def unit(self) -> str:
        """The unit by which two evaluations are paired: goal or episode."""

    @property
    def where(self) -> str:
        """The side in words."""

    def problems(self, contents: Sequence[Content]) -> list[str]:
        """Reasons why these evaluations cannot be compared, one phrase each; empty if they can."""

    def measures(self, contents: Sequence[Content]) -> tuple[Measure, ...]:
        """The measures that all of them have."""

    def points(self, contents: Sequence[Content]) -> dict[str, int]:
        """The amounts of experience that a table shows, by name, with their indices in the curves."""

    def scores(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Array:
        """Scores (runs, tasks) after an amount of experience."""

    def level(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Interval:
        """The mean of the runs after an amount of experience."""

    def summary(self, contents: Sequence[Content], measure: Measure) -> dict[str, Interval]:
        """The figures that a table shows for these runs of one agent, by name."""

    def paired(self, a: Content, b: Content, measure: Measure, at: int = -1) -> Paired:
        """Compare `b` minus `a`, in pairs."""

    def common(self, a: Content, b: Content) -> tuple[Content, Content]:
        """Both evaluations, reduced to the goals or episodes that both have."""


@dataclass(frozen=True)
class ByGoal:
    """Compares acting agents on the goals of a side, with one kind of actions."""

    side: str
    mode: str = MODE
    unit = "goal"

    @property
    def where(self) -> str:
        """The side and the actions in words."""
        return f"{SIDES[self.side]}, {self.mode} actions"

    def problems(self, contents: Sequence[Content]) -> list[str]:
        """See `Pairing`.

        Trials may differ in length, because agents differ in how much experience they need.
        """
        problems = differing(contents, NEEDED)
        goals = [_goals(content["sides"][self.side]) for content in contents if self.side in content["sides"]]
        if any(set(goals_of_run) != set(goals[0]) for goals_of_run in goals):
            problems.append(f"the {self.side} goals are not the same")
        return problems

    def measures(self, contents: Sequence[Content]) -> tuple[Measure, ...]:
        """See `Pairing`."""
        return measured(*contents)

    def points(self, contents: Sequence[Content]) -> dict[str, int]:
        """See `Pairing`."""
        return {"first episode": 0, "last episode": -1}

    def scores(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Array:
        """See `Pairing`: mean over a task's goals and trials for each run; tasks in the order of the first run's goals.

        Raises:
            UserError: an evaluation lacks the side, the mode or a task.
        """
        by_run = [self._by_task(content, measure, at) for content in contents]
        for content, tasks in zip(contents, by_run):
            if tasks.keys() != by_run[0].keys():
                raise UserError(f"{content['run']} was not evaluated on the same tasks as {contents[0]['run']}")
        return np.array([[np.mean(tasks[name]) for name in by_run[0]] for tasks in by_run])

    def paired(self, a: Content, b: Content, measure: Measure, at: int = -1) -> Paired:
        """See `Pairing`; uses the goals that both have.

        Raises:
            UserError: an evaluation lacks the side or the mode, or they have no goal in common.
        """
        by_goal = [self._by_goal(content, measure, at) for content in (a, b)]
        both = [goal for goal in by_goal[0] if goal in by_goal[1]]
        if not both:
            raise UserError(f"{a['run']} and {b['run']} have no {self.side} goal in common")
        first, second = (np.array([values[goal] for goal in both]) for values in by_goal)
        names = [name for name, _ in both]
        interval = statistics.difference if measure.bounded else statistics.mean
        won = (second > first) + 0.5 * (second == first)
        return Paired(interval(second - first, names), statistics.proportion(won, names), len(both))

    def level(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Interval:
        """See `Pairing`; over runs and tasks."""
        return aggregate(self.scores(contents, measure, at))["mean"]

    def summary(self, contents: Sequence[Content], measure: Measure) -> dict[str, Interval]:
        """See `Pairing`; for the last episode."""
        names = ("mean", "interquartile mean", "median of tasks")
        return dict(zip(names, aggregate(self.scores(contents, measure)).values()))

    def common(self, a: Content, b: Content) -> tuple[Content, Content]:
        """See `Pairing`."""
        goals_of_a, goals_of_b = (_of(content, self.side, "goals") for content in (a, b))
        return self.only(a, goals_of_b), self.only(b, goals_of_a)

    def tasks(self, content: Content) -> list[str]:
        """The names of the side's tasks."""
        return list(dict.fromkeys(name for name, _ in content["sides"][self.side]["goals"]))

    def of_task(self, content: Content, task: str) -> Content:
        """The evaluation, reduced to the side's goals of one task."""
        return self.only(content, [goal for goal in content["sides"][self.side]["goals"] if goal[0] == task])

    def only(self, content: Content, goals: Sequence[Any]) -> Content:
        """The evaluation, reduced to these goals of the side; a goal is a task's name and parameters."""
        whole = content["sides"][self.side]
        chosen = [i for i, goal in enumerate(whole["goals"]) if goal in goals]
        figures = {
            mode: {measure: [values[i] for i in chosen] for measure, values in by_measure.items()}
            for mode, by_measure in whole["figures"].items()
        }
        return {**content, "sides": {self.side: {"goals": [whole["goals"][i] for i in chosen], "figures": figures}}}

    def _by_goal(self, content: Content, measure: Measure, at: int) -> dict[tuple[str, str], float]:
        """The mean over trials for each goal (task name and parameters)."""
        figures = _of(content, self.side, "figures")
        if self.mode not in figures:
            raise UserError(f"the evaluation of {content['run']} has no {self.mode} actions; it has {', '.join(figures)}")
        values = np.array(figures[self.mode][measure.key])
        return dict(zip(_goals(content["sides"][self.side]), values[:, :, at].mean(1).tolist()))

    def _by_task(self, content: Content, measure: Measure, at: int) -> dict[str, list[float]]:
        by_task: dict[str, list[float]] = {}
        for (name, _), value in self._by_goal(content, measure, at).items():
            by_task.setdefault(name, []).append(value)
        return by_task


@dataclass(frozen=True)
class ByEpisode:
    """Compares few-shot learners on the episodes of one part of the classes."""

    side: str
    unit = "episode"

    @property
    def where(self) -> str:
        """The part in words."""
        return classes(self.side)

    def problems(self, contents: Sequence[Content]) -> list[str]:
        """See `Pairing`. Two learners are paired by episode, so they need the same episodes."""
        return unlike(contents) or differing(contents, EPISODES if len(contents) == 2 else {"shots": EPISODES["shots"]})

    def measures(self, contents: Sequence[Content]) -> tuple[Measure, ...]:
        """See `Pairing`.

        Raises:
            UserError: some measure classification and some regression.
        """
        if differing(contents, {"measure": "measure"}):
            raise UserError("accuracies and errors cannot be compared")
        return (headline(*contents),)

    def points(self, contents: Sequence[Content]) -> dict[str, int]:
        """See `Pairing`; up to the largest number of shots that all have."""
        most = min(content["shots"] for content in contents)
        return {plural(k, "shot"): k for k in dict.fromkeys((0, 1, most)) if k <= most}

    def scores(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Array:
        """See `Pairing`; all episodes count as one task."""
        return np.array([[_of(content, self.side, "by_shots")[at][0]] for content in contents])

    def level(self, contents: Sequence[Content], measure: Measure, at: int = -1) -> Interval:
        """See `Pairing`; over runs, or over episodes for a single run."""
        if len(contents) == 1:
            return Interval(*_of(contents[0], self.side, "by_shots")[at])
        return aggregate(self.scores(contents, measure, at))["mean"]

    def summary(self, contents: Sequence[Content], measure: Measure) -> dict[str, Interval]:
        """See `Pairing`; for each amount of experience."""
        return {name: self.level(contents, measure, k) for name, k in self.points(contents).items()}

    def paired(self, a: Content, b: Content, measure: Measure, at: int = -1) -> Paired:
        """See `Pairing`; the difference of the means if the episodes are not the same."""
        if unlike([a, b]) or differing([a, b], EPISODES):
            return Paired(statistics.recovered(*(_of(content, self.side, "by_shots")[at] for content in (b, a))), None, 0)
        first, second = (np.array(_of(content, self.side, "figures"), float)[:, at] for content in (a, b))
        won = (measure.direction * (second - first) > 0) + 0.5 * (second == first)
        difference = statistics.change_of_episodes(measure.key, second, first, answers_of(a))
        return Paired(difference, statistics.proportion(won), len(first))

    def common(self, a: Content, b: Content) -> tuple[Content, Content]:
        """See `Pairing`; returns both unchanged."""
        return a, b


def answers_of(content: Content) -> int:
    """The number of queries in an episode of a few-shot learner."""
    return int(content["queries"] * content["ways"])


def unlike(contents: Sequence[Content]) -> list[str]:
    """Reasons why few-shot learners cannot be compared, one phrase each; if the data sets differ, only that."""
    return differing(contents, {"suite": "data set"}) or differing(contents, NEEDED_OF_FEW_SHOT)


def differing(contents: Sequence[Content], needed: Mapping[str, str]) -> list[str]:
    """A phrase for each of these keys whose value differs between the evaluations; `needed` names the keys in words."""
    problems = []
    for key, name in needed.items():
        values = [content.get(key) for content in contents]
        if any(value != values[0] for value in values):
            each = ", ".join(f"{content['run']} has {value}" for content, value in zip(contents, values))
            problems.append(f"the {name} differs: {each}")
    return problems


def groups(contents: Sequence[Content]) -> dict[str, list[Content]]:
    """Group evaluations by agent and settings, so that a group differs only in seeds; labels say where groups differ.

    Training settings are read from "settings" in each content, where `metarl.commands.compare.load` puts them.
    """
    by_traits: dict[str, list[Content]] = {}
    for content in contents:
        by_traits.setdefault(json.dumps(_traits(content), sort_keys=True, default=str), []).append(content)
    traits_of_groups = [_traits(group[0]) for group in by_traits.values()]
    labels = []
    for traits in traits_of_groups:
        same_agent = [others for others in traits_of_groups if others["agent"] == traits["agent"]]
        differing_keys = [key for key in traits if any(others.get(key) != traits[key] for others in same_agent)]
        labels.append(", ".join([traits["agent"], *(f"{key} {traits[key]}" for key in differing_keys)]))
    return dict(zip(labels, by_traits.values()))


def _traits(content: Content) -> dict[str, Any]:
    """Everything that characterises a run, except its seed."""
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
