"""Charts of rounds, losses, labels and songs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
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
_AXIS_TITLES = {"logit": "log-odds against the label", "loss": "loss in nats"}


@drawn
def loss_histogram(counts: Indices, mixture: Mixture, large: bool = False) -> Figure:
    """Stack the losses [2, BINS] of confident and noisy segments, and draw the mixture that split
    them."""
    figure, axes = _plot(_AXIS_TITLES[mixture.axis], "segments", LARGE if large else SMALL)
    axes.use_sticky_edges = False  # a bar of confident segments alone would touch the upper edge
    x = centers(mixture.axis)
    used = np.flatnonzero(counts.sum(axis=0))
    first, last = (used[0], used[-1] + 1) if len(used) else (0, BINS)
    width = -(-(last - first) // _BARS)
    starts = np.arange(first, last, width)
    confident, noisy = np.add.reduceat(counts[:, :last], starts, axis=1)
    step = (x[1] - x[0]) * width
    at = x[starts] - (x[1] - x[0]) / 2
    axes.bar(at, confident, step, align="edge", color=THEME["accent"], alpha=0.35)
    axes.bar(at, noisy, step, confident, align="edge", color=THEME["noisy"], alpha=0.5)
    for component, color, style in (
        (mixture.confident, "accent", "-"),
        (mixture.noisy, "noisy", "--"),
    ):
        if component is not None:
            expected = np.exp(component.log_density(x[first:last])) * counts.sum() * step
            axes.plot(x[first:last], expected, style, color=THEME[color], linewidth=1.8)
    axes.set_xlim(at[0], at[-1] + step)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


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
    known = {
        name: np.array(values, float)
        for name, values in series.items()
        if any(v is not None for v in values)
    }
    ends = np.array([y[np.isfinite(y)][-1] for y in known.values()])
    shifts = (np.arange(len(known)) - (len(known) - 1) / 2) * 0.25 / max(1, len(known))
    edge = max(rounds) + 0.35
    drawn_as = zip(series, colors, cycle("os^Dv<>p"), strict=False)
    style = {name: (THEME.get(color, color), marker) for name, color, marker in drawn_as}
    for (name, y), shift, end, label_y in zip(
        known.items(), shifts, ends, spread(ends, 0.085), strict=True
    ):
        stroke, marker = style[name]
        axes.plot(rounds + shift, y, color=stroke, linewidth=1.6)
        axes.plot(
            [np.array(rounds)[np.isfinite(y)][-1] + shift, edge],
            [end, label_y],
            color=stroke,
            linewidth=0.8,
        )
        axes.annotate(
            short(name, 16),
            (edge, label_y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
        )
        for x, value, taken in zip(rounds + shift, y, stands, strict=True):
            face = stroke if taken else THEME["surface"]
            axes.plot([x], [value], marker, color=stroke, markerfacecolor=face, markersize=6)
    axes.set_ylim(0, 1.04)
    axes.set_xlim(min(rounds) - 0.3, edge)
    axes.set_xticks(rounds)
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def spread(values: Floats, gap: float, high: float = 1.0) -> Floats:
    """Move values [N] apart by at least a gap, in their order, none above a limit: where labels go
    beside lines."""
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values)) * min(gap, high / max(1, len(values)))
    up = np.maximum.accumulate(
        values[order] - steps
    )  # the lowest place for each that leaves room for those below
    placed = np.empty_like(values)
    placed[order] = np.minimum(up + steps, high - steps[::-1])
    return placed


@drawn
def flow(steps: Sequence[Floats], stops: Sequence[str], classes: Sequence[str]) -> Figure:
    """Draw how labels moved from stop to stop, a matrix [C, C] a step; what stayed is pale."""
    figure = Figure(figsize=inches(SIZE[0] + 140 * (len(steps) - 1), 300))
    axes = figure.add_axes((0.22 / len(steps), 0.02, 1 - 0.44 / len(steps), 0.88))
    axes.axis("off")
    columns = [steps[0].sum(axis=1), *(counts.sum(axis=0) for counts in steps)]
    gap = 0.04 * max(totals.sum() for totals in columns)
    for x, counts in enumerate(steps):
        _draw_step(axes, counts, x, gap)
    for x, (totals, title) in enumerate(zip(columns, stops, strict=True)):
        axes.bar(
            np.full(len(totals), x),
            totals,
            0.02,
            _stack(totals, gap),
            color=[color_of(c) for c in range(len(totals))],
        )
        axes.text(x, -gap, title, ha="center", color=THEME["muted"])
    for x, totals, side, shift in (
        (0, columns[0], "right", -0.03),
        (len(steps), columns[-1], "left", 0.03),
    ):
        for name, total, y in zip(classes, totals, _stack(totals, gap), strict=True):
            axes.text(
                x + shift,
                y + total / 2,
                f"{short(name)}\n{total:,.0f}",
                ha=side,
                va="center",
                fontsize=11,
            )
    axes.set_xlim(0, len(steps))
    axes.set_ylim(max(totals.sum() for totals in columns) + gap * len(classes), 0)
    return figure


@drawn
def histogram(
    edges: Floats, counts: Floats, x_label: str, below: float | None = None, seconds: bool = False
) -> Figure:
    """Draw counts of tracks [B] between edges [B+1]; what lies below a threshold is muted."""
    figure, axes = _plot(x_label, "tracks")
    muted = np.zeros(len(counts), bool) if below is None else edges[1:] <= below + 1e-9
    colors = np.where(muted, THEME["muted"], THEME["accent"]).tolist()
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colors, alpha=0.6, linewidth=0)
    if below is not None:
        axes.axvline(below, color=THEME["ink"], linewidth=1)
    if seconds:
        axes.xaxis.set_major_locator(MultipleLocator(tick_step(edges[-1] - edges[0], 6)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))
    axes.set_xlim(edges[0], edges[-1])
    return figure


@drawn
def reliability(bins: Sequence[Bin]) -> Figure:
    """Draw the share of right labels over the confidence, a point a bin with its 95 % interval; on
    the diagonal a confidence keeps its word."""
    figure, axes = _plot("confidence", "share that is right")
    confidence = np.array([b.confidence for b in bins])
    accuracy = np.array([b.accuracy for b in bins])
    low, high = wilson(accuracy, [b.tracks for b in bins])
    axes.plot([0, 1], [0, 1], "--", color=THEME["muted"], linewidth=1)
    reach = np.maximum([accuracy - low, high - accuracy], 0)
    axes.errorbar(
        confidence,
        accuracy,
        reach,
        fmt="o-",
        color=THEME["accent"],
        linewidth=1.6,
        elinewidth=1,
        capsize=3,
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.04)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(PercentFormatter(1.0))
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
    return np.asarray(np.concatenate([[0.0], np.cumsum(totals + gap)[:-1]]))


def _draw_step(axes: Axes, counts: Floats, x: int, gap: float) -> None:
    out = _stack(counts.sum(axis=1), gap)
    into = _stack(counts.sum(axis=0), gap)
    for i, j in np.ndindex(*counts.shape):
        y0 = float(out[i])
        y1 = float(into[j])
        height = float(counts[i, j])
        axes.add_patch(_ribbon(x, y0, y1, height, color_of(i), 0.3 if i == j else 0.85))
        out[i] += counts[i, j]
        into[j] += counts[i, j]


def _ribbon(x: int, y0: float, y1: float, height: float, color: str, alpha: float) -> PathPatch:
    left = x + 0.01
    middle = x + 0.5
    right = x + 0.99
    upper = [(left, y0), (middle, y0), (middle, y1), (right, y1)]
    lower = [(at, y + height) for at, y in reversed(upper)]
    corners = [*upper, *lower, (left, y0)]
    curve = [Path.CURVE4] * 3
    path = Path(corners, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])
    return PathPatch(path, facecolor=color, alpha=alpha, linewidth=0)
