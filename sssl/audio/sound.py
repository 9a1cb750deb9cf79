"""What a segment sounds like, whatever a model thinks of it: three statistics of each group of mel bands.

A network that learns from some hundred labelled tracks does not learn all that such plain features tell (LOG.md has the
measurement). They stand in the tradition of Tzanetakis and Cook, "Musical genre classification of audio signals", 2002.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_GROUPS = 16  # of neighbouring mel bands, which say much the same
_STATISTICS = 3


def sound_width(mels: int) -> int:
    """Return how many numbers describe a segment of so many mel bands."""
    return _STATISTICS * min(_GROUPS, mels)


def sound_db(log_mel: NDArray[np.floating]) -> NDArray[np.float32]:
    """Describe log-mel spectrograms [N, mels, frames] in dB as [N, K]: by group of bands the mean level, then the
    standard deviation over the frames, then the mean step from a frame to the next, each as the mean of the bands."""
    mel = log_mel.astype(np.float32)
    step = np.abs(np.diff(mel, axis=2)) if mel.shape[2] > 1 else np.zeros_like(mel)
    by_band = np.stack([mel.mean(axis=2), mel.std(axis=2), step.mean(axis=2)], axis=1)  # [N, 3, mels]
    groups = np.array_split(np.arange(mel.shape[1]), min(_GROUPS, mel.shape[1]))
    sums = np.add.reduceat(by_band, [group[0] for group in groups], axis=2)
    return (sums / [len(group) for group in groups]).reshape(len(mel), -1).astype(np.float32)


def sound_of(segments: pa.Table) -> NDArray[np.float64]:
    """Return the column `sound_db` of a segments table as [N, K]."""
    column = segments["sound_db"].combine_chunks()
    return column.flatten().to_numpy().astype(np.float64).reshape(len(column), -1) if len(column) else np.empty((0, 0))


def without_levels(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the deviations and the steps of a sound [N, K]."""
    return sound[:, sound.shape[1] // _STATISTICS :]
