"""An output folder: part files written once, manifests that commit them, and the `latest` pointer
that readers follow.

Where they lie: sssl.store.layout.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import SCHEMA_VERSION, TABLES, conform, version_of
from schemas.records import RecordT, dump
from schemas.summaries import SUMMARIES
from sssl.errors import MissingManifest, StoreError
from sssl.runtime.cpu_time import CLOCK
from sssl.runtime.reading import READING
from sssl.store import layout
from sssl.store.layout import MARK, manifest_paths
from sssl.store.manifest import (
    Compacted,
    FolderMark,
    Made,
    Manifest,
    PartFile,
    Receipt,
    Snapshot,
    check_version,
    loaded,
    manifest_in,
    parts_digest,
)
from sssl.store.media.bucket import Bucket
from sssl.store.media.disk import Disk
from sssl.store.media.medium import Medium, names
from sssl.store.media.memory import Memory
from sssl.store.parquet import MEND, Readable, compacted_bytes, deal, part_bytes, rows_of
from sssl.store.pointer import LATEST, bytes_of_next, newest_pointer, pointer_bytes, published_refs
from sssl.store.seal import json_bytes, opened_json
from sssl.urls import local_path, without_secrets

_DELETED = "was deleted since its manifest was read, as by a takedown: run the same command again"


@dataclass(frozen=True)
class Store:
    """The output folder on a medium; who holds it publishes to `pointer`."""

    medium: Medium
    pointer: str = LATEST

    @classmethod
    def at(cls, root: str) -> Store:
        """Return the folder at `root`, a local path or any fsspec URL, whatever is there."""
        path = local_path(root)
        if path is not None:
            return cls(Disk(os.path.abspath(path)))
        return cls(Memory(root) if root.startswith("memory://") else Bucket(root))

    @classmethod
    def open(cls, root: str, *, create: bool = False) -> Store:
        """Open an output folder, made by `create` where there is none.

        Raises:
            StoreError: nothing there, not an output folder, one of another schema version, or no
                access.
            ImportError: its file system needs a package that is not installed.
        """
        store = cls.at(root)
        shown = without_secrets(root)
        try:
            if not store.exists(MARK):
                if not create:
                    raise StoreError(f"{shown} is not an output folder (no {MARK}): check --output")
                # A pointer to no table first: one that is missing later is one that was lost. One
                # that is there stays, with what is published: only the mark got lost.
                store.medium.create_if_absent(LATEST, pointer_bytes([]))
                store.write_record(MARK, FolderMark.of_today(SCHEMA_VERSION))
            version = store.read_record(MARK, FolderMark).schema_version
        except (OSError, ValueError) as error:  # also of a URL that no file system is known for
            why = str(error).replace(root, shown)
            raise StoreError(
                f"cannot use {shown}: {why}; check --output and what you may do there"
            ) from error
        check_version(version, shown)
        return store

    @contextmanager
    def hold(self, on_wait: Callable[[str], None]) -> Iterator[Store]:
        """Hold the folder until the block ends; yields it with the pointer to publish to.

        `on_wait` is told why it takes time, if it does.

        Raises:
            StoreError: another command holds it.
        """
        with self.medium.hold(on_wait) as pointer:
            yield replace(self, pointer=pointer)

    @property
    def root(self) -> str:
        return self.medium.root

    def url(self, path: str) -> str:
        """Return the full path or URL of a path relative to the folder."""
        return f"{self.root.rstrip('/')}/{path}"

    def exists(self, path: str) -> bool:
        return self.medium.exists(path)

    def names(self, folder: str) -> list[str]:
        """List the names of the files right in a folder, without what is being written at the
        moment."""
        return names(self.medium, folder)

    def find(self, folder: str) -> list[str]:
        """List the paths of all files below a folder, none if it does not exist."""
        return list(self.medium.list(folder))

    def delete(self, path: str) -> None:
        self.medium.delete(path)

    def read_bytes(self, path: str) -> bytes:
        READING.requests += 1
        return READING.of(self.medium.read, path, size=len)

    def write_bytes(self, path: str, data: bytes) -> None:
        self.medium.put(path, data)

    def read_json(self, path: str) -> Any:
        """Read a JSON file.

        Raises:
            StoreError: it is none.
        """
        return opened_json(self.read_bytes(path), self.url(path))

    def read_json_if_any(self, path: str) -> Any:
        """Return the content of a file, None if there is no such file."""
        with suppress(FileNotFoundError):
            return self.read_json(path)
        return None

    def read_json_if_whole(self, path: str) -> Any:
        """Return the content of a file, None if there is none, or none that can be read: what it
        says is not done."""
        with suppress(StoreError):
            return self.read_json_if_any(path)
        return None

    def write_json(self, path: str, value: Any) -> None:
        self.write_bytes(path, json_bytes(value))

    def read_record(self, path: str, kind: type[RecordT]) -> RecordT:
        """Read a record that is kept as JSON.

        Raises:
            StoreError: it is damaged; the message says in which field.
        """
        return loaded(kind, self.read_json(path), self.url(path))

    def read_record_if_any(self, path: str, kind: type[RecordT]) -> RecordT | None:
        """Read a record, None if there is no such file."""
        with suppress(FileNotFoundError):
            return self.read_record(path, kind)
        return None

    def read_record_if_whole(self, path: str, kind: type[RecordT]) -> RecordT | None:
        """Read a record, None if there is none, or none that can be read: what it says is not
        done."""
        with suppress(StoreError):
            return self.read_record_if_any(path, kind)
        return None

    def write_record(self, path: str, record: Any) -> None:
        self.write_json(path, dump(record))

    # Parts

    def write_part(self, table: str, generation: str, part: int, content: pa.Table) -> PartFile:
        """Write one part of a table as Parquet."""
        return self.write_file(
            layout.part_path(table, generation, part), part_bytes(content), len(content)
        )

    def compact(self, manifest: Manifest) -> Manifest:
        """Put the rows of a table whose parts only stages read into few files for readers, sorted
        by track; one that has such files keeps them.

        Where the published table has a file of the same parts, that one is copied. A generation
        that an earlier version began, with its parts where readers look, goes on as one of that
        version.
        """
        if manifest.table not in layout.COMPACTED or manifest.compacted or not manifest.files:
            return manifest
        if any(name.startswith("part-") for name in self.names(manifest.ref)):
            return replace(manifest, files=dict(self._where_readers_look(manifest)))
        refs = published_refs(self.medium, newest_pointer(self.medium))
        published = [
            self.manifest_if_whole(ref) for ref in refs if ref.partition("/")[0] == manifest.table
        ]
        alike = [
            m for m in published if m is not None and m.schema_version == manifest.schema_version
        ]
        known = {file.of: file for m in alike for file in m.compacted}
        before = next((m for m in alike if m.round == manifest.round), None)
        had = Readable.of(before.files, before.compacted) if before else Readable()
        compacted = []
        for number, parts in enumerate(deal(manifest.files)):
            of = parts_digest(parts)
            data = self._compacted_bytes(manifest.table, parts, known.get(of), had)
            rows = sum(file.rows for file in parts.values())
            file = self.write_file(layout.compacted_path(manifest.ref, number), data, rows)
            compacted.append(
                Compacted(**asdict(file), first_part=min(parts), last_part=max(parts), of=of)
            )
        return replace(manifest, compacted=tuple(compacted))

    def _compacted_bytes(
        self, table: str, parts: Mapping[int, PartFile], known: PartFile | None, had: Readable
    ) -> bytes:
        """Return the file of some parts: the one that is known, if it is as it was written, else
        made anew."""
        if known is not None:
            with suppress(StoreError):
                return self.read_file(known)
        return compacted_bytes(table, rows_of(parts, had, self))

    def _where_readers_look(self, manifest: Manifest) -> Iterator[tuple[int, PartFile]]:
        """Yield each part, copied to where earlier versions had it."""
        for part, file in manifest.files.items():
            is_hidden = file.path == layout.part_path(manifest.table, manifest.generation, part)
            path = f"{manifest.ref}/part-{part:05d}.parquet"
            if is_hidden:
                file = self.write_file(path, self.read_file(file), file.rows)
            yield part, file

    def write_file(self, path: str, data: bytes, rows: int) -> PartFile:
        """Write a large file. To wait for the disk at each of them takes longer than some stages
        do: the commit of their table does, and a part that a power failure cuts short is done
        again."""
        self.medium.put(path, data, durable=False)
        return PartFile(path, rows, len(data), hashlib.sha256(data).hexdigest())

    def open_file(self, path: str) -> BinaryIO:
        """Open a file to read pieces of it."""
        return READING.metered(self.medium.open(path))

    def read_part(self, file: PartFile, columns: list[str] | None = None) -> pa.Table:
        """Read a part as rows of today, whole or some columns of it; the checksums of its pages are
        compared.

        Raises:
            StoreError: it is not there, or damaged, or of another schema version.
        """
        return conform(self.read_as_written(file, columns), columns)

    def read_as_written(self, file: PartFile, columns: list[str] | None = None) -> pa.Table:
        """Read a part likewise, with those of the columns that its schema version has.

        Raises:
            StoreError: likewise.
        """
        try:
            with self.open_file(file.path) as source:
                parquet = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
                check_version(version_of(parquet.schema_arrow), file.path)
                if columns is None:
                    there = None
                else:
                    there = [name for name in columns if name in parquet.schema_arrow.names]
                return parquet.read(columns=there)
        except FileNotFoundError:
            raise self._lost(file) from None
        except (pa.ArrowException, ValueError) as error:
            raise self._damaged(file, str(error).splitlines()[0]) from error
        except OSError as error:
            if error.errno is not None:
                raise  # of the storage, not of the file
            raise self._damaged(file, str(error).splitlines()[0]) from error

    def read_table(self, manifest: Manifest, columns: list[str] | None = None) -> pa.Table:
        """Read a whole table; for the small ones."""
        parts = [self.read_part(file, columns) for _, file in sorted(manifest.files.items())]
        try:
            return pa.concat_tables(parts)
        except pa.ArrowInvalid as error:
            said = str(error).splitlines()[0]
            raise StoreError(
                f"files of {self.url(manifest.ref)} do not fit together: {said}; {MEND}"
            ) from error

    def iter_parts(
        self, manifest: Manifest, columns: list[str] | None = None
    ) -> Iterator[tuple[int, pa.Table]]:
        for part, file in sorted(manifest.files.items()):
            yield part, self.read_part(file, columns)

    # Receipts

    def write_receipt(self, ref: str, receipt: Receipt) -> None:
        self.write_record(f"{layout.receipts_folder(ref)}/{receipt.part:05d}.json", receipt)

    def receipt(self, ref: str, part: int) -> Receipt | None:
        """Return the receipt of a part that is done, None while it is not."""
        found = (
            self.read_record_if_whole(path, Receipt) for path in layout.receipt_paths(ref, part)
        )
        receipt = next(filter(None, found), None)
        if receipt is None or not all(map(self.is_as_written, receipt.files.values())):
            return None
        return receipt

    def is_as_written(self, file: PartFile) -> bool:
        """Whether a file is there and its content has the digest that was noted when it was
        written."""
        try:
            return self.medium.checks_content or self.digest(file.path) == file.sha256
        except FileNotFoundError:
            return False

    def digest(self, path: str) -> str:
        """Return the SHA-256 of a file's content, which is read in pieces."""
        with self.open_file(path) as source:
            return hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]  # has readinto

    def read_file(self, file: PartFile) -> bytes:
        """Read a whole file.

        Raises:
            StoreError: it is not there, or not as it was written.
        """
        try:
            data = self.read_bytes(file.path)
        except FileNotFoundError:
            raise self._lost(file) from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise self._damaged(file, "its SHA-256 is not that of its manifest")
        return data

    def _lost(self, file: PartFile) -> StoreError:
        url = self.url(file.path)
        committed = map(self.manifest_if_whole, self.committed_refs())
        if any(manifest is not None and file in manifest.all_files for manifest in committed):
            return StoreError(f"{url} is not there, though a manifest names it; {MEND}")
        return StoreError(f"{url} {_DELETED}")

    def _damaged(self, file: PartFile, why: str) -> StoreError:
        return StoreError(f"{self.url(file.path)} is damaged: {why}; {MEND}")

    # Commits

    def manifest(self, table: str, generation: str) -> Manifest | None:
        """Return the manifest of a committed generation, None if it is not committed."""
        for path in manifest_paths(f"{table}/{generation}"):
            with suppress(FileNotFoundError):
                return manifest_in(self.read_bytes(path), path, self.medium)
        return None

    def named(self, ref: str) -> Manifest:
        """Return the manifest of a generation that something names: the pointer, or a table made
        from it.

        Raises:
            StoreError: it is not there; an answer without it would be wrong.
        """
        manifest = self.manifest(*ref.split("/"))
        if manifest is None:
            raise MissingManifest(
                f"{self.url(manifest_paths(ref)[0])} is not there, though it is named as committed:"
                " was the folder changed by hand, or copied in part? Restore it from a backup"
            )
        return manifest

    def manifest_if_whole(self, ref: str) -> Manifest | None:
        """Return the manifest of a generation, None if there is none, or none that can be read with
        its list of files."""
        with suppress(StoreError):
            manifest = self.manifest(*ref.split("/"))
            if manifest is not None and manifest.has_list:
                return manifest
        return None

    def committed_refs(self) -> list[str]:
        """List all committed generations, published or not."""
        paths = (path for table in sorted({*TABLES, *SUMMARIES}) for path in self.find(table))
        return [ref for ref in map(layout.ref_of_manifest, paths) if ref is not None]

    def commit_once(self, planned: Manifest, make: Callable[[Manifest], Made]) -> Manifest:
        """Return the committed generation of a plan; where there is none, make it and commit it.

        `make` is told the plan, writes the files of its generation and says what they are. Their
        CPU time is noted in the summary, as `cpu_s`.
        """
        committed = self.committed(planned)
        if committed is not None:
            return committed
        CLOCK.lap()  # what went before was not for this table
        files, summary, knows_cpu_s, compacted = make(planned)
        made = self.compact(replace(planned, files=files, compacted=compacted))
        if not knows_cpu_s:
            summary = {**summary, "cpu_s": CLOCK.lap()}
        return self.commit(replace(made, summary=summary))

    def manifest_path(self, ref: str) -> str:
        """Return the path of the manifest of a committed generation."""
        paths = manifest_paths(ref)
        return next(filter(self.exists, paths), paths[0])

    def committed(self, planned: Manifest) -> Manifest | None:
        """Return the manifest of a plan that was carried out, None if it was not, or if a file of
        it, or their list, is lost since."""
        found = self.manifest(planned.table, planned.generation)
        if found is not None and found.has_list and self.is_there(found):
            return found
        return None

    def is_there(self, manifest: Manifest) -> bool:
        return not self.lost(manifest)

    def lost(self, manifest: Manifest) -> set[str]:
        """Return the paths of a table's files that are not there in their size; `sssl verify` looks
        into them."""
        sizes: dict[str, int] = {}
        for folder in {file.path.rsplit("/", 1)[0] for file in manifest.all_files}:
            sizes |= self.medium.sizes(folder)
        return {file.path for file in manifest.all_files if sizes.get(file.path) != file.bytes}

    def commit(self, manifest: Manifest) -> Manifest:
        """Commit a table: from here on readers may see it. A second commit of the same content
        changes nothing.

        It is dated now, unless it has a date as its rows are older.
        """
        committed = self.committed(manifest)
        if committed is not None and committed.digest == manifest.digest:
            return committed
        now = datetime.now(UTC).isoformat(timespec="seconds")
        dated = replace(manifest, created_at=manifest.created_at or now)
        stamped = json_bytes(dated.with_list(self.medium).as_json())
        mark = self.read_record_if_whole(MARK, FolderMark)
        if mark is not None and (mark.schema_version or 0) < SCHEMA_VERSION:
            # So that an earlier program, which finds no manifests of today, refuses the folder.
            self.write_record(MARK, FolderMark.of_today(mark.begun_at))
        path = self.manifest_path(manifest.ref)
        self.medium.settle()
        if not self.medium.create_if_absent(path, stamped):
            known = self.manifest_if_whole(manifest.ref)
            if known is not None and known.has_files_of(manifest) and self.is_there(known):
                return known  # of another worker, which made the same
            # Files that the one there names were lost, and are made again.
            self.write_bytes(path, stamped)
        return manifest_in(stamped, path, self.medium)

    def latest(self) -> Snapshot:
        """Return the published snapshot, empty before the first one.

        Raises:
            StoreError: a manifest that the pointer names is not there.
        """
        try:
            return self._published()
        except MissingManifest:
            # A takedown may have published others, and deleted these, since the pointer was read.
            return self._published()

    @property
    def has_pointer(self) -> bool:
        """Whether there is a pointer, if only to no table."""
        return self.exists(newest_pointer(self.medium))

    def _published(self) -> Snapshot:
        refs = published_refs(self.medium, newest_pointer(self.medium))
        return Snapshot(tuple(map(self.named, refs)))

    def publish(self, snapshot: Snapshot) -> None:
        """Flip the `latest` pointer: readers see exactly these generations.

        Raises:
            StoreError: another command took the folder over; readers see what that one publishes.
        """
        refs = [manifest.ref for manifest in snapshot.manifests]
        self.medium.settle()
        self.medium.put(self.pointer, bytes_of_next(self.medium, refs))
        if newest_pointer(self.medium) != self.pointer:
            raise StoreError(
                f"another sssl command took {self.root} over: this one gave no sign for too long"
            )
