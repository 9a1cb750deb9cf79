"""The committed tables as DuckDB views, with the docs of schemas/ as comments."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import fsspec

from schemas import TABLES, columns
from sssl.store import Manifest, Snapshot, Store

ACCEPTED_VIEWS = {
    "accepted_labels": "labels of the last accepted round: what the model in use was trained on",
    "accepted_scores": "scores of the last accepted round: what songs are made from",
}


def connect(store: Store, snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database with a view of each table of a snapshot.

    Besides the tables there are `accepted_labels` and `accepted_scores` (the last accepted round only) and `manifests`
    (one row a committed generation, with its digest, its folder and, for models, the model's id).
    """
    connection = duckdb.connect()
    if store.local_path is None:
        connection.register_filesystem(_listed(store, snapshot))
    for name, table in TABLES.items():
        manifests = snapshot.of(name)
        if manifests:
            _create_view(connection, store, table, manifests)
    _create_manifests(connection, store, snapshot)
    for view, doc in ACCEPTED_VIEWS.items():
        name = view.removeprefix("accepted_")
        if snapshot.of("rounds") and snapshot.of(name):
            connection.execute(
                f"create view {view} as select * from {name} "
                "where round = (select max(round) from rounds where accepted)"
            )
            connection.execute(f"comment on view {view} is {_quote(doc)}")
    return connection


def rows_on_disk(store: Store, track_ids: Sequence[str]) -> str:
    """Return SQL that counts the rows of tracks by table in every Parquet file of the folder, published or not."""
    ids = ", ".join(map(_quote, track_ids))
    by_track = [name for name, table in TABLES.items() if any(column.name == "track_id" for column in columns(table))]
    tables = [name for name in by_track if store.find(name)]
    return " union all ".join(
        f"select '{name}' as table_name, count(*) as rows_left "
        f"from read_parquet({_quote(store.url(name))} || '/*/*.parquet') where track_id in ({ids})"
        for name in tables
    )


def _listed(store: Store, snapshot: Snapshot) -> fsspec.AbstractFileSystem:
    """Return a file system that remembers one listing of each committed folder.

    DuckDB asks for the size and date of each file again and again, and committed files never change.
    """
    fs = fsspec.core.url_to_fs(store.root, use_listings_cache=True, skip_instance_cache=True)[0]
    paths = (file.path for manifest in snapshot.manifests for file in manifest.files.values())
    for folder in sorted({path.rsplit("/", 1)[0] for path in paths}):
        fs.ls(store.url(folder))
    return fs


def _create_view(connection: duckdb.DuckDBPyConnection, store: Store, table: type, manifests: list[Manifest]) -> None:
    files = [store.url(file.path) for manifest in manifests for _, file in sorted(manifest.files.items())]
    name = manifests[0].table
    connection.execute(f"create view {name} as select * from read_parquet([{', '.join(map(_quote, files))}])")
    connection.execute(f"comment on view {name} is {_quote(table.__doc__ or '')}")
    for column in columns(table):
        unit = f" [{column.unit}]" if column.unit else ""
        connection.execute(f"comment on column {name}.{column.name} is {_quote(column.doc + unit)}")


def _create_manifests(connection: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot) -> None:
    connection.execute(
        "create table manifests (table_name text, round int, generation text, rows bigint, files bigint, bytes bigint, "
        "digest text, stage text, model_id text, folder text, created_at timestamptz)"
    )
    for m in snapshot.manifests:
        size = sum(file.bytes for file in m.files.values())
        connection.execute(
            "insert into manifests values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                *(m.table, m.round, m.generation, m.rows, len(m.files), size, m.digest, m.stage),
                *(m.summary.get("model_id"), store.url(m.ref), m.created_at),
            ],
        )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
