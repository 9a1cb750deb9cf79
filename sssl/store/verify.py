"""Checking an output folder against the digests that were noted when it was written, and making
room for what can be made again.

Nothing that was published is made up for here. A damaged file is set aside, hidden beside its
place, and the command that made it finds it missing and makes it again. What nobody can make again
is named.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from schemas import SCHEMA_VERSION, TABLES
from schemas.summaries import SUMMARIES
from sssl.errors import StoreError
from sssl.store import seal
from sssl.store.folder import Store
from sssl.store.layout import (
    COUNTS,
    MARK,
    PARTS,
    RECEIPTS,
    WORK,
    is_receipt,
    manifest_paths,
    ref_of_manifest,
)
from sssl.store.manifest import FolderMark, Manifest, PartFile, Receipt, Snapshot, check_version
from sssl.store.pointer import LATEST, newest_pointer, published_refs

RECORDS = (
    "takedown.json",
    "report.json",
    "tracking/*.json",
    "models/*/member*.json",
    "_parts/labels/*/fit.json",
    "_parts/*/*/vacuumed.json",
)
_CANNOT = {
    "takedown.json": "restore it from a backup, or give all ids to `sssl takedown` once more"
}
SET_ASIDE = ".damaged"
"""At the end of a name, so that no pattern for Parquet files takes it for one."""
_AGAIN = "the same `sssl run` makes it again"


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written: what is wrong with it, and what to do about it."""

    path: str
    what: str
    remedy: str
    can_be_remade: bool = True

    def __str__(self) -> str:
        return f"{self.path} {self.what}: {self.remedy}"


@dataclass
class Verified:
    """What was looked at, and what was found."""

    files: int = 0
    bytes: int = 0
    damages: list[Damage] = field(default_factory=list)


def verify(store: Store, on_file: Callable[[], None] = lambda: None) -> Verified:
    """Read every file of the tables, published or not, and every record, and compare digests.

    Raises:
        StoreError: it is not an output folder, or a later version of the program wrote to it.
    """
    found = Verified()
    # Without what is hidden: files that are being written, and those that were set aside.
    sizes = {
        path: size
        for path, size in _sizes(store).items()
        if not path.rsplit("/", 1)[-1].startswith(".")
    }
    if MARK not in sizes and not any(map(ref_of_manifest, sizes)):
        raise StoreError(f"{store.root} is not an output folder (no {MARK}): check --output")
    _refuse_later_versions(store, sizes)
    for damage in _damages(store, sizes):
        if damage is None:
            found.files += 1
            on_file()
        else:
            found.damages.append(damage)
    found.bytes = sum(sizes.values())
    return found


def _refuse_later_versions(store: Store, sizes: Mapping[str, int]) -> None:
    """Refuse a folder that a later version wrote to: what we cannot read of it is no damage.

    Raises:
        StoreError: so it was.
    """
    for path in sizes:
        if path == MARK or ref_of_manifest(path):
            record = store.read_json_if_whole(path)
            version = record.get("schema_version") if isinstance(record, dict) else None
            if isinstance(version, int) and version > SCHEMA_VERSION:
                check_version(version, store.url(path))


def repair(store: Store, damages: list[Damage]) -> Snapshot:
    """Set aside what is damaged, write the mark and the pointer anew, and return what is published
    from then on.

    A table whose manifest is lost is published no more, nor is what was made from it, until they
    are made again.
    """
    pointer = newest_pointer(store.medium)
    for damage in damages:
        if damage.can_be_remade and store.exists(damage.path):
            _set_aside(store, damage.path)
    if not store.exists(MARK):
        store.write_record(MARK, FolderMark.of_today(begun_at=None))
    refs = [ref for ref in store.committed_refs() if ref.partition("/")[0] not in WORK]
    readable = {m.ref: m for m in map(store.manifest_if_whole, refs) if m is not None}
    if not store.exists(pointer):
        snapshot = _newest(readable.values())
    else:
        snapshot = _consistent(
            [readable[ref] for ref in published_refs(store.medium, pointer) if ref in readable]
        )
    if not store.exists(pointer) or len(snapshot.manifests) < len(
        published_refs(store.medium, pointer)
    ):
        store.publish(snapshot)
    return snapshot


