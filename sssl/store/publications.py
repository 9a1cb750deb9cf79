"""The publication before the one of now, for whoever compares the two."""

from __future__ import annotations

from typing import NamedTuple

from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.pointer import BEFORE, newest_pointer, published_refs
from sssl.urls import without_secrets

_BEFORE = "@before"


class Published(NamedTuple):
    """What an output folder publishes, or published."""

    store: Store
    snapshot: Snapshot


def open_published(output: str) -> Published:
    """Open what a folder publishes, or, with `@before` at the end of its name, what it published
    before.

    Raises:
        StoreError: there is no such folder, or nothing came before.
    """
    store = Store.open(output.removesuffix(_BEFORE))
    if not output.endswith(_BEFORE):
        return Published(store, store.latest())
    snapshot = published_before(store)
    if not snapshot.manifests:
        place = without_secrets(store.root)
        if _refs_before(store):
            raise StoreError(
                f"{place}: what was published before is gone, as after a takedown; `sssl verify`"
                " tells whether anything is damaged"
            )
        raise StoreError(f"{place} has one publication only: nothing comes before it")
    return Published(store, snapshot)


def published_before(store: Store) -> Snapshot:
    """Return what a folder published before the songs of now; empty if nothing was, or it
    is gone, as after a takedown."""
    refs = _refs_before(store)
    found = [store.manifest_if_whole(ref) for ref in refs]
    known = tuple(manifest for manifest in found if manifest is not None)
    return Snapshot(known if len(known) == len(refs) else ())


def songs_were_deleted(store: Store) -> bool:
    """Whether the songs that a folder published last are gone before others took their place: a
    takedown between two stages deletes them."""
    if last_with_songs(store).of("songs"):
        return False
    return any(ref.startswith("songs/") for ref in _refs_before(store))


def _refs_before(store: Store) -> list[str]:
    return published_refs(store.medium, newest_pointer(store.medium), BEFORE)


def last_with_songs(store: Store) -> Snapshot:
    """Return what a folder published when it last published songs: that of now, or, where newer
    segments have withdrawn them, the one before; empty if there is none."""
    latest = store.latest()
    if latest.of("songs"):
        return latest
    return published_before(store)


def last_whole(store: Store) -> Snapshot:
    """Return what labels the songs of a folder: what it publishes or, between two stages that run
    by themselves, also the tables before it that it lacks."""
    latest = store.latest()
    return latest if latest.of("songs") else last_known(store)


def last_known(store: Store) -> Snapshot:
    """Return what a folder publishes, and the tables before it that it lacks: between two stages
    that run by themselves those that wait to be made again, after a rollback the later rounds."""
    latest = store.latest()
    before = published_before(store)
    there = {(manifest.table, manifest.round) for manifest in latest.manifests}
    lacking = [
        manifest for manifest in before.manifests if (manifest.table, manifest.round) not in there
    ]
    return Snapshot((*latest.manifests, *lacking))
