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
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def in_words(timeline: Sequence[dict[str, Any]], most: int = 6) -> str:
    """Say a timeline's first entries."""
    said = [
        f"{entry['label']} {clock(entry['start_s'])} to {clock(entry['end_s'])}"
        for entry in timeline[:most]
    ]
    return ", ".join(said) + (f" and {len(timeline) - most} more" if len(timeline) > most else "")


def strip(timeline: Sequence[dict[str, Any]], classes: Sequence[str]) -> Markup:
    """Draw a timeline as a strip for a table; no more blocks than pixels, however many entries
    there are."""
    start_s = timeline[0]["start_s"]
    ends = np.array([entry["end_s"] for entry in timeline])
    middle = start_s + (np.arange(_STRIP) + 0.5) / _STRIP * (ends[-1] - start_s)
    shown = [
        classes.index(timeline[i]["label"]) for i in np.searchsorted(ends, middle, side="right")
    ]
    runs = [
        (c, [x for x, _ in run]) for c, run in groupby(enumerate(shown), key=lambda pixel: pixel[1])
    ]
    blocks = "".join(_block(classes[c], color_of(c), x[0], len(x)) for c, x in runs)
    words = escape(in_words(timeline))
    tag = f'<svg class="strip" role="img" aria-label="{words}" viewBox="0 0 {_STRIP} 14">'
    return Markup(f"{tag}<title>{words}</title>{blocks}</svg>")  # noqa: S704 -- escaped above


def _block(name: str, color: str, x: int, width: int) -> str:
    """Draw a stretch of a strip, with its class by name where there is room: not everybody can go
    by colours."""
    path = f'<path fill="{color}" d="M{x} 0h{width}v14h-{width}z"/>'
    fits = width > 7 * len(name) + 4
    return path + (
        f'<text x="{x + width / 2}" y="11" fill="{ink_on(color)}">{escape(name)}</text>'
        if fits
        else ""
    )
