"""What a run of the segment stage has to decode, and why: decided a track, from what the last run left behind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas import REASONS, Catalog, Ledger
from sssl.config import require


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

    def cause(self, entry: Ledger) -> Cause:
        """Return why a track that did not change is decoded again."""
        if self.force:
            return Cause.FORCED
        wanted = {"failed": entry.status == "failed", "retryable": entry.retryable, f"reason={entry.reason}": True}
        return Cause.RETRY if self.retry is not None and wanted.get(self.retry) else Cause.UNCHANGED


class Known(NamedTuple):
    """A track as the last run knew it."""

    track: Catalog
    entry: Ledger


def cause_of(track: Catalog, known: Known | None, config_changed: bool, again: AgainConfig) -> Cause:
    """Decide why a track is decoded, if it is."""
    if known is None:
        return Cause.NEW
    if _source(track) != _source(known.track):
        return Cause.SOURCE
    if config_changed:
        return Cause.CONFIG
    return again.cause(known.entry)


def _source(track: Catalog) -> tuple[str, str | None, float | None]:
    """What decides what comes out of decoding a track, and how that is judged."""
    return track.uri, track.source_fingerprint, track.expected_s
