"""List the published tables.

sssl tables --output OUTPUT [--duckdb FILE]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.flags import complain, parse
from sssl.sql import connect
from sssl.store import Snapshot, Store, StoreError


@dataclass(frozen=True)
class Config:
    """List the published tables with their rows, files and digests."""

    output: str
    """Output folder."""
    duckdb: str | None = None
    """Also write a DuckDB database with the tables as views, for other clients. It shows what is published now."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "tables")
    try:
        store = Store.open(config.output)
        snapshot = store.latest()
        if config.duckdb:
            _write_database(store, snapshot, Path(config.duckdb))
    except (StoreError, OSError) as error:
        complain(error)
        return 1
    query = (
        "select table_name, round, generation, rows, files, digest[:12] as digest, stage, model_id, created_at, "
        "round(bytes / 1e6, 2) as mb from manifests"
    )
    connect(store, snapshot).sql(query).show(max_rows=1000, max_width=200)
    return 0


def _write_database(store: Store, snapshot: Snapshot, path: Path) -> None:
    """Write a new database in the place of an older one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    connect(store, snapshot, str(temporary)).close()
    os.replace(temporary, path)
