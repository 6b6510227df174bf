"""The sentences of a report: what an evaluation says in words, computed from its numbers, and what to be wary of."""

from collections.abc import Callable
from typing import Any

from metarl.agents import adaptation_step
from metarl.evaluation.formatting import Interval, change_of, number_of, percent, percent_of, points_of, signless_zero
from metarl.evaluation.intervals import recovered
from metarl.evaluation.vocabulary import MODE, SIDES, headline
from metarl.reports.reading import Reading, printable
from metarl.reports.sections import Tile
from metarl.system.counts import plural


def main_side(content: dict[str, Any]) -> str:
    """The side that the verdict is about: held-out goals where there are some."""
    return next(side for side in ("test", "validation", "train", *content["sides"]) if side in content["sides"])


def goals(content: dict[str, Any], side: str) -> str:
    """50 held-out goals"""
    n = len(content["sides"][side]["goals"])
    words = SIDES.get(side, f"{side} goals")
    return f"{n:,} {words if n != 1 else words.removesuffix('s')}"


def experience(content: dict[str, Any]) -> str:
    """How the agent had adapted in the last episode."""
    k = content["episodes"] - 1
    if not k:
        return "Without any experience"
    every = content["adapt_every"]
    episodes = plural(k, "episode") + " of experience"
    if not every:
        return f"After {episodes}"
    steps = k // every
    return (
        f"After {'one' if steps == 1 else steps or 'no'} {adaptation_step(content['agent'])}{'s' * (steps != 1)} ({episodes})"
    )


def tiles(content: dict[str, Any]) -> list[Tile]:
    """Success after adaptation, before it, the gain, and the last step's figure."""
    side = main_side(content)
    figures, n = content["sides"][side], goals(content, side)
    if headline(content) == "return":
        return _tiles_of_returns(content, figures, n)
    success, last = (figures["by_episode"][MODE][measure] for measure in ("success", "last_success"))
    after = Tile(percent(success[-1][0]), f"success on {n}. {experience(content)}. {_interval(success[-1])}")
    if content["episodes"] == 1:
        return [after, Tile(percent(last[-1][0]), f"counting only the episode's last step. {_interval(last[-1])}")]
    return [
        after,
        Tile(percent(success[0][0]), f"before: the trial's first episode. {_interval(success[0])}"),
        Tile(
            points_of([figures["gain"][MODE]["success"][0], None, None]),
            f"gained by adapting, goal by goal. {_interval(figures['gain'][MODE]['success'], '+.0f')}",
        ),
        Tile(percent(last[-1][0]), f"after, counting only the episode's last step. {_interval(last[-1])}"),
    ]


def _tiles_of_returns(content: dict[str, Any], figures: dict[str, Any], n: str) -> list[Tile]:
    """What there is where the environments tell no success."""
    returns, gain = figures["by_episode"][MODE]["return"], figures["gain"][MODE]["return"]
    shown = [Tile(number_of([returns[-1][0], None, None]), f"return on {n}. {experience(content)}. {_of_return(returns[-1])}")]
    if content["episodes"] > 1:
        before = f"before: the trial's first episode. {_of_return(returns[0])}"
        shown.append(Tile(number_of([returns[0][0], None, None]), before))
        gained = f"gained by adapting, goal by goal. {_of_return(gain, change_of)}"
        shown.append(Tile(change_of([gain[0], None, None]), gained))
    return shown


def _of_return(interval: list[float | None], shown: Callable[[Interval], str] = number_of) -> str:
    _, low, high = interval
    if low is None or high is None:
        return "A single goal: no interval."
    return f"95 % interval {shown([low, None, None])} to {shown([high, None, None])}."


def _interval(interval: list[float | None], form: str = ".0f") -> str:
    _, low, high = interval
    if low is None or high is None:
        return "A single goal: no interval."
    return f"95 % interval {signless_zero(100 * low, form)} to {signless_zero(100 * high, form)}."


def sentences(content: dict[str, Any]) -> list[str]:
    """What the evaluation says, the most important first."""
    side = main_side(content)
    figures = content["sides"][side]
    gain, n, adapted = figures["gain"][MODE], goals(content, side), content["episodes"] > 1
    if headline(content) == "return":
        return [
            *_sentences_of_returns(figures["by_episode"][MODE]["return"], gain["return"], n, content),
            *_ending(content, side),
        ]
    success, last, returns = (figures["by_episode"][MODE][measure] for measure in ("success", "last_success", "return"))
    said = []
    if not any(mean for mean, _, _ in success):
        bound = success[-1][2]
        doubt = f" (as much as {percent(bound)} would be compatible with that)" if bound is not None else ""
        said.append(f"It succeeded on none of the {n}, in no episode{doubt}.")
    else:
        before = f"; before, on {percent_of(success[0])}" if adapted else ""
        said.append(f"{experience(content)} it succeeds on {percent_of(success[-1])} of {n}{before}.")
    if adapted:
        said.append(_gain(gain["success"]))
        said.append(f"Counting only the last step of the episode: {percent_of(last[-1])}, before {percent_of(last[0])}.")
        said.append(
            f"The return of an episode goes from {number_of([returns[0][0], None, None])} to {number_of(returns[-1])}; "
            f"paired by goal {change_of(gain['return'])}."
        )
    blind = figures.get("goal_blind")
    if blind:
        said.append(
            f"An agent that hovers with the same noise, blind to the goal, succeeds on "
            f"{percent_of(blind['by_episode'][MODE]['success'][0])} at any step and on "
            f"{percent_of(blind['by_episode'][MODE]['last_success'][0])} at the last one."
        )
    return [*said, *_ending(content, side)]


