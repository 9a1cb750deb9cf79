"""What an output folder says of its tables: files, receipts, manifests, and snapshots of what
belongs together.

A generation is named after what made it (stage, config, parents), so work that was stopped is found
again by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa

from schemas import READABLE_VERSIONS, SCHEMA_VERSION
from schemas.records import RecordError, RecordT, dump, later, load
from schemas.summaries import CatalogSummary, of_today
from sssl.errors import StoreError
from sssl.store.layout import file_list_path
from sssl.store.media.medium import Medium
from sssl.store.parquet import Compacted as Compacted
from sssl.store.parquet import FileList, ListedFiles, in_order, list_bytes
from sssl.store.parquet import PartFile as PartFile
from sssl.store.seal import opened_json
from sssl.version import __version__

_NAMES = 2
"""Part of each generation's name: the schema version of when names began to outlive it. It stays as
it is, so that a release renames nothing."""


MOST_IN_JSON = 4096
"""Parts whose files a manifest has in itself, 700 kB of JSON; those of more are a list in
Parquet, of 40 bytes a part."""
_LISTED = "listed"

KEPT_FROM = "kept_from"
"""In the config of a model that labels although labelled tracks changed: the generation that was
trained."""

TAKEN_DOWN = "taken_down"
"""In the summary of what was learned: how many of the labelled tracks that it learned from were
taken down since."""


@dataclass(frozen=True)
class Written:
    """The schema version that a JSON file was written under."""

    schema_version: int | None = None


@dataclass(frozen=True)
class FolderMark(Written):
    """`sssl.json`, which makes a folder an output folder."""

    made_by: str = ""
    begun_at: int | None = later(None, neutral=None)
    """Schema version that the folder was begun at; None if at one before 9."""

    @classmethod
    def of_today(cls, begun_at: int | None) -> FolderMark:
        """Return the mark that this version writes."""
        return cls(SCHEMA_VERSION, f"sssl {__version__}", begun_at)


@dataclass(frozen=True)
class Receipt:
    """Proof that a part is done: its files by table, and what was counted; counts add up over
    parts."""

    part: int
    files: dict[str, PartFile]
    counts: dict[str, Any] = field(default_factory=dict)
    """The summary of the part (schemas.summaries) as JSON."""


@dataclass(frozen=True)
class Manifest:
    """What a committed table consists of and what it was made from; as a plan it has no files
    yet."""

    table: str
    generation: str
    stage: str
    round: int | None
    config: dict[str, Any]
    parents: tuple[str, ...]
    files: Mapping[int, PartFile]
    """By part: what stages read and write."""
    summary: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    code_version: str = __version__
    created_at: str = ""
    compacted: tuple[Compacted, ...] = ()
    """The same rows in files made for readers, if there are any."""

    @classmethod
    def plan(
        cls,
        table: str,
        stage: str,
        config: dict[str, Any],
        inputs: Iterable[Manifest],
        round: int | None = None,
    ) -> Manifest:
        """Plan a table that a stage makes from others; its generation is named after everything
        that shapes it."""
        parents = tuple(inputs)
        return cls(
            table=table,
            generation=generation_name(stage, round, config, parents),
            stage=stage,
            round=round,
            config=config,
            parents=tuple(sorted(parent.ref for parent in parents)),
            files={},
            summary={},
        )

    @property
    def ref(self) -> str:
        """Name of this table's generation, as children list it among their parents."""
        return f"{self.table}/{self.generation}"

    @property
    def for_readers(self) -> Mapping[int, PartFile]:
        """The files that other programs read, by their first parts: the compacted ones, if there
        are any."""
        return {file.first_part: file for file in self.compacted} or self.files

    @property
    def all_files(self) -> Iterator[PartFile]:
        """The files of parts and those made for readers."""
        return chain(self.files.values(), self.compacted)

    @property
    def paths(self) -> pa.Array:
        """The paths of the files of parts and of those made for readers, as one column."""
        if isinstance(self.files, ListedFiles):
            of_parts = self.files.paths
        else:
            of_parts = pa.array([file.path for file in self.files.values()], pa.string())
        compacted = pa.array([file.path for file in self.compacted], pa.string())
        return pa.concat_arrays([of_parts, compacted])

    def forget_files(self) -> None:
        """Give back the memory of a list of files; it is read again when one is asked for."""
        if isinstance(self.files, ListedFiles):
            self.files.forget()

    @property
    def listed(self) -> FileList | None:
        """The list that its files are read from, None where the manifest has them in itself."""
        return self.files.file_list if isinstance(self.files, ListedFiles) else None

    @property
    def has_list(self) -> bool:
        """Whether it can be said which files there are: they are in the manifest, or in a list that
        is there as it was written."""
        with suppress(StoreError):
            if self.listed is not None:
                next(iter(self.files))
            return True
        return False

    def has_files_of(self, other: Manifest) -> bool:
        """Whether both consist of the same files."""
        return self.digest == other.digest and self.compacted == other.compacted

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.all_files)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files.values())

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of all processes of the stage; its tables share them. None where they were
        not measured."""
        return self.summary.get("cpu_s")

    def settings(self, kind: type[RecordT], name: str | None = None) -> RecordT:
        """Read the config that the table was made with, or the part of it under a name.

        Raises:
            StoreError: it is damaged; the message says in which field.
        """
        values = self.config if name is None else self.config.get(name, {})
        return loaded(kind, values, f"the manifest of {self.ref}")

    def about(self, kind: type[RecordT], classes: Sequence[str] = ()) -> RecordT:
        """Read from the summary what a record has of it; older ones that count pairs of classes
        need to know these.

        Raises:
            StoreError: it is damaged; the message says in which field.
        """
        return loaded(kind, of_today(self.summary, classes), f"the manifest of {self.ref}")

    @property
    def digest(self) -> str:
        """SHA-256 over the full content of all parts, in their order."""
        return parts_digest(self.files) if self.listed is None else self.listed.of

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as its file has it; a list of files stands in the place of these,
        where no earlier program takes it for one."""
        if self.listed is None:
            return dump(self)
        return dump(replace(self, files={})) | {"files": {_LISTED: dump(self.listed)}}

    def with_list(self, medium: Medium) -> Manifest:
        """Write the files of many parts as a list, under a name that no other list has."""
        if len(self.files) <= MOST_IN_JSON:
            return self
        data = list_bytes(self.files)
        sha256 = hashlib.sha256(data).hexdigest()
        path = file_list_path(self.ref, sha256)
        medium.put(path, data)
        file_list = FileList(path, len(self.files), len(data), sha256, self.digest)
        return replace(self, files=ListedFiles(file_list, medium))


