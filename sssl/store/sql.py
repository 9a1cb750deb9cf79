"""The committed tables as DuckDB views, with the docs of schemas/ as comments."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from schemas import SCHEMA_VERSION, TABLES, VIEWS, arrow_schema, columns, table_doc, table_name
from schemas.summaries import ModelsSummary
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.layout import PARTS
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.publications import published_before
from sssl.store.rounds import last_split, scores_behind

ACCEPTED_VIEWS = {
    "accepted_labels": "labels of the last accepted round: what its model was trained on",
    "accepted_scores": (
        "what songs are made from: scores of the last accepted round, or the mean of its and those"
        " of the round after it, where that one's verdict is undecided"
    ),
}
_OF_ACCEPTED = "select * from {} where round = (select max(round) from rounds where accepted)"
_UNDECIDED = (
    "select max(round) from rounds where verdict = 'undecided' "
    "and round > (select max(round) from rounds where accepted)"
)
_OF_BOTH = """select track_id, segment_index, b.round,
case when a.probabilities is null or b.probabilities is null
  then coalesce(a.probabilities, b.probabilities)
  else list_transform(list_zip(a.probabilities, b.probabilities),
    lambda p: ((p[1] + p[2]) / 2)::float)
  end as probabilities,
coalesce(-ln((exp(-a.loss::double) + exp(-b.loss::double)) / 2), a.loss, b.loss)::float as loss,
case when a.probabilities is null then b.reason end as reason,
a.model_id || '+' || b.model_id as model_id
from (select * from scores where round = (select parent_round from rounds where round = {0})) a
join (select * from scores where round = {0}) b using (track_id, segment_index)"""


def connect(
    store: Store, snapshot: Snapshot, database: str = ":memory:"
) -> duckdb.DuckDBPyConnection:
    """Open a new database, in memory or in a file, with a view of each table of a snapshot.

    Besides the tables there are `accepted_labels` and `accepted_scores` (of the rounds in use),
    `suspects` (one row a segment whose label looks wrong, by the last split made), `manifests` (one
    row a committed generation: what made it, from what) and `files` (one row a file).
    """
    connection = duckdb.connect(database)
    create_views(connection, store, snapshot)
    return connection


def create_views(connection: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot) -> None:
    """Create the views of a snapshot in the connection's current schema.

    Raises:
        StoreError: a table cannot be read, as its files are damaged, gone, or not what the
            manifests say.
    """
    before = published_before(store).only("songs")
    for fs in store.medium.file_systems(sorted({*_folders(snapshot), *_folders(before)})):
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        if not connection.filesystem_is_registered(protocol):
            connection.register_filesystem(fs)
    for name, table in TABLES.items():
        if name == "features" and snapshot.of("segments"):
            manifests = [snapshot.features]
        else:
            manifests = snapshot.of(name)
        if manifests:
            try:
                _create_view(connection, store, table, manifests)
            except duckdb.Error as error:
                raise StoreError(
                    f"the table {name} of {store.root} cannot be read: {error}"
                ) from error
    _create_manifests(connection, store, snapshot)
    _create_accepted(connection, snapshot)
    _create_suspects(connection, snapshot)
    if snapshot.of("songs"):
        _create_song_changes(connection, store, (before.of("songs") or snapshot.of("songs"))[0])


def rows(connection: duckdb.DuckDBPyConnection, sql: str, **values: Any) -> list[dict[str, Any]]:
    """Run a query with the named parameters that it uses and return its rows by column name."""
    result = connection.execute(
        sql, {name: value for name, value in values.items() if f"${name}" in sql}
    )
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def rows_on_disk(store: Store, track_ids: Sequence[str]) -> str:
    """Return SQL that counts the rows of tracks by table in every Parquet file of the folder,
    published or not."""
    ids = ", ".join(map(_quote, track_ids))
    by_track = [
        name
        for name, table in TABLES.items()
        if any(column.name == "track_id" for column in columns(table))
    ]
    files = {
        name: [*_parquet_files(store, name), *_parquet_files(store, f"{PARTS}/{name}")]
        for name in by_track
    }
    return " union all ".join(
        f"select '{name}' as table_name, count(*) as rows_left "
        f"from read_parquet([{', '.join(found)}]) where track_id in ({ids})"
        for name, found in files.items()
        if found
    )


def _parquet_files(store: Store, folder: str) -> list[str]:
    """Return a glob for the Parquet files in the generations below a folder, none if there are
    none."""
    is_there = any(path.endswith(".parquet") for path in store.find(folder))
    if is_there:
        return [_quote(f"{_no_glob(store.url(folder))}/*/*.parquet")]
    return []


def _folders(snapshot: Snapshot) -> list[str]:
    """List the folders that files of a snapshot lie in."""
    paths = (file.path for manifest in snapshot.manifests for file in manifest.for_readers.values())
    return sorted({path.rsplit("/", 1)[0] for path in paths})


def _create_view(
    connection: duckdb.DuckDBPyConnection, store: Store, table: type, manifests: list[Manifest]
) -> None:
    files = [
        store.url(file.path)
        for manifest in manifests
        for _, file in sorted(manifest.for_readers.items())
    ]
    older = any(manifest.schema_version < SCHEMA_VERSION for manifest in manifests)
    found = f"read_parquet([{', '.join(map(_quote, files))}], union_by_name = {older})"
    shown = _of_today(connection, table, found) if older else "*"
    connection.execute(f"create view {table_name(table)} as select {shown} from {found}")
    _comment(connection, "view", table_name(table), table)


def _comment(connection: duckdb.DuckDBPyConnection, kind: str, name: str, table: type) -> None:
    """Put the docs of a table and its columns where SQL shows them."""
    connection.execute(f"comment on {kind} {name} is {_quote(table_doc(table))}")
    for column in columns(table):
        connection.execute(
            f"comment on column {name}.{column.name} is {_quote(column.description)}"
        )


def _of_today(connection: duckdb.DuckDBPyConnection, table: type, found: str) -> str:
    """List today's columns; those that no file has, since all are of older schema versions, are
    null."""
    there = connection.sql(f"from {found}").columns
    missing = pa.schema(
        [(c.name, c.type) for c in columns(table) if c.nullable and c.name not in there]
    ).empty_table()
    types = dict(
        zip(
            missing.column_names,
            connection.from_arrow(missing).types if len(missing.schema) else [],
            strict=True,
        )
    )
    return ", ".join(
        c.name if c.name in there else f"null::{types[c.name]} as {c.name}" for c in columns(table)
    )


def _create_accepted(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the views of the rounds in use."""
    if not snapshot.of("rounds"):
        return
    ((undecided,),) = connection.sql(_UNDECIDED).fetchall()
    for view, doc in ACCEPTED_VIEWS.items():
        name = view.removeprefix("accepted_")
        both = name == "scores" and undecided is not None
        if snapshot.of(name):
            shown = _OF_BOTH.format(undecided) if both else _OF_ACCEPTED.format(name)
            connection.execute(f"create view {view} as {shown}")
            connection.execute(f"comment on view {view} is {_quote(doc)}")


