"""Deleting files that nothing published needs, once all that is needed is known."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from schemas import TABLES
from sssl.errors import StoreError
from sssl.store.atomic import is_leftover
from sssl.store.folder import Store
from sssl.store.layout import BEFORE_ROUNDS, PARTS, RECEIPTS, WORK, counts_path
from sssl.store.manifest import Manifest
from sssl.store.pointer import LATEST
from sssl.words import counted

_DELETED_AT_ONCE = 20_000  # paths that are kept in requests at a time


def delete_unpublished(store: Store) -> int:
    """Delete every file of a table that the published snapshot does not need; return how many there
    were.

    Raises:
        StoreError: nothing is published though it once was: that nothing is needed is no evidence
            then. Or a list of files that are needed cannot be read.
    """
    published = store.latest().manifests
    refuse_lost_pointer(store, published)
    needed = _Needed(store, published)
    tables = {*TABLES, *WORK, *(manifest.table for manifest in published)}
    deleted = 0
    for folder in sorted({PARTS, RECEIPTS, *tables}):
        for paths in store.medium.walk(folder):
            for unneeded in needed.without(paths):
                delete_all(store, unneeded)
                deleted += len(unneeded)
    return deleted


class _Needed:
    """The files of published tables. All of them are looked at once, since nothing is to be deleted
    unless all are known; then only those of one folder at a time are in memory."""

    def __init__(self, store: Store, published: Iterable[Manifest]) -> None:
        self._beside: set[str] = set()
        self._of_folder: defaultdict[str, list[Manifest]] = defaultdict(list)
        for manifest in published:
            self._beside |= {store.manifest_path(manifest.ref), counts_path(manifest.ref)}
            if manifest.listed is not None:
                self._beside.add(manifest.listed.path)
            for folder in _folders(manifest.paths).unique().to_pylist():
                self._of_folder[folder].append(manifest)
            manifest.forget_files()

    def without(self, paths: Sequence[str]) -> Iterator[list[str]]:
        """Yield which of the files of a folder no published table needs, some at a time."""
        others = [path for path in paths if path not in self._beside]
        manifests = self._of_folder.get(os.path.dirname(others[0]), ()) if others else ()
        for start in range(0, len(others), _DELETED_AT_ONCE):
            unneeded = pa.array(others[start : start + _DELETED_AT_ONCE], pa.string())
            for manifest in manifests:
                is_needed = pc.is_in(unneeded, manifest.paths)
                unneeded = unneeded.filter(pc.invert(is_needed))
            yield unneeded.to_pylist()
        for manifest in manifests:
            manifest.forget_files()


def _folders(paths: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(paths, "/[^/]*$", "")


def delete_all(store: Store, paths: Iterable[str]) -> None:
    """Delete files, many in a request where a bucket has that."""
    waiting = iter(paths)
    while batch := list(islice(waiting, _DELETED_AT_ONCE)):
        store.medium.delete_many(batch)


def delete_reports(store: Store) -> None:
    """Delete reports, which show tracks by name: that of now, copies that earlier versions gave
    MLflow, and whatever a kill left half written."""
    for paths in store.medium.walk(""):
        for path in paths:
            name = path.rsplit("/", 1)[-1]
            if name == "report.html" or is_leftover(name):
                store.delete(path)


def refuse_lost_pointer(store: Store, published: Collection[Manifest]) -> None:
    """Refuse to take tables for unpublished where the pointer to the published ones is lost.

    A first run that was stopped has published nothing: its folder has a pointer to no table, or is
    of a version that wrote none. Then it has no table of a round either, as a run publishes its
    segments before it trains.
    """
    committed = [] if published else store.committed_refs()
    of_rounds = [ref for ref in committed if ref.partition("/")[0] not in BEFORE_ROUNDS]
    if of_rounds or (committed and not store.has_pointer):
        tables = counted(len(committed), "committed table")
        raise StoreError(
            f"{store.root} has {tables} and no pointer to what is published ({LATEST}): nothing is "
            "deleted. Restore the pointer from a backup, or run the `sssl run` of before again, "
            "which finds its tables and publishes them"
        )
