"""Register what is published in an Iceberg catalog.

sssl iceberg --output OUTPUT --catalog NAME [--namespace NAMESPACE]
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.terminal.console import console
from pipelines.terminal.flags import complain, parse
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.words import counted

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Register the published tables in an Iceberg catalog, for Spark, Trino, Snowflake and others:
    the files stay where they are, and one snapshot per table shows exactly what is published."""

    output: str
    """Output folder."""
    catalog: str
    """Name of the catalog in PyIceberg's configuration: `.pyiceberg.yaml`, or variables like
    `PYICEBERG_CATALOG__NAME__URI`."""
    namespace: str = "sssl"
    """Namespace of the tables; it is made if there is none."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "iceberg")
    # Here: what is wrong with flags can be said without the library.
    from pyiceberg.catalog import load_catalog

    from sssl.export.iceberg import publication_id, register

    try:
        store = Store.open(config.output)
        snapshot = store.latest()
        done = register(store, snapshot, load_catalog(config.catalog), config.namespace)
    except StoreError as error:
        complain(error)
        return 1
    # Errors of PyIceberg, and of the client of a catalog, have no common ancestor.
    except Exception as error:
        LOGGER.info("sssl iceberg failed", exc_info=True)
        complain(f"the Iceberg catalog {config.catalog} was not updated to the end: {error}")
        return 1
    for table in done:
        rows = counted(table.rows, "row")
        moved = f"{counted(table.added, 'file')} added, {table.removed} removed"
        snapshots = counted(table.dropped, "snapshot")
        dropped = f", {snapshots} of deleted files dropped" if table.dropped else ""
        console.print(f"{config.namespace}.{table.table}: {rows}; {moved}{dropped}")
    console.print(f"all tables show publication {publication_id(snapshot)}")
    return 0
