"""Charts of rounds, losses, labels and songs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter

from sssl.arrays import Floats, Indices
from sssl.labels.mixture import BINS, Mixture, centers
from sssl.metrics import Bin, wilson
from sssl.plots.colors import color_of
from sssl.plots.figure import LARGE, SIZE, SMALL, THEME, drawn, inches, short, tick_step
from sssl.plots.timeline import clock

_BARS = 48  # of a histogram of losses
_NAME_POINTS = 11  # size of names beside lines and blocks
_INK = THEME["ink"]
_MUTED = THEME["muted"]
_SURFACE = THEME["surface"]
_ACCENT = THEME["accent"]
_NOISY = THEME["noisy"]
_AXIS_TITLES = {"logit": "log-odds against the label", "loss": "loss in nats"}


@drawn
def loss_histogram(counts: Indices, mixture: Mixture, large: bool = False) -> Figure:
    """Stack the losses [2, BINS] of confident and noisy segments, and draw the mixture that split
    them."""
    size = LARGE if large else SMALL
    figure, axes = _plot(_AXIS_TITLES[mixture.axis], "segments", size)
    axes.use_sticky_edges = False  # a bar of confident segments alone would touch the upper edge
    x = centers(mixture.axis)
    first, last = _used_bins(counts)
    bins = last - first
    bins_per_bar = math.ceil(bins / _BARS)
    starts = np.arange(first, last, bins_per_bar)
    in_range = counts[:, :last]
    confident, noisy = np.add.reduceat(in_range, starts, axis=1)
    bin_width = x[1] - x[0]
    bar_width = bin_width * bins_per_bar
    at = x[starts] - bin_width / 2
    axes.bar(at, confident, bar_width, align="edge", color=_ACCENT, alpha=0.35)
    axes.bar(at, noisy, bar_width, confident, align="edge", color=_NOISY, alpha=0.5)
    shown = x[first:last]
    segments = counts.sum()
    lines = ((mixture.confident, _ACCENT, "-"), (mixture.noisy, _NOISY, "--"))
    for component, color, style in lines:
        if component is not None:
            density = np.exp(component.log_density(shown))
            expected = density * segments * bar_width
            axes.plot(shown, expected, style, color=color, linewidth=1.8)
    end = at[-1] + bar_width
    axes.set_xlim(at[0], end)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def _used_bins(counts: Indices) -> tuple[int, int]:
    """Return the first bin that has losses and the one after the last; all bins if none has."""
    by_bin = counts.sum(axis=0)
    used = np.flatnonzero(by_bin)
    if not len(used):
        return 0, BINS
    return int(used[0]), int(used[-1]) + 1


@drawn
def by_round(
    rounds: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    colors: Sequence[str],
    stands: Sequence[bool],
) -> Figure:
    """Draw shares by round, a line each, side by side and named at its end; hollow where the model
    was not taken."""
    figure, axes = _plot("round")
    lines = []
    # Each series has its colour and marker, whether it has values or not.
    markers = cycle("os^Dv<>p")
    for (name, values), color in zip(series.items(), colors, strict=False):
        marker = next(markers)
        y = np.array(values, float)
        if np.isfinite(y).any():
            lines.append(_Line(name, y, THEME.get(color, color), marker))
    # Lines side by side, within a quarter of the distance of rounds: points hide no others.
    count = len(lines)
    middle = (count - 1) / 2
    from_middle = np.arange(count) - middle
    shifts = from_middle * 0.25 / max(1, count)
    edge = max(rounds) + 0.35
    ends = np.array([line.end for line in lines])
    named_at = spread(ends, 0.085)
    for line, shift, label_y in zip(lines, shifts, named_at, strict=True):
        x = rounds + shift
        axes.plot(x, line.y, color=line.stroke, linewidth=1.6)
        is_known = np.isfinite(line.y)
        end_x = x[is_known][-1]
        axes.plot([end_x, edge], [line.end, label_y], color=line.stroke, linewidth=0.8)
        name = short(line.name, 16)
        _name_line(axes, name, edge, label_y)
        _draw_points(axes, x, line, stands)
    axes.set_ylim(0, 1.04)  # a point at 100 % is whole
    start = min(rounds) - 0.3
    axes.set_xlim(start, edge)
    axes.set_xticks(rounds)
    _in_percent(axes.yaxis)
    return figure


class _Line(NamedTuple):
    """A line by round: its values, NaN where there is none, its colour and marker."""

    name: str
    y: Floats
    stroke: str
    marker: str

    @property
    def end(self) -> float:
        """The last value there is."""
        is_known = np.isfinite(self.y)
        return float(self.y[is_known][-1])


def _draw_points(axes: Axes, x: Floats, line: _Line, stands: Sequence[bool]) -> None:
    """Draw one point per round, hollow where the model was not taken."""
    for round_x, value, taken in zip(x, line.y, stands, strict=True):
        face = line.stroke if taken else _SURFACE
        (point,) = axes.plot([round_x], [value], line.marker, color=line.stroke, markersize=6)
        point.set_markerfacecolor(face)


def _name_line(axes: Axes, name: str, x: float, y: float) -> None:
    """Write a name beside the end of its line."""
    text = axes.annotate(name, (x, y), (4, 0), textcoords="offset points", va="center")
    text.set_fontsize(_NAME_POINTS)


def _in_percent(axis: Axis) -> None:
    """Mark every fifth of a share."""
    axis.set_major_locator(MultipleLocator(0.2))
    axis.set_major_formatter(PercentFormatter(1.0))


def spread(values: Floats, gap: float, high: float = 1.0) -> Floats:
    """Move values [N] apart by at least a gap, in their order, none above a limit: where labels go
    beside lines."""
    count = len(values)
    order = np.argsort(values, kind="stable")
    step = min(gap, high / max(1, count))
    steps = np.arange(count) * step
    # The lowest place for each that leaves room for those below.
    lowest = np.maximum.accumulate(values[order] - steps)
    highest = high - steps[::-1]
    placed = np.empty_like(values)
    wanted = lowest + steps
    placed[order] = np.minimum(wanted, highest)
    return placed


@drawn
def flow(steps: Sequence[Floats], stops: Sequence[str], classes: Sequence[str]) -> Figure:
    """Draw how labels moved from stop to stop, a matrix [C, C] a step; what stayed is pale."""
    count = len(steps)
    width = SIZE[0] + 140 * (count - 1)
    figure = Figure(figsize=inches(width, 300))
    # Names stand to either side, beyond the axes.
    margin = 0.22 / count
    inner_width = 1 - 0.44 / count
    axes = figure.add_axes((margin, 0.02, inner_width, 0.88))
    axes.axis("off")
    before = steps[0].sum(axis=1)
    after = [counts.sum(axis=0) for counts in steps]
    columns = [before, *after]
    tallest = max(totals.sum() for totals in columns)
    gap = 0.04 * tallest
    for x, counts in enumerate(steps):
        _draw_step(axes, counts, x, gap)
    for x, (totals, title) in enumerate(zip(columns, stops, strict=True)):
        _draw_stop(axes, totals, x, gap)
        axes.text(x, -gap, title, ha="center", color=_MUTED)
    _name_blocks(axes, columns[0], classes, -0.03, "right", gap)
    _name_blocks(axes, columns[-1], classes, count + 0.03, "left", gap)
    axes.set_xlim(0, count)
    lowest = tallest + gap * len(classes)
    axes.set_ylim(lowest, 0)  # downwards, as one reads
    return figure


def _draw_stop(axes: Axes, totals: Floats, x: int, gap: float) -> None:
    """Draw a column of blocks, one per class."""
    places = np.full(len(totals), x)
    colors = [color_of(number) for number in range(len(totals))]
    axes.bar(places, totals, 0.02, _stack(totals, gap), color=colors)


def _name_blocks(
    axes: Axes, totals: Floats, classes: Sequence[str], x: float, side: str, gap: float
) -> None:
    """Write name and size beside each block of a column."""
    tops = _stack(totals, gap)
    for name, total, top in zip(classes, totals, tops, strict=True):
        text = f"{short(name)}\n{total:,.0f}"
        middle = top + total / 2
        axes.text(x, middle, text, ha=side, va="center", fontsize=_NAME_POINTS)


@drawn
def histogram(
    edges: Floats, counts: Floats, x_label: str, below: float | None = None, seconds: bool = False
) -> Figure:
    """Draw counts of tracks [B] between edges [B+1]; what lies below a threshold is muted."""
    figure, axes = _plot(x_label, "tracks")
    left = edges[:-1]
    right = edges[1:]
    colors = [_ACCENT] * len(counts)
    if below is not None:
        limit = below + 1e-9  # an edge at the threshold is rounded
        colors = [_MUTED if edge <= limit else _ACCENT for edge in right]
        axes.axvline(below, color=_INK, linewidth=1)
    widths = right - left
    axes.bar(left, counts, widths, align="edge", color=colors, alpha=0.6, linewidth=0)
    if seconds:
        length_s = edges[-1] - edges[0]
        step_s = tick_step(length_s, 6)
        axes.xaxis.set_major_locator(MultipleLocator(step_s))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))
    axes.set_xlim(edges[0], edges[-1])
    return figure


@drawn
def reliability(bins: Sequence[Bin]) -> Figure:
    """Draw the share of right labels over the confidence, one point per bin with its 95 % interval;
    on the diagonal confidence equals accuracy."""
    figure, axes = _plot("confidence", "share that is right")
    confidence = np.array([one.confidence for one in bins])
    accuracy = np.array([one.accuracy for one in bins])
    tracks = [one.tracks for one in bins]
    low, high = wilson(accuracy, tracks)
    axes.plot([0, 1], [0, 1], "--", color=_MUTED, linewidth=1)
    below = accuracy - low
    above = high - accuracy
    reach = np.maximum([below, above], 0)  # rounding can make them negative
    line: dict[str, Any] = {"fmt": "o-", "color": _ACCENT, "linewidth": 1.6}
    axes.errorbar(confidence, accuracy, reach, elinewidth=1, capsize=3, **line)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.04)
    _in_percent(axes.xaxis)
    _in_percent(axes.yaxis)
    return figure


def _plot(
    x_label: str = "", y_label: str = "", size: tuple[int, int] = SIZE
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=inches(*size), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y")
    axes.tick_params(length=0)
    return figure, axes


def _stack(totals: Floats, gap: float) -> Floats:
    """Return where each of a column's blocks starts, with a gap between them."""
    starts = np.zeros(len(totals))
    ends = np.cumsum(totals + gap)
    starts[1:] = ends[:-1]
    return starts


