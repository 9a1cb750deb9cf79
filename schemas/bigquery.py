"""The tables as BigQuery DDL: infra/sql/tables.sql, written by `make docs`."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import SCHEMA_VERSION, Column, columns, table_doc
from schemas.tables import TABLES

_INTRO = f"""-- Generated from schemas/tables.py by `make docs`; schema version {SCHEMA_VERSION}.
-- Create the tables in a dataset:
--   bq query --dataset_id=PROJECT:DATASET --use_legacy_sql=false < infra/sql/tables.sql
-- and load the files of a table, which `select path from files where table_name = 'songs'` lists in `sssl sql`:
--   bq load --source_format=PARQUET --parquet_enable_list_inference=true DATASET.songs FILE,FILE,...
-- Tensors (features.log_mel, embeddings.embedding) are bytes here, too: docs/tables.md says how NumPy reads them.
"""

_TENSOR = pa.binary()
_TYPES = {
    _TENSOR: "BYTES",
    pa.string(): "STRING",
    pa.int32(): "INT64",
    pa.int64(): "INT64",
    pa.float32(): "FLOAT64",
    pa.bool_(): "BOOL",
}


def ddl() -> str:
    """Return a CREATE TABLE statement for each table."""
    return "\n".join([_INTRO, *(_create(name, table) for name, table in TABLES.items())])


def type_of(type: pa.DataType) -> str:
    """Return the BigQuery type of an Arrow type."""
    if pa.types.is_list(type):
        return f"ARRAY<{type_of(type.value_type)}>"
    if pa.types.is_struct(type):
        return f"STRUCT<{', '.join(f'{_name(field.name)} {type_of(field.type)}' for field in type)}>"
    return _TYPES[type]


def _create(name: str, table: type) -> str:
    declared = columns(table)
    keys = ", ".join(_name(column.name) for column in declared if column.key)
    body = [*map(_column, declared), f"PRIMARY KEY ({keys}) NOT ENFORCED"]
    lines, about = ",\n  ".join(body), _text(table_doc(table))
    return f"CREATE TABLE IF NOT EXISTS {_name(name)} (\n  {lines}\n)\nOPTIONS (description = {about});\n"


def _column(column: Column) -> str:
    type = _TENSOR if column.type is None else column.type
    # An array is never null in BigQuery: a null one is loaded as an empty one.
    required = "" if column.nullable or pa.types.is_list(type) else " NOT NULL"
    description = f"OPTIONS (description = {_text(column.description)})"
    return f"{_name(column.name)} {type_of(type)}{required} {description}"


def _name(name: str) -> str:
    return f"`{name}`"  # `partition` is a keyword


def _text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
