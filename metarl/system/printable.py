"""Texts from files and names of folders, as a report or a terminal may show them."""

import unicodedata


def printable(text: str) -> str:
    """Without what XML, fonts or terminals choke on."""
    if text.isprintable():
        return text
    whole = text.encode("utf-8", "replace").decode()
    shown = (
        c.isprintable() or unicodedata.category(c) == "Zs" for c in whole
    )  # spaces that are not ASCII's are none to Python
    return "".join(c if can else "\N{REPLACEMENT CHARACTER}" for c, can in zip(whole, shown))


def short(text: str, most: int = 40) -> str:
    """With its end cut off where it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def legend(label: str) -> str:
    """For a legend, which leaves out names that begin with an underscore."""
    return " " + short(label)
