"""Output folders of every schema version so far stay readable, and newer ones are refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from schemas import (
    OPTIONAL,
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    TABLES,
    Feature,
    arrow_schema,
    columns,
)
from sssl.catalog.committed import read_labelled, read_part, rows_of
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.seal import json_bytes, opened_json
from sssl.store.sql import connect
from sssl.store.tensors import log_mels

GOLDEN = Path(__file__).parents[2] / "golden"
REGULAR = {name: table for name, table in TABLES.items() if name not in OPTIONAL}
VERSIONS = sorted(int(path.name[1:]) for path in GOLDEN.glob("v*"))


@pytest.fixture(params=VERSIONS, ids=lambda version: f"v{version}")
def golden(request):
    return GOLDEN / f"v{request.param}"


def read(table, content):
    """Rows of today's dataclass; a tensor row as nested lists."""
    records = content.to_pylist()
    if table is Feature:
        for record, tensor in zip(records, log_mels(content), strict=True):
            record["log_mel"] = tensor.tolist()
    return [table(**record) for record in records]


def manifests_of(snapshot, name):
    return [snapshot.features] if name == "features" else snapshot.of(name)


def written_rows(golden, name):
    """What was written, by today's tables: up to version 3 segments had the log-mels."""
    written = json.loads((golden / "expected.json").read_text())
    if name in written and name != "segments":
        return written[name]
    has = {column.name for column in columns(TABLES[name])}
    return [{key: value for key, value in row.items() if key in has} for row in written["segments"]]


def nearly(value):
    """Reals in tables have 32 bits, in JSON 64."""
    if isinstance(value, dict):
        return {name: nearly(item) for name, item in value.items()}
    if isinstance(value, list):
        return [nearly(item) for item in value]
    return float(np.float32(value)) if isinstance(value, float) else value


def files_of(folder, table):
    """The files of a golden table: parts, and what is made for readers."""
    return [
        *folder.glob(f"{table}/golden/*.parquet"),
        *folder.glob(f"_parts/{table}/golden/*.parquet"),
    ]


def copy(golden, tmp_path):
    return Path(shutil.copytree(golden, tmp_path / "out"))


def test_every_version_that_is_read_has_its_golden_folder():
    assert list(READABLE_VERSIONS) == VERSIONS


@pytest.mark.parametrize("name", REGULAR)
def test_a_golden_table_reads_as_rows_of_today(golden, name):
    store = Store.open(str(golden))
    names = [column.name for column in columns(TABLES[name])]
    rows = read(TABLES[name], store.read_table(manifests_of(store.latest(), name)[0], names))
    expected = written_rows(golden, name)
    came_later = {
        column.name: None for column in columns(TABLES[name]) if column.name not in expected[0]
    }
    assert [nearly(dataclasses.asdict(row)) for row in rows] == nearly(
        [{**row, **came_later} for row in expected]
    )


@pytest.mark.parametrize("name", REGULAR)
def test_a_golden_table_is_a_view_with_today_s_columns(golden, name):
    store = Store.open(str(golden))
    shown = connect(store, store.latest()).sql(f"from {name}").columns
    assert shown == columns_in_sql(name)


def columns_in_sql(name):
    """Today's columns, and what SQL has beside them."""
    declared = [field.name for field in dataclasses.fields(TABLES[name])]
    return [*declared, "end_s"] if name == "segments" else declared


@pytest.mark.parametrize("name", REGULAR)
def test_a_changed_schema_needs_a_new_version(name):
    """If this fails, raise SCHEMA_VERSION, run tests/golden/make.py, and let the folder of the old
    version be."""
    (path,) = (GOLDEN / f"v{SCHEMA_VERSION}" / name / "golden").glob("*.parquet")
    schema = pq.read_schema(path)
    tensors = {f.name: f.type for f in schema if pa.types.is_fixed_size_binary(f.type)}
    assert schema.equals(arrow_schema(TABLES[name], **tensors))


@pytest.fixture
def without_new_columns(golden, tmp_path):
    """The golden folder as if two of the columns that may be null had come with a later version."""
    folder = copy(golden, tmp_path)
    for name, lost in (("rounds", "heldout_loss"), ("ledger", "detail")):
        for path in files_of(folder, name):
            pq.write_table(pq.read_table(path).drop_columns([lost]), path)
    return Store.open(str(folder))


def test_a_column_that_came_later_is_null_in_older_files(without_new_columns):
    store, snapshot = without_new_columns, without_new_columns.latest()
    table = store.read_table(snapshot.get("rounds", 1))
    assert table.column_names == [field.name for field in dataclasses.fields(TABLES["rounds"])]
    assert table["heldout_loss"].null_count == len(table) == 2
    some = store.read_part(snapshot.get("ledger").files[0], ["detail", "track_id"])
    assert some.to_pydict() == {"detail": [None, None], "track_id": ["track001", "track002"]}


