"""Evaluation that treats every goal alike, and `metarl evaluate`.

Protocol `all-goals`: each goal gets the same number of trials, each trial the same number of episodes of full length.
Within a trial the agent acts by sampling, as it was trained. Episode e is what it does after k = e - 1 episodes of
experience. Before each episode a copy of its state also plays one episode by its mean actions; that episode is dropped,
since a trial carried on through mean actions is one that the agent never saw.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from metarl import statistics
from metarl.agents.baselines import goal_blind
from metarl.cache import write_atomically
from metarl.console import Progress, say
from metarl.curves import plot, table
from metarl.envs import MetaVectorEnv, Task, TaskDistribution
from metarl.errors import UserError
from metarl.learner import Learner, Metrics
from metarl.rollout import EVALUATION, RESETS, Rollout, generator, play_trial
from metarl.run import Checkpoint, Run, git_commit, open_run, writing

PROTOCOL = "all-goals"
MODES = ("sampled", "mean")
MEASURES = ("success", "last_success", "return")
Curves = dict[str, dict[str, np.ndarray]]
"""Figures by mode and measure, each (goals, trials, episodes)."""


def evaluate(
    learner: Learner, env: MetaVectorEnv, tasks: Sequence[Task], *, trials: int, episodes: int, seed: int,
    device: torch.device, adapt_every: int = 1, modes: Sequence[str] = MODES,
    progress: Callable[[int], None] = lambda steps: None,
) -> tuple[Curves, np.ndarray | None]:  # fmt: skip
    """Evaluate on every task alike.

    Args:
        learner: what to evaluate; nothing in it is changed.
        env: where to play; tasks are done in batches of its slots.
        tasks: the goals.
        trials: trials a goal.
        episodes: episodes a trial.
        seed: of the actions; each (goal, trial) has a stream of its own.
        device: where the learner's tensors are.
        adapt_every: episodes of experience that the learner's `adapt` is given at a time.
        modes: of `MODES`; the trial itself is always sampled.
        progress: called with the environment steps done.

    Returns:
        The curves, and the mean standard deviation of the last episodes' actions (None for discrete actions).
    """
    shape = (len(tasks), trials, episodes)
    curves: Curves = {mode: {measure: np.zeros(shape) for measure in MEASURES} for mode in modes}
    spread: list[np.ndarray] = []
    keys = [_key(task) for task in tasks]
    jobs = [(goal, trial) for trial in range(trials) for goal in range(len(tasks))]
    steps = 0
    for first in range(0, len(jobs), env.num_envs):
        batch = jobs[first : first + env.num_envs]
        filled = batch + [batch[-1]] * (env.num_envs - len(batch))  # slots without a goal repeat one, and are not counted
        trial_of_each = play_trial(
            env, learner, [tasks[goal] for goal, _ in filled],
            [generator(seed, EVALUATION, keys[goal], trial) for goal, trial in filled], episodes=episodes,
            adapt_every=adapt_every, resets=lambda e, f=first: int(generator(seed, RESETS, f, e).integers(2**31)),  # type: ignore[misc]
            device=device, branch=lambda e: "mean" in modes,
        )  # fmt: skip
        for e, played in enumerate(trial_of_each):
            for mode, rollout in (("sampled", played.support), ("mean", played.branch)):
                if rollout is not None:
                    _record(curves[mode], rollout, batch, e)
            steps += env.horizon * len(batch) * len(modes)
            progress(steps)
        std = getattr(played.support.prediction, "std", None)
        if std is not None:
            spread.append(std.mean((0, 1)).cpu().numpy())
    return curves, np.mean(spread, 0) if spread else None


def _record(curves: dict[str, np.ndarray], rollout: Rollout, jobs: Sequence[tuple[int, int]], e: int) -> None:
    for measure, values in rollout.by_episode(1).items():
        for slot, (goal, trial) in enumerate(jobs):
            curves[measure][goal, trial, e] = values[0, slot]


def _key(task: Task) -> int:
    """A number that names a task wherever it stands in a list."""
    return int.from_bytes(hashlib.sha256(repr((task.name, task.params)).encode()).digest()[:8], "little")


def summary(curves: Curves) -> dict[str, dict[str, list[statistics.Interval]]]:
    """Mean and 95 % interval over goals by episode of the trial, for each mode and measure."""
    out: dict[str, dict[str, list[statistics.Interval]]] = {}
    for mode, measures in curves.items():
        out[mode] = {}
        for measure, values in measures.items():
            interval = statistics.mean if measure == "return" else statistics.proportion
            by_goal = values.mean(1)
            out[mode][measure] = [interval(by_goal[:, e]) for e in range(by_goal.shape[1])]
    return out


def gain(values: np.ndarray) -> statistics.Interval:
    """Last episode minus first, paired by goal; values are (goals, trials, episodes)."""
    by_goal = values.mean(1)
    return statistics.mean(by_goal[:, -1] - by_goal[:, 0])


def some_of(tasks: TaskDistribution, count: int) -> list[Task]:
    """The first tasks of each name, equally many, `count` in all (to within one a name)."""
    taken: list[Task] = []
    for i, name in enumerate(tasks.names):
        share = count // len(tasks.names) + (i < count % len(tasks.names))
        taken += [task for task in tasks.tasks if task.name == name][:share]
    return taken


def evaluate_checkpoint(
    run: Run, checkpoint: Checkpoint, *, trials: int, sides: Sequence[str] | None = None, episodes: int | None = None,
    seed: int = 0, train_goals: int = 50, num_envs: int = 50, device: str = "auto", engine: str = "auto",
    modes: Sequence[str] = MODES, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate a checkpoint; returns the content of evaluation.json.

    Args:
        sides: "train", "test"; None: both, as far as there are goals.

    Raises:
        UserError: held-out goals that the run trained on, or nothing to evaluate on.
    """
    from metarl.train import set_up

    setup = set_up(run.config, 1, device=device, engine=engine)
    setup.env.close()
    setup.agent.load_state_dict(checkpoint.state)
    episodes = episodes or setup.options.episodes_per_trial
    held_out = setup.suite.test
    goals = {"train": some_of(setup.suite.train, train_goals), "test": list(held_out.tasks) if held_out else []}
    if set(goals["test"]) & set(setup.suite.train.tasks):
        raise UserError("the held-out goals are among those that the run trained on: nothing would be learned of adaptation")
    sides = [side for side in sides or ("train", "test") if goals[side]]
    if not sides:
        raise UserError(f"{run.config['suite']} holds nothing out: evaluate on train goals (--train-goals)")
    content: dict[str, Any] = {
        "protocol": PROTOCOL, "run": run.path.name, "agent": run.config["agent"], "suite": run.config["suite"],
        "suite_seed": setup.options.suite_seed, "run_seed": setup.options.seed, "checkpoint": checkpoint.path.name,
        "step": checkpoint.step, "trials": trials, "episodes": episodes,
        "adapt_every": setup.source.episodes if setup.agent.phases > 1 else None, "horizon": setup.options.horizon,
        "reward": setup.options.reward, "terminate_on_success": setup.options.terminate_on_success, "seed": seed,
        "num_envs": num_envs, "confidence": statistics.CONFIDENCE, "packages": run.config["packages"],
        "git_commit": git_commit(), "sides": {},
    }  # fmt: skip
    per_trial = episodes * setup.options.horizon
    total = sum(len(goals[side]) for side in sides) * trials * per_trial * (2 if "mean" in modes else 1)
    done = 0
    torch.set_num_threads(1)
    with Progress(total, what="steps of evaluation", quiet=quiet) as bar:
        for side in sides:
            from metarl.envs import make_vec

            tasks = replace(setup.suite.train, tasks=tuple(goals[side]))
            slots = min(num_envs, len(tasks) * trials)
            env = make_vec(
                tasks, slots, engine=setup.env.engine.name, horizon=setup.options.horizon, reward=setup.options.reward,
                terminate_on_success=setup.options.terminate_on_success,
            )  # fmt: skip
            curves, std = evaluate(
                setup.agent, env, tasks.tasks, trials=trials, episodes=episodes, seed=seed, device=setup.source.device,
                adapt_every=setup.source.episodes, modes=modes, progress=lambda steps, d=done: bar.within(d + steps),  # type: ignore[misc]
            )  # fmt: skip
            done += len(tasks) * trials * per_trial * (2 if "mean" in modes else 1)
            content["sides"][side] = _side(tasks.tasks, curves, std)
            hover = None if std is None else goal_blind(setup.suite.train, tuple(std.tolist()), setup.source.device)
            if hover is not None:
                blind, _ = evaluate(
                    hover,
                    env,
                    tasks.tasks,
                    trials=trials,
                    episodes=1,
                    seed=seed,
                    device=setup.source.device,
                    modes=("sampled",),
                )
                content["sides"][side]["goal_blind"] = _side(tasks.tasks, blind, None)
            env.close()
    return content


