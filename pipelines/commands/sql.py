"""Query the published tables with DuckDB.

sssl sql --output OUTPUT "select ..." [--format table|csv|json]
"""

from __future__ import annotations

import csv
import json
import math
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, TextIO

import duckdb
import tyro

from pipelines.terminal.flags import complain, parse
from sssl.errors import StoreError
from sssl.store.publications import Published, open_published
from sssl.store.sql import connect

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Config:
    """Query the published tables: catalog, ledger, segments, scores, labels, rounds, songs; the
    views song_labels, song_probabilities, segment_probabilities, classes, suspects, song_changes,
    models, publications, takedowns, manifests and files; and accepted_labels and accepted_scores,
    which hold the rounds in use."""

    query: Annotated[str, tyro.conf.Positional]
    """SQL in DuckDB's dialect."""
    output: str
    """Output folder; `OUTPUT@before` is what it published before."""
    format: Literal["table", "csv", "json"] = "table"
    """How to print the result. csv and json have exact values; json has null for NaN and Base64 for
    bytes."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "sql")
    try:
        published = open_published(config.output)
        try:
            write = _answer(published, config)
        except (StoreError, duckdb.Error):
            now = open_published(config.output)
            if now.snapshot == published.snapshot:
                raise
            write = _answer(now, config)  # a takedown deleted files that were being read
        write()
    except (StoreError, duckdb.Error) as error:
        complain(error)
        return 1
    return 0


def _answer(published: Published, config: Config) -> Callable[[], None]:
    """Run the query up to its first rows; return what writes the answer, of which nothing is
    written before."""
    connection = connect(published.store, published.snapshot)
    result = connection.sql(config.query)
    if result is None:
        return lambda: None  # a statement that answers nothing
    if config.format == "table":
        result.show(max_rows=1000, max_width=200)
        return lambda: None
    if config.format == "csv":
        # As DuckDB writes its values, so that each reads back as the same. It finds `result` by its
        # name.
        return partial(
            _write_csv,
            _Rows(connection.execute("select columns(*)::varchar from result")),
            sys.stdout,
        )
    return partial(_write_json, _Rows(connection.execute("from result")), sys.stdout)


class _Rows:
    """The rows of an answer, the first of which are there already."""

    def __init__(self, answer: duckdb.DuckDBPyConnection) -> None:
        self.names = [column[0] for column in answer.description or ()]
        self._answer = answer
        self._first = answer.fetchmany(_ROWS_AT_ONCE)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        rows = self._first
        while rows:
            yield from rows
            rows = self._answer.fetchmany(_ROWS_AT_ONCE)


def _write_csv(rows: _Rows, to: TextIO) -> None:
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow(rows.names)
    writer.writerows(rows)


def _write_json(rows: _Rows, to: TextIO) -> None:
    """Write an array with an object for each row."""
    before = "["
    for row in rows:
        named = dict(zip(rows.names, map(_plain, row), strict=True))
        to.write(before + json.dumps(named, allow_nan=False, default=str))
        before = ",\n"
    to.write("[]\n" if before == "[" else "]\n")


def _plain(value: Any) -> Any:
    """Return what JSON has for a value: null for NaN and infinity, Base64 for bytes, text for
    decimals with more digits than a double."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        number = float(value)
        if Decimal(repr(number)) == value:
            return number
        return str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