def _sentences_of_returns(
    returns: list[list[float | None]], gain: list[float | None], n: str, content: dict[str, Any]
) -> list[str]:
    """What there is to say where the environments tell no success."""
    told = "The environments tell no success: returns are all there is to judge by."
    if content["episodes"] == 1:
        return [f"{experience(content)} its episodes on {n} return {number_of(returns[-1])}.", told]
    before = number_of([returns[0][0], None, None])
    said = f"{experience(content)} an episode on {n} returns {number_of(returns[-1])}; before, {before}."
    _, low, high = gain
    if low is None or high is None:
        judged = f"Adaptation changes the return by {change_of(gain)}; with a single goal there is no interval."
    elif low > 0:
        judged = f"Adaptation gains {change_of(gain)}, paired by goal."
    elif high < 0:
        judged = f"Adaptation makes it worse: {change_of(gain)}, paired by goal."
    else:
        judged = f"Adaptation makes no clear difference to the return: {change_of(gain)}, paired by goal."
    return [said, judged, told]


def _ending(content: dict[str, Any], side: str) -> list[str]:
    """The gap between what was trained on and what was held out, and of how much all this is."""
    said = [_gap(content)] if side == "test" and "train" in content["sides"] else []
    seed, trials = content["run_seed"], plural(content["trials"], "trial")
    said.append(f"1 seed (seed {seed}), {trials} a goal. Intervals are over goals; other seeds may differ by more.")
    return said


def _gain(gain: list[float | None]) -> str:
    _, low, high = gain
    if low is None or high is None:
        return f"Adaptation changes success by {points_of(gain)}; with a single goal there is no interval."
    if low > 0:
        return f"Adaptation gains {points_of(gain)}."
    if high < 0:
        return f"Adaptation makes it worse: {points_of(gain)}."
    if low == high == 0:
        return "Adaptation changes success on no goal."
    return f"Adaptation makes no clear difference to success: {points_of(gain)}."


def gap_of(content: dict[str, Any], measure: str) -> tuple[float, float | None, float | None]:
    """Train minus held-out in the last episode."""
    train, test = (content["sides"][side]["by_episode"][MODE][measure][-1] for side in ("train", "test"))
    return recovered(train, test)


def _gap(content: dict[str, Any]) -> str:
    measure = headline(content)
    gap = gap_of(content, measure)
    clear = gap[1] is not None and gap[2] is not None and (gap[1] > 0 or gap[2] < 0)
    train = content["sides"]["train"]["by_episode"][MODE][measure][-1]
    word = "a generalisation gap of" if clear else "no clear generalisation gap:"
    if measure == "return":
        return f"On {goals(content, 'train')} it returns {number_of(train)}: {word} {change_of(gap)} (train minus held-out)."
    on_train = percent_of(train)
    return f"On {goals(content, 'train')} it succeeds on {on_train}: {word} {points_of(gap)} (train minus held-out)."


def warnings(run: Reading) -> list[str]:
    """What a reader should know before believing the figures."""
    options, content = run.config["options"], run.evaluation
    said = list(run.problems)
    tested = any("test_success" in line for line in run.lines)
    if tested or (options.get("evaluate_on") == "test" and options.get("evaluate_every")):
        said.append(
            "The test set was looked at during training (--evaluate-on test): choices made on it make figures on held-out "
            "goals better than they would be on new ones."
        )
    if content is None:
        said.append(
            "No evaluation yet: metarl evaluate measures what it has learned. What follows is of train goals, while exploring."
        )
        return said
    sides = content["sides"]
    if "test" not in sides:
        held = "Nothing was held out" if run.suite.startswith("mt") else "No held-out goals were evaluated"
        said.append(f"{held}: the figures say how well it learned its tasks, not how well it adapts to new ones.")
    trained = content["trained_on"]
    if (content["suite"], content["suite_seed"]) != (trained["suite"], trained["suite_seed"]):
        said.append(
            f"Trained on {trained['suite']} (suite seed {trained['suite_seed']}), evaluated on the held-out goals of "
            f"{content['suite']} (suite seed {content['suite_seed']})."
        )
    if run.step > content["step"]:
        said.append(f"The evaluation is of step {content['step']:,}; the run has trained for {run.step:,}.")
    if any(len(side["goals"]) == 1 for side in sides.values()):
        said.append("Some figures are of a single goal: nothing is known of how they vary between goals.")
    noted = content.get("warnings")
    said += [f"{printable(change)}." for change in noted if isinstance(change, str)] if isinstance(noted, list) else []
    if content["reward"] != "v2":
        said.append(f"Returns are of reward {content['reward']}; they cannot be compared with returns of v2.")
    return said
