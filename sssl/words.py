"""Words in what people read."""

from __future__ import annotations


def counted(count: int, thing: str) -> str:
    """Return a count with its thing, in the plural unless there is one: "1 track", "0 tracks"."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
