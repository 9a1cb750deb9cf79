"""List the published tables.

sssl tables --output OUTPUT [--duckdb FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.terminal.flags import complain, parse, require_local
from sssl.errors import StoreError
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.sql import connect


@dataclass(frozen=True)
class Config:
    """List the published tables with their rows, files and digests."""

    output: str
    """Output folder."""
    duckdb: str | None = None
    """Also write a DuckDB database with the tables as views, for other clients. It shows what is
    published now."""

    def __post_init__(self) -> None:
        require_local("duckdb", self.duckdb)


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
        "select table_name, round, generation, rows, files, digest[:12] as digest, stage, model_id,"
        " created_at, round(bytes / 1e6, 2) as mb from manifests"
    )
    connect(store, snapshot).sql(query).show(max_rows=1000, max_width=200)
    return 0


def _write_database(store: Store, snapshot: Snapshot, path: Path) -> None:
    """Write a new database in the place of an older one."""
    with replacing(path) as temporary:
        connect(store, snapshot, str(temporary)).close()
