"""What a run of the segment stage has to decode, and why: decided a track, from what the last run left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from schemas import REASONS
from sssl.config import require
from sssl.deal import whole


class Cause(StrEnum):
    """Why a track is decoded; `UNCHANGED` ones are not, `GONE` ones are no longer in the catalog."""

    NEW = "new"
    SOURCE = "source changed"
    CONFIG = "config changed"
    RETRY = "retry"
    FORCED = "forced"
    UNCHANGED = "unchanged"
    GONE = "gone"


@dataclass(frozen=True)
class AgainConfig:
    """Which tracks to decode again although nothing about them changed."""

    retry: str | None = None
    """Decode again what failed before: `failed`, `retryable` (where the same file may succeed) or `reason=CODE`."""
    force: bool = False
    """Decode every track again."""

    def __post_init__(self) -> None:
        reasons = [f"reason={code}" for code in REASONS]
        expected = f"failed, retryable or reason=CODE with one of {', '.join(REASONS)}"
        require(self.retry in (None, "failed", "retryable", *reasons), "retry", self.retry, expected)

    def wanted(self, known: pa.Table) -> pa.Array:
        """Return which known tracks are to be decoded again although they did not change."""
        if self.retry is None:
            return pa.array([False]).take(pa.array([0] * len(known)))
        if self.retry == "failed":
            return whole(pc.equal(known["status"], "failed"))
        if self.retry == "retryable":
            return whole(known["retryable"])
        return whole(pc.fill_null(pc.equal(known["reason"], self.retry.removeprefix("reason=")), False))


KNOWN = ("track_id", "uri", "source_fingerprint", "expected_s", "status", "reason", "retryable")
"""Columns of catalog and ledger that a known track is judged by."""

_SOURCE = ("uri", "source_fingerprint", "expected_s")
"""What decides what comes out of decoding a track, and how that is judged."""
_AT_ONCE = 1 << 20


def causes_of(tracks: pa.Table, known: pa.Table, config_changed: bool, again: AgainConfig) -> pa.Array:
    """Decide for each track [N] of a catalog why it is decoded, if it is; `known` has the columns KNOWN."""
    place = pc.index_in(whole(tracks["track_id"]), whole(known["track_id"]))
    if again.force or config_changed:
        otherwise = pa.scalar(Cause.CONFIG if config_changed else Cause.FORCED)
    else:
        otherwise = pc.if_else(again.wanted(known).take(place), Cause.RETRY, Cause.UNCHANGED)
    cause = pc.if_else(_changed(tracks, known, place), Cause.SOURCE, otherwise)
    return pc.if_else(place.is_null(), Cause.NEW, cause)


def count_causes(tracks: pa.Table, known: pa.Table, config_changed: bool, again: AgainConfig) -> Counter[Cause]:
    """Count the tracks of a catalog, and the known ones that it lacks, by what becomes of them."""
    counts = pc.value_counts(causes_of(tracks, known, config_changed, again)).to_pylist()
    causes = Counter({Cause(count["values"]): count["counts"] for count in counts})
    return causes + Counter({Cause.GONE: len(known) - (len(tracks) - causes[Cause.NEW])})


def _changed(tracks: pa.Table, known: pa.Table, place: pa.Array) -> pa.Array:
    """Return which tracks have another source than the known ones at their places."""
    pieces = []
    for start in range(0, len(tracks), _AT_ONCE):  # in pieces, since what is taken is copied
        at = place.slice(start, _AT_ONCE)
        pairs = [(whole(tracks[n].slice(start, _AT_ONCE)), whole(known[n]).take(at)) for n in _SOURCE]
        pieces.append(reduce(pc.or_, [_differ(one, other) for one, other in pairs]))
    return pa.concat_arrays(pieces)


def _differ(one: pa.Array, other: pa.Array) -> pa.Array:
    return pc.or_(pc.fill_null(pc.not_equal(one, other), False), pc.xor(one.is_null(), other.is_null()))
