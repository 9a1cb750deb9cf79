"""Rows of a catalog found by a text, and what two catalogs have alike: for millions of rows.

`pyarrow.compute.index_in` makes a hash table with a copy of all texts at each call. An index that
is made once has 12 bytes a row, and is asked piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sssl.catalog.assign import Ints, whole

Rows = NDArray[np.int32]
_TEXTS_AT_ONCE = 1 << 17  # as Python objects


class TextIndex:
    """The rows [N] of a column by their texts: hashes in their order, and whose they are."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = texts
        self._hashes = _hashes(texts)
        self._row_of = np.argsort(self._hashes, kind="stable").astype(np.int32)
        self._hashes.sort()  # in place: a copy would be the third of three such arrays

    def find(self, texts: pa.Array) -> tuple[Rows, Ints]:
        """Return pairs of equal texts [P]: the row here, and the place among the given ones.

        A text that several rows have is found in each of them.
        """
        hashes = _hashes(texts)
        place = np.argsort(hashes, kind="stable")  # in their order they are looked up at once
        first = np.searchsorted(self._hashes, hashes[place], "left")
        end = np.searchsorted(self._hashes, hashes[place], "right")
        found = end - first
        place = np.repeat(place, found)
        # The first pair of each place, and how many pairs of that place came before.
        start_of_pair = np.repeat(np.cumsum(found) - found, found)
        beyond_first = np.arange(len(place)) - start_of_pair
        row = self._row_of[np.repeat(first, found) + beyond_first]
        # Other texts may have the same hash.
        is_equal = pc.equal(self._texts.take(pa.array(row)), texts.take(pa.array(place)))
        equal = np.asarray(is_equal.to_numpy(zero_copy_only=False), np.bool_)
        return row[equal], place[equal]


class Differing(NamedTuple):
    """What is left of two catalogs without the tracks that both have alike, and how many those
    are."""

    now: pa.Table
    before: pa.Table
    alike: int


def in_one_piece(tracks: pa.Table) -> pa.Table:
    """Return a table whose columns have one chunk each, so that rows are taken without copying a
    column first; one after the other, so that no more than one is there twice."""
    for at, field in enumerate(tracks.schema):
        tracks = tracks.set_column(at, field, whole(tracks[field.name]))
    pa.default_memory_pool().release_unused()
    return tracks


def without_alike(
    tracks: pa.Table, before: Iterable[pa.Table], columns: Sequence[str]
) -> Differing:
    """Leave out the tracks that have the same values in some columns in both catalogs; that of
    before comes in pieces, of which only what differs is kept.

    A track whose file has no fingerprint, or that has corrections, stays in, for others to judge.
    """
    pa.default_memory_pool().release_unused()
    index = TextIndex(whole(tracks["track_id"]))
    is_alike = np.zeros(len(tracks), np.bool_)
    pieces = []
    for piece in before:
        row, place = index.find(whole(piece["track_id"]))
        now = tracks.select(columns).take(pa.array(row))
        then = piece.select(columns).take(pa.array(place))
        alike = _alike(now, then)
        is_alike[row[alike]] = True
        stays = np.ones(len(piece), np.bool_)
        stays[place[alike]] = False
        pieces.append(piece.filter(pa.array(stays)))
    left = tracks.filter(pa.array(~is_alike))
    return Differing(left, pa.concat_tables(pieces), int(is_alike.sum()))


def _alike(now: pa.Table, then: pa.Table) -> NDArray[np.bool_]:
    """Return which rows [N] of two tables have known and equal fingerprints, and equal values
    otherwise."""
    alike = np.ones(len(now), np.bool_)
    for name in now.column_names:
        one = whole(now[name])
        other = whole(then[name])
        is_null = pc.and_(one.is_null(), other.is_null())
        if name == "source_fingerprint":
            equal = pc.fill_null(pc.equal(one, other), False)
        elif pa.types.is_nested(one.type):
            equal = is_null
        else:
            equal = pc.or_(is_null, pc.fill_null(pc.equal(one, other), False))
        alike &= equal.to_numpy(zero_copy_only=False)
    return alike


def _hashes(texts: pa.Array) -> NDArray[np.int64]:
    """Return the hash of each text [N] that Python has in this process; a null has one, too."""
    found = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        piece = texts.slice(start, _TEXTS_AT_ONCE)
        objects = piece.to_numpy(zero_copy_only=False)
        end = start + len(piece)
        found[start:end] = np.fromiter(map(hash, objects), np.int64, len(piece))
    return found
