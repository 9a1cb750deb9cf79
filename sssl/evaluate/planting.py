"""Noise whose truth is known: segments of train tracks change places with segments of tracks of
another label.

An exchange and no copy, so that no segment is there twice, once right and once wrong; and within a
cross-fitting fold, so that the member that scores a planted segment has not trained on the track it
comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from schemas.records import dump
from sssl.arrays import Indices
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest

_SPAN_SEGMENTS = (3, 8)
_AUDIO = {
    "segments": ["level_db", "band_level_db", "sound_db", "sound"],
    "features": ["log_mel"],
    "embeddings": ["embedding", "reason"],
}
"""Columns by table that change places."""


@dataclass(frozen=True)
class Planting:
    """How much is planted."""

    share: float
    """Share of the segments of train tracks that change places."""
    spans: bool
    """Exchange stretches of 3 to 8 segments in a row, as wrong sections are, instead of single
    segments."""
    seed: int


class _Stretch(NamedTuple):
    """Segments in a row of one track."""

    first: int
    length: int
    label: str


def draw(rows: pd.DataFrame, planting: Planting) -> Indices:
    """Return for each row the row whose segment it gets, its own where nothing is planted.

    Args:
        rows: one per segment, those of a track in a row: `track_id`, `label`, `fold`, and
            `eligible` for those of train tracks that nobody vouches for.
        planting: how much. Less is planted where a class has more than half of the segments, and no
            more than about 0.7 in stretches.
    """
    source = np.arange(len(rows))
    for fold, own in rows[rows["eligible"]].groupby("fold"):
        random = np.random.default_rng([planting.seed, int(str(fold))])
        stretches = list(_stretches(own, random, planting.spans))
        random.shuffle(stretches)
        for a, b, length in _exchanges(stretches, planting.share * len(own)):
            source[a : a + length] = np.arange(b, b + length)
            source[b : b + length] = np.arange(a, a + length)
    return source


def write_planted(
    store: Store,
    original: Manifest,
    source: Indices,
    planting: Planting,
    segments: Manifest | None = None,
) -> Manifest:
    """Commit segments, or their features or embeddings, with the planted ones among them, row by
    row aligned with the original. Embeddings are then those of planted `segments`."""
    parents = original.parents  # in whose place they are
    if segments is not None:
        parents = tuple(
            sorted(segments.ref if ref.startswith("segments/") else ref for ref in parents)
        )
    planned = replace(
        Manifest.plan(original.table, "plant", dump(planting), [original]),
        config=original.config | {"plant": dump(planting), "of": original.ref},
        parents=parents,
    )
    return store.commit_once(planned, partial(_make, store, original, source))


def _make(store: Store, original: Manifest, source: Indices, planned: Manifest) -> Made:
    """Write the rows, each with the audio of the one that `source` names."""
    moved = np.flatnonzero(source != np.arange(len(source)))
    audio = _rows(store, original, moved)
    place = pd.Series(np.arange(len(moved)), index=moved)
    files = {}
    first = 0
    for part, own in store.iter_parts(original):
        wanted = source[first : first + len(own)]
        planted = np.flatnonzero(wanted != np.arange(first, first + len(own)))
        take = np.arange(len(own))
        take[planted] = len(own) + place[wanted[planted]].to_numpy()
        files[part] = store.write_part(
            original.table, planned.generation, part, _with_audio(own, audio, take)
        )
        first += len(own)
    return Made(files, original.summary)


def _stretches(rows: pd.DataFrame, random: np.random.Generator, spans: bool) -> Iterator[_Stretch]:
    """Cut each track into stretches, the last of which may be short."""
    for _, track in rows.groupby("track_id", sort=False):
        first = int(track.index[0])
        end = int(track.index[-1]) + 1
        while first < end:
            length = min(
                int(random.integers(*_SPAN_SEGMENTS, endpoint=True)) if spans else 1, end - first
            )
            yield _Stretch(first, length, str(track["label"].iloc[0]))
            first += length


def _exchanges(stretches: Iterable[_Stretch], segments: float) -> Iterator[tuple[int, int, int]]:
    """Pair stretches of different labels in the order given until so many segments are in pairs."""
    waiting: list[_Stretch] = []  # all of the same label
    exchanged = 0
    for stretch in stretches:
        if exchanged >= segments:
            return
        if not waiting or waiting[-1].label == stretch.label:
            waiting.append(stretch)
            continue
        other = waiting.pop()
        length = min(stretch.length, other.length)
        exchanged += 2 * length
        yield stretch.first, other.first, length


def _rows(store: Store, original: Manifest, rows: Indices) -> pa.Table:
    """Read the audio of some rows of a table, in their order."""
    found = []
    first = 0
    for _, part in store.iter_parts(original, _AUDIO[original.table]):
        found.append(part.take(rows[(rows >= first) & (rows < first + len(part))] - first))
        first += len(part)
    return pa.concat_tables(found)


def _with_audio(own: pa.Table, audio: pa.Table, take: Indices) -> pa.Table:
    """Replace the audio columns of a part by those of `take`, which counts through the part and
    then `audio`."""
    both = pa.concat_tables([own.select(audio.column_names), audio]).take(take).combine_chunks()
    for name in audio.column_names:
        at = own.schema.get_field_index(name)
        own = own.set_column(at, own.schema.field(at), both[name])
    return own
