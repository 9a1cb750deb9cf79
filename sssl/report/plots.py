"""Plots as inline SVG that follows the page: its font, its light or dark colours, no identifier twice.

Colours of text and rules are written as placeholders and replaced by the page's CSS variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from html import escape
from itertools import cycle, groupby
from typing import Any, Concatenate, ParamSpec, cast

import librosa.display
import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter
from numpy.typing import NDArray

from sssl.labels.mixture import BINS, Component, centers
from sssl.metrics import Bin, wilson

Floats = NDArray[np.float64]
Block = tuple[float, float, str | None]
Bands = dict[str, list[Block]]
P = ParamSpec("P")

CLASS_COLORS = ("#e69f00", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#7f7f7f")
"""Okabe and Ito's palette, safe for colour-blind readers; the order gives Russell's quadrants their usual hues."""

_THEME = {name: f"#01010{i}" for i, name in enumerate(("ink", "muted", "rule", "surface", "accent", "noisy"))}
_LIGHT = dict(zip(_THEME, ("#1d2126", "#5b636d", "#dcdcd8", "#ffffff", "#2f5d8c", "#b0306a"), strict=True))
_STYLE: dict[Any, Any] = {
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
    "axes.edgecolor": _THEME["rule"],
    "axes.labelcolor": _THEME["muted"],
    "axes.titlecolor": _THEME["ink"],
    "grid.color": _THEME["rule"],
    "grid.linewidth": 0.6,
    "text.color": _THEME["ink"],
    "xtick.color": _THEME["rule"],
    "xtick.labelcolor": _THEME["muted"],
    "ytick.color": _THEME["rule"],
    "ytick.labelcolor": _THEME["muted"],
}
_SIZE, _SMALL = (440, 230), (260, 190)  # pixels of a plot, two or four abreast; narrow enough for a phone
_LARGE = (440, 330)  # as high as two small ones
_STRETCH = 1.2  # the most that a plot grows to fill its column
_MAX_COLUMNS = 1000  # of a spectrogram: what a screen shows of a track, however long it is
_MAX_STEPS = 300  # of a posterior, and blocks of a band: more cannot be told apart
_BARS = 48  # of a histogram of losses
_AXIS_TITLES = {"logit": "log-odds against the label", "loss": "loss in nats"}
_STRIP = 160  # pixels of a timeline in a table


@dataclass(frozen=True)
class TrackView:
    """What is drawn of a track: N segments, and named bands of (start, end, class), no class meaning noisy."""

    start_s: Floats
    log_mel: NDArray[np.float16]  # [N, mels, frames]
    posterior: Floats  # [N, C], NaN where there is none
    bands: Bands
    segment_s: float
    rate_hz: int
    frame_hop: int


def color_of(index: int) -> str:
    """Return the colour of a class by its position."""
    return CLASS_COLORS[index % len(CLASS_COLORS)]


def ink_on(color: str) -> str:
    """Return black or white, whichever reads better on a colour (WCAG's relative luminance)."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    # Contrast to black (L + .05) / .05 exceeds contrast to white 1.05 / (L + .05) above this luminance.
    return "#000000" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "#ffffff"


def drawn(draw: Callable[P, Figure]) -> Callable[Concatenate[str, str, P], Markup]:
    """Make a function that draws a figure return it as SVG; its first arguments are the plot's name and alt text."""

    @wraps(draw)
    def svg(name: str, alt: str, *args: P.args, **kwargs: P.kwargs) -> Markup:
        with mpl.rc_context(_STYLE):
            figure = draw(*args, **kwargs)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", transparent=True)
        return Markup(_inline(buffer.getvalue(), name, alt))  # noqa: S704 -- escaped by matplotlib and `_inline`

    return cast("Callable[Concatenate[str, str, P], Markup]", svg)


@drawn
def loss_histogram(counts: NDArray[np.int64], mixture: dict[str, Any], large: bool = False) -> Figure:
    """Stack the losses [2, BINS] of confident and noisy segments, and draw the mixture that split them."""
    figure, axes = _plot(_AXIS_TITLES[mixture["axis"]], "segments", _LARGE if large else _SMALL)
    axes.use_sticky_edges = False  # a bar of confident segments alone would touch the upper edge
    x, used = centers(mixture["axis"]), np.flatnonzero(counts.sum(axis=0))
    first, last = (used[0], used[-1] + 1) if len(used) else (0, BINS)
    width = -(-(last - first) // _BARS)
    starts = np.arange(first, last, width)
    confident, noisy = np.add.reduceat(counts[:, :last], starts, axis=1)
    step = (x[1] - x[0]) * width
    at = x[starts] - (x[1] - x[0]) / 2
    axes.bar(at, confident, step, align="edge", color=_THEME["accent"], alpha=0.35)
    axes.bar(at, noisy, step, confident, align="edge", color=_THEME["noisy"], alpha=0.5)
    for name, color, style in (("confident", "accent", "-"), ("noisy", "noisy", "--")):
        if mixture[name]["mean"] is not None:
            component = np.exp(Component(**mixture[name]).log_density(x[first:last])) * counts.sum() * step
            axes.plot(x[first:last], component, style, color=_THEME[color], linewidth=1.8)
    axes.set_xlim(at[0], at[-1] + step)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


@drawn
def by_round(
    rounds: Sequence[int], series: Mapping[str, Sequence[float | None]], colors: Sequence[str], accepted: Sequence[bool]
) -> Figure:
    """Draw shares by round, a line each, side by side and named at its end; rejected rounds are hollow."""
    figure, axes = _plot("round")
    known = {name: np.array(values, float) for name, values in series.items() if any(v is not None for v in values)}
    ends = np.array([y[np.isfinite(y)][-1] for y in known.values()])
    shifts = (np.arange(len(known)) - (len(known) - 1) / 2) * 0.25 / max(1, len(known))
    edge = max(rounds) + 0.35
    drawn_as = zip(series, colors, cycle("os^Dv<>p"), strict=False)
    style = {name: (_THEME.get(color, color), marker) for name, color, marker in drawn_as}
    for (name, y), shift, end, label_y in zip(known.items(), shifts, ends, spread(ends, 0.085), strict=True):
        stroke, marker = style[name]
        axes.plot(rounds + shift, y, color=stroke, linewidth=1.6)
        axes.plot([np.array(rounds)[np.isfinite(y)][-1] + shift, edge], [end, label_y], color=stroke, linewidth=0.8)
        axes.annotate(_short(name, 16), (edge, label_y), (4, 0), textcoords="offset points", va="center", fontsize=11)
        for x, value, stands in zip(rounds + shift, y, accepted, strict=True):
            face = stroke if stands else _THEME["surface"]
            axes.plot([x], [value], marker, color=stroke, markerfacecolor=face, markersize=6)
    axes.set_ylim(0, 1.04)
    axes.set_xlim(min(rounds) - 0.3, edge)
    axes.set_xticks(rounds)
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def spread(values: Floats, gap: float, high: float = 1.0) -> Floats:
    """Move values [N] apart by at least a gap, in their order, none above a limit: where labels go beside lines."""
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values)) * min(gap, high / max(1, len(values)))
    up = np.maximum.accumulate(values[order] - steps)  # the lowest place for each that leaves room for those below
    placed = np.empty_like(values)
    placed[order] = np.minimum(up + steps, high - steps[::-1])
    return placed


@drawn
def flow(steps: Sequence[Floats], stops: Sequence[str], classes: Sequence[str]) -> Figure:
    """Draw how labels moved from stop to stop, a matrix [C, C] a step; what stayed is pale."""
    figure = Figure(figsize=_inches(_SIZE[0] + 140 * (len(steps) - 1), 300))
    axes = figure.add_axes((0.22 / len(steps), 0.02, 1 - 0.44 / len(steps), 0.88))
    axes.axis("off")
    columns = [steps[0].sum(axis=1), *(counts.sum(axis=0) for counts in steps)]
    gap = 0.04 * max(totals.sum() for totals in columns)
    for x, counts in enumerate(steps):
        _draw_step(axes, counts, x, gap)
    for x, (totals, title) in enumerate(zip(columns, stops, strict=True)):
        axes.bar(
            np.full(len(totals), x), totals, 0.02, _stack(totals, gap), color=[color_of(c) for c in range(len(totals))]
        )
        axes.text(x, -gap, title, ha="center", color=_THEME["muted"])
    for x, totals, side, shift in ((0, columns[0], "right", -0.03), (len(steps), columns[-1], "left", 0.03)):
        for name, total, y in zip(classes, totals, _stack(totals, gap), strict=True):
            axes.text(x + shift, y + total / 2, f"{_short(name)}\n{total:,.0f}", ha=side, va="center", fontsize=11)
    axes.set_xlim(0, len(steps))
    axes.set_ylim(max(totals.sum() for totals in columns) + gap * len(classes), 0)
    return figure


@drawn
def histogram(edges: Floats, counts: Floats, x_label: str, below: float | None = None, seconds: bool = False) -> Figure:
    """Draw counts of tracks [B] between edges [B+1]; what lies below a threshold is muted."""
    figure, axes = _plot(x_label, "tracks")
    muted = np.zeros(len(counts), bool) if below is None else edges[1:] <= below + 1e-9
    colors = np.where(muted, _THEME["muted"], _THEME["accent"]).tolist()
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colors, alpha=0.6, linewidth=0)
    if below is not None:
        axes.axvline(below, color=_THEME["ink"], linewidth=1)
    if seconds:
        axes.xaxis.set_major_locator(MultipleLocator(_tick_step(edges[-1] - edges[0], 6)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))
    axes.set_xlim(edges[0], edges[-1])
    return figure


@drawn
def reliability(bins: Sequence[Bin]) -> Figure:
    """Draw the share of right labels over the confidence, a point a bin with its 95 % interval; on the diagonal a
    confidence keeps its word."""
    figure, axes = _plot("confidence", "share that is right")
    confidence, accuracy = (np.array([getattr(b, name) for b in bins]) for name in ("confidence", "accuracy"))
    low, high = wilson(accuracy, [b.tracks for b in bins])
    axes.plot([0, 1], [0, 1], "--", color=_THEME["muted"], linewidth=1)
    reach = np.maximum([accuracy - low, high - accuracy], 0)
    axes.errorbar(confidence, accuracy, reach, fmt="o-", color=_THEME["accent"], linewidth=1.6, elinewidth=1, capsize=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.04)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(PercentFormatter(1.0))
    return figure


@drawn
def track(view: TrackView, classes: Sequence[str]) -> Figure:
    """Draw a track's spectrogram; below it, on the same time axis, its segments' posterior and its bands."""
    bands_px = 26 * len(view.bands)
    height = 150 + 90 + bands_px + 46
    figure = Figure(figsize=_inches(1000, height))
    grid = figure.add_gridspec(3, 1, height_ratios=(150, 90, bands_px), hspace=0.09)
    grid.update(left=0.075, right=0.985, top=1 - 6 / height, bottom=24 / height)
    spectrogram, posterior, bands = (figure.add_subplot(grid[row]) for row in range(3))
    end_s = float(view.start_s[-1] + view.segment_s)
    _draw_spectrogram(spectrogram, view, end_s)
    _draw_posterior(posterior, view)
    _draw_bands(bands, view, classes, end_s)
    for axes in (spectrogram, posterior, bands):
        axes.set_xlim(float(view.start_s[0]), end_s)
        axes.xaxis.set_major_locator(MultipleLocator(_tick_step(end_s - float(view.start_s[0]), 12)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))
        axes.tick_params(labelbottom=axes is bands, length=0)
    return figure


def track_png(view: TrackView, classes: Sequence[str]) -> bytes:
    """Draw the same as a picture on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure: Figure = cast("Any", track).__wrapped__(view, classes)
        figure.savefig(buffer, format="png", facecolor="white", dpi=2 * figure.dpi)
    return buffer.getvalue()


def clock(seconds: float) -> str:
    """Write a time as 3:07 or 1:03:07."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def strip(timeline: Sequence[dict[str, Any]], classes: Sequence[str]) -> Markup:
    """Draw a timeline as a strip for a table; no more blocks than pixels, however many entries there are."""
    start_s, ends = timeline[0]["start_s"], np.array([entry["end_s"] for entry in timeline])
    middle = start_s + (np.arange(_STRIP) + 0.5) / _STRIP * (ends[-1] - start_s)
    shown = [classes.index(timeline[i]["label"]) for i in np.searchsorted(ends, middle, side="right")]
    runs = [(c, [x for x, _ in run]) for c, run in groupby(enumerate(shown), key=lambda pixel: pixel[1])]
    blocks = "".join(_block(classes[c], color_of(c), x[0], len(x)) for c, x in runs)
    words = escape(in_words(timeline))
    tag = f'<svg class="strip" role="img" aria-label="{words}" viewBox="0 0 {_STRIP} 14">'
    return Markup(f"{tag}<title>{words}</title>{blocks}</svg>")  # noqa: S704 -- escaped above


def _block(name: str, color: str, x: int, width: int) -> str:
    """Draw a stretch of a strip, with its class by name where there is room: not everybody can go by colours."""
    path = f'<path fill="{color}" d="M{x} 0h{width}v14h-{width}z"/>'
    fits = width > 7 * len(name) + 4
    return path + (f'<text x="{x + width / 2}" y="11" fill="{ink_on(color)}">{escape(name)}</text>' if fits else "")


def in_words(timeline: Sequence[dict[str, Any]], most: int = 6) -> str:
    """Say a timeline's first entries."""
    said = [f"{entry['label']} {clock(entry['start_s'])} to {clock(entry['end_s'])}" for entry in timeline[:most]]
    return ", ".join(said) + (f" and {len(timeline) - most} more" if len(timeline) > most else "")


def _inches(width: float, height: float) -> tuple[float, float]:
    return width / 72, height / 72


def _plot(x_label: str = "", y_label: str = "", size: tuple[int, int] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_inches(*size), layout="constrained")
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
    out, into = (_stack(counts.sum(axis=axis), gap) for axis in (1, 0))
    for i, j in np.ndindex(*counts.shape):
        y0, y1, height = float(out[i]), float(into[j]), float(counts[i, j])
        axes.add_patch(_ribbon(x, y0, y1, height, color_of(i), 0.3 if i == j else 0.85))
        out[i] += counts[i, j]
        into[j] += counts[i, j]


def _ribbon(x: int, y0: float, y1: float, height: float, color: str, alpha: float) -> PathPatch:
    left, middle, right = x + 0.01, x + 0.5, x + 0.99
    upper = [(left, y0), (middle, y0), (middle, y1), (right, y1)]
    lower = [(at, y + height) for at, y in reversed(upper)]
    corners = [*upper, *lower, (left, y0)]
    curve = [Path.CURVE4] * 3
    path = Path(corners, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])
    return PathPatch(path, facecolor=color, alpha=alpha, linewidth=0)


def _short(name: str, length: int = 12) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _tick_step(span_s: float, ticks: int) -> float:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    return next((step for step in steps if span_s / step <= ticks), span_s / ticks)


def _columns(view: TrackView, end_s: float) -> tuple[Floats, Floats]:
    """Return the times [T+1] of columns' edges and the columns' mean spectrum [mels, T] in dB, NaN in gaps."""
    segments, mels, frames = view.log_mel.shape
    count = max(1, min(_MAX_COLUMNS, segments * frames // 2))
    edges = np.linspace(float(view.start_s[0]), end_s, count + 1)
    total, weight = np.zeros((count, mels)), np.zeros(count)
    inside_s = np.arange(frames) * view.frame_hop / view.rate_hz
    for start_s, log_mel in zip(view.start_s, view.log_mel, strict=True):
        column = np.searchsorted(edges, np.minimum(start_s + inside_s, edges[-2]), side="right") - 1
        np.add.at(total, column, log_mel.T.astype(np.float64))
        np.add.at(weight, column, 1.0)
    with np.errstate(invalid="ignore"):
        return edges, (total / weight[:, None]).T


def _draw_spectrogram(axes: Axes, view: TrackView, end_s: float) -> None:
    edges, columns = _columns(view, end_s)
    top_db = float(np.nanmax(columns))
    mesh = librosa.display.specshow(
        columns,
        x_coords=edges[:-1],
        y_axis="mel",
        sr=view.rate_hz,
        fmax=view.rate_hz / 2,
        cmap="magma",
        vmin=top_db - 80,
        vmax=top_db,
        ax=axes,
    )
    mesh.set_rasterized(True)
    axes.set_ylabel("Hz")
    axes.set_xlabel("")
    axes.spines[:].set_visible(False)


def _draw_posterior(axes: Axes, view: TrackView) -> None:
    """Stack the classes' probabilities, a step a segment; in long tracks a step shows the mean of several."""
    firsts = np.arange(0, len(view.start_s), -(-len(view.start_s) // _MAX_STEPS))
    counts = np.diff(np.append(firsts, len(view.start_s)))
    times = np.append(view.start_s[firsts], view.start_s[-1] + view.segment_s)
    top = np.cumsum(np.add.reduceat(view.posterior, firsts) / counts[:, None], axis=1)
    floor = np.zeros(len(times))
    for c in range(view.posterior.shape[1]):
        ceiling = np.append(top[:, c], top[-1, c])
        axes.fill_between(times, floor, ceiling, step="post", color=color_of(c), linewidth=0)
        floor = ceiling
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75], ["25%", "50%", "75%"])
    axes.set_ylabel("posterior")
    axes.spines[:].set_visible(False)


def blocks_of(entries: Sequence[Block], start_s: float, end_s: float) -> Sequence[Block]:
    """Return a band's entries, or, where there are more than a screen shows, what it would show of them."""
    if len(entries) <= _MAX_STEPS:
        return entries
    starts, ends = (np.array([entry[side] for entry in entries]) for side in (0, 1))
    edges = np.linspace(start_s, end_s, _MAX_STEPS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    at = np.searchsorted(starts, middle, side="right") - 1
    covered = (at >= 0) & (middle < ends[at])
    shown = [(entries[i][2], inside) for i, inside in zip(at, covered, strict=True)]
    runs = [(key, [x for x, _ in run]) for key, run in groupby(enumerate(shown), key=lambda column: column[1])]
    return [(float(edges[x[0]]), float(edges[x[-1] + 1]), name) for (name, inside), x in runs if inside]


def _draw_bands(axes: Axes, view: TrackView, classes: Sequence[str], end_s: float) -> None:
    character_s = (end_s - float(view.start_s[0])) / 115  # about the width of a character
    for row, entries in enumerate(view.bands.values()):
        for start, stop, name in blocks_of(entries, float(view.start_s[0]), end_s):
            color = color_of(classes.index(name)) if name in classes else _THEME["muted" if name else "noisy"]
            axes.broken_barh([(start, stop - start)], (row + 0.12, 0.76), facecolors=color, edgecolor=_THEME["surface"])
            text = _short(name) if name and name in classes else ""
            if text and stop - start > character_s * (len(text) + 1):
                middle = (start + stop) / 2
                axes.text(middle, row + 0.5, text, ha="center", va="center", fontsize=11, color=ink_on(color))
    axes.set_ylim(len(view.bands), 0)
    axes.set_yticks(np.arange(len(view.bands)) + 0.5, list(view.bands))
    axes.spines[:].set_visible(False)


def _inline(svg: str, name: str, alt: str) -> str:
    """Turn matplotlib's document into an element of the page."""
    view_box = re.search(r'viewBox="([^"]*)"', svg)
    assert view_box is not None
    width = view_box[1].split()[2]
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<(metadata|style).*?</\1>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font-family: [^;\"]*; ", "", body)
    for variable, placeholder in _THEME.items():
        body = body.replace(placeholder, f"var(--{variable})")
    return (
        f'<svg class="plot" role="img" aria-label="{escape(alt)}" viewBox="{view_box[1]}" '
        f'style="max-width: {float(width) * _STRETCH:.0f}px">{body}'
    )


def standalone(plot: Markup) -> bytes:
    """Make a plot of the page a file of its own, in the page's light colours."""
    svg = str(plot).replace(
        'class="plot"', 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    svg = svg.replace('style="', 'style="background: var(--surface); font-family: sans-serif; ', 1)
    for variable, color in _LIGHT.items():
        svg = svg.replace(f"var(--{variable})", color)
    return svg.encode()
