"""Tracks that were taken down, for later runs to leave out: `takedown.json` holds the SHA-256 of
their ids only."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Container, Iterable
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


def is_removed(track_id: str, removed: Container[str]) -> bool:
    """Whether an id is among the hashes of those taken down, however its accents were encoded
    then."""
    return any(hash_id(spelling) in removed for spelling in spellings(track_id))


def spellings(track_id: str) -> set[str]:
    """Return an id with its accents as they are, composed (NFC), and decomposed (NFD) as file
    systems of Macs do."""
    if track_id.isascii():
        return {track_id}
    return {track_id, *(unicodedata.normalize(form, track_id) for form in ("NFC", "NFD"))}


def taken_down(store: Store) -> frozenset[str]:
    """Return the hashes of all ids that were taken down."""
    found = store.read_record_if_any(_FILE, TakenDown)
    if found is None:
        return frozenset()
    return frozenset(found.sha256_of_track_ids)


def remember(store: Store, track_ids: Iterable[str], *, undo: bool = False) -> None:
    """Add ids to those that later runs leave out; `undo` lets them come back."""
    known = taken_down(store)
    given = list(track_ids)
    if undo:
        left_out = known - {hash_id(spelling) for one in given for spelling in spellings(one)}
    else:
        left_out = known | set(map(hash_id, given))
    store.write_record(_FILE, TakenDown(tuple(sorted(left_out))))
