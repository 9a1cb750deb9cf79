import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from rows import a_ledger_row, a_song
from sqlglot import exp

from schemas import SCHEMA_VERSION, TABLES, Ledger, Song, arrow_schema, columns, table_doc, to_arrow
from schemas.bigquery import ddl, type_of
from schemas.docs import reasons_page, tables_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TENSORS = {"log_mel": pa.binary(4 * 5), "embedding": pa.binary(2 * 4)}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_column_has_a_doc_that_ends_as_a_sentence(table):
    assert all(column.doc.endswith(".") for column in columns(table))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_the_table_says_which_stage_writes_it(table):
    assert "Written by `" in table_doc(table)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_what_is_said_of_a_table_is_one_line(table):
    assert "\n" not in table_doc(table)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_docs_and_version_survive_parquet(table, tmp_path):
    schema = arrow_schema(table, **TENSORS)
    pq.write_table(schema.empty_table(), tmp_path / "t.parquet")
    read = pq.read_schema(tmp_path / "t.parquet")
    assert read.metadata[b"sssl.schema_version"] == str(SCHEMA_VERSION).encode()
    assert [f.metadata[b"doc"] for f in read] == [f.metadata[b"doc"] for f in schema]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_an_example_is_a_value_of_its_column(table):
    for column in columns(table):
        array = (
            np.array(column.example, np.float16)
            if column.type is None
            else pa.array([column.example], column.type)
        )
        assert array.ndim > 0 if column.type is None else array.null_count == 0


def test_an_open_type_must_be_given():
    with pytest.raises(KeyError, match="log_mel"):
        arrow_schema(TABLES["features"])


def test_a_missing_value_in_a_required_column_is_refused_by_the_writer(tmp_path):
    row = a_ledger_row()
    table = to_arrow(Ledger, [dataclasses.replace(row, status=None)])
    with pytest.raises(pa.ArrowInvalid, match="status"):
        pq.write_table(table, tmp_path / "t.parquet")


def test_nested_rows_survive_parquet(tmp_path):
    entry = {"start_s": 0.0, "end_s": 3.0, "label": "Q1", "confidence": 0.5}
    song = a_song(timeline=[entry])
    pq.write_table(to_arrow(Song, [song]), tmp_path / "t.parquet")
    assert Song(**pq.read_table(tmp_path / "t.parquet").to_pylist()[0]) == song


def test_the_docs_are_current():
    assert (DOCS / "tables.md").read_text() == tables_page(), "run `make docs`"
    assert (DOCS / "reasons.md").read_text() == reasons_page(), "run `make docs`"
    assert (ROOT / "infra" / "sql" / "tables.sql").read_text() == ddl(), "run `make docs`"


@pytest.fixture(scope="module")
def in_bigquery():
    """The DDL as BigQuery's dialect reads it: the statement of each table by name."""
    created = [
        create for create in sqlglot.parse(ddl(), dialect="bigquery") if create.kind == "TABLE"
    ]
    return {create.this.this.name: create for create in created if create.this.this.name in TABLES}


def description(expression):
    return next(
        p.args["value"].this for p in expression.find_all(exp.Property) if p.name == "description"
    )


def defined_columns(create):
    return [column for column in create.this.expressions if isinstance(column, exp.ColumnDef)]


def test_bigquery_gets_every_table_with_its_doc(in_bigquery):
    assert {
        name: description(create.args["properties"]) for name, create in in_bigquery.items()
    } == {name: table_doc(table) for name, table in TABLES.items()}


@pytest.mark.parametrize("name", TABLES)
def test_bigquery_gets_every_column_and_tensors_as_bytes(name, in_bigquery):
    declared = columns(TABLES[name])
    kinds = [
        (c.name, c.kind.sql("bigquery").replace("`", ""))
        for c in defined_columns(in_bigquery[name])
    ]
    assert kinds == [(c.name, type_of(c.type or pa.binary()).replace("`", "")) for c in declared]
    keys = in_bigquery[name].find(exp.PrimaryKey).expressions
    assert [key.name for key in keys] == [c.name for c in declared if c.key]


@pytest.mark.parametrize("name", TABLES)
def test_bigquery_gets_the_docs_of_columns(name, in_bigquery):
    said = {c.name: c.description for c in columns(TABLES[name])}
    assert {c.name: description(c) for c in defined_columns(in_bigquery[name])} == said