def _side(tasks: Sequence[Task], curves: Curves, std: np.ndarray | None) -> dict[str, Any]:
    return {
        "goals": [[task.name, list(task.params) if isinstance(task.params, tuple) else task.params] for task in tasks],
        "by_episode": {m: {k: [list(i) for i in v] for k, v in s.items()} for m, s in summary(curves).items()},
        "gain": {mode: {k: list(gain(v)) for k, v in measures.items()} for mode, measures in curves.items()},
        "std": None if std is None else [round(float(x), 6) for x in std],
        "figures": {mode: {k: np.round(v, 6).tolist() for k, v in measures.items()} for mode, measures in curves.items()},
    }


def store(run: Run, content: dict[str, Any], *, default: bool) -> Path:
    """Write evaluations/<protocol>_<checkpoint>.json; the default evaluation is evaluation.json as well."""
    text = (json.dumps(content) + "\n").encode()
    path = run.path / "evaluations" / f"{content['protocol']}_{content['checkpoint']}.json"
    with writing(str(path)):
        write_atomically(path, text)
        if default:
            write_atomically(run.path / "evaluation.json", text)
    return path


def during_training(run: Run, setup: Any, step: int) -> Metrics:
    """What `--evaluate-every` logs: train goals, one trial each, sampled actions. The held-out goals are not touched."""
    checkpoint = Checkpoint(run.path / "checkpoints" / f"{step:012d}", step, 0, setup.agent.state_dict(), run.config)
    content = evaluate_checkpoint(
        run, checkpoint, sides=("train",), trials=1, device=setup.options.device, engine=setup.env.engine.name,
        modes=("sampled",), quiet=True,
    )  # fmt: skip
    path = run.path / "evaluations" / f"train_{content['checkpoint']}.json"
    with writing(str(path)):
        write_atomically(path, (json.dumps(content) + "\n").encode())
    figures = content["sides"]["train"]["by_episode"]["sampled"]
    return {"train_success": figures["success"][-1][0], "train_return": figures["return"][-1][0]}


