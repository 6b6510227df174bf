"""Write the model card of a packed model in Hugging Face's format: YAML for machines, then Markdown for people."""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from metarl.agents import AGENTS, CONTROL
from metarl.evaluation.intervals import Interval
from metarl.evaluation.measures import MEASURES
from metarl.evaluation.schema import Content
from metarl.evaluation.vocabulary import SIDES, classes
from metarl.evaluation.wording import rules_of, said_of_looks
from metarl.runs.looks import Look
from metarl.system.counts import plural


class Figure(NamedTuple):
    """One result of an evaluation.

    Attributes:
        side: train, validation or test.
        measure: success, last_success, return, accuracy or mse.
        what: conditions of the result in words, such as "5 ways, 1 shot".
        interval: mean and 95 % interval.
    """

    side: str
    measure: str
    what: str
    interval: Interval


def card(
    name: str,
    licence: str,
    config: Content,
    evaluation: Content | None,
    stock: Content | None,
    film: str | None,
    looks: Sequence[Look] | None,
    stored: Sequence[Content],
) -> str:
    """The text of README.md.

    Args:
        name: name of the model.
        licence: its licence, by Hugging Face's identifier.
        config: content of the packed model's config.json.
        evaluation: evaluation on all goals or on episodes, or None.
        stock: evaluation by Meta-World's own protocol, or None.
        film: name of the video in the folder, or None.
        looks: see `metarl.runs.directory.Run.looks`.
        stored: its evaluations on the training's suite, of all checkpoints.
    """
    figures = list(_figures(evaluation)) if evaluation else []
    front = {
        "license": licence,
        "library_name": "metarl",
        "tags": _tags(config),
        **({"pipeline_tag": "reinforcement-learning"} if _robots(config) else {}),
        "model-index": [{"name": name, "results": _results(config, evaluation, stock, figures)}],
    }
    # JSON is valid YAML; one entry per line
    head = "\n".join(["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()), "---"])
    of_weights = [content for content in stored if evaluation and content["checkpoint"] == evaluation["checkpoint"]]
    evaluated = _evaluated(evaluation, stock, figures, len(of_weights))
    words = ("goals", "step") if _robots(config) else ("classes", "update")
    looked = " ".join(said_of_looks(looks, stored, config["suite"], config["options"], *words))
    parts = [_about(name, config), _loading(name, config), evaluated, looked, _film(film), _limits(config)]
    return "\n\n".join([head, *filter(None, parts)]) + "\n"


def _robots(config: Content) -> bool:
    return AGENTS[config["agent"]].training == CONTROL


def _tags(config: Content) -> list[str]:
    field = ["reinforcement-learning", "meta-reinforcement-learning", "robotics", "meta-world"]
    return [*(field if _robots(config) else ["few-shot-learning"]), "meta-learning", config["agent"], config["suite"]]


def _figures(content: Content) -> Iterator[Figure]:
    """The results shown in the card: before any experience, and after all of it."""
    for side, figures in content["sides"].items():
        if "by_shots" in figures:
            for shots in dict.fromkeys((0, content["shots"])):
                shape = (
                    f"{content['ways']} ways, {plural(shots, 'shot')}"
                    if content["measure"] == "accuracy"
                    else plural(shots, "shot")
                )
                yield Figure(side, content["measure"], shape, Interval(*figures["by_shots"][shots]))
            continue
        for mode, measures in figures["by_episode"].items():
            for measure, rows in measures.items():
                for episode in dict.fromkeys((0, len(rows) - 1)):
                    yield Figure(side, measure, f"episode {episode + 1}, {mode} actions", Interval(*rows[episode]))


def _results(config: Content, evaluation: Content | None, stock: Content | None, figures: list[Figure]) -> Sequence[Content]:
    task = {"type": "reinforcement-learning"} if _robots(config) else {"type": "few-shot-learning"}
    results = []
    for side in dict.fromkeys(figure.side for figure in figures):
        assert evaluation is not None
        metrics = [
            {
                "type": figure.measure,
                "name": f"{MEASURES[figure.measure].label}, {figure.what}",
                "value": figure.interval.mean,
                "args": {"protocol": evaluation["protocol"], "interval 95 %": list(figure.interval)[1:]},
                "verified": False,
            }
            for figure in figures
            if figure.side == side
        ]
        data = {"name": f"{evaluation['suite']}, {SIDES[side]}", "type": evaluation["suite"], "split": side}
        results.append({"task": task, "dataset": data, "metrics": metrics})
    if stock is not None:
        metric = {
            "type": "success",
            "name": "Meta-World's own evaluation, success",
            "value": stock["sides"]["test"]["success"],
            "args": {"protocol": "metaworld", "engine": stock["engine"], "rules": stock["rules"]},
            "verified": False,
        }
        data = {"name": f"{stock['suite']}, {SIDES['test']}", "type": stock["suite"], "split": "test"}
        results.append({"task": task, "dataset": data, "metrics": [metric]})
    return results


def _about(name: str, config: Content) -> str:
    o, commit = config["options"], config.get("git_commit")
    description = AGENTS[config["agent"]].help
    if _robots(config):
        held_out = "nothing is held out" if config["suite"].startswith("mt") else "its held-out goals were never trained on"
        how = (
            f"Trained on `{config['suite']}` with suite seed {o['suite_seed']} and "
            f"{plural(o['goals'], 'goal')} a task ({held_out}), run "
            f"seed {o['seed']}, for {plural(config['step'], 'environment step')} over all environments, in trials of "
            f"{plural(o['episodes_per_trial'], 'episode')} of {plural(o['max_episode_steps'], 'step')}, reward {o['reward']}."
        )
    else:
        how = (
            f"Trained on `{config['suite']}` with split seed {o['split_seed']} and run seed {o['seed']} for {config['step']:,} "
            f"outer updates: {o['ways']} ways, {plural(o['shots'], 'shot')}, {plural(o['queries'], 'query')}."
        )
        if o.get("sentence_encoder"):
            how += f" Texts come as vectors of the frozen sentence encoder `{o['sentence_encoder']}`, which is not part of it."
    settings = ", ".join(f"{key} {value}" for key, value in config["settings"].items())
    packages = ", ".join(f"{key} {value}" for key, value in (config.get("packages") or {}).items())
    made_with = f"Made with metarl {config['metarl']}" + (f" at commit {commit}" if commit else "") + f"; {packages}."
    return f"# {name}\n\n{description[0].upper()}{description[1:]}.\n\n{how}\n\nSettings: {settings}.\n\n{made_with}"


def _loading(name: str, config: Content) -> str:
    verbs = (
        "prediction, state = agent.predict(state, query)  # a metarl.learner.PolicyInput: a distribution over actions"
        if _robots(config)
        else "state = agent.adapt(state, support)  # metarl.datasets.episodes.Examples\n"
        "logits, state = agent.predict(state, query)"
    )
    commands = f"metarl evaluate pretrained:{name}\nmetarl export pretrained:{name}"
    return (
        f'## Use\n\n```python\nimport metarl\n\nagent = metarl.load("pretrained:{name}")\n'
        "state = agent.initial_state(num_tasks=1)\n"
        f"{verbs}\n```\n\n```\n{commands}\n```\n\n`{name}` is found in the package, or in the directory that "
        "`METARL_PRETRAINED` names; `pretrained:FOLDER` is a folder anywhere. The folder holds JSON "
        "and safetensors: nothing in it is executed."
    )


def _evaluated(evaluation: Content | None, stock: Content | None, figures: list[Figure], count: int) -> str:
    if evaluation is None:
        return "## Evaluation\n\nIt was not evaluated."
    percent = evaluation["confidence"]
    if "trials" in evaluation:
        how = (
            f"Protocol `{evaluation['protocol']}` on `{evaluation['suite']}`, suite seed {evaluation['suite_seed']}: every "
            f"goal gets equally many trials ({evaluation['trials']}) of {plural(evaluation['episodes'], 'episode')} of "
            f"{plural(evaluation['max_episode_steps'], 'step')}; episode 1 is before any "
            f"experience. Seed of the actions {evaluation['seed']}, "
            f"engine {evaluation['engine']}. Intervals are {percent:.0%}, over goals; one run."
        )
    else:
        how = (
            f"{plural(evaluation['episodes'], 'episode')} of {plural(evaluation['queries'], 'query')} "
            f"a class, seed {evaluation['seed']}. "
            f"Intervals are {percent:.0%}, over episodes; one run. Split: {evaluation['split']}."
        )
    if count > 1:
        how += f" It is the largest of {count} evaluations of these weights, by episodes on what was held out."
    rows = ["| on | of | measure | mean [interval] |", "|---|---|---|---|"]
    for side, measure, what, interval in figures:
        text = interval.text(",.0f" if measure == "return" else ".3f")
        where = SIDES[side] if "trials" in evaluation else classes(side)
        rows.append(f"| {where} | {what} | {MEASURES[measure].label} | {text} |")
    stocks = ""
    if stock is not None:
        stocks = (
            f"\n\nBy Meta-World's own evaluation code (engine {stock['engine']}, {rules_of(stock)}), whose quota easy goals "
            f"fill: success {stock['sides']['test']['success']:.3f}."
        )
    return "\n".join([f"## Evaluation\n\n{how}\n", *rows]) + stocks


def _film(film: str | None) -> str:
    return f"## Video\n\nThe first and the last episode of a trial: [{film}]({film})" if film else ""


def _limits(config: Content) -> str:
    if _robots(config):
        return (
            "## Limits\n\nIt knows the tasks, the simulator, the observations and the action scale that it was trained on; "
            "nothing was tried on a real robot. These figures say nothing about other tasks. Figures are of one "
            "run: other seeds may differ by more than the intervals."
        )
    return (
        "## Limits\n\nIt was trained on one data set; these figures say nothing about other data. Figures are of one run: "
        "other seeds may differ by more than the intervals."
    )
