"""What a run of the segment stage has to decode, and why: decided a track, from what the last run
left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import REASONS
from schemas.records import later
from sssl.catalog.assign import whole
from sssl.config import require
from sssl.urls import without_secrets
from sssl.words import counted, printable


class Cause(StrEnum):
    """Why a track is decoded; `UNCHANGED` ones are not, `GONE` ones are no longer in the catalog.

    Of an `UNKNOWN` source the storage tells too little, now or at the last run, to say whether it
    changed.
    """

    NEW = "new"
    SOURCE = "source changed"
    UNKNOWN = "source cannot be compared"
    CONFIG = "config changed"
    RETRY = "retry"
    FORCED = "forced"
    UNCHANGED = "unchanged"
    GONE = "gone"


@dataclass(frozen=True)
class AgainConfig:
    """Which tracks to decode again although nothing about them changed."""

    retry: str | None = None
    """Decode again what failed before: `failed`, `retryable` (where the same file may succeed) or
    `reason=CODE`."""
    force: bool = False
    """Decode every track again."""
    moved: str | None = later(None, neutral=None)
    """OLD=NEW: the files whose URI began with OLD, as the published catalog spells it, were moved
    to NEW, as the catalog spells it now. A file that has the same fingerprint (of a local file its
    size and time) there is not decoded again."""

    def __post_init__(self) -> None:
        if self.moved is not None:
            old, _, new = self.moved.partition("=")
            require(bool(old and new), "moved", self.moved, "OLD=NEW, such as /mnt/a/=/mnt/b/")
        reasons = [f"reason={code}" for code in REASONS]
        expected = f"failed, retryable or reason=CODE with one of {', '.join(REASONS)}"
        require(
            self.retry in (None, "failed", "retryable", *reasons), "retry", self.retry, expected
        )

    @property
    def asks_ledger(self) -> bool:
        """Whether it matters what became of a track."""
        return self.retry is not None and not self.force

    def where_now(self, known: pa.Table) -> pa.Table:
        """Return known tracks with the URIs that their files have since they were moved."""
        if self.moved is None:
            return known
        old, _, new = self.moved.partition("=")
        uris = whole(known["uri"])
        moved = pc.binary_join_element_wise(new, pc.utf8_slice_codeunits(uris, len(old)), "")
        now = pc.if_else(pc.starts_with(uris, old), moved, uris)
        at = known.schema.get_field_index("uri")
        return known.set_column(at, known.schema.field(at), now)

    def nothing_moved(self, known: pa.Table) -> str | None:
        """Say that no known file was where files were moved from; None if one was."""
        if self.moved is None:
            return None
        old = self.moved.partition("=")[0]
        uris = whole(known["uri"])
        if pc.any(pc.starts_with(uris, old)).as_py():
            return None
        said = f"--moved: no file of the last run begins with {without_secrets(old)}"
        if not len(uris):
            return said
        return f"{said}; one of them is {printable(without_secrets(uris[0].as_py()))}"

    def wanted(self, known: pa.Table) -> pa.Array:
        """Return which known tracks are to be decoded again although they did not change."""
        if self.retry is None:
            return pa.array(np.zeros(len(known), bool))
        if self.retry == "failed":
            return whole(pc.equal(known["status"], "failed"))
        if self.retry == "retryable":
            return whole(known["retryable"])
        return whole(
            pc.fill_null(pc.equal(known["reason"], self.retry.removeprefix("reason=")), False)
        )


KNOWN = ("track_id", "uri", "source_fingerprint", "expected_s")
"""Columns of the catalog that a known track is judged by; with `--retry` those of OF_LEDGER,
too."""
OF_LEDGER = ("track_id", "status", "reason", "retryable")
_SOURCE = KNOWN[1:]
_AT_ONCE = 1 << 20


def known_tracks(tracks: pa.Table, ledger: pa.Table | None) -> pa.Table:
    """Return known tracks with what decides whether they are decoded again."""
    columns = {name: tracks[name] for name in KNOWN}
    if ledger is not None:
        place = pc.index_in(whole(tracks["track_id"]), whole(ledger["track_id"]))
        columns |= {name: whole(ledger[name]).take(place) for name in OF_LEDGER[1:]}
    return pa.table(columns)


def causes_of(
    tracks: pa.Table, known: pa.Table, config_changed: bool, again: AgainConfig
) -> pa.DictionaryArray:
    """Decide for each track [N] of a catalog why it is decoded, if it is; `known` is as
    `known_tracks` makes it."""
    known = again.where_now(known)
    place = pc.index_in(whole(tracks["track_id"]), whole(known["track_id"]))
    if config_changed or again.force:
        otherwise = _code(Cause.CONFIG if config_changed else Cause.FORCED)
    else:
        otherwise = pc.if_else(
            again.wanted(known).take(place), _code(Cause.RETRY), _code(Cause.UNCHANGED)
        )
    cause = pc.if_else(_changed(tracks, known, place), _code(Cause.SOURCE), otherwise)
    cause = pc.if_else(_unknown(tracks, known, place), _code(Cause.UNKNOWN), cause)
    return pa.DictionaryArray.from_arrays(
        pc.if_else(place.is_null(), _code(Cause.NEW), cause), list(Cause)
    )


def count_causes(
    tracks: pa.Table, known: pa.Table, config_changed: bool, again: AgainConfig
) -> Counter[Cause]:
    """Count the tracks of a catalog, and the known ones that it lacks, by what becomes of them."""
    counts = pc.value_counts(causes_of(tracks, known, config_changed, again)).to_pylist()
    causes = Counter({Cause(count["values"]): count["counts"] for count in counts})
    return causes + Counter({Cause.GONE: len(known) - (len(tracks) - causes[Cause.NEW])})


def nothing_in_common(causes: Counter[Cause]) -> str | None:
    """Say that a catalog has none of the tracks of an output folder; None if it has any, or the
    folder is empty."""
    if not causes[Cause.GONE] or set(causes) != {Cause.GONE, Cause.NEW}:
        return None
    gone = counted(causes[Cause.GONE], "track")
    return (
        f"no track of this catalog is in the output folder, whose {gone} a run takes out of the"
        " tables: is it the folder of another catalog?"
    )


def _code(cause: Cause) -> pa.Scalar:
    return pa.scalar(list(Cause).index(cause), pa.int8())


def _changed(tracks: pa.Table, known: pa.Table, place: pa.Array) -> pa.Array:
    """Return which tracks have another source than the known ones at their places."""
    pieces = []
    for start in range(0, len(tracks), _AT_ONCE):  # in pieces, since what is taken is copied
        at = place.slice(start, _AT_ONCE)
        differences = []
        for name in _SOURCE:
            now = whole(tracks[name].slice(start, _AT_ONCE))
            before = whole(known[name]).take(at)
            differences.append(differ(now, before))
        pieces.append(reduce(pc.or_, differences))
    # A part that lost all its tracks has no piece.
    return pa.chunked_array(pieces, pa.bool_()).combine_chunks()


def _unknown(tracks: pa.Table, known: pa.Table, place: pa.Array) -> pa.Array:
    """Return of which tracks nothing tells whether the source is that of the known ones at their
    places."""
    is_unknown = whole(tracks["source_fingerprint"].is_null())
    return pc.or_(is_unknown, whole(known["source_fingerprint"].is_null()).take(place))


def differ(one: pa.Array, other: pa.Array) -> pa.Array:
    """Return where two columns have other values [N]; nulls are alike."""
    is_other = pc.fill_null(pc.not_equal(one, other), False)
    is_null_once = pc.xor(one.is_null(), other.is_null())
    return pc.or_(is_other, is_null_once)