def _draw_step(axes: Axes, counts: Floats, x: int, gap: float) -> None:
    """Draw a ribbon for each class that labels moved from and to."""
    sizes_before = counts.sum(axis=1)
    sizes_after = counts.sum(axis=0)
    out = _stack(sizes_before, gap)
    into = _stack(sizes_after, gap)
    for before, after in np.ndindex(*counts.shape):
        y0 = float(out[before])
        y1 = float(into[after])
        height = float(counts[before, after])
        alpha = 0.3 if before == after else 0.85
        color = color_of(before)
        ribbon = _ribbon(x, y0, y1, height, color, alpha)
        axes.add_patch(ribbon)
        out[before] += height
        into[after] += height


def _ribbon(x: int, y0: float, y1: float, height: float, color: str, alpha: float) -> PathPatch:
    """Return a band between two columns of blocks, bent as a Bézier curve."""
    left = x + 0.01
    middle = x + 0.5
    right = x + 0.99
    heights = (y0, y0, y1, y1)
    upper = list(zip((left, middle, middle, right), heights, strict=True))
    back = reversed(upper)
    lower = [(at, y + height) for at, y in back]
    corners = [*upper, *lower, (left, y0)]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    path = Path(corners, codes)
    return PathPatch(path, facecolor=color, alpha=alpha, linewidth=0)