class Made(NamedTuple):
    """What became of a plan: its files by part, and what its manifest says of them."""

    files: Mapping[int, PartFile]
    summary: dict[str, Any]
    knows_cpu_s: bool = False
    """Whether the summary has the CPU seconds already, as those of older rows, or of processes that
    note their own; otherwise all that this process and its descendants spend on it counts."""
    compacted: tuple[Compacted, ...] = ()
    """Files for readers, if it made them; otherwise they are made of those of its parts."""


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def parts_digest(files: Mapping[int, PartFile]) -> str:
    """SHA-256 over the full content of parts, in their order, as `digest_of` has it of the list of
    parts and digests."""
    found = hashlib.sha256(b"[")
    comma = b""
    for part, file in in_order(files):
        found.update(b'%s[%d,"%s"]' % (comma, part, file.sha256.encode()))
        comma = b","
    found.update(b"]")
    return found.hexdigest()


def loaded(kind: type[RecordT], values: Any, place: str) -> RecordT:
    """Read a record back from JSON that was found in a place.

    Raises:
        StoreError: it is damaged; the message says where, and in which field.
    """
    try:
        return load(kind, values)
    except RecordError as error:
        raise StoreError(f"{place} is damaged: {error}") from error


@lru_cache(maxsize=32)
def manifest_in(data: bytes, path: str, medium: Medium) -> Manifest:
    """Read the manifest that a file has, once per process as long as its content is the same. Files
    that it lists apart are read when they are asked for.

    Raises:
        StoreError: it is damaged, or of a schema version that we do not read.
    """
    values = opened_json(data, f"{medium.root}/{path}")
    # First: the fields of a newer version may mean something else.
    check_version(loaded(Written, values, path).schema_version, path)
    files = values.get("files")
    if isinstance(files, dict) and _LISTED in files:
        listed = loaded(FileList, files[_LISTED], path)
        manifest = loaded(Manifest, {**values, "files": {}}, path)
        return replace(manifest, files=ListedFiles(listed, medium))
    return loaded(Manifest, values, path)


