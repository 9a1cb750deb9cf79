"""Figures as inline SVG that follows the page: its font, its light or dark colours, no identifier
twice.

Colours of text and rules are written as placeholders and replaced by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any, Concatenate, ParamSpec, cast

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

P = ParamSpec("P")

THEME = {
    name: f"#01010{i}"
    for i, name in enumerate(("ink", "muted", "rule", "surface", "accent", "noisy"))
}
_LIGHT = dict(
    zip(THEME, ("#1d2126", "#5b636d", "#dcdcd8", "#ffffff", "#2f5d8c", "#b0306a"), strict=True)
)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sssl",
    "text.parse_math": False,  # a class may be called $a$
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "figure.dpi": 72,  # a point of the figure is a pixel of the page
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": THEME["rule"],
    "axes.labelcolor": THEME["muted"],
    "axes.titlecolor": THEME["ink"],
    "grid.color": THEME["rule"],
    "grid.linewidth": 0.6,
    "text.color": THEME["ink"],
    "xtick.color": THEME["rule"],
    "xtick.labelcolor": THEME["muted"],
    "ytick.color": THEME["rule"],
    "ytick.labelcolor": THEME["muted"],
}
# Pixels of a plot, two or four abreast; narrow enough for a phone.
SIZE = (440, 230)
SMALL = (260, 190)
LARGE = (440, 330)  # as high as two small ones
_STRETCH = 1.2  # the most that a plot grows to fill its column


def drawn(draw: Callable[P, Figure]) -> Callable[Concatenate[str, str, P], Markup]:
    """Make a function that draws a figure return it as SVG; its first arguments are the plot's name
    and alt text."""

    @wraps(draw)
    def svg(name: str, alt: str, *args: P.args, **kwargs: P.kwargs) -> Markup:
        with mpl.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", transparent=True)
        return Markup(_inline(buffer.getvalue(), name, alt))  # noqa: S704 -- escaped by matplotlib and `_inline`

    return cast("Callable[Concatenate[str, str, P], Markup]", svg)


def standalone(plot: Markup) -> bytes:
    """Make a plot of the page a file of its own, in the page's light colours."""
    svg = str(plot).replace(
        'class="plot"',
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"',
    )
    svg = svg.replace('style="', 'style="background: var(--surface); font-family: sans-serif; ', 1)
    for variable, color in _LIGHT.items():
        svg = svg.replace(f"var(--{variable})", color)
    return svg.encode()


def inches(width: float, height: float) -> tuple[float, float]:
    """Return the size of a figure in inches, as matplotlib takes it, of one in pixels of the
    page."""
    return width / 72, height / 72


def short(name: str, length: int = 12) -> str:
    """Cut a name so that it fits beside what it names."""
    if len(name) <= length:
        return name
    return name[: length - 1] + "…"


def tick_step(span_s: float, ticks: int) -> float:
    """Return the distance of ticks of a time axis in seconds: a round one, no more than so many
    ticks."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    for step in steps:
        if span_s / step <= ticks:
            return step
    return span_s / ticks


def _inline(svg: str, name: str, alt: str) -> str:
    """Turn matplotlib's document into an element of the page."""
    view_box = re.search(r'viewBox="([^"]*)"', svg)
    assert view_box is not None
    width = view_box[1].split()[2]
    opening = svg.index("<svg")
    inside = svg.index(">", opening) + 1
    body = svg[inside:]
    body = re.sub(r"<(metadata|style).*?</\1>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font-family: [^;\"]*; ", "", body)
    for variable, placeholder in THEME.items():
        body = body.replace(placeholder, f"var(--{variable})")
    widest = float(width) * _STRETCH
    tag = f'<svg class="plot" role="img" aria-label="{escape(alt)}" viewBox="{view_box[1]}" '
    return f'{tag}style="max-width: {widest:.0f}px">{body}'
