"""A published folder in other programs: each counts the rows that we count, and finds a row that we
know.

What they do here is what docs/tables.md says.
"""

import math
from functools import partial

import pytest
from reports import make_folder

pytestmark = pytest.mark.readers
KNOWN = {
    "catalog": ("track_id", "label", "expected_s", "part"),
    "ledger": ("track_id", "status", "reason", "decoded_s"),
    "segments": ("track_id", "segment_index", "start_s", "level_db"),
    "features": ("track_id", "segment_index", "log_mel"),
    "scores": ("track_id", "segment_index", "loss", "model_id"),
    "labels": ("track_id", "segment_index", "partition", "weight"),
    "songs": ("track_id", "label", "confidence", "abstained"),
}


def by_polars(folder, columns, track):
    import polars as pl

    rows = pl.scan_parquet(folder, hidden_file_prefix="_")
    of_track = rows.filter(pl.col("track_id") == track).select(columns)
    return rows.select(pl.len()).collect().item(), of_track.collect().rows()


def by_pandas(folder, columns, track):
    import pandas as pd

    rows = pd.read_parquet(folder)
    of_track = rows.loc[rows["track_id"] == track, list(columns)]
    return len(rows), list(of_track.astype(object).itertuples(index=False, name=None))


def by_arrow(folder, columns, track):
    import pyarrow.dataset as ds

    rows = ds.dataset(folder)
    of_track = rows.to_table(columns=list(columns), filter=ds.field("track_id") == track)
    return rows.count_rows(), rows_of(of_track)


def by_duckdb(folder, columns, track):
    import duckdb

    rows = duckdb.read_parquet(f"{folder}/*.parquet")
    of_track = rows.filter(f"track_id = '{track}'").project(", ".join(columns))
    return len(rows), of_track.fetchall()


def by_datafusion(folder, columns, track):
    from datafusion import SessionContext

    context = SessionContext()
    context.register_parquet("rows", folder)
    ((count,),) = rows_of(context.sql("select count(*) from rows").to_arrow_table())
    of_track = context.sql(f"select {', '.join(columns)} from rows where track_id = '{track}'")
    return count, rows_of(of_track.to_arrow_table())


def by_chdb(folder, columns, track):
    import chdb

    files = f"file('{folder}/*.parquet')"
    ((count,),) = rows_of(chdb.query(f"select count() from {files}", "ArrowTable"))
    of_track = f"select {', '.join(columns)} from {files} where track_id = '{track}'"
    return count, rows_of(chdb.query(of_track, "ArrowTable"))


def by_hugging_face(folder, columns, track, cache):
    import datasets

    rows = datasets.load_dataset(
        "parquet", data_files=f"{folder}/*.parquet", split="train", cache_dir=str(cache)
    )
    of_track = rows.filter(
        lambda track_id: track_id == track, input_columns="track_id"
    ).select_columns(list(columns))
    return len(rows), [tuple(row[name] for name in columns) for row in of_track]


def by_spark(folder, columns, track, spark):
    rows = spark.read.parquet(folder)
    of_track = rows.where(rows["track_id"] == track).select(*columns)
    return rows.count(), list(map(tuple, of_track.collect()))


def rows_of(table):
    return list(zip(*table.to_pydict().values(), strict=True))


def plain(row):
    """A row as Python has it, whatever a reader's own null, number and bytes are."""
    return tuple(_plain(value) for value in row)


def _plain(value):
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("published") / "out", (0.6, 0.9))


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = session.config("spark.driver.bindAddress", "127.0.0.1").config(
        "spark.driver.host", "127.0.0.1"
    )
    running = session.config("spark.sql.shuffle.partitions", "1").getOrCreate()
    yield running
    running.stop()


def expect(published, read):
    """Ask a reader for the folder of each table, and compare with what we read ourselves."""
    store, snapshot = published
    track = store.read_table(snapshot.get("segments"), ["track_id"])["track_id"][-1].as_py()
    for table, columns in KNOWN.items():
        manifest = snapshot.of(table)[-1]
        folder = store.url(manifest.ref)
        rows = store.read_table(manifest, list(columns))
        known = [row for row in rows_of(rows) if row[0] == track]
        count, found = read(folder, columns, track)
        assert count == len(rows), table
        assert sorted(map(plain, found)) == sorted(map(plain, known)), table
        assert known, table


@pytest.mark.parametrize(
    "read", [by_polars, by_pandas, by_arrow, by_duckdb, by_datafusion, by_chdb]
)
def test_a_folder_opens(read, published):
    expect(published, read)


def test_a_folder_opens_as_a_hugging_face_dataset(published, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expect(published, partial(by_hugging_face, cache=tmp_path))


def test_a_folder_opens_in_spark(published, spark):
    expect(published, partial(by_spark, spark=spark))
