import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import TABLES, Ledger, Song, arrow_schema, columns, to_arrow
from schemas.docs import reasons_page, tables_page

DOCS = Path(__file__).parents[2] / "docs"
TENSOR = {"log_mel": pa.fixed_shape_tensor(pa.float16(), [4, 5])}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_column_has_a_doc_that_ends_as_a_sentence(table):
    assert all(column.doc.endswith(".") for column in columns(table))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_the_table_says_which_stage_writes_it(table):
    assert "Written by `" in table.__doc__


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_docs_and_version_survive_parquet(table, tmp_path):
    schema = arrow_schema(table, **TENSOR)
    pq.write_table(schema.empty_table(), tmp_path / "t.parquet")
    read = pq.read_schema(tmp_path / "t.parquet")
    assert read.metadata[b"sssl.schema_version"] == b"2"
    assert [f.metadata[b"doc"] for f in read] == [f.metadata[b"doc"] for f in schema]


def test_an_open_type_must_be_given():
    with pytest.raises(KeyError, match="log_mel"):
        arrow_schema(TABLES["segments"])


def test_a_missing_value_in_a_required_column_is_refused_by_the_writer(tmp_path):
    row = Ledger("t", "ok", None, False, None, None, 1.0, None, None, None, None, 0, 0, None)
    table = to_arrow(Ledger, [dataclasses.replace(row, status=None)])
    with pytest.raises(pa.ArrowInvalid, match="status"):
        pq.write_table(table, tmp_path / "t.parquet")


def test_nested_rows_survive_parquet(tmp_path):
    entry = {"start_s": 0.0, "end_s": 3.0, "label": "Q1", "confidence": 0.5}
    song = Song("t", "Q1", 0.5, [0.5, 0.5], False, 1, [entry], 0, "m")
    pq.write_table(to_arrow(Song, [song]), tmp_path / "t.parquet")
    assert Song(**pq.read_table(tmp_path / "t.parquet").to_pylist()[0]) == song


def test_the_docs_are_current():
    assert (DOCS / "tables.md").read_text() == tables_page(), "run `make docs`"
    assert (DOCS / "reasons.md").read_text() == reasons_page(), "run `make docs`"
