"""A track's timeline in words and as a strip for a table. Loads nothing that draws."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup

from sssl.plots.colors import color_of, ink_on

_STRIP = 160  # pixels of a timeline in a table


def clock(seconds: float) -> str:
    """Write a time as 3:07 or 1:03:07."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def in_words(timeline: Sequence[dict[str, Any]], most: int = 6) -> str:
    """Say a timeline's first entries."""
    said = []
    for entry in timeline[:most]:
        start = clock(entry["start_s"])
        end = clock(entry["end_s"])
        said.append(f"{entry['label']} {start} to {end}")
    words = ", ".join(said)
    left = len(timeline) - most
    if left > 0:
        words += f" and {left} more"
    return words


def strip(timeline: Sequence[dict[str, Any]], classes: Sequence[str]) -> Markup:
    """Draw a timeline as a strip for a table; no more blocks than pixels, however many entries
    there are."""
    start_s = timeline[0]["start_s"]
    ends = np.array([entry["end_s"] for entry in timeline])
    length_s = ends[-1] - start_s
    share = (np.arange(_STRIP) + 0.5) / _STRIP
    middle = start_s + share * length_s
    places = np.searchsorted(ends, middle, side="right")
    shown = [timeline[place]["label"] for place in places]
    blocks = ""
    first = 0
    for name, run in groupby(shown):
        width = len(list(run))
        color = color_of(classes.index(name))
        blocks += _block(name, color, first, width)
        first += width
    words = escape(in_words(timeline))
    tag = f'<svg class="strip" role="img" aria-label="{words}" viewBox="0 0 {_STRIP} 14">'
    return Markup(f"{tag}<title>{words}</title>{blocks}</svg>")  # noqa: S704 -- escaped above


def _block(name: str, color: str, x: int, width: int) -> str:
    """Draw a stretch of a strip, with its class by name where there is room: not everybody can go
    by colours."""
    path = f'<path fill="{color}" d="M{x} 0h{width}v14h-{width}z"/>'
    fits = width > 7 * len(name) + 4
    if not fits:
        return path
    middle = x + width / 2
    ink = ink_on(color)
    return path + f'<text x="{middle}" y="11" fill="{ink}">{escape(name)}</text>'
