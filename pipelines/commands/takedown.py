"""Remove tracks from every table and round, committed as a new version; the files that held them
are deleted.

sssl takedown --output OUTPUT --track-id ID [ID ...] | --file ids.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.commands import report
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import console, tell
from pipelines.terminal.flags import warn
from pipelines.terminal.shell import sql_command
from sssl.catalog.corrections import FILE_NAME
from sssl.catalog.tables import read_columns
from sssl.errors import CatalogError
from sssl.removal.deletion import delete_reports, delete_unpublished
from sssl.removal.known import may_have_any
from sssl.removal.takedown import take_out_corrections, without
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.removals import is_removed, remember, spellings, taken_down
from sssl.store.sql import connect, rows_on_disk
from sssl.urls import without_secrets
from sssl.words import counted, some, unguarded


@dataclass(frozen=True)
class Config:
    """Remove tracks from every table and round. Later runs leave them out, whatever the catalog
    says."""

    output: str
    """Output folder."""
    track_id: tuple[str, ...] = ()
    """Ids of the tracks."""
    file: str | None = None
    """CSV or Parquet with a column `track_id`, instead of or besides `--track-id`."""
    undo: bool = False
    """Let the tracks come back with the next run, which decodes them again."""


def run(context: Context, config: Config) -> Context:
    """Commit and publish the tables without the tracks, then delete what is no longer published."""
    store = context.store
    snapshot = context.snapshot
    track_ids = set(config.track_id) | _ids_of(context, config.file)
    known = set[str]()
    if snapshot.of("catalog"):
        known = _as_in_catalog(store, snapshot, track_ids)
        track_ids = known | {track_id for track_id in track_ids if not spellings(track_id) & known}
    if not track_ids:
        raise CatalogError("no track to take down: give --track-id or --file")
    if not config.undo and not known and not may_have_any(store, track_ids):
        raise CatalogError(
            f"{some(sorted(track_ids))}: no table of {without_secrets(store.root)}, published or"
            " not, has a track of these ids, so nothing was changed; is the spelling right?"
        )
    removed = taken_down(store)
    new_ids = sorted(track_id for track_id in track_ids if not is_removed(track_id, removed))
    if config.undo:
        _check_taken_down(new_ids, len(track_ids))
    remember(
        store, track_ids, undo=config.undo
    )  # first, so that no run brings back what a kill leaves half done
    if config.undo:
        returning = counted(len(track_ids) - len(new_ids), "id")
        console.print(f"{returning} may come back with the next run")
        return context
    if snapshot.of("catalog"):
        _warn_of_unknown(store, snapshot, new_ids)
        context = context.on(without(store, snapshot, track_ids))
        store.publish(context.snapshot)
    deleted = delete_unpublished(
        store
    )  # also of a first run that was stopped before it published anything
    console.print(f"{counted(len(track_ids), 'id')} taken down, {counted(deleted, 'file')} deleted")
    delete_reports(store)  # first: that a new one cannot be made must not leave an old one
    _take_out_corrections(store, track_ids)
    _forget(store)
    if context.snapshot.of("songs"):
        report.again(context)
    if snapshot.of("catalog"):
        _prove(store, track_ids)
    return context


def _check_taken_down(others: Sequence[str], count: int) -> None:
    """Say which of so many ids were never taken down.

    Raises:
        CatalogError: none of them was.
    """
    if not others:
        return
    were_not = f"{some(others)}: not taken down"
    if len(others) == count:
        raise CatalogError(f"{were_not}, so nothing was changed; is the spelling right?")
    warn(f"{were_not}; is the spelling right?")


def _take_out_corrections(store: Store, track_ids: set[str]) -> None:
    """Take what listeners said of the tracks out of the folder's file of corrections."""
    try:
        take_out_corrections(store, track_ids)
    except CatalogError as error:
        warn(f"{store.url(FILE_NAME)}: {error}; take the rows of these tracks out yourself")


def _forget(store: Store) -> None:
    """Delete the versions that a bucket keeps of what was deleted; say what stays all the same."""
    if versions := store.medium.forget():
        console.print(f"{counted(versions, 'earlier version')} of files deleted for good")
    try:
        days = store.medium.undeletable_days()
    except OSError as error:
        warn(f"whether the bucket keeps deleted files could not be looked up: {error}")
        return
    if days:
        warn(
            f"the bucket keeps what was deleted for {days:.0f} more days (soft deletion), and "
            "nobody can delete it before: set its retention to 0 for the next time"
        )


def _as_in_catalog(store: Store, snapshot: Snapshot, track_ids: set[str]) -> set[str]:
    """Return the ids of the catalog that are among the given ones but for the encoding of their
    accents."""
    wanted = {spelling for track_id in track_ids for spelling in spellings(track_id)}
    asked = pa.array(sorted(wanted), pa.string())
    found: set[str] = set()
    for _, rows in store.iter_parts(snapshot.get("catalog"), ["track_id"]):
        track_id = rows["track_id"]
        found.update(track_id.filter(pc.is_in(track_id, asked)).to_pylist())
    return found


def _warn_of_unknown(store: Store, snapshot: Snapshot, track_ids: Sequence[str]) -> None:
    known = _as_in_catalog(store, snapshot, set(track_ids))
    unknown = [track_id for track_id in track_ids if not spellings(track_id) & known]
    if unknown:
        of_all = f"{len(unknown)} of {counted(len(track_ids), 'id')}"
        are = "is" if len(unknown) == 1 else "are"
        warn(f"{of_all} {are} not in the catalog: {some(unknown)}; is the spelling right?")


def _ids_of(context: Context, path: str | None) -> set[str]:
    """Return the ids of a file; those that the catalog does not have without the apostrophe that
    our CSV files have in front of what a spreadsheet takes for a formula."""
    if path is None:
        return set()
    written = read_columns(path, ["track_id"], ["track_id"])["track_id"].drop_null()
    guarded = {track_id for track_id in written.to_pylist() if unguarded(track_id) != track_id}
    if guarded and context.snapshot.of("catalog"):
        guarded -= _as_in_catalog(context.store, context.snapshot, guarded)
    return {
        unguarded(track_id) if track_id in guarded else track_id for track_id in written.to_pylist()
    }


def _prove(store: Store, track_ids: set[str]) -> None:
    """Show the rows that any file still has of the tracks, and the query to ask again."""
    query = rows_on_disk(store, sorted(track_ids))
    connect(store, store.latest()).sql(query).show()
    tell(f"ask again:\n{sql_command(store.root, query)}")


main = StageCommand("takedown", Config, run, takes_beam_args=False).main