def check_version(version: int | None, what: str) -> None:
    """Refuse what was written under a schema version that we do not read.

    Raises:
        StoreError: so it was; the message says what to do about it.
    """
    if version in READABLE_VERSIONS:
        return
    newer = version is not None and version > SCHEMA_VERSION
    if newer:
        advice = "use the program version that wrote it or a later one"
    else:
        advice = "choose another --output, or use the program version that wrote it"
    raise StoreError(
        f"{what} has schema version {version}, this program reads and writes {SCHEMA_VERSION}:"
        f" {advice}"
    )


def generation_name(
    stage: str, round: int | None, config: Mapping[str, Any], parents: Iterable[Manifest]
) -> str:
    """Name the generation that a stage makes from its config and the full content of its
    parents."""
    content = sorted([parent.ref, parent.digest] for parent in parents)
    return digest_of([_NAMES, stage, round, config, content])[:12]


@dataclass(frozen=True)
class Snapshot:
    """Generations that belong together: every parent of a member is a member too."""

    manifests: tuple[Manifest, ...] = ()

    def add(self, manifest: Manifest) -> Snapshot:
        """Put `manifest` in the place of its predecessor; what was made from the predecessor goes
        with it."""
        kept = [
            m for m in self.manifests if (m.table, m.round) != (manifest.table, manifest.round)
        ] + [manifest]
        while True:
            refs = {m.ref for m in kept}
            consistent = [m for m in kept if refs.issuperset(m.parents)]
            if len(consistent) == len(kept):
                return Snapshot(tuple(sorted(kept, key=lambda m: (m.table, m.round or 0))))
            kept = consistent

    def only(self, *tables: str) -> Snapshot:
        """Leave out all other tables."""
        return Snapshot(tuple(m for m in self.manifests if m.table in tables))

    def without(self, table: str) -> Snapshot:
        """Leave out a table."""
        return Snapshot(tuple(m for m in self.manifests if m.table != table))

    def covers(self, other: Snapshot) -> bool:
        """Whether every table (and round) of `other` is here: publishing this takes nothing from a
        reader."""
        return {(m.table, m.round) for m in other.manifests} <= {
            (m.table, m.round) for m in self.manifests
        }

    def of(self, table: str) -> list[Manifest]:
        """List the manifests of a table, one per round if it has rounds."""
        return [m for m in self.manifests if m.table == table]

    @property
    def features(self) -> Manifest:
        """The table that has the log-mels: up to schema version 4 the segments themselves."""
        return self.get("features" if self.of("features") else "segments")

    @property
    def catalog(self) -> CatalogSummary:
        """What the catalog is in all: its classes, parts and folds."""
        return self.get("catalog").about(CatalogSummary)

    def about(self, table: str, kind: type[RecordT], round: int | None = None) -> RecordT:
        """Read what a record has of the summary of a table (and round).

        Raises:
            StoreError: the table is not committed, or its manifest is damaged.
        """
        return self.get(table, round).about(kind, self.catalog.classes)

    def get(self, table: str, round: int | None = None) -> Manifest:
        """Return the one manifest of a table (and round).

        Raises:
            StoreError: it is not committed; the message says which command makes it.
        """
        found = [m for m in self.of(table) if m.round == round]
        if not found:
            of_round = "" if round is None else f" of round {round}"
            raise StoreError(
                f"table {table}{of_round} is not committed yet: run the stage that writes it first"
                " (see `sssl --help`)"
            )
        return found[0]
