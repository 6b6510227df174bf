"""Prints the evaluation of a few-shot learner as a table in the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from metarl.evaluation.fewshot_schema import FewShotEvaluation
from metarl.evaluation.measures import ACCURACY, headline
from metarl.evaluation.vocabulary import classes
from metarl.evaluation.wording import TRANSDUCTIVE
from metarl.system.console import console, say
from metarl.system.counts import plural


def table(content: FewShotEvaluation) -> None:
    """Print the figures, one row per number of shots, and those by gradient step if there are any."""
    measure = headline(content)
    what = f"{content['ways']}-way {measure.heading}" if measure == ACCURACY else measure.heading
    grid = Table(box=SIMPLE_HEAD, title=f"{content['agent']} on {content['suite']}: {what}", title_justify="left")
    for column in ("shots", *map(classes, content["sides"])):
        grid.add_column(column, justify="right")
    for k in range(content["shots"] + 1):
        grid.add_row(str(k), *(measure.text(side["by_shots"][k]) for side in content["sides"].values()))
    console.print(grid)
    steps = content["sides"]["test"].get("by_steps")
    if steps:
        grid = Table(box=SIMPLE_HEAD, title="After so many gradient steps on all shots, held-out classes", title_justify="left")
        for column in ("steps", what, f"minus that of {steps['taken']}, which it takes"):
            grid.add_column(column, justify="right")
        for n, level, change in zip(steps["steps"], steps["measured"], steps["difference"]):
            grid.add_row(str(n), measure.text(level), measure.text(change, "+"))
        console.print(grid)
    say(
        f"Mean [95 % interval] over {plural(content['episodes'], 'episode')} of "
        f"{plural(content['queries'], 'query')} a class; 1 seed."
    )
    say(f"Split: {content['split']}.")
    if content["transductive"]:
        say(TRANSDUCTIVE)
