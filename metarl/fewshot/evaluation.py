"""`metarl evaluate` of few-shot learners: accuracy, or error, against shots, on classes that were never trained on."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from metarl import statistics
from metarl.console import Progress, console, say
from metarl.counts import Count, plural
from metarl.curves import SIDES, save_figure
from metarl.devices import one_thread
from metarl.fewshot.details import Details
from metarl.fewshot.episodes import Data, Episode, Examples, Part
from metarl.fewshot.learner import Comparing, FewShot, by_task
from metarl.fewshot.training import EVALUATED, QUERIES, Setup, episode_bytes, trained
from metarl.kept import Kept
from metarl.learner import Metrics
from metarl.machine import versions
from metarl.memory import refuse_beyond
from metarl.names import file_name, suffix
from metarl.ranges import check
from metarl.report.fewshot_words import TRANSDUCTIVE
from metarl.rollout import EVALUATION, generator
from metarl.run import PACKAGES, Checkpoint, Run, git_commit, open_run
from metarl.shown import keep
from metarl.userfiles import arguments, name_again

PROTOCOL = "episodes"
TASKS = 20
"""Episodes that are answered together, always: a product's last digits depend on the number of its rows."""
_STREAMS: dict[Part, int] = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Plan:
    """What is answered in an evaluation."""

    episodes: Count = 1000
    """Episodes of each part of the classes."""
    ways: int | None = None
    """Classes of an episode; default: as trained. MAML's head knows no other number."""
    shots: int | None = None
    """Examples of each class, at most: the curve has 0, 1, ... of them; default: as trained."""
    queries: int = QUERIES
    """Examples of each class to answer."""
    seed: int = 0
    """Of the episodes: the same for every learner."""
    train: bool = True
    """Answer episodes of training classes too, for the generalisation gap."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check(self, episodes="[1, inf)", ways="[2, inf)", shots="[1, inf)", queries="[1, inf)", seed="[0, inf)")

    @property
    def suffix(self) -> str:
        """What a file's name says of a plan that is not the default, beside ways and shots."""
        return suffix(self, {"episodes": "n", "queries": "q", "seed": "s", "train": "train"})


def first_shots(support: Examples, shots: int, ways: int) -> Examples:
    """The first so many examples of each class, (tasks, ways * shots); regression: the first so many."""
    if support.y.is_floating_point():
        return Examples(support.x[:, :shots], support.y[:, :shots])
    one_hot = torch.nn.functional.one_hot(support.y, ways)
    place = (one_hot.cumsum(1) * one_hot).sum(-1)  # 1 for the first of a class, 2 for the second, ...
    rows = (place <= shots).nonzero()[:, 1].view(len(place), ways * shots)
    tasks = torch.arange(len(place), device=rows.device)[:, None]
    return Examples(support.x[tasks, rows], support.y[tasks, rows])


@torch.no_grad()
def curve(learner: FewShot, episode: Episode, shots: int) -> tuple[np.ndarray, Tensor]:
    """Accuracy or mean squared error of each task after 0, 1, ... shots, (tasks, shots + 1); and the last answers."""
    learner, episode = _encoded(learner, episode)
    found = []
    for k in range(shots + 1):
        state = learner.begin(len(episode.query.x))
        if k:
            state = learner.adapt(state, first_shots(episode.support, k, learner.ways))
        prediction, _ = learner.predict(state, episode.query.x)
        found.append(by_task(prediction, episode.query.y))
    return torch.stack(found, 1).cpu().numpy(), prediction


def _encoded(learner: FewShot, episode: Episode) -> tuple[FewShot, Episode]:
    """A learner that compares features, as one for which examples are features; and the episode, encoded once for all."""
    if not isinstance(learner, Comparing):
        return learner, episode
    support, query = (Examples(learner.features(half.x), half.y) for half in (episode.support, episode.query))
    knowing = copy(learner)
    knowing.features = lambda x: x  # type: ignore[method-assign]
    return knowing, Episode(support, query, episode.classes)


