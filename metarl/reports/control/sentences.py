"""Writes the tiles, sentences and warnings of a report on an acting agent, from the numbers of its evaluation."""

from metarl.agents import adaptation_step
from metarl.evaluation.control_schema import ControlEvaluation
from metarl.evaluation.formatting import percent
from metarl.evaluation.measures import LAST_SUCCESS, OF_GOALS, RETURN, SUCCESS, Measure, headline
from metarl.evaluation.vocabulary import MODE, goal
from metarl.reports.reading import Reading, printable
from metarl.reports.sections import Tile
from metarl.reports.sentences import Facts, gone_on, looked_at, main_side
from metarl.system.counts import plural


def goals(content: ControlEvaluation, side: str) -> str:
    """Number and side of the goals, as "50 held-out goals"."""
    return plural(len(content["sides"][side]["goals"]), goal(side))


def experience(content: ControlEvaluation) -> str:
    """The agent's experience before the last episode, in words."""
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


def facts(content: ControlEvaluation, measure: Measure) -> Facts:
    """The evaluation's figures by a measure, with sampled actions."""
    sides, side = content["sides"], main_side(content)
    return Facts(
        measure,
        "goal",
        side,
        {name: goals(content, name) for name in sides},
        {name: figures["by_episode"][MODE][measure.key] for name, figures in sides.items()},
        sides[side]["gain"][MODE][measure.key],
    )


def tiles(content: ControlEvaluation) -> list[Tile]:
    """Tiles of the main measure after and before adaptation, the gain and, for success, success at the last step."""
    head, adapted = headline(content), content["episodes"] > 1
    main = facts(content, head)
    after = f"{head.name} on {main.names[main.side]}. {experience(content)}"
    row_of_tiles = main.tiles(after, "before: the trial's first episode", "gained by adapting")
    row_of_tiles = row_of_tiles if adapted else row_of_tiles[:1]
    if head == SUCCESS:
        last = facts(content, LAST_SUCCESS)
        row_of_tiles.append(last.tile(last.after, f"{'after, ' * adapted}counting only the episode's last step"))
    return row_of_tiles


def sentences(content: ControlEvaluation) -> list[str]:
    """Sentences on the evaluation, the most important first."""
    main = facts(content, headline(content))
    with_success = main.measure == SUCCESS
    said = _successes(content, main) if with_success else _returns(content, main)
    seed, trials = content["run_seed"], plural(content["trials"], "trial")
    return [
        *said,
        *main.gaps("succeeds on" if with_success else "returns"),
        f"1 seed (seed {seed}), {trials} a goal. Intervals are over goals; other seeds may differ by more.",
    ]


def _successes(content: ControlEvaluation, main: Facts) -> list[str]:
    n, show, adapted = main.names[main.side], main.measure.show, content["episodes"] > 1
    if not any(row[0] for row in main.curves[main.side]):
        bound = main.after[2]
        doubt = f" (up to {percent(bound)} would be compatible with that)" if bound is not None else ""
        said = [f"It succeeded on none of the {n}, in any episode{doubt}."]
    else:
        before = f"; before, on {show(main.before)}" if adapted else ""
        said = [f"{experience(content)} it succeeds on {show(main.after)} of {n}{before}."]
    if adapted:
        last, returns = facts(content, LAST_SUCCESS), facts(content, RETURN)
        said.append(main.gained())
        said.append(f"Counting only the last step of the episode: {show(last.after)}, before {show(last.before)}.")
        said.append(
            f"The return of an episode goes from {RETURN.alone(returns.before[0])} to {RETURN.show(returns.after)}; "
            f"paired by goal {RETURN.show_change(returns.gain)}."
        )
    blind = content["sides"][main.side].get("goal_blind")
    if blind:
        any_step, last_step = (show(blind["by_episode"][MODE][m.key][0]) for m in (SUCCESS, LAST_SUCCESS))
        said.append(
            f"An agent that hovers with the same noise, blind to the goal, succeeds on {any_step} at any step and on "
            f"{last_step} at the last one."
        )
    return said


def _returns(content: ControlEvaluation, main: Facts) -> list[str]:
    """Sentences for environments that report no success."""
    n, after = main.names[main.side], main.measure.show(main.after)
    no_success = "The environments report no success: only returns can be judged."
    if content["episodes"] == 1:
        return [f"{experience(content)} its episodes on {n} return {after}.", no_success]
    before = main.measure.alone(main.before[0])
    return [f"{experience(content)} an episode on {n} returns {after}; before, {before}.", main.gained(), no_success]


def warnings(run: Reading) -> list[str]:
    """Warnings that a reader should know before trusting the figures."""
    content = run.evaluation
    said = [*run.problems, *looked_at(run, OF_GOALS, "goals")]
    if content is None:
        said.append(
            "No evaluation yet: metarl evaluate measures what it has learned. "
            "What follows shows train goals, played to explore."
        )
        return said
    sides = content["sides"]
    if "test" not in sides:
        missing = "Nothing was held out" if run.suite.startswith("mt") else "No held-out goals were evaluated"
        said.append(f"{missing}: the figures say how well it learned its tasks, not how well it adapts to new ones.")
    trained = content["trained_on"]
    if (content["suite"], content["suite_seed"]) != (trained["suite"], trained["suite_seed"]):
        said.append(
            f"Trained on {trained['suite']} (suite seed {trained['suite_seed']}), evaluated on the held-out goals of "
            f"{content['suite']} (suite seed {content['suite_seed']})."
        )
    said += gone_on(run, content, "step")
    if any(len(side["goals"]) == 1 for side in sides.values()):
        said.append("Some figures are of a single goal: how they vary between goals is unknown.")
    noted = content.get("warnings")
    said += [f"{printable(change)}." for change in noted if isinstance(change, str)] if isinstance(noted, list) else []
    if content["reward"] != "v2":
        said.append(f"Returns are of reward {content['reward']}; they cannot be compared with returns of v2.")
    return said
