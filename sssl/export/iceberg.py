"""What is published as tables of an Iceberg catalog: the very files that manifests name, registered
and not copied. The manifests stay the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io import load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO, parquet_files_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.snapshots import Snapshot as TableSnapshot

from schemas import TABLES, arrow_schema
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot, digest_of
from sssl.urls import local_path, uri_of, without_secrets

REGISTERED = ("catalog", "ledger", "segments", "scores", "labels", "rounds", "songs")
"""All but the tensors."""
PUBLICATION = "sssl.publication"
"""Property of a table's snapshots: which publication it shows. Iceberg commits one table at a time,
so readers of several compare it."""
_SCALARS_FROM = 5
"""Schema version from which on segments have no tensors."""
_PROPERTIES = {
    "format-version": "2",
    # Bounds of columns would keep ids and titles in Iceberg's metadata after a takedown.
    "write.metadata.metrics.default": "counts",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
}


_END_OF_PATH = frozenset("#?")


@dataclass(frozen=True)
class Registered:
    """What became of a table: its rows, how many files came and went, and how many older snapshots
    were dropped because a file of theirs is deleted."""

    table: str
    rows: int
    added: int
    removed: int
    dropped: int


def publication_id(snapshot: Snapshot) -> str:
    """Return a name for the generations that are published together."""
    refs = sorted(manifest.ref for manifest in snapshot.manifests)
    return digest_of(refs)[:12]


def register(
    store: Store, snapshot: Snapshot, catalog: Catalog, namespace: str
) -> list[Registered]:
    """Make the tables of a namespace show exactly the files of a publication, with one Iceberg
    snapshot per table; a publication that is there already is left as it is.

    Snapshots of earlier publications stay for time travel until one of their files is deleted, as a
    takedown or `sssl vacuum` does.

    Raises:
        StoreError: an earlier version made the segments, with tensors among their columns; or a
            folder has a name that PyIceberg reads as another.
    """
    for folder in (_uri_in(store, ""), catalog.properties.get("warehouse", "")):
        _check_name(catalog, folder)
    for manifest in snapshot.of("segments"):
        if manifest.schema_version < _SCALARS_FROM:
            raise StoreError(
                f"segments of schema version {manifest.schema_version} have log-mels among their"
                " columns, which Iceberg does not take: the next `sssl run` puts them apart"
            )
    catalog.create_namespace_if_not_exists(namespace)
    publication = publication_id(snapshot)
    done = []
    for name in REGISTERED:
        manifests = snapshot.of(name)
        rows = sum(manifest.rows for manifest in manifests)
        paths = []
        for manifest in manifests:
            files = sorted(manifest.for_readers.items())
            paths += [_uri_in(store, file.path) for _, file in files]
        table = catalog.create_table_if_not_exists(
            f"{namespace}.{name}", _schema(name), properties=_PROPERTIES
        )
        added, removed = _show(table, _schema(name), paths, publication)
        dropped = _drop_broken(table, set(paths))
        done.append(Registered(name, rows, added, removed, dropped))
    return done


def _check_name(catalog: Catalog, folder: str) -> None:
    """Refuse a folder with a sign in its name that ends a path for PyArrow's files, however it is
    written: they would be read, or written over, in a folder with a shorter name.

    Raises:
        StoreError: it has one.
    """
    signs = _END_OF_PATH.intersection(folder)
    if signs and isinstance(load_file_io(catalog.properties, folder), PyArrowFileIO):
        raise StoreError(
            f"{without_secrets(folder)}: PyIceberg takes {' and '.join(sorted(signs))} for the end"
            " of a path: give the folder another name"
        )


def _show(
    table: Table, schema: pa.Schema, paths: Sequence[str], publication: str
) -> tuple[int, int]:
    """Make a table show exactly some files in one snapshot; return how many came and went."""
    now = table.current_snapshot()
    if now is not None and _publication(now) == publication:
        return 0, 0
    shown: dict[str, DataFile] = {}
    for task in table.scan().plan_files():
        shown[task.file.file_path] = task.file
    wanted = set(paths)
    new = [path for path in paths if path not in shown]
    gone = [file for path, file in shown.items() if path not in wanted]
    with table.transaction() as transaction:
        with transaction.update_schema() as update:
            update.union_by_name(schema)  # a newer version's columns
        # Our files have no field ids: columns are found by name.
        names = transaction.table_metadata.schema().name_mapping.model_dump_json()
        transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: names})
        of_files = parquet_files_to_data_files(table.io, transaction.table_metadata, iter(new))
        with transaction.update_snapshot({PUBLICATION: publication}).overwrite() as overwrite:
            for file in gone:
                overwrite.delete_data_file(file)
            for file in of_files:
                overwrite.append_data_file(file)
    return len(new), len(gone)


def _drop_broken(table: Table, known: set[str]) -> int:
    """Drop older snapshots that name a deleted file; return how many. Files `known` are there."""
    found: dict[str, bool] = dict.fromkeys(known, True)

    def is_there(path: str) -> bool:
        if path not in found:
            found[path] = table.io.new_input(path).exists()
        return found[path]

    now = table.current_snapshot()
    earlier = [snapshot for snapshot in table.snapshots() if snapshot != now]
    broken = [
        snapshot.snapshot_id for snapshot in earlier if not _is_whole(table, snapshot, is_there)
    ]
    if broken:
        table.maintenance.expire_snapshots().by_ids(broken).commit()
    return len(broken)


def _is_whole(table: Table, snapshot: TableSnapshot, is_there: Callable[[str], bool]) -> bool:
    for manifest in snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            if not is_there(entry.data_file.file_path):
                return False
    return True


def _publication(snapshot: TableSnapshot) -> str | None:
    if snapshot.summary is None:
        return None
    return snapshot.summary.additional_properties.get(PUBLICATION)


def _schema(name: str) -> pa.Schema:
    """Return the columns of a table, all of which may be null: an older output may lack some."""
    fields = [field.with_nullable(True) for field in arrow_schema(TABLES[name])]
    return pa.schema(fields)


def _uri_in(store: Store, path: str) -> str:
    """Return the URI of a file of an output folder, which engines ask for where a path would do."""
    url = store.url(path)
    on_disk = local_path(url)
    return url if on_disk is None else uri_of(on_disk)
