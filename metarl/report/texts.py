"""Texts from files and names of folders, as a report may show them."""


def printable(text: str) -> str:
    """Without what XML, fonts or terminals choke on."""
    if text.isprintable():
        return text
    whole = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in whole)


def short(text: str, most: int = 40) -> str:
    """With its end cut off where it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def legend(label: str) -> str:
    """For a legend, which leaves out names that begin with an underscore."""
    return " " + short(label)
