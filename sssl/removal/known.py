"""Whether a folder has a track, or may have it, in whatever was published or not."""

from __future__ import annotations

from collections.abc import Collection

import duckdb

from sssl.catalog.corrections import FILE_NAME, bare_id, read_rows
from sssl.errors import CatalogError
from sssl.store.atomic import is_leftover
from sssl.store.folder import Store
from sssl.store.layout import PARTS
from sssl.store.manifest import Snapshot
from sssl.store.removals import is_removed, spellings, taken_down
from sssl.store.sql import connect, rows_on_disk, tables_with_tracks
from sssl.store.verify import SET_ASIDE


def may_have_any(store: Store, track_ids: Collection[str]) -> bool:
    """Whether one of some tracks was taken down before, or has a row in a file of any table or of
    corrections. A file that cannot be read may have one."""
    removed = taken_down(store)
    if any(is_removed(track_id, removed) for track_id in track_ids):
        return True  # and a takedown that was stopped is to be finished
    wanted = sorted({spelling for track_id in track_ids for spelling in spellings(track_id)})
    return _is_corrected(store, wanted) or _has_unreadable_file(store) or _has_row(store, wanted)


def _is_corrected(store: Store, track_ids: Collection[str]) -> bool:
    if not store.exists(FILE_NAME):
        return False
    try:
        rows = read_rows(store.url(FILE_NAME))
    except CatalogError:
        return True
    written = {row["track_id"] for row in rows}
    written |= set(map(bare_id, written))
    return not written.isdisjoint(track_ids)


def _has_unreadable_file(store: Store) -> bool:
    """Whether a table has a file that was set aside as damaged, or that a kill left half
    written."""
    for folder in (PARTS, *tables_with_tracks()):
        for paths in store.medium.walk(folder):
            names = [path.rpartition("/")[2] for path in paths]
            if any(is_leftover(name) or name.endswith(SET_ASIDE) for name in names):
                return True
    return False


def _has_row(store: Store, track_ids: list[str]) -> bool:
    query = rows_on_disk(store, track_ids)
    if not query:
        return False
    try:
        counts = connect(store, Snapshot()).sql(query).fetchall()
    except duckdb.Error:
        return True
    return any(rows for _, rows in counts)
