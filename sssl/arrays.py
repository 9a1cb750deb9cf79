"""Columns of segment tables as arrays, and sums of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import Catalog

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

# The mean of equal numbers is off by some of their last digits, of which a double has 16.
_ROUNDING = 1e-12


def column(table: pa.Table, name: str) -> Floats:
    """Return a numeric column [N], NaN where it is null."""
    values = table[name].to_pandas()
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def real_lists(table: pa.Table, name: str) -> Floats:
    """Return a column of lists of reals as [N, K], all of the same length and none of them null."""
    listed = table[name].combine_chunks()
    if not len(listed):
        return np.empty((0, 0))
    values = listed.flatten().to_numpy()
    return values.astype(np.float64).reshape(len(listed), -1)


def track_numbers(table: pa.Table) -> Indices:
    """Number the tracks of a table's rows [N] from 0."""
    encoded = table["track_id"].combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(), dtype=np.int64)


def posteriors(scores: pa.Table, classes: int) -> Floats:
    """Return the posteriors [N, C] of a scores table, NaN where there is none."""
    listed = scores["probabilities"].combine_chunks()
    values = listed.flatten().to_numpy()
    is_there = listed.is_valid().to_numpy(zero_copy_only=False)
    found = np.full((len(listed), classes), np.nan)
    found[is_there] = values.reshape(-1, classes)
    return found


def mean_of_models(posteriors: Sequence[Floats]) -> Floats:
    """Return the mean [N, C] of the posteriors of several models, each [N, C], by segment of those
    that gave one; NaN where none did."""
    stacked = np.stack(posteriors)  # [models, N, C]
    is_known = np.isfinite(stacked).all(axis=2, keepdims=True)
    total = np.where(is_known, stacked, 0.0).sum(axis=0)
    count = is_known.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
        return np.asarray(total / count)


def spread(rows: Floats) -> Floats:
    """Return the standard deviation [K] of each column of rows [N, K], N > 0; 1 where all rows are
    alike but for rounding, which is nothing to divide by."""
    std = rows.std(axis=0)
    rounding = _ROUNDING * np.abs(rows).max(axis=0)
    return np.asarray(np.where(std > rounding, std, 1.0))


def class_indices(labels: pa.ChunkedArray, classes: Sequence[str]) -> Indices:
    """Return the positions [N] of labels among the classes, -1 where there is none."""
    position = {name: index for index, name in enumerate(classes)}
    found = [position.get(name, -1) for name in labels.to_pylist()]
    return np.array(found, dtype=np.int64)


def inherited_indices(rows: pa.Table, tracks: Iterable[Catalog], classes: Sequence[str]) -> Indices:
    """Return the positions [N] of the labels that rows have from their tracks, -1 where there is
    none."""
    labels = {}
    for track in tracks:
        if track.label is not None:
            labels[track.track_id] = classes.index(track.label)
    return of_tracks(rows, labels)


def of_tracks(rows: pa.Table, numbers: Mapping[str, int]) -> Indices:
    """Return for each row [N] the number of its track, -1 where the track has none."""
    encoded = rows["track_id"].combine_chunks().dictionary_encode()
    track_ids = encoded.dictionary.to_pylist()
    by_track = [numbers.get(track_id, -1) for track_id in track_ids]
    of_row = encoded.indices.to_numpy()
    return np.array(by_track, dtype=np.int64)[of_row]


def fitted_to(tracks: Iterable[Catalog]) -> list[Catalog]:
    """Return the tracks whose segments tell of wrong labels: trained on, and not known to be
    right."""
    return [t for t in tracks if t.label is not None and t.split == "train" and not t.locked]


def on_grid(sums: Floats) -> Floats:
    """Round a part's sums so that float64 adds those of all parts without rounding: in any order
    the same total."""
    steps = 256  # a power of two, so that what is rounded is kept exactly
    return np.rint(sums * steps) / steps