def test_a_column_that_came_later_is_null_in_sql(without_new_columns, monkeypatch):
    monkeypatch.setattr("sssl.store.sql.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    connection = connect(without_new_columns, without_new_columns.latest())
    for name in REGULAR:
        assert connection.sql(f"from {name}").columns == columns_in_sql(name)
    assert (
        connection.sql("select heldout_loss, typeof(heldout_loss) from rounds").fetchall()
        == [(None, "FLOAT")] * 2
    )
    assert connection.sql("select detail from ledger").fetchall() == [(None,)] * 2


@pytest.mark.parametrize("golden", [GOLDEN / f"v{SCHEMA_VERSION}"])
def test_a_table_without_a_column_that_its_version_has_is_refused(without_new_columns, capsys):
    root = without_new_columns.root
    assert main(["sql", "--output", root, "select 1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"the table ledger of {root} cannot be read" in said
    assert '"detail"' in said


def test_a_folder_of_a_newer_version_is_refused(golden, tmp_path, capsys):
    folder = copy(golden, tmp_path)
    (folder / "sssl.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    assert main(["sql", "--output", str(folder), "select 1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"has schema version {SCHEMA_VERSION + 1}, this program reads and writes {SCHEMA_VERSION}"
        in said
    )
    assert "use the program version that wrote it or a later one" in said


def test_a_table_of_a_newer_version_is_refused_although_its_manifest_has_unknown_fields(
    golden, tmp_path
):
    (path,) = (copy(golden, tmp_path) / "songs" / "golden").glob("*manifest.json")
    manifest = opened_json(path.read_bytes(), path.name)
    path.write_bytes(
        json_bytes(manifest | {"schema_version": SCHEMA_VERSION + 1, "invented_later": 1})
    )
    with pytest.raises(
        StoreError, match=f"songs/golden/{path.name} has schema version {SCHEMA_VERSION + 1}"
    ):
        Store.open(str(tmp_path / "out")).latest()


def test_a_file_of_a_newer_version_is_refused(golden, tmp_path):
    newer = {b"sssl.schema_version": str(SCHEMA_VERSION + 1).encode()}
    for path in files_of(copy(golden, tmp_path), "songs"):
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata(table.schema.metadata | newer), path)
    store = Store.open(str(tmp_path / "out"))
    with pytest.raises(
        StoreError, match=f"part-00000.parquet has schema version {SCHEMA_VERSION + 1}"
    ):
        store.read_table(store.latest().get("songs"))


@pytest.mark.parametrize(
    "read_rows",
    [lambda store, c: read_part(store, c, 0), lambda store, c: rows_of(read_labelled(store, c))],
)
def test_a_catalog_of_another_version_is_read_by_part_as_it_is_whole(golden, tmp_path, read_rows):
    path = copy(golden, tmp_path) / "catalog" / "golden" / "part-00000.parquet"
    store = Store.open(str(tmp_path / "out"))
    catalog = store.latest().get("catalog")
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns(["expected_s"]), path)
    assert {row.expected_s for row in read_rows(store, catalog)} <= {None}
    newer = {b"sssl.schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(whole.replace_schema_metadata(whole.schema.metadata | newer), path)
    with pytest.raises(
        StoreError, match=f"part-00000.parquet has schema version {SCHEMA_VERSION + 1}"
    ):
        read_rows(store, catalog)


def test_every_file_that_a_run_writes_has_its_version_and_docs(finished):
    store, tables = finished, set()
    for manifest in store.latest().manifests:
        for file in manifest.all_files:
            if file.path.endswith(".parquet"):
                schema = pq.read_schema(store.url(file.path))
                assert schema.metadata[b"sssl.schema_version"] == str(SCHEMA_VERSION).encode()
                assert schema.metadata[b"sssl.table"] == manifest.table.encode()
                assert all(field.metadata[b"doc"] for field in schema)
                tables.add(manifest.table)
    assert tables == set(REGULAR)


def test_docs_are_the_same_text_in_parquet_and_sql(finished):
    snapshot = finished.latest()
    connection = connect(finished, snapshot)
    for name in REGULAR:
        schema = pq.read_schema(finished.url(snapshot.of(name)[0].files[0].path))
        query = (
            "select column_name, comment from duckdb_columns() where table_name = ? and"
            " column_name != 'end_s' order by column_index"
        )
        docs = dict(connection.execute(query, [name]).fetchall())
        units = {f.name: f.metadata[b"unit"].decode() for f in schema}
        written = {f.name: f.metadata[b"doc"].decode() for f in schema}
        assert docs == {
            name: doc + (f" [{units[name]}]" if units[name] else "")
            for name, doc in written.items()
        }


def test_sql_leads_from_a_table_to_its_files_config_and_parents(finished):
    connection = connect(finished, finished.latest())
    paths = [
        path
        for (path,) in connection.sql(
            "select path from files where table_name = 'songs'"
        ).fetchall()
    ]
    rows = duckdb.sql(f"select count(*) from read_parquet({paths})").fetchall()
    assert rows == connection.sql("select count(*) from songs").fetchall()
    query = (
        "select p.table_name, p.round from manifests s, unnest(s.parents) as u(parent) join"
        " manifests p on p.table_name || '/' || p.generation = parent where s.table_name = 'songs'"
        " order by all"
    )
    ((used,),) = connection.sql("select distinct round from songs").fetchall()
    assert connection.sql(query).fetchall() == [
        ("catalog", None),
        ("ledger", None),
        ("scores", used),
        ("segments", None),
    ]
    smoothing = "select (config->>'smooth_segments')::int from manifests where table_name = 'songs'"
    assert connection.sql(smoothing).fetchall() == [(3,)]
