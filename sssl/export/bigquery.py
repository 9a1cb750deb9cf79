"""What is published as one script for BigQuery: all tables loaded aside, counted, and swapped in
one transaction."""

from __future__ import annotations

from schemas import TABLES
from schemas.bigquery import columns_of, create_statements, literal, load_statement
from schemas.views import ManifestRow
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.sql import manifest_row

LOADED = ("catalog", "ledger", "scores", "labels", "rounds", "songs")
"""All but the large ones."""
_NEXT = ",\n  "


def script(store: Store, snapshot: Snapshot, dataset: str) -> str:
    """Return statements after which the dataset has exactly the rows of a snapshot; if one of them
    fails, those of before.

    Each table is read from the very files that manifests name, never from a folder: files of parts
    that did not change lie in folders of earlier generations.
    """
    loads = []
    swaps = []
    for name in LOADED:
        manifests = snapshot.of(name)
        staging = f"new_{name}"
        swaps.append(f"DELETE FROM {dataset}.{name} WHERE TRUE;\n")
        uris = [
            store.url(file.path) for m in manifests for _, file in sorted(m.for_readers.items())
        ]
        if uris:
            rows = sum(manifest.rows for manifest in manifests)
            loads.append(load_statement(staging, TABLES[name], uris))
            loads.append(_counted(name, staging, rows))
            own = columns_of(TABLES[name])
            swaps.append(f"INSERT INTO {dataset}.{name} ({own}) SELECT {own} FROM {staging};\n")
    return "\n".join(
        [
            *create_statements(dataset),
            *loads,
            "BEGIN TRANSACTION;\n",
            *swaps,
            *_manifests(store, snapshot, dataset),
            "COMMIT TRANSACTION;\n",
        ]
    )


def _counted(name: str, staging: str, rows: int) -> str:
    said = literal(f"{name}: BigQuery does not read the {rows} rows that the manifests name")
    return f"ASSERT (SELECT COUNT(*) FROM {staging}) = {rows} AS {said};\n"


def _manifests(store: Store, snapshot: Snapshot, dataset: str) -> list[str]:
    table = f"{dataset}.{ManifestRow.NAME}"
    names = [name.strip("`") for name in columns_of(ManifestRow).split(", ")]
    values = [_row(store, manifest, names) for manifest in snapshot.manifests]
    insert = f"INSERT INTO {table} ({columns_of(ManifestRow)}) VALUES\n  {_NEXT.join(values)};\n"
    return [f"DELETE FROM {table} WHERE TRUE;\n", *([insert] if values else [])]


def _row(store: Store, manifest: Manifest, names: list[str]) -> str:
    row = manifest_row(store, manifest)
    return f"({', '.join(literal(row[name]) for name in names)})"
