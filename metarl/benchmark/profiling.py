"""`metarl profile`: where the time of a training iteration goes, beside the engine alone and MuJoCo alone.

The parts take turns, round after round, since the speed of a shared machine changes from minute to minute. Ratios are taken
within a round.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from metarl.benchmark.contenders import Bare
from metarl.benchmark.measure import draw, random_actions, table, timed
from metarl.envs import MetaVectorEnv, make_vec
from metarl.learner import Agent
from metarl.nn.program import Program, playback
from metarl.rollouts.playing import play
from metarl.rollouts.storage import first_input
from metarl.runs.experiment import Experiment
from metarl.system.console import Progress, say
from metarl.system.devices import one_thread
from metarl.training.setup import set_up

MUJOCO, ENGINE, LOOP, COLLECT, UPDATE, ITERATION = "MuJoCo alone", "engine alone", "loop", "collection", "update", "iteration"
MEANINGS = {
    MUJOCO: "mj_step and mj_forward alone, with a barrier after every step: the usual limit",
    ENGINE: "environments stepped from Python with random actions",
    LOOP: "the compiled loop that plays whole trials, without a policy",
    COLLECT: "experience collected by the agent",
    UPDATE: "the agent's update, in steps of experience per second",
    ITERATION: "collection and update",
}
"""What each part is, in the order of the table."""
SHARES = {"physics": "#56b4e9", "rest of the engine": "#009e73", "acting": "#e69f00", "update": "#cc79a7"}
"""Parts of an iteration's time, with their colours."""
_STEPS = 20_000
"""Environment steps of the parts without an agent, per round."""
LEAST = 3
"""Smallest number of rounds."""


@dataclass
class Profile:
    """Measurements with one number of environments and threads.

    Attributes:
        num_envs, threads: of the engine.
        rounds: steps per second by part, one dict per round.
    """

    num_envs: int
    threads: int
    rounds: list[dict[str, float]] = field(default_factory=list)

    def rates(self, part: str) -> list[float]:
        """The part's steps per second, by round; empty: it was not measured."""
        return [rates[part] for rates in self.rounds if part in rates]

    def of_mujoco(self, part: str) -> tuple[float, float, float] | None:
        """The part's speed relative to MuJoCo alone: median, lowest and highest over rounds."""
        ratios = [rates[part] / rates[MUJOCO] for rates in self.rounds if part in rates and MUJOCO in rates]
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def shares(self) -> dict[str, float]:
        """Microseconds per step of experience, by part of `SHARES`, from medians."""
        micros = {part: 1e6 / statistics.median(rates) for part in MEANINGS if (rates := self.rates(part))}
        engine = micros.get(LOOP, micros[ENGINE])
        physics = min(micros.get(MUJOCO, 0.0), engine)
        collection = micros[COLLECT]
        return {
            "physics": physics,
            "rest of the engine": engine - physics,
            "acting": max(0.0, collection - engine),
            "update": micros[ITERATION] - collection,
        }

    def figures(self) -> dict[str, Any]:
        """All measurements and what follows from them, for JSON."""
        medians = {part: statistics.median(rates) for part in MEANINGS if (rates := self.rates(part))}
        return {
            "num_envs": self.num_envs,
            "threads": self.threads,
            "steps_per_second": medians,
            "of_mujoco": {part: self.of_mujoco(part) for part in medians},
            "microseconds_per_step": self.shares(),
            "rounds": self.rounds,
        }


class Playback(Agent):
    """Plays recorded actions, given as its noise, back in compiled code."""

    def __init__(self, observations: int) -> None:
        self.observations = observations

    def program(self, state: Any) -> Program:
        """See `Agent.program`."""
        return playback(self.observations, 4)


def measure(experiment: Experiment, profiles: list[Profile], seconds: float) -> None:
    """Measure an experiment's iterations, and the engine without it, in rounds of all parts and profiles.

    Args:
        experiment: what to train.
        profiles: gain a round at a time, so an interrupt loses at most one.
        seconds: duration; at least `LEAST` rounds are measured.
    """
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        parts = [_parts(experiment, profile, stack) for profile in profiles]
        for each in parts:
            for part in each.values():
                part()  # compiles, and fills caches
        began = time.perf_counter()
        with Progress(int(seconds) + 1, what="s") as bar:
            while len(profiles[-1].rounds) < LEAST or time.perf_counter() - began < seconds:
                for profile, each in zip(profiles, parts):
                    rates = [part() for part in each.values()]
                    profile.rounds.append({name: rate for measured in rates for name, rate in measured.items()})
                    bar.within(min(seconds, time.perf_counter() - began))


