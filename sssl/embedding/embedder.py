"""Embeddings of the segments of a track, by the samples that its front-end wants of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sssl.embedding.contract import BATCH, FrontEnd
from sssl.embedding.network import Samples, load_network
from sssl.errors import FrontEndError

Embeddings = NDArray[np.float16]
_TOLERANCE_S = 0.1
"""How much of a segment may be missing because the track was resampled to another rate."""
NON_FINITE = "non-finite"
"""Why a segment has no embedding whose values are NaN, infinite or too large for half precision."""


class Embedder:
    """A front-end, loaded for segments of one length.

    Each track is embedded by itself, window after window, so that its rows depend on nothing else.
    """

    def __init__(
        self, front_end: FrontEnd, segment_s: float, threads: int, on_gpu: bool = False
    ) -> None:
        contract = front_end.contract
        self._reference = front_end.reference
        self.said = f"front-end {front_end.name}: {front_end.licence}"
        self.rate_hz = contract.sample_rate_hz
        self._window = contract.window(segment_s)
        self._segment = round(segment_s * self.rate_hz)
        self._network = load_network(front_end, self._window, threads, on_gpu)
        self.dimension = self._try_silence(windows=1).shape[1]

    def check(self) -> None:
        """Check that a batch of two windows is embedded as a batch of one is.

        Raises:
            FrontEndError: it is not; most often the network drops an axis of length 1.
        """
        self._require_dimension(self._try_silence(windows=2))

    def embed(
        self, wave: Samples, start_s: NDArray[np.float64]
    ) -> tuple[Embeddings, list[str | None]]:
        """Return the embeddings [N, D] of segments that start at [N] seconds in the samples [T] of
        a track, and why there is none: then the row is NaN."""
        samples = np.round(start_s * self.rate_hz)
        starts = samples.astype(np.int64)
        windows = windows_of(starts, self._segment, self._window, len(wave))  # [N, K]
        unique, place = np.unique(windows, return_inverse=True)
        by_window = self._embed_windows(wave, unique)
        places = place.reshape(windows.shape)
        of_segments = by_window[places]  # [N, K, D]
        # The mean over the windows of a segment, which is that window where there is one.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = of_segments.mean(axis=1)
            found = mean.astype(np.float16)
        ends = starts + self._segment
        heard = len(wave) + _TOLERANCE_S * self.rate_hz
        missing = ends > heard
        is_finite = np.isfinite(found)
        not_finite = ~is_finite.all(axis=1)
        found[missing | not_finite] = np.nan
        reasons = np.full(len(found), None, object)
        reasons[not_finite] = NON_FINITE
        reasons[missing] = "truncated"
        return found, reasons.tolist()

    def _embed_windows(self, wave: Samples, starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the embeddings [W, D] of windows that start at [W] samples, batch by batch."""
        found = np.empty((len(starts), self.dimension), np.float32)
        for first in range(0, len(starts), BATCH):
            batch = starts[first : first + BATCH]
            samples = self._samples(wave, batch)
            last = first + len(batch)
            embedded = self._run(samples)
            self._require_dimension(embedded)
            found[first:last] = embedded
        return found

    def _try_silence(self, windows: int) -> NDArray[np.float32]:
        return self._run(np.zeros((windows, self._window), np.float32))

    def _run(self, samples: Samples) -> NDArray[np.float32]:
        with np.errstate(all="ignore"):  # what is not finite becomes a row with a reason
            return self._network(samples)

    def _require_dimension(self, embedded: NDArray[np.float32]) -> None:
        """Refuse embeddings of another dimension, which NumPy would broadcast if it is 1."""
        windows, dimension = embedded.shape
        if dimension != self.dimension:
            raise FrontEndError(
                f"{self._reference}: in a batch of {windows} an embedding has {dimension} values, "
                f"in a batch of 1 {self.dimension}; it has to have as many in every batch"
            )

    def _samples(self, wave: Samples, starts: NDArray[np.int64]) -> Samples:
        """Cut windows [B, T] that start at [B] samples; behind the end there is silence."""
        samples = np.zeros((len(starts), self._window), np.float32)
        for row, start in zip(samples, starts, strict=True):
            end = start + self._window
            heard = wave[start:end]
            row[: len(heard)] = heard
        return samples


def windows_of(
    starts: NDArray[np.int64], segment: int, window: int, samples: int
) -> NDArray[np.int64]:
    """Return where the windows [N, K] of segments start that start at [N], all in samples.

    A window that is no longer than a segment fits into it K = segment // window times, side by
    side. A longer one begins with its segment, or ends with the track where that is too short for
    it.
    """
    if window <= segment:
        fitting = max(1, segment // window)
        offsets = np.arange(fitting) * window
        return starts[:, None] + offsets
    last = max(0, samples - window)
    return np.clip(starts, 0, last)[:, None]