@dataclass(frozen=True)
class Evaluate:
    """Evaluate runs on the goals that they trained on and on held-out goals: a table, evaluation.json and a plot.

    Every goal gets the same number of trials, every trial the same number of full episodes. Figures are shown by episode
    of the trial: episode 1 is before any experience (k = 0).
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """A run directory, or a checkpoint's folder in one; several: each is evaluated, and one plot shows them all."""
    trials: int = 1
    """Trials a goal."""
    episodes: int | None = None
    """Episodes a trial; default: as trained."""
    seed: int = 0
    """Of the actions."""
    train_goals: int = 50
    """How many of the train goals to evaluate on, spread evenly over the tasks; 0: none. Held-out goals: always all."""
    num_envs: int = 50
    """Goals that are played together."""
    device: str = "auto"
    """auto, cpu or cuda."""
    engine: str = "auto"
    """auto, native or python."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("name at least one run")
        if self.trials < 1 or self.num_envs < 1 or (self.episodes is not None and self.episodes < 1):
            raise UserError("trials, episodes and num_envs must be at least 1")
        if self.train_goals < 0 or self.seed < 0:
            raise UserError("train_goals and seed must be at least 0")

    def main(self) -> int:
        """Run the command."""
        opened = [open_run(path) for path in self.runs]  # so that a wrong one is refused before any work
        contents = [self._one(run, named) for run, named in opened]
        if len(contents) > 1:
            first, *others = (run.path for run, _ in opened)
            picture = first / "evaluations" / f"beside_{'_'.join(path.name for path in others)}"[:200]
            picture = picture.with_suffix(".png")
            plot(contents, picture)
            if not self.quiet:
                say(f"\nall in one plot: {picture}")
        return 0

    def _one(self, run: Run, named: Path | None) -> dict[str, Any]:
        checkpoint, problems = run.load(named)
        for problem in problems:
            say(f"{problem}: evaluating the one before")
        if not self.quiet:
            say(f"Evaluating {run.path.name}, checkpoint {checkpoint.path.name} ({checkpoint.step:,} steps)")
        content = evaluate_checkpoint(
            run, checkpoint, trials=self.trials, episodes=self.episodes, seed=self.seed, train_goals=self.train_goals,
            num_envs=self.num_envs, device=self.device, engine=self.engine, quiet=self.quiet,
        )  # fmt: skip
        path = store(run, content, default=named is None)
        picture = path.with_suffix(".png")
        plot([content], picture)
        if not self.quiet:
            table(content)
            say(f"\nwritten: {path}\n         {picture}")
        return content