def _parts(experiment: Experiment, profile: Profile, stack: ExitStack) -> dict[str, Callable[[], dict[str, float]]]:
    """Functions that measure one part each, once; they return steps per second by part."""
    setup: Any = set_up(experiment.changed(num_envs=profile.num_envs))
    stack.callback(setup.close)
    if hasattr(setup.env.engine, "threads"):
        setup.env.engine.threads = profile.threads
    iterations = count()

    def iterate() -> dict[str, float]:
        began = time.perf_counter()
        setup.agent.iterate(setup.source, next(iterations))
        whole = time.perf_counter() - began
        report = setup.source.report()
        steps, collect = report["steps"], report["collect_seconds"]
        return {COLLECT: steps / collect, UPDATE: steps / max(whole - collect, 1e-9), ITERATION: steps / whole}

    if setup.env.engine.name != "native":
        return {ITERATION: iterate, ENGINE: lambda: {ENGINE: _stepped(setup.env)}}
    tasks = draw(setup.suite.train, profile.num_envs)
    steps = max(1, _STEPS // profile.num_envs)
    mujoco = Bare(tasks, profile.threads)
    stack.callback(mujoco.close)
    episode = min(steps, setup.env.max_episode_steps)
    env = make_vec(setup.suite.train, profile.num_envs, max_episode_steps=episode, num_threads=profile.threads)
    stack.callback(env.close)
    env.set_tasks(tasks)
    return {
        MUJOCO: lambda: {MUJOCO: profile.num_envs * steps / timed(mujoco, random_actions(0, steps, profile.num_envs))},
        ENGINE: lambda: {ENGINE: _stepped(env)},
        LOOP: lambda: {LOOP: _looped(env, max(1, steps // episode))},
        ITERATION: iterate,
    }


def _stepped(env: MetaVectorEnv) -> float:
    """Steps per second of the engine, stepped from Python with random actions."""
    steps = max(1, _STEPS // env.num_envs) if env.engine.name == "native" else 50
    env.reset()
    if env.engine.name == "native":
        actions = random_actions(0, steps, env.num_envs)
    else:
        env.action_space.seed(0)
        actions = np.stack([env.action_space.sample() for _ in range(steps)])
    began = time.perf_counter()
    for action in actions:
        env.step(action)
    return env.num_envs * steps / (time.perf_counter() - began)


def _looped(env: MetaVectorEnv, episodes: int) -> float:
    """Steps per second of the compiled loop without a policy."""
    import torch

    obs, _ = env.reset()
    noise = random_actions(0, episodes * env.max_episode_steps, env.num_envs)
    agent = Playback(env.single_observation_space.shape[0])  # type: ignore[index]
    first, began = first_input(env, obs), time.perf_counter()
    rollout, _ = play(env, agent, {}, first, episodes=episodes, noise=noise, device=torch.device("cpu"))
    return int(rollout.valid.sum()) / (time.perf_counter() - began)


def profile_table(profiles: list[Profile]) -> Table:
    """Steps per second by part, with ratios to MuJoCo alone."""
    columns = [f"{p.num_envs} environments, {p.threads} threads" for p in profiles]
    made = table("steps per second", *(name for column in columns for name in (column, "of MuJoCo")))
    for part in MEANINGS:
        cells = []
        for profile in profiles:
            rates, ratio = profile.rates(part), profile.of_mujoco(part)
            cells.append(f"{statistics.median(rates):,.0f}" if rates else "")
            cells.append(f"{ratio[0]:.2f} [{ratio[1]:.2f} to {ratio[2]:.2f}]" if ratio and part != MUJOCO else "")
        if any(cells):
            made.add_row(part, *cells)
    return made


def say_shares(profile: Profile) -> None:
    """Print where the time of an iteration goes."""
    shares = profile.shares()
    total = sum(shares.values())
    parts = ", ".join(f"{name} {value / total:.0%}" for name, value in shares.items())
    say(f"{profile.num_envs} environments, {profile.threads} threads: {total:.0f} µs per step: {parts}")


def plot(profiles: list[Profile], title: str, path: Path) -> None:
    """Draw where the time of an iteration goes, a bar per profile, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.4 + 0.5 * len(profiles)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{p.num_envs} environments,\n{p.threads} threads" for p in profiles]
    left = np.zeros(len(profiles))
    for name, color in SHARES.items():
        values = np.array([profile.shares()[name] for profile in profiles])
        axes.barh(labels, values, left=left, color=color, label=name, height=0.6)
        for y, (start, value) in enumerate(zip(left, values)):
            if value > 0.06 * (left + values).max():
                axes.text(start + value / 2, y, f"{value:.0f}", ha="center", va="center", fontsize=9)
        left += values
    axes.invert_yaxis()
    axes.set_xlabel("microseconds per environment step")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(SHARES), frameon=False)
    figure.savefig(path, dpi=150)
