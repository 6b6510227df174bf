"""Make texts from files and folder names safe to show in reports and terminals."""

import unicodedata


def printable(text: str) -> str:
    """Replace characters that XML, fonts or terminals cannot handle."""
    if text.isprintable():
        return text
    whole = text.encode("utf-8", "replace").decode()
    # Python counts non-ASCII spaces as unprintable
    can_show = (c.isprintable() or unicodedata.category(c) == "Zs" for c in whole)
    return "".join(c if can else "\N{REPLACEMENT CHARACTER}" for c, can in zip(whole, can_show))


def short(text: str, most: int = 40) -> str:
    """Truncate a long text, ending it with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def legend(label: str) -> str:
    """Prepare a label for a legend; matplotlib omits labels that begin with an underscore."""
    return " " + short(label)
