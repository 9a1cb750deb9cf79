"""For notebooks: published tables as Arrow, labels for single files. Light: torch comes with the
first label."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from schemas import Song
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Output:
    """What an output folder published when it was opened; a later run does not change what is read
    here."""

    store: Store
    snapshot: Snapshot

    def songs(self) -> pa.Table:
        """Read the songs: one row per track with its label, confidence and timeline."""
        return self.table("songs")

    def table(
        self, name: str, round: int | None = None, columns: list[str] | None = None
    ) -> pa.Table:
        """Read a table, of all rounds or of one, whole or some columns of it.

        Raises:
            StoreError: the table, or the round of it, is not published.
        """
        return pa.concat_tables(
            self.store.read_table(manifest, columns) for manifest in self._manifests(name, round)
        )

    def files(self, name: str, round: int | None = None) -> list[str]:
        """List the Parquet files of a table, for other readers.

        Raises:
            StoreError: the table, or the round of it, is not published.
        """
        return [
            self.store.url(file.path)
            for manifest in self._manifests(name, round)
            for _, file in sorted(manifest.for_readers.items())
        ]

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open the tables in DuckDB, as `sssl sql` does."""
        from sssl.store.sql import connect

        return connect(self.store, self.snapshot)

    def sql(self, query: str) -> pa.Table:
        """Query the tables with DuckDB."""
        return self.connect().sql(query).to_arrow_table()

    def _manifests(self, name: str, round: int | None) -> list[Manifest]:
        found = [
            manifest
            for manifest in self.snapshot.of(name)
            if round is None or manifest.round == round
        ]
        return found or [self.snapshot.get(name, round)]


def open(root: str | os.PathLike[str]) -> Output:
    """Open an output folder, a local path or any fsspec URL, as it is published now.

    Raises:
        StoreError: it is not an output folder, or of a schema version that cannot be read.
    """
    store = Store.open(os.fspath(root))
    return Output(store, store.latest())


def label(
    model: Output | str | os.PathLike[str],
    uri: str | os.PathLike[str],
    fold: int | None = None,
    split: str | None = None,
    front_end: str | None = None,
    accept_licence: bool = False,
) -> Song:
    """Label a file as the pipeline would label a new track of the catalog, with the model in use.

    The result is a row of `songs`: `label`, `confidence`, `timeline` and the rest. What labels new
    music has learned from all labelled tracks of the catalog; for these pass `fold` and `split`, or
    read `songs`.

    Args:
        model: an opened output folder, or its path or URL.
        uri: a local path or any fsspec URL of audio.
        fold: of a train track, to have it scored by the member that has not seen its label.
        split: of a held-out track (`test`), to have it labelled by the song classifier that has not
            seen its label.
        front_end: where the front-end that the model goes by is now, if it is no longer where it
            was.
        accept_licence: use a front-end whose weights were marked non-commercial since the model was
            made: the label is not for commercial use either.

    Raises:
        StoreError: the folder has no songs yet.
        FrontEndError: the model goes by a front-end that is not at hand, or may not be used.
        Unlabelled: the file is broken, silent or too short; `reason` says which.
    """
    from sssl.songs.labeller import labeller_of

    output = model if isinstance(model, Output) else open(model)
    labeller = labeller_of(output.store, output.snapshot, front_end, accept_licence)
    return labeller.label(os.fspath(uri), fold, split)
