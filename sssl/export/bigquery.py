"""What is published as one script for BigQuery: all tables loaded aside, counted, and swapped in
one transaction."""

from __future__ import annotations

from typing import Any

from schemas import TABLES, columns, table_name
from schemas.bigquery import columns_of, create_statements, literal, load_statement
from schemas.views import ClassRow, ManifestRow
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.sql import class_rows, manifest_row

LOADED = ("catalog", "ledger", "scores", "labels", "rounds", "songs")
"""All but the large ones."""


def script(store: Store, snapshot: Snapshot, dataset: str) -> str:
    """Return statements after which the dataset has exactly the rows of a snapshot; if one of them
    fails, those of before.

    Each table is read from the very files that manifests name, never from a folder: files of parts
    that did not change lie in folders of earlier generations.
    """
    loads = []
    swaps = []
    for name in LOADED:
        swaps.append(_delete(f"{dataset}.{name}"))
        manifests = snapshot.of(name)
        uris = []
        for manifest in manifests:
            files = sorted(manifest.for_readers.items())
            uris += [store.url(file.path) for _, file in files]
        if uris:
            staging = f"new_{name}"
            rows = sum(manifest.rows for manifest in manifests)
            loads.append(load_statement(staging, TABLES[name], uris))
            loads.append(_counted(name, staging, rows))
            own = columns_of(TABLES[name])
            swaps.append(f"INSERT INTO {dataset}.{name} ({own}) SELECT {own} FROM {staging};\n")
    manifest_rows = [manifest_row(store, manifest) for manifest in snapshot.manifests]
    statements = create_statements(dataset)
    statements += loads
    statements.append("BEGIN TRANSACTION;\n")
    statements += swaps
    statements += _filled(dataset, ClassRow, class_rows(snapshot))
    statements += _filled(dataset, ManifestRow, manifest_rows)
    statements.append("COMMIT TRANSACTION;\n")
    return "\n".join(statements)


def _counted(name: str, staging: str, rows: int) -> str:
    said = literal(f"{name}: BigQuery does not read the {rows} rows that the manifests name")
    return f"ASSERT (SELECT COUNT(*) FROM {staging}) = {rows} AS {said};\n"


def _delete(table: str) -> str:
    return f"DELETE FROM {table} WHERE TRUE;\n"


def _filled(dataset: str, view: type, rows: list[dict[str, Any]]) -> list[str]:
    """Return statements that give a table of schemas/views.py its rows, which no file holds."""
    table = f"{dataset}.{table_name(view)}"
    statements = [_delete(table)]
    values = []
    for row in rows:
        literals = [literal(row[column.name]) for column in columns(view)]
        values.append(f"({', '.join(literals)})")
    if values:
        listed = ",\n  ".join(values)
        statements.append(f"INSERT INTO {table} ({columns_of(view)}) VALUES\n  {listed};\n")
    return statements