def _create_suspects(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the view of the segments that look wrong, once there are scores to split by."""
    labels = last_split(snapshot) if snapshot.of("labels") else None
    scores = scores_behind(snapshot, labels) if labels else None
    if labels is None or scores is None:
        return
    segment_s = snapshot.get("segments").config["cut"]["segment_s"]
    connection.execute(
        "create view suspects as select track_id, segment_index, start_s, (start_s +"
        f" {segment_s})::float as end_s, l.inherited_label, ln(exp(l.loss::double) - 1) as"
        " evidence, l.clean_probability, l.label as model_label, list_max(s.probabilities) as"
        f" model_probability, l.round from (from labels where round = {labels.round}) l join (from"
        f" scores where round = {scores.round}) s using (track_id, segment_index) join segments"
        " using (track_id, segment_index) join catalog c using (track_id) where l.partition ="
        " 'noisy' and c.split = 'train'"
    )
    _comment(connection, "view", "suspects", VIEWS["suspects"])


def _create_song_changes(
    connection: duckdb.DuckDBPyConnection, store: Store, before: Manifest
) -> None:
    """Create the view of the songs whose labels changed since an earlier generation."""
    files = [store.url(file.path) for _, file in sorted(before.for_readers.items())]
    connection.execute(
        "create view song_changes as select track_id, a.label as label_before, b.label, "
        "a.confidence as confidence_before, b.confidence, a.model_id as model_before, b.model_id "
        f"from read_parquet([{', '.join(map(_quote, files))}]) a join songs b using (track_id) "
        "where a.label <> b.label"
    )
    _comment(connection, "view", "song_changes", VIEWS["song_changes"])


def _create_manifests(
    connection: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot
) -> None:
    found = {
        "manifests": [manifest_row(store, manifest) for manifest in snapshot.manifests],
        "files": [row for manifest in snapshot.manifests for row in _file_rows(store, manifest)],
    }
    for name, rows in found.items():
        connection.register("found", pa.Table.from_pylist(rows, schema=arrow_schema(VIEWS[name])))
        connection.execute(f"create table {name} as select * from found")
        connection.unregister("found")
        _comment(connection, "table", name, VIEWS[name])


def manifest_row(store: Store, m: Manifest) -> dict[str, Any]:
    """Return the row of `manifests` for a committed generation."""
    return {
        "table_name": m.table,
        "files": len(m.for_readers),
        "bytes": m.bytes,
        "model_id": m.about(ModelsSummary).model_id or None,
        "folder": store.url(m.ref),
        "config": json.dumps(m.config, sort_keys=True),
        "created_at": datetime.fromisoformat(m.created_at),
        **{
            name: getattr(m, name)
            for name in ("round", "generation", "rows", "digest", "stage", "cpu_s")
        },
        **{name: getattr(m, name) for name in ("parents", "code_version", "schema_version")},
    }


def _file_rows(store: Store, m: Manifest) -> list[dict[str, Any]]:
    of = {"table_name": m.table, "round": m.round, "generation": m.generation}
    return [
        # A file of several parts says itself which is its last.
        {**of, "part": part, "last_part": part, **asdict(file), "path": store.url(file.path)}
        for part, file in sorted(m.for_readers.items())
    ]


def _no_glob(path: str) -> str:
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
