"""Tracks that were taken down, for later runs to leave out: `takedown.json` holds the SHA-256 of their ids only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sssl.store.folder import Store

_FILE = "takedown.json"


def hash_id(track_id: str) -> str:
    """Return what `takedown.json` keeps of a track id."""
    return hashlib.sha256(track_id.encode()).hexdigest()


def taken_down(store: Store) -> frozenset[str]:
    """Return the hashes of all ids that were taken down."""
    return frozenset(store.read_json(_FILE)["sha256_of_track_ids"]) if store.exists(_FILE) else frozenset()


def remember(store: Store, track_ids: Iterable[str], *, undo: bool = False) -> None:
    """Add ids to those that later runs leave out; `undo` lets them come back."""
    known, given = taken_down(store), frozenset(map(hash_id, track_ids))
    store.write_json(_FILE, {"sha256_of_track_ids": sorted(known - given if undo else known | given)})