def evaluate(
    learner: FewShot, data: Data, part: Part, *, episodes: int, shots: int, queries: int, seed: int, device: torch.device,
    progress: Callable[[int], None] = lambda episodes: None, kept: Kept | None = None, details: Details | None = None,
) -> np.ndarray:  # fmt: skip
    """Curves over shots of episodes of a part, (episodes, shots + 1).

    Args:
        learner: what is evaluated; nothing in it is changed.
        data, part: where the episodes are drawn.
        episodes, shots, queries: how many; shots and queries of each class.
        seed: of the episodes.
        device: where the learner's tensors are.
        progress: called with the episodes done.
        kept: batches done before, and where to keep those done now.
        details: notes more of each batch.
    """
    rows: list[list[float]] = []
    for first in range(0, episodes, TASKS):
        name = f"{part}/{first}"
        done = kept.parts.get(name) if kept else None
        if done is None:
            rng = generator(seed, EVALUATION, _STREAMS[part], first)
            episode = data.draw(part, rng, tasks=TASKS, ways=learner.ways, shots=shots, queries=queries)
            episode = episode.map(lambda tensor: tensor.to(device))
            figures, prediction = curve(learner, episode, shots)
            done = {"figures": figures.tolist()}
            if details:
                done["notes"] = details.note(episode, figures, prediction, min(TASKS, episodes - first), first == 0)
            if kept:
                kept.put(name, done)
        if details:
            details.notes.append(done["notes"])
        rows += done["figures"]
        progress(len(rows))
    return np.array(rows[:episodes])


def evaluate_checkpoint(run: Run, checkpoint: Checkpoint, plan: Plan, quiet: bool = False) -> tuple[dict[str, Any], Path]:
    """Evaluate a checkpoint and write evaluations/episodes_<checkpoint>_<ways>w<shots>s<plan>.json.

    Returns:
        The file's content, and where it is.
    """
    setup = trained(run, checkpoint, plan.ways, device=plan.device)
    learner, options = setup.agent, setup.options
    shots = plan.shots or options.shots
    batch = {"tasks": TASKS, "ways": learner.ways, "examples": shots + plan.queries}
    needs = episode_bytes(setup.data, getattr(learner.settings, "channels", 0), **batch)
    needs[f"figures of {plan.episodes:,} episodes"] = plan.episodes * (shots + 1) * 40
    refuse_beyond(needs, "smaller --episodes, --shots or --queries need less")
    content: dict[str, Any] = {
        "protocol": PROTOCOL, "run": run.path.name, "agent": run.config["agent"], "suite": run.config["suite"],
        "split": setup.data.split, "run_seed": options.seed, "checkpoint": checkpoint.path.name, "step": checkpoint.step,
        **asdict(plan), "ways": learner.ways, "shots": shots, "trained_with": {"ways": options.ways, "shots": options.shots},
        "measure": learner.kind.measure, "transductive": getattr(learner.settings, "transductive", False),
        "device": setup.source.device.type, "confidence": statistics.CONFIDENCE, "packages": versions(PACKAGES),
        "git_commit": git_commit(),
    }  # fmt: skip
    name = f"{PROTOCOL}_{checkpoint.path.name}_{learner.ways}w{shots}s{plan.suffix}"
    kept = Kept(run.path / "evaluations" / f".{name}.partial", {**content, "weights": checkpoint.digest, "notes": True})
    parts = EVALUATED if plan.train else ("test",)
    sides, answers = {}, learner.ways * plan.queries
    with one_thread(), Progress(len(parts) * plan.episodes, what="episodes", quiet=quiet) as bar:
        for i, part in enumerate(parts):
            details = Details(learner, setup.data, part, answers) if part == "test" else None
            figures = evaluate(
                learner, setup.data, part, episodes=plan.episodes, shots=shots, queries=plan.queries, seed=plan.seed,
                device=setup.source.device, kept=kept, details=details,
                progress=lambda n, i=i: bar.within(i * plan.episodes + n),  # type: ignore[misc]
            )  # fmt: skip
            sides[part] = {
                "by_shots": [list(statistics.of_episodes(learner.kind.measure, column, answers)) for column in figures.T],
                "figures": np.round(figures, 6).tolist(),
                **(details.content() if details else {}),
            }
    content["sides"] = sides
    path = run.store(content, name)
    kept.finish()
    return content, path


def during_training(setup: Setup) -> Metrics:
    """What `--evaluate-every` logs: 200 episodes of the part that `evaluate_on` names."""
    o, part = setup.options, setup.options.evaluate_on
    figures = evaluate(
        setup.agent, setup.data, part, episodes=200, shots=o.shots, queries=o.queries, seed=o.seed,  # type: ignore[arg-type]
        device=setup.source.device,
    )  # fmt: skip
    return {f"{part}_{setup.agent.kind.measure}": float(figures[:, -1].mean())}


