"""Remove tracks from every table and round, committed as a new version; the files that held them are deleted.

sssl takedown --output OUTPUT --track-id ID [ID ...] | --file ids.csv
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.commands import report
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import console
from sssl.errors import CatalogError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.removals import hash_id, remember, taken_down
from sssl.store.sql import connect, rows_on_disk
from sssl.takedown import delete_reports, delete_unpublished, without
from sssl.urls import opened
from sssl.words import counted

_SHOWN = 5


@dataclass(frozen=True)
class Config:
    """Remove tracks from every table and round. Later runs leave them out, whatever the catalog says."""

    output: str
    """Output folder."""
    track_id: tuple[str, ...] = ()
    """Ids of the tracks."""
    file: str | None = None
    """CSV with a column `track_id`, instead of or besides `--track-id`."""
    undo: bool = False
    """Let the tracks come back with the next run, which decodes them again."""


def run(context: Context, config: Config) -> Context:
    """Commit and publish the tables without the tracks, then delete what is no longer published."""
    store, snapshot = context.store, context.snapshot
    track_ids = set(config.track_id) | _ids_of(config.file)
    if not track_ids:
        raise CatalogError("no track to take down: give --track-id or --file")
    known = taken_down(store)
    new_ids = sorted(track_id for track_id in track_ids if hash_id(track_id) not in known)
    remember(store, track_ids, undo=config.undo)  # first, so that no run brings back what a kill leaves half done
    if config.undo:
        console.print(f"{counted(len(track_ids), 'id')} may come back with the next run")
        return context
    if snapshot.of("catalog"):
        _warn_of_unknown(store, snapshot, new_ids)
        context = context.on(without(store, snapshot, track_ids))
        store.publish(context.snapshot)
    deleted = delete_unpublished(store)  # also of a first run that was stopped before it published anything
    console.print(f"{counted(len(track_ids), 'id')} taken down, {counted(deleted, 'file')} deleted")
    delete_reports(store)  # first: that a new one cannot be made must not leave an old one
    if context.snapshot.of("songs"):
        report.again(context)
    if snapshot.of("catalog"):
        _prove(store, track_ids)
    return context


def _warn_of_unknown(store: Store, snapshot: Snapshot, track_ids: Sequence[str]) -> None:
    known = store.read_table(snapshot.get("catalog"), ["track_id"])["track_id"]
    ids = pa.array(track_ids, pa.string())
    unknown = ids.filter(pc.invert(pc.is_in(ids, known.combine_chunks()))).to_pylist()
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
        of_all = f"{len(unknown)} of {counted(len(track_ids), 'id')}"
        are = "is" if len(unknown) == 1 else "are"
        said = f"{of_all} {are} not in the catalog: {shown}; is the spelling right?"
        console.print(said, style="yellow", markup=False, soft_wrap=True)


def _ids_of(path: str | None) -> set[str]:
    if path is None:
        return set()
    try:
        with opened(path) as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise CatalogError(f"cannot read {path}: {error}") from error
    if "track_id" not in table:
        raise CatalogError(f"{path}: column track_id is missing; it has {', '.join(table.columns)}")
    return set(table["track_id"])


def _prove(store: Store, track_ids: set[str]) -> None:
    """Show the rows that any file still has of the tracks, and the query to ask again."""
    query = rows_on_disk(store, sorted(track_ids))
    connect(store, store.latest()).sql(query).show()
    command = shlex.join(["sssl", "sql", "--output", store.root, query])  # ids are words of the catalog, not of a shell
    console.print(f"ask again:\n{command}", soft_wrap=True, markup=False)


main = StageCommand("takedown", Config, run, takes_beam_args=False).main