def _damages(store: Store, sizes: Mapping[str, int]) -> Iterator[Damage | None]:
    """Yield what is damaged, None for each file that is whole."""
    yield (
        _of_json(store, MARK, "it is written anew")
        if MARK in sizes
        else _lost(MARK, "it is written anew")
    )
    pointer = newest_pointer(store.medium)
    named: list[str] = []
    if pointer in sizes:
        try:
            named = published_refs(store.medium, pointer)
            yield None
        except StoreError:
            yield Damage(
                pointer, "is damaged", "it is made anew from the newest tables that belong together"
            )
    elif any(map(ref_of_manifest, sizes)):
        yield _lost(pointer, "it is made anew from the newest tables that belong together")
    for path in sorted(sizes):
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in RECORDS):
            remedy = _CANNOT.get(path)
            yield _of_json(store, path, remedy or "it is begun anew", can_be_remade=remedy is None)
    yield from _of_tables(store, sizes, named)


def _of_tables(store: Store, sizes: Mapping[str, int], named: list[str]) -> Iterator[Damage | None]:
    """Check manifests, receipts, checkpoints and the files that they name, each once."""
    for ref in named:
        if sizes.keys().isdisjoint(manifest_paths(ref)):
            yield _lost(manifest_paths(ref)[0], _AGAIN)
    files: dict[str, PartFile] = {}
    for path in sorted(sizes):
        if own_ref := ref_of_manifest(path):
            manifest = store.manifest_if_whole(own_ref)
            yield None if manifest else Damage(path, "is damaged", _AGAIN)
            files |= {file.path: file for file in manifest.all_files} if manifest else {}
    for path in sorted(sizes):
        if is_receipt(path):
            receipt = store.read_record_if_whole(path, Receipt)
            yield (
                None
                if receipt
                else Damage(path, "is damaged", "its part is done again if it is asked for")
            )
            own = {file.path: file for file in receipt.files.values()} if receipt else {}
            files = own | files  # manifests count: a part may have been written again since
        elif path.endswith((".pt", COUNTS)):
            whole = seal.opened(store.read_bytes(path)) is not None
            if path.endswith(".pt"):
                remedy = "its member is trained again"
            else:
                remedy = "receipts are read instead"
            yield None if whole else Damage(path, "is damaged", f"{remedy} if it is asked for")
    for _, file in sorted(files.items()):
        yield _of_part(store, sizes, file)


def _of_part(store: Store, sizes: Mapping[str, int], file: PartFile) -> Damage | None:
    if file.path not in sizes:
        return _lost(file.path, _AGAIN)
    if sizes[file.path] != file.bytes:
        return Damage(file.path, f"has {sizes[file.path]} bytes instead of {file.bytes}", _AGAIN)
    if store.digest(file.path) != file.sha256:
        return Damage(file.path, "is damaged (its SHA-256 is another)", _AGAIN)
    return None


def _of_json(store: Store, path: str, remedy: str, *, can_be_remade: bool = True) -> Damage | None:
    try:
        store.read_json(path)
    except StoreError:
        return Damage(path, "is damaged", remedy, can_be_remade)
    return None


def _lost(path: str, remedy: str) -> Damage:
    return Damage(path, "is lost", remedy)


def _sizes(store: Store) -> dict[str, int]:
    """Return the bytes by path of what we check; a folder may hold other things, music too."""
    folders = sorted({PARTS, RECEIPTS, *TABLES, *SUMMARIES, "tracking", "latest"})
    found = {path: size for folder in folders for path, size in store.medium.sizes(folder).items()}
    single = (MARK, LATEST, *(name for name in RECORDS if "/" not in name))
    return found | {path: len(store.read_bytes(path)) for path in single if store.exists(path)}


def _set_aside(store: Store, path: str) -> None:
    """Move a file out of the way, beside its place and hidden; a takedown deletes it there."""
    folder, slash, name = path.rpartition("/")
    store.write_bytes(f"{folder}{slash}.{name}{SET_ASIDE}", store.read_bytes(path))
    store.delete(path)


def _consistent(manifests: list[Manifest]) -> Snapshot:
    """Leave out what was made from a table that is not there."""
    kept = manifests
    while True:
        refs = {m.ref for m in kept}
        having = [m for m in kept if refs.issuperset(m.parents)]
        if len(having) == len(kept):
            return Snapshot(tuple(kept))
        kept = having


def _newest(manifests: Collection[Manifest]) -> Snapshot:
    """Put together what was published last: in the order of commits each table takes its
    predecessor's place."""
    snapshot = Snapshot()
    waiting = sorted(manifests, key=lambda m: (m.created_at, m.table, m.round or 0))
    while True:
        known = {m.ref for m in snapshot.manifests}
        ready = next((m for m in waiting if known.issuperset(m.parents)), None)
        if ready is None:
            return snapshot
        waiting.remove(ready)
        snapshot = snapshot.add(ready)
