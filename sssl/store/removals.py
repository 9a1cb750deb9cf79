"""Tracks that were taken down, for later runs to leave out: `takedown.json` holds the SHA-256 of their ids only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sssl.store.folder import Store

_FILE = "takedown.json"


@dataclass(frozen=True)
class TakenDown:
    """What is remembered of tracks that were taken down."""

    sha256_of_track_ids: tuple[str, ...]


def hash_id(track_id: str) -> str:
    """Return what `takedown.json` keeps of a track id."""
    return hashlib.sha256(track_id.encode()).hexdigest()


def taken_down(store: Store) -> frozenset[str]:
    """Return the hashes of all ids that were taken down."""
    found = store.read_record_if_any(_FILE, TakenDown)
    return frozenset() if found is None else frozenset(found.sha256_of_track_ids)


def remember(store: Store, track_ids: Iterable[str], *, undo: bool = False) -> None:
    """Add ids to those that later runs leave out; `undo` lets them come back."""
    known, given = taken_down(store), frozenset(map(hash_id, track_ids))
    left_out = known - given if undo else known | given
    store.write_record(_FILE, TakenDown(tuple(sorted(left_out))))
