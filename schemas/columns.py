"""A table is a frozen dataclass: an instance is a row, a field is a column with a type and a doc.

Everything else that describes a table (Arrow schema, Parquet metadata, SQL comments,
docs/tables.md) is derived here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 9
"""Raised with every change of a table, and of where its files lie. A change adds columns that may
be null, or `schemas.compat` says how an older column is read. Generations keep their names: a stage
whose rows change says so in its config."""

TEXT = pa.string()
INT = pa.int32()
REAL = pa.float32()
REALS = pa.list_(pa.float32())
FLAG = pa.bool_()


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table, as declared.

    `type` is None where the shape depends on the configuration (the log-mel tensor); `arrow_schema`
    is then given it.
    """

    name: str
    type: pa.DataType | None
    doc: str
    example: Any
    unit: str
    nullable: bool
    key: bool

    @property
    def description(self) -> str:
        """The doc with the unit, as every catalog of columns shows it."""
        return self.doc + (f" [{self.unit}]" if self.unit else "")


def column(
    type: pa.DataType | None,
    doc: str,
    *,
    example: Any,
    unit: str = "",
    nullable: bool = False,
    key: bool = False,
) -> Any:
    """Declare a dataclass field as a table column."""
    return dataclasses.field(
        metadata={
            "type": type,
            "doc": doc,
            "example": example,
            "unit": unit,
            "nullable": nullable,
            "key": key,
        }
    )


def columns(table: type) -> list[Column]:
    """List the columns of a table in their declared order."""
    return [Column(name=field.name, **field.metadata) for field in dataclasses.fields(table)]


def table_name(table: type) -> str:
    """Name a table as SQL and the output folder do: `Ledger` -> `ledger`, `Score` -> `scores`."""
    return str(table.NAME)  # type: ignore[attr-defined]


def table_doc(table: type) -> str:
    """Say what a row is and which stage writes it."""
    return " ".join((table.__doc__ or "").split())


def arrow_schema(table: type, **types: pa.DataType) -> pa.Schema:
    """Derive the Arrow schema of a table, docs and units as field metadata.

    Args:
        table: a dataclass whose fields were made by `column`.
        **types: the type of each column that the declaration leaves open.

    Raises:
        KeyError: a column's type is open and not given.
    """
    fields = [
        field_of(declared, types[declared.name] if declared.type is None else declared.type)
        for declared in columns(table)
    ]
    about = {
        "sssl.table": table_name(table),
        "sssl.schema_version": str(SCHEMA_VERSION),
        "sssl.doc": table_doc(table),
    }
    return pa.schema(fields, metadata=about)


def field_of(declared: Column, type: pa.DataType) -> pa.Field:
    """Return a column as Arrow field, its docs as metadata."""
    about = {
        "doc": declared.doc,
        "unit": declared.unit,
        "key": str(declared.key).lower(),
        "example": json.dumps(declared.example),
    }
    # The Parquet writer enforces this; a nested item stays nullable because the flag is lost in
    # pickling.
    return pa.field(declared.name, type, nullable=declared.nullable, metadata=about)


def to_arrow(table: type, rows: Iterable[Any], **types: pa.DataType) -> pa.Table:
    """Turn rows (instances of `table`) into an Arrow table of its schema."""
    schema = arrow_schema(table, **types)
    return pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)
