"""Query the published tables with DuckDB.

sssl sql --output OUTPUT "select ..." [--format table|csv|json]
"""

from __future__ import annotations

import csv
import json
import math
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, TextIO

import duckdb
import tyro

from pipelines.terminal.flags import complain, parse
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.sql import connect

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Config:
    """Query the published tables: catalog, ledger, segments, scores, labels, rounds, songs, manifests; suspects, the
    segments that look wrong; and accepted_labels and accepted_scores, which hold the rounds in use."""

    query: Annotated[str, tyro.conf.Positional]
    """SQL in DuckDB's dialect."""
    output: str
    """Output folder."""
    format: Literal["table", "csv", "json"] = "table"
    """How to print the result. csv and json have exact values; json has null for NaN and Base64 for bytes."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "sql")
    try:
        store = Store.open(config.output)
        published = store.latest()
        try:
            _answer(store, published, config)
        except (StoreError, duckdb.Error):
            if (now := store.latest()) == published:
                raise
            _answer(store, now, config)  # a takedown deleted files that were being read
    except (StoreError, duckdb.Error) as error:
        complain(error)
        return 1
    return 0


def _answer(store: Store, snapshot: Snapshot, config: Config) -> None:
    connection = connect(store, snapshot)
    result = connection.sql(config.query)
    if result is None:
        return  # a statement that answers nothing
    if config.format == "table":
        result.show(max_rows=1000, max_width=200)
    elif config.format == "csv":
        # As DuckDB writes its values, so that each reads back as the same. It finds `result` by its name.
        _write_csv(connection.execute("select columns(*)::varchar from result"), sys.stdout)
    else:
        _write_json(connection.execute("from result"), sys.stdout)


def _write_csv(answer: duckdb.DuckDBPyConnection, to: TextIO) -> None:
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow(_names(answer))
    while rows := answer.fetchmany(_ROWS_AT_ONCE):
        writer.writerows(rows)


def _write_json(answer: duckdb.DuckDBPyConnection, to: TextIO) -> None:
    """Write an array with an object for each row."""
    names, before = _names(answer), "["
    while rows := answer.fetchmany(_ROWS_AT_ONCE):
        for row in rows:
            named = dict(zip(names, map(_plain, row), strict=True))
            to.write(before + json.dumps(named, allow_nan=False, default=str))
            before = ",\n"
    to.write("[]\n" if before == "[" else "]\n")


def _names(answer: duckdb.DuckDBPyConnection) -> list[str]:
    return [column[0] for column in answer.description or ()]


def _plain(value: Any) -> Any:
    """Return what JSON has for a value: null for NaN and infinity, Base64 for bytes."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
