"""An evaluation as people read it: the table, the sentences above it, and the plot of the adaptation curve."""

from pathlib import Path
from typing import Any

from rich.table import Table

from metarl.console import console, say

SIDES = {"train": "train goals", "test": "held-out goals"}
_COLORS = {"train": "#9a9a9a", "test": "#1f6fb4", "blind": "#c4572e"}


def verdict(content: dict[str, Any], side: str) -> str:
    """One sentence: what adaptation did to success and return, and whether the interval leaves a doubt."""
    figures, measures = content["sides"][side], []
    for measure, name, form in (("success", "success", "+.2f"), ("return", "return", "+,.0f")):
        difference, low, high = figures["gain"]["sampled"][measure]
        word = "better" if low > 0 else "WORSE" if high < 0 else "neither better nor worse beyond doubt"
        measures.append(f"{name} {difference:{form}} [{low:{form}}, {high:{form}}], {word}")
    k = content["episodes"] - 1
    return f"{SIDES[side].capitalize()}, after {k} episodes of experience against none: " + "; ".join(measures) + "."


def table(content: dict[str, Any]) -> None:
    """Print success and return by episode of the trial, with 95 % intervals over goals."""
    for side, figures in content["sides"].items():
        goals, modes = len(figures["goals"]), figures["by_episode"]
        grid = Table(
            title=f"\n{content['suite']}: {goals} {SIDES[side]}, trials each: {content['trials']}; "
            "mean [95 % interval over goals]; success: at any step of the episode",
            title_justify="left",
        )
        grid.add_column("episode", justify="right")
        for mode in modes:
            for name in ("success", "last step", "return"):
                grid.add_column(f"{mode} actions\n{name}", justify="right")
        for e in range(content["episodes"]):
            row = [str(e + 1)]
            for by_measure in modes.values():
                row += [_interval(by_measure["success"][e]), f"{by_measure['last_success'][e][0]:.2f}"]
                row.append(_interval(by_measure["return"][e], ",.0f"))
            grid.add_row(*row)
        blind = figures.get("goal_blind")
        if blind:
            sampled = blind["by_episode"]["sampled"]
            cells = [
                _interval(sampled["success"][0]),
                f"{sampled['last_success'][0][0]:.2f}",
                _interval(sampled["return"][0], ",.0f"),
            ]
            grid.add_section()
            grid.add_row("goal-blind", *cells, *[""] * (3 * (len(modes) - 1)))
        console.print(grid)
        say(verdict(content, side))
    if any("goal_blind" in figures for figures in content["sides"].values()):
        say("Goal-blind: hovers at the centre of the train goals with the agent's own noise, and never learns the goal.")
    say(f"1 run (seed {content['run_seed']}): other seeds may differ by more than these intervals.")


def _interval(triple: list[float], form: str = ".2f") -> str:
    mean, low, high = triple
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def plot(content: dict[str, Any], path: Path) -> None:
    """Draw the adaptation curve: success and return against episodes of experience."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    )
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    experience = list(range(content["episodes"]))
    for axis, measure, label in zip(axes, ("success", "return"), ("success (at any step)", "return of the episode")):
        for side, figures in content["sides"].items():
            for mode, style in (("sampled", "-"), ("mean", "--")):
                if mode not in figures["by_episode"]:
                    continue
                mean, low, high = zip(*figures["by_episode"][mode][measure])
                axis.plot(
                    experience,
                    mean,
                    style,
                    color=_COLORS[side],
                    lw=2,
                    marker="o",
                    ms=4,
                    label=f"{SIDES[side]}, {mode} actions",
                )
                axis.fill_between(experience, low, high, color=_COLORS[side], alpha=0.12, lw=0)
        blind = content["sides"].get("test", {}).get("goal_blind")
        if blind:
            value = blind["by_episode"]["sampled"][measure][0][0]
            axis.axhline(value, color=_COLORS["blind"], lw=1.5, ls=":", label="goal-blind, held-out goals")
        axis.set_xlabel("episodes of experience with the goal (k)")
        axis.set_title(label, loc="left", fontsize=11)
        axis.set_xticks(experience)
    axes[0].set_ylim(-0.03, 1.03)
    axes[1].set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle(
        f"{content['agent']} on {content['suite']}, {content['step']:,} steps, seed {content['run_seed']}; "
        "bands: 95 % intervals over goals", x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
