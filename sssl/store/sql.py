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
from schemas.summaries import CatalogSummary, ModelsSummary
from schemas.views import ACCEPTED_VIEWS, PLACES, SEGMENT_END
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.layout import PARTS
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.publications import published_before
from sssl.store.removals import taken_down
from sssl.store.rounds import last_split, scores_behind

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

_SONG_LABELS = (
    "select track_id, c.group_id, c.split, c.label as catalog_label, s.label as song_label, "
    "c.label = s.label as agrees, s.confidence, s.abstained "
    "from songs s join catalog c using (track_id)"
)
_SONG_PROBABILITIES = (
    "select track_id, c.name as class_name, probabilities[c.position] as probability "
    "from songs, classes c"
)
_SEGMENT_PROBABILITIES = (
    "select track_id, segment_index, start_s, end_s, c.name as class_name, "
    "probabilities[c.position] as probability "
    "from accepted_scores join segments using (track_id, segment_index), classes c "
    "where probabilities is not null"
)


def connect(
    store: Store, snapshot: Snapshot, database: str = ":memory:"
) -> duckdb.DuckDBPyConnection:
    """Open a new database, in memory or in a file, with a view of each table of a snapshot.

    Besides the tables there are the views of schemas/views.py, `accepted_labels` and
    `accepted_scores` (of the rounds in use).
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
    before = published_before(store)
    folders = {*_folders(snapshot), *_folders(before.only("songs"))}
    for fs in store.medium.file_systems(sorted(folders)):
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        if not connection.filesystem_is_registered(protocol):
            connection.register_filesystem(fs)
    for name, table in TABLES.items():
        manifests = snapshot.of(name)
        if name == "features" and snapshot.of("segments"):
            manifests = [snapshot.features]
        if manifests:
            try:
                _create_view(connection, store, table, manifests)
            except duckdb.Error as error:
                place = f"the table {name} of {store.root}"
                raise StoreError(f"{place} cannot be read: {error}") from error
    _create_manifests(connection, store, snapshot)
    _create_publications(connection, store, snapshot, before)
    _create_models(connection, snapshot)
    _create_classes(connection, snapshot)
    _create_accepted(connection, snapshot)
    _create_suspects(connection, snapshot)
    if snapshot.of("songs"):
        _create_songs(connection, snapshot)
        earlier = before.of("songs") or snapshot.of("songs")
        _create_song_changes(connection, store, earlier[0])


def rows(connection: duckdb.DuckDBPyConnection, sql: str, **values: Any) -> list[dict[str, Any]]:
    """Run a query with the named parameters that it uses and return its rows by column name."""
    used = {name: value for name, value in values.items() if f"${name}" in sql}
    result = connection.execute(sql, used)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def rows_on_disk(store: Store, track_ids: Sequence[str]) -> str:
    """Return SQL that counts the rows of tracks by table in every Parquet file of the folder,
    published or not; a line for each table. Empty where there is no file."""
    counts = []
    for name in tables_with_tracks():
        found = [*_parquet_files(store, name), *_parquet_files(store, f"{PARTS}/{name}")]
        if found:
            counts.append(
                f"select '{name}' as table_name, count(*) as rows_left"
                f" from read_parquet([{', '.join(found)}]) semi join gone using (track_id)"
            )
    if not counts:
        return ""
    ids = ", ".join(map(_quote, track_ids))
    gone = f"with gone as (select unnest([{ids}]) as track_id)"
    return f"{gone}\n" + "\nunion all ".join(counts)


def tables_with_tracks() -> list[str]:
    """Name the tables that have rows of tracks, those of readers and that of training."""
    of_readers = [
        name
        for name, table in TABLES.items()
        if any(column.name == "track_id" for column in columns(table))
    ]
    return [*of_readers, "shards"]


def _parquet_files(store: Store, folder: str) -> list[str]:
    """Return a glob for the Parquet files in the generations below a folder, none if there are
    none."""
    is_there = any(path.endswith(".parquet") for path in store.find(folder))
    if not is_there:
        return []
    root = _no_glob(store.url(folder))
    return [_quote(f"{root}/*/*.parquet")]


def _folders(snapshot: Snapshot) -> list[str]:
    """List the folders that files of a snapshot lie in."""
    folders = set()
    for manifest in snapshot.manifests:
        for file in manifest.for_readers.values():
            folder, _, _ = file.path.rpartition("/")
            folders.add(folder)
    return sorted(folders)


def _create_view(
    connection: duckdb.DuckDBPyConnection, store: Store, table: type, manifests: list[Manifest]
) -> None:
    name = table_name(table)
    files = []
    for manifest in manifests:
        files += _urls(store, manifest)
    is_older = any(manifest.schema_version < SCHEMA_VERSION for manifest in manifests)
    found = f"read_parquet([{', '.join(map(_quote, files))}], union_by_name = {is_older})"
    shown = _of_today(connection, table, found) if is_older else "*"
    if name == "segments":
        (segments,) = manifests
        shown += f", {_end_s(segments)} as end_s"
    connection.execute(f"create view {name} as select {shown} from {found}")
    _comment(connection, "view", name, table)
    if name == "segments":
        connection.execute(f"comment on column segments.end_s is {_quote(SEGMENT_END)}")


def _urls(store: Store, manifest: Manifest) -> list[str]:
    """List the files of a generation that readers get, by part."""
    parts = sorted(manifest.for_readers.items())
    return [store.url(file.path) for _, file in parts]


def _end_s(segments: Manifest) -> str:
    """Return as SQL where a segment ends, which is not stored: all are of one length."""
    cut = segments.config.get("cut")
    if cut is None:  # folders of tests, which nothing was cut for
        return "null::float"
    return f"(start_s + {cut['segment_s']})::float"


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
    declared = columns(table)
    missing = [(c.name, c.type) for c in declared if c.nullable and c.name not in there]
    types: dict[str, Any] = {}
    if missing:
        # Nested types are called otherwise in DuckDB than in Arrow.
        relation = connection.from_arrow(pa.schema(missing).empty_table())
        types = dict(zip(relation.columns, relation.types, strict=True))
    shown = []
    for column in declared:
        if column.name in there:
            shown.append(column.name)
        else:
            shown.append(f"null::{types[column.name]} as {column.name}")
    return ", ".join(shown)


def _create_accepted(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the views of the rounds in use."""
    if not snapshot.of("rounds"):
        return
    ((undecided,),) = connection.sql(_UNDECIDED).fetchall()
    for view, doc in ACCEPTED_VIEWS.items():
        name = view.removeprefix("accepted_")
        if not snapshot.of(name):
            continue
        shown = _OF_ACCEPTED.format(name)
        if name == "scores" and undecided is not None:
            shown = _OF_BOTH.format(undecided)
        connection.execute(f"create view {view} as {shown}")
        connection.execute(f"comment on view {view} is {_quote(doc)}")
    if snapshot.of("scores") and snapshot.of("segments"):
        _create_documented(connection, "segment_probabilities", _SEGMENT_PROBABILITIES)


