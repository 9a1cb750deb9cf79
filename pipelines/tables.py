"""List the published tables.

sssl tables --output OUTPUT
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.flags import complain, parse
from sssl.sql import connect
from sssl.store import Store, StoreError


@dataclass(frozen=True)
class Config:
    """List the published tables with their rows, files and digests."""

    output: str
    """Output folder."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "tables")
    try:
        store = Store.open(config.output)
    except StoreError as error:
        complain(error)
        return 1
    query = (
        "select table_name, round, generation, rows, files, digest[:12] as digest, stage, model_id, created_at, "
        "round(bytes / 1e6, 2) as mb from manifests"
    )
    connect(store, store.latest()).sql(query).show(max_rows=1000, max_width=200)
    return 0