@dataclass(frozen=True)
class Evaluate:
    """Evaluate few-shot learners on classes that they trained on and on held-out classes: a table, a file and a plot."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """A run directory, or a checkpoint's folder in one; several: each is evaluated, and one plot shows them all."""
    plan: Annotated[Plan, tyro.conf.arg(name="")] = Plan()
    agent: str | None = None
    """Of a run of a learner of your own: its file, PATH.py:NAME. Files are run only where they are named here."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def main(self) -> int:
        """Run the command."""
        opened = [open_run(path) for path in self.runs]
        contents = [self._one(run, named) for run, named in opened]
        if len(contents) > 1:
            beside = file_name(*(run.path.name for run, _ in opened[1:]))
            picture = opened[0][0].path / "evaluations" / f"beside_{beside}.png"
            plot(contents, picture)
            if not self.quiet:
                say(f"\nall in one plot: {picture}")
        return 0

    def _one(self, run: Run, named: Path | None) -> dict[str, Any]:
        checkpoint = run.usable(named, "evaluating")
        how = f"metarl evaluate {run.path}{arguments(run.config, '')}"
        for change in name_again(checkpoint.config, self.agent, how=how):
            say(f"Beware: {change}")
        content, path = evaluate_checkpoint(run, checkpoint, self.plan, self.quiet)
        stays = keep(run, path) if named is None else None
        plot([content], path.with_suffix(".png"))
        if not self.quiet:
            table(content)
            say(f"\nwritten: {path}\n         {path.with_suffix('.png')}")
            if stays:
                say(stays)
        return content


def table(content: dict[str, Any]) -> None:
    """Show the figures: a row for each number of shots."""
    percent = content["measure"] == "accuracy"
    what = f"{content['ways']}-way accuracy, percent" if percent else "mean squared error"
    grid = Table(box=SIMPLE_HEAD, title=f"{content['agent']} on {content['suite']}: {what}", title_justify="left")
    for column in ("shots", *(SIDES[side].replace("goals", "classes") for side in content["sides"])):
        grid.add_column(column, justify="right")
    for k in range(content["shots"] + 1):
        grid.add_row(str(k), *(_cell(one["by_shots"][k], percent) for one in content["sides"].values()))
    console.print(grid)
    steps = content["sides"]["test"].get("by_steps")
    if steps:
        grid = Table(box=SIMPLE_HEAD, title="After so many gradient steps on all shots, held-out classes", title_justify="left")
        for column in ("steps", what, f"minus that of {steps['taken']}, which it takes"):
            grid.add_column(column, justify="right")
        for n, level, change in zip(steps["steps"], steps["measured"], steps["difference"]):
            grid.add_row(str(n), _cell(level, percent), _cell(change, percent, "+"))
        console.print(grid)
    say(
        f"Mean [95 % interval] over {plural(content['episodes'], 'episode')} of "
        f"{plural(content['queries'], 'query')} a class; 1 seed."
    )
    say(f"Split: {content['split']}.")
    if content["transductive"]:
        say(TRANSDUCTIVE)


def _cell(interval: Sequence[float], percent: bool, sign: str = "") -> str:
    shown = statistics.Interval(*(x if x is None else x * (100 if percent else 1) for x in interval))
    return shown.text(f"{sign}.{2 if percent else 4}f")


def plot(contents: list[dict[str, Any]], path: Path) -> None:
    """Draw the measure against shots; held-out classes as lines, training classes dashed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for content in contents:
        for side, style in (("test", "-"), ("train", "--")):
            if side not in content["sides"]:
                continue
            mean, low, high = np.array(content["sides"][side]["by_shots"], float).T
            label = f"{content['agent']} ({content['run']}), {'held-out' if side == 'test' else 'training'} classes"
            (line,) = axis.plot(range(len(mean)), mean, style, marker="o", ms=4, label=label)
            axis.fill_between(range(len(mean)), low, high, color=line.get_color(), alpha=0.15, lw=0)
    axis.set(xlabel="examples of each class", ylabel=contents[0]["measure"])
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(f"{contents[0]['suite']}, {contents[0]['ways']} ways", loc="left", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path)
