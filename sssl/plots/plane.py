"""Songs in the plane of valence and arousal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from sssl.plots.colors import color_of
from sssl.plots.figure import THEME, drawn, inches, short

_SIDE = 440  # pixels
# Areas of a cell's dot, in square points.
_SMALLEST = 18.0
_LARGEST = 300.0


@dataclass(frozen=True)
class Cell:
    """The songs at a place of the plane, and the position of the class that most of them have."""

    valence: float
    arousal: float
    songs: int
    position: int


@drawn
def draw_plane(cells: Sequence[Cell], names: Sequence[tuple[str, float, float]]) -> Figure:
    """Draw a dot per cell, as large as it has songs, and the classes' names (with valence and
    arousal) where they pull to."""
    figure = Figure(figsize=inches(_SIDE, _SIDE))
    axes = figure.add_axes((0.12, 0.11, 0.84, 0.85))
    most = max((cell.songs for cell in cells), default=1)
    axes.scatter(
        [cell.valence for cell in cells],
        [cell.arousal for cell in cells],
        s=[
            _SMALLEST + (_LARGEST - _SMALLEST) * (cell.songs - 1) / max(1, most - 1)
            for cell in cells
        ],
        c=[color_of(cell.position) for cell in cells],
        alpha=0.75,
        linewidths=0,
    )
    axes.axhline(0, color=THEME["rule"], linewidth=1, zorder=0)
    axes.axvline(0, color=THEME["rule"], linewidth=1, zorder=0)
    for name, valence, arousal in names:
        # Beyond the corner, where no song is.
        axes.text(
            1.13 * valence, 1.13 * arousal, short(name), ha="center", va="center", fontweight="bold"
        )
    for set_limits in (axes.set_xlim, axes.set_ylim):
        set_limits(-1.25, 1.25)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(1))
    axes.set_xlabel("valence: unpleasant to pleasant")
    axes.set_ylabel("arousal: calm to excited")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure
