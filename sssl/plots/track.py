"""A track drawn: its spectrogram, its segments' posterior and its bands, on one time axis."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import librosa.display
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from sssl.arrays import Floats
from sssl.plots.colors import color_of, ink_on
from sssl.plots.figure import STYLE, THEME, drawn, inches, short, tick_step
from sssl.plots.timeline import clock

Block = tuple[float, float, str | None]
Bands = dict[str, list[Block]]
LEFT = 0.075
RIGHT = 0.985
"""Where the time axis starts and ends, as shares of the figure's width."""
_MAX_COLUMNS = 1000  # of a spectrogram: what a screen shows of a track, however long it is
_MAX_STEPS = 300  # of a posterior, and blocks of a band: more cannot be told apart


@dataclass(frozen=True)
class TrackView:
    """What is drawn of a track: N segments, and named bands of (start, end, class), no class
    meaning noisy."""

    start_s: Floats
    log_mel: NDArray[np.floating[Any]]  # [N, mels, frames] in dB
    posterior: Floats  # [N, C], NaN where there is none
    bands: Bands
    segment_s: float
    rate_hz: int
    frame_hop: int

    @property
    def heard_to_s(self) -> float:
        """Where the last segment ends."""
        return float(self.start_s[-1] + self.segment_s)

    @property
    def end_s(self) -> float:
        """Where the time axis ends: with the timeline, which may last longer than segments do."""
        timeline_end_s = max((end for _, end, _ in self.bands.get("timeline", ())), default=0.0)
        return max(self.heard_to_s, timeline_end_s)


def _figure(view: TrackView, classes: Sequence[str]) -> Figure:
    """Draw a track's spectrogram; below it, on the same time axis, its segments' posterior and its
    bands."""
    start_s = float(view.start_s[0])
    end_s = view.end_s
    bands_px = 26 * len(view.bands)
    height = 150 + 90 + bands_px + 46
    figure = Figure(figsize=inches(1000, height))
    grid = figure.add_gridspec(3, 1, height_ratios=(150, 90, bands_px), hspace=0.09)
    top = 1 - 6 / height
    bottom = 24 / height
    grid.update(left=LEFT, right=RIGHT, top=top, bottom=bottom)
    spectrogram = figure.add_subplot(grid[0])
    posterior = figure.add_subplot(grid[1])
    bands = figure.add_subplot(grid[2])
    spacing_s = tick_step(end_s - start_s, 12)
    _draw_spectrogram(spectrogram, view)
    _draw_posterior(posterior, view)
    _draw_bands(bands, view, classes, end_s)
    for axes in (spectrogram, posterior, bands):
        axes.set_xlim(start_s, end_s)
        axes.xaxis.set_major_locator(MultipleLocator(spacing_s))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x)))
        axes.tick_params(labelbottom=axes is bands, length=0)
    return figure


draw_track = drawn(_figure)


def track_png(view: TrackView, classes: Sequence[str]) -> bytes:
    """Draw the same as a picture on white."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = _figure(view, classes)
        figure.savefig(buffer, format="png", facecolor="white", dpi=2 * figure.dpi)
    return buffer.getvalue()


def _columns(view: TrackView) -> tuple[Floats, Floats]:
    """Return the times [T+1] of columns' edges and the columns' mean spectrum [mels, T] in dB, NaN
    in gaps."""
    segments, mels, frames = view.log_mel.shape
    count = min(_MAX_COLUMNS, segments * frames // 2)
    count = max(1, count)
    edges = np.linspace(float(view.start_s[0]), view.heard_to_s, count + 1)
    total = np.zeros((count, mels))
    weight = np.zeros(count)
    inside_s = np.arange(frames) * view.frame_hop / view.rate_hz
    for start_s, log_mel in zip(view.start_s, view.log_mel, strict=True):
        times = np.minimum(start_s + inside_s, edges[-2])
        column = np.searchsorted(edges, times, side="right") - 1
        spectra = log_mel.T.astype(np.float64)
        np.add.at(total, column, spectra)
        np.add.at(weight, column, 1.0)
    with np.errstate(invalid="ignore"):
        mean = total / weight[:, None]
    return edges, mean.T


def _draw_spectrogram(axes: Axes, view: TrackView) -> None:
    edges, columns = _columns(view)
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
    """Stack the classes' probabilities, one step per segment; in long tracks a step is the mean of
    several."""
    segments = len(view.start_s)
    together = -(-segments // _MAX_STEPS)
    firsts = np.arange(0, segments, together)
    counts = np.diff(np.append(firsts, segments))
    times = np.append(view.start_s[firsts], view.heard_to_s)
    sums = np.add.reduceat(view.posterior, firsts)
    means = sums / counts[:, None]
    top = np.cumsum(means, axis=1)
    floor = np.zeros(len(times))
    for c in range(view.posterior.shape[1]):
        last = top[-1, c]
        ceiling = np.append(top[:, c], last)
        axes.fill_between(times, floor, ceiling, step="post", color=color_of(c), linewidth=0)
        floor = ceiling
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75], ["25%", "50%", "75%"])
    axes.set_ylabel("posterior")
    axes.spines[:].set_visible(False)


def blocks_of(entries: Sequence[Block], start_s: float, end_s: float) -> Sequence[Block]:
    """Return a band's entries, or, where there are more than a screen shows, what it would show of
    them."""
    if len(entries) <= _MAX_STEPS:
        return entries
    starts = np.array([entry[0] for entry in entries])
    ends = np.array([entry[1] for entry in entries])
    edges = np.linspace(start_s, end_s, _MAX_STEPS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    at = np.searchsorted(starts, middle, side="right") - 1
    covered = (at >= 0) & (middle < ends[at])
    shown = []
    for place, inside in zip(at, covered, strict=True):
        _, _, name = entries[place]
        shown.append((name, inside))
    blocks = []
    first = 0
    for (name, inside), run in groupby(shown):
        last = first + len(list(run))
        if inside:
            start = float(edges[first])
            stop = float(edges[last])
            blocks.append((start, stop, name))
        first = last
    return blocks


def _draw_bands(axes: Axes, view: TrackView, classes: Sequence[str], end_s: float) -> None:
    start_s = float(view.start_s[0])
    character_s = (end_s - start_s) / 115  # about the width of a character
    for row, entries in enumerate(view.bands.values()):
        for start, stop, name in blocks_of(entries, start_s, end_s):
            if name in classes:
                color = color_of(classes.index(name))
            else:
                color = THEME["muted" if name else "noisy"]
            axes.broken_barh(
                [(start, stop - start)],
                (row + 0.12, 0.76),
                facecolors=color,
                edgecolor=THEME["surface"],
            )
            text = short(name) if name and name in classes else ""
            if text and stop - start > character_s * (len(text) + 1):
                middle = (start + stop) / 2
                axes.text(
                    middle,
                    row + 0.5,
                    text,
                    ha="center",
                    va="center",
                    fontsize=11,
                    color=ink_on(color),
                )
    axes.set_ylim(len(view.bands), 0)
    middles = np.arange(len(view.bands)) + 0.5
    axes.set_yticks(middles, list(view.bands))
    axes.spines[:].set_visible(False)
