"""Commands to be copied to a shell."""

from __future__ import annotations

import shlex

from sssl.urls import without_secrets

_ACTED_ON = frozenset('"$`\\!')
"""Signs that a shell acts on between double quotes."""


def sql_command(root: str, query: str) -> str:
    """Return the command that asks an output folder a query."""
    return f"sssl sql --output {shlex.quote(without_secrets(root))} {_as_word(query)}"


def _as_word(query: str) -> str:
    """Return SQL as a word of a shell, between double quotes where it may be: it is full of single
    ones."""
    if _ACTED_ON.isdisjoint(query):
        return f'"{query}"'
    return shlex.quote(query)