def _create_documented(connection: duckdb.DuckDBPyConnection, name: str, sql: str) -> None:
    """Create a view of schemas/views.py."""
    connection.execute(f"create view {name} as {sql}")
    _comment(connection, "view", name, VIEWS[name])


def _create_suspects(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the view of the segments that look wrong, once there are scores to split by."""
    labels = last_split(snapshot) if snapshot.of("labels") else None
    scores = scores_behind(snapshot, labels) if labels else None
    if labels is None or scores is None:
        return
    sql = (
        "select track_id, segment_index, start_s, end_s, l.inherited_label, "
        "ln(exp(l.loss::double) - 1) as evidence, l.clean_probability, l.label as model_label, "
        "list_max(s.probabilities) as model_probability, l.round "
        f"from (from labels where round = {labels.round}) l "
        f"join (from scores where round = {scores.round}) s using (track_id, segment_index) "
        "join segments using (track_id, segment_index) join catalog c using (track_id) "
        "where l.partition = 'noisy' and c.split = 'train'"
    )
    _create_documented(connection, "suspects", sql)


def _create_song_changes(
    connection: duckdb.DuckDBPyConnection, store: Store, before: Manifest
) -> None:
    """Create the view of the songs whose labels changed since an earlier generation."""
    files = ", ".join(map(_quote, _urls(store, before)))
    sql = (
        "select track_id, a.label as label_before, b.label, "
        "a.confidence as confidence_before, b.confidence, a.model_id as model_before, b.model_id "
        f"from read_parquet([{files}]) a join songs b using (track_id) where a.label <> b.label"
    )
    _create_documented(connection, "song_changes", sql)


def _create_songs(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the views of songs beside the catalog, and of their probabilities by class."""
    if snapshot.of("catalog"):
        _create_documented(connection, "song_labels", _SONG_LABELS)
    _create_documented(connection, "song_probabilities", _SONG_PROBABILITIES)


def _create_manifests(
    connection: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot
) -> None:
    manifests = [manifest_row(store, manifest) for manifest in snapshot.manifests]
    files = []
    for manifest in snapshot.manifests:
        files += _file_rows(store, manifest)
    _create_table(connection, "manifests", manifests)
    _create_table(connection, "files", files)


def _create_table(
    connection: duckdb.DuckDBPyConnection, name: str, rows: list[dict[str, Any]]
) -> None:
    """Create a table of schemas/views.py, which is made of what Parquet files do not hold."""
    connection.register("found", pa.Table.from_pylist(rows, schema=arrow_schema(VIEWS[name])))
    connection.execute(f"create table {name} as select * from found")
    connection.unregister("found")
    _comment(connection, "table", name, VIEWS[name])


def _create_publications(
    connection: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot, before: Snapshot
) -> None:
    """Create the tables of what is published, what was before, and what was taken down."""
    rows = []
    for publication, published in (("now", snapshot), ("before", before)):
        for manifest in published.manifests:
            row: dict[str, Any] = {"publication": publication, "table_name": manifest.table}
            row |= {name: getattr(manifest, name) for name in ("generation", "round", "rows")}
            row["created_at"] = datetime.fromisoformat(manifest.created_at)
            rows.append(row)
    _create_table(connection, "publications", rows)
    removed = [{"track_id_sha256": digest} for digest in sorted(taken_down(store))]
    _create_table(connection, "takedowns", removed)


def _create_models(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the view of the models, with what became of their rounds."""
    verdict = "null::varchar"
    if snapshot.of("rounds"):
        verdict = "(select r.verdict from rounds r where r.round = m.round)"
    sql = (
        "select model_id, round, generation, config->>'model' as architecture, "
        f"{verdict} as verdict, bytes, created_at, code_version "
        "from manifests m where table_name = 'models'"
    )
    _create_documented(connection, "models", sql)


def _create_classes(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
    """Create the table of the classes."""
    _create_table(connection, "classes", class_rows(snapshot))


def class_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the rows of `classes`; none without a catalog."""
    if not snapshot.of("catalog"):
        return []
    names = snapshot.get("catalog").about(CatalogSummary).classes
    rows = []
    for position, name in enumerate(names, 1):
        valence, arousal = PLACES.get(name, (None, None))
        row = {"position": position, "name": name, "valence": valence, "arousal": arousal}
        rows.append(row)
    return rows


def manifest_row(store: Store, m: Manifest) -> dict[str, Any]:
    """Return the row of `manifests` for a committed generation."""
    model_id = m.about(ModelsSummary).model_id
    row: dict[str, Any] = {
        "table_name": m.table,
        "files": len(m.for_readers),
        "bytes": m.bytes,
        "model_id": model_id or None,
        "folder": store.url(m.ref),
        "config": json.dumps(m.config, sort_keys=True),
        "created_at": datetime.fromisoformat(m.created_at),
    }
    for name in ("round", "generation", "rows", "digest", "stage", "cpu_s", "parents"):
        row[name] = getattr(m, name)
    row["code_version"] = m.code_version
    row["schema_version"] = m.schema_version
    return row


def _file_rows(store: Store, m: Manifest) -> list[dict[str, Any]]:
    of = {"table_name": m.table, "round": m.round, "generation": m.generation}
    rows = []
    for part, file in sorted(m.for_readers.items()):
        # A file of several parts says itself which is its last.
        row = {**of, "part": part, "last_part": part, **asdict(file)}
        row["path"] = store.url(file.path)
        rows.append(row)
    return rows


def _no_glob(path: str) -> str:
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
