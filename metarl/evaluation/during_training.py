"""Evaluates agents during training, for `--evaluate-every`; `metarl train` passes an `Evaluator` to the loop."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metarl.agents import FEW_SHOT, entry
from metarl.errors import UserError
from metarl.learner import Metrics
from metarl.rollouts.random_streams import TASKS, generator
from metarl.runs.checkpoints import Checkpoint
from metarl.runs.directory import Run
from metarl.training.loop import Evaluator

if TYPE_CHECKING:
    from metarl.training.control import Setup as ControlSetup
    from metarl.training.fewshot import Setup as FewShotSetup

GOALS = 50
"""Number of validation goals to play."""
EPISODES = 200
"""Number of episodes for a few-shot learner."""


def evaluator(agent: str) -> Evaluator:
    """The evaluator for an agent of this name."""
    if entry(agent).training == FEW_SHOT:
        return Evaluator(check_few_shot, measure_few_shot)
    return Evaluator(check_control, measure_control)


def check_control(setup: "ControlSetup") -> None:
    """Raise UserError if the suite has no goals on the side `evaluate_on`."""
    from metarl.evaluation.plan import Plan, goals_by_side

    side = setup.options.evaluate_on
    if not goals_by_side(Plan(validation_goals=GOALS), setup.suite, setup.suite, (side,)):
        raise UserError(f"{setup.suite.name} holds nothing out for --evaluate-on test: try --evaluate-on validation")


def measure_control(run: Run, setup: "ControlSetup", step: int) -> Metrics:
    """Measure success and return in the last episode of one trial per goal, with sampled actions."""
    from metarl.evaluation.checkpoint import evaluate_checkpoint
    from metarl.evaluation.plan import Plan
    from metarl.evaluation.vocabulary import SAMPLED

    o = setup.options
    checkpoint = Checkpoint(run.path / "checkpoints" / f"{step:012d}", step, 0, setup.agent.state_dict(), run.config)
    plan = replace(Plan(validation_goals=GOALS), engine=setup.env.engine.name, device=o.device)
    content, _ = evaluate_checkpoint(
        run, checkpoint, plan, sides=(o.evaluate_on,), modes=(SAMPLED,), protocol="training", quiet=True
    )
    figures = content["sides"][o.evaluate_on]["by_episode"][SAMPLED]
    return {f"{o.evaluate_on}_{measure}": figures[measure][-1][0] for measure in ("success", "return") if measure in figures}


def check_few_shot(setup: "FewShotSetup") -> None:
    """Raise UserError if the part `evaluate_on` has too few classes or examples for an episode."""
    o = setup.options
    part: Any = o.evaluate_on
    try:
        setup.data.draw(
            part,
            generator(o.seed, TASKS),
            tasks=1,
            ways=setup.agent.ways,
            shots=o.shots,
            queries=o.queries,
        )
    except UserError as error:
        raise UserError(f"--evaluate-every on the {part} classes: {error}") from None


def measure_few_shot(run: Run, setup: "FewShotSetup", step: int) -> Metrics:
    """Average the learner's measure over `EPISODES` episodes of the part `evaluate_on`."""
    from metarl.evaluation.fewshot import evaluate

    o = setup.options
    part: Any = o.evaluate_on
    figures = evaluate(
        setup.agent,
        setup.data,
        part,
        episodes=EPISODES,
        shots=o.shots,
        queries=o.queries,
        seed=o.seed,
        device=setup.source.device,
    )
    if part == "test":
        place = {"suite": run.experiment.suite, "checkpoint": f"{step:012d}", "step": step}
        run.count_look({"protocol": "training", **place})
    return {f"{part}_{setup.agent.kind.measure}": float(figures[:, -1].mean())}
