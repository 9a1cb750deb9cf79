"""Words in what people read."""

from __future__ import annotations

import re
from collections.abc import Sequence

STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by."""
GUARDED = f"^'([{re.escape(''.join(STARTS_A_FORMULA))}])"
"""Pattern of the apostrophe that our CSV files have in front of that (sssl.export.cells); what
follows it is the first group."""


def unguarded(text: str) -> str:
    """Return the text of a cell without the apostrophe that our CSV files have in front of a
    formula."""
    return re.sub(GUARDED, r"\1", text)


def counted(count: int, thing: str) -> str:
    """Return a count with its thing, in the plural unless there is one: "1 track", "0 tracks"."""
    if count == 1:
        return f"{count} {thing}"
    return f"{count} {thing}s"


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first of some names, as many as a person wants to read: "a, b, c, d, e, ..."."""
    return ", ".join([*map(printable, names[:most]), *(["..."] if len(names) > most else [])])


def printable(text: str) -> str:
    """Return text without what a terminal or a playlist would act on: control characters become
    question marks."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
