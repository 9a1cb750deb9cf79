"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

from sssl.words import STARTS_A_FORMULA


def cell(text: str | None) -> str | None:
    """Return text that a spreadsheet shows rather than runs: an apostrophe goes in front of what it
    takes for a formula (OWASP, "CSV injection")."""
    if text is not None and text.startswith(STARTS_A_FORMULA):
        return f"'{text}"
    return text
