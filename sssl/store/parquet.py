"""Tables as Parquet files: parts for stages, compacted ones for readers, and lists of files where
parts are many."""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections import defaultdict
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import TABLES, arrow_schema
from sssl.errors import StoreError
from sssl.store.media.medium import Medium

_FILE_BYTES = 64 << 20
_ROW_GROUP = 1 << 19  # rows: 16 MB of scores
_BLOOM_MISSES = 0.01  # share of tracks that a filter takes for its own
_TENSOR_PAGE_BYTES = 128 << 10
"""Small enough for a page to stay in the cache between its reading and its decoding."""
_DIGEST_BYTES = hashlib.sha256().digest_size
MEND = "`sssl verify --repair` sets it aside, then the same command makes it again"
"""What to do about a lost or damaged file."""
_FILES_AT_ONCE = 1 << 16  # of a list, as Python objects
_READERS = 32


@dataclass(frozen=True, slots=True)
class PartFile:
    """One committed file of a table; `path` is relative to the output folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Compacted(PartFile):
    """A file that holds the rows of neighbouring parts, sorted; `of` is a digest of theirs."""

    first_part: int
    last_part: int
    of: str


@dataclass(frozen=True, slots=True)
class FileList(PartFile):
    """A file that lists those of many parts, one per row; `of` is a digest of theirs."""

    of: str


class InOrder(Mapping[int, PartFile]):
    """The files of many parts, which become Python objects as they are asked for."""

    @abstractmethod
    def pairs(self) -> Iterator[tuple[int, PartFile]]:
        """Yield parts and their files, in their order."""

    def items(self) -> ItemsView[int, PartFile]:
        return _Items(self)

    def values(self) -> ValuesView[PartFile]:
        return _Values(self)


class ListedFiles(InOrder):
    """The files of many parts, as columns of their list. It is read when the first of them is asked
    for: a manifest of which only the settings matter costs as little as a small one.

    Raises:
        StoreError: when it is read: the list is not there, or not as it was written.
    """

    def __init__(self, file_list: FileList, medium: Medium) -> None:
        self.file_list = file_list
        self._medium = medium

    @cached_property
    def _batch(self) -> pa.RecordBatch:
        place = f"{self._medium.root}/{self.file_list.path}"
        try:
            data = self._medium.read(self.file_list.path)
        except FileNotFoundError:
            raise StoreError(
                f"{place} is not there, though its manifest names it; {MEND}"
            ) from None
        if hashlib.sha256(data).hexdigest() != self.file_list.sha256:
            raise StoreError(f"{place} is damaged: its SHA-256 is not that of its manifest; {MEND}")
        table = pq.read_table(io.BytesIO(data), use_threads=False).combine_chunks()
        return table.to_batches()[0]

    @cached_property
    def _parts(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.asarray(self._batch["part"].to_numpy())

    @cached_property
    def _of_file(self) -> list[pa.Array]:
        return list(self._batch.columns[1:])

    def __getitem__(self, part: int) -> PartFile:
        row = int(np.searchsorted(self._parts, np.int32(part)))  # another type would cast them all
        if row == len(self._parts) or self._parts[row] != part:
            raise KeyError(part)
        path, rows, size, digest = (column[row].as_py() for column in self._of_file)
        return PartFile(path, rows, size, digest.hex())

    def __iter__(self) -> Iterator[int]:
        return iter(self._parts.tolist())

    def __len__(self) -> int:
        return self.file_list.rows

    def pairs(self) -> Iterator[tuple[int, PartFile]]:
        for start in range(0, len(self), _FILES_AT_ONCE):
            yield from _rows_of(self._batch.slice(start, _FILES_AT_ONCE))

    @property
    def paths(self) -> pa.Array:
        """The paths of all files."""
        return self._batch["path"]

    def forget(self) -> None:
        """Give back the memory of the list, which is read again when a file is asked for."""
        for kept in ("_batch", "_parts", "_of_file"):
            self.__dict__.pop(kept, None)


class ChangedFiles(InOrder):
    """The files of many parts, some of which are others than in a list."""

    def __init__(self, listed: ListedFiles, changed: Mapping[int, PartFile]) -> None:
        self._listed = listed
        self._changed = changed

    def __getitem__(self, part: int) -> PartFile:
        changed = self._changed.get(part)
        return self._listed[part] if changed is None else changed

    def __iter__(self) -> Iterator[int]:
        return iter(self._listed)

    def __len__(self) -> int:
        return len(self._listed)

    def pairs(self) -> Iterator[tuple[int, PartFile]]:
        for part, file in self._listed.pairs():
            yield part, self._changed.get(part, file)


def with_changed(
    files: Mapping[int, PartFile], changed: Mapping[int, PartFile]
) -> Mapping[int, PartFile]:
    """Return files of parts with some of them changed."""
    if isinstance(files, ListedFiles):
        return ChangedFiles(files, changed)
    return {**files, **changed}


def in_order(files: Mapping[int, PartFile]) -> Iterable[tuple[int, PartFile]]:
    """Return parts and their files, sorted by part."""
    if isinstance(files, InOrder):
        return files.pairs()
    return sorted(files.items())


class _Items(ItemsView[int, PartFile]):
    _mapping: InOrder

    def __iter__(self) -> Iterator[tuple[int, PartFile]]:
        return self._mapping.pairs()


class _Values(ValuesView[PartFile]):
    _mapping: InOrder

    def __iter__(self) -> Iterator[PartFile]:
        return (file for _, file in self._mapping.pairs())


def _rows_of(columns: pa.RecordBatch) -> Iterator[tuple[int, PartFile]]:
    parts, *values, digests = (column.to_pylist() for column in columns)
    for part, path, rows, size, digest in zip(parts, *values, digests, strict=True):
        yield part, PartFile(path, rows, size, digest.hex())


def part_bytes(content: pa.Table) -> bytes:
    """Return a part of a table as Parquet; row groups of 256 rows, so that a reader can stream
    them.

    Tensors are not compressed: of half-precision noise zstd saves 12 to 15 %, and makes reading
    take 5 times as long.
    """
    buffer = io.BytesIO()
    if any(map(pa.types.is_fixed_size_binary, content.schema.types)):  # then no column is nested
        codecs = {
            f.name: "none" if pa.types.is_fixed_size_binary(f.type) else "zstd"
            for f in content.schema
        }
        levels = {name: 1 for name, codec in codecs.items() if codec == "zstd"}
        _write(
            content,
            buffer,
            compression=codecs,
            compression_level=levels,
            data_page_size=_TENSOR_PAGE_BYTES,
        )
    else:
        _write(content, buffer, compression="zstd", compression_level=1)
    return buffer.getvalue()


def deal(files: Mapping[int, PartFile]) -> list[dict[int, PartFile]]:
    """Deal parts into groups, each to become one file.

    A group is a power of two of neighbouring parts, the largest whose files of mean size make no
    more than 64 MB. So a catalog that grows a little keeps its groups, and those whose parts do not
    change keep their files.
    """
    all_bytes = sum(file.bytes for file in files.values())
    limit = _FILE_BYTES * len(files) / max(1, all_bytes)  # parts in a file
    size = 1
    while 2 * size <= limit and size < len(files):
        size *= 2
    groups: defaultdict[int, dict[int, PartFile]] = defaultdict(dict)
    for part, file in sorted(files.items()):
        group = groups[part // size]
        group[part] = file
    return list(groups.values())


@dataclass(frozen=True)
class Readable:
    """What readers had of a table before: its files for them, and those of its parts."""

    compacted: Sequence[Compacted] = ()
    files: Mapping[int, PartFile] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Mapping[int, PartFile], compacted: Sequence[Compacted]) -> Readable:
        """Take up the files of parts at once, where there is anything to compare them for: one by
        one they take long where they are many."""
        return cls(compacted, dict(files.items()) if compacted else {})

    def compared(
        self, file: Compacted, now: Mapping[int, PartFile]
    ) -> tuple[set[int], list[PartFile]]:
        """Return the parts in a file for readers that are now as they were, and what the others
        were."""
        same = set()
        others = []
        for part in range(file.first_part, file.last_part + 1):
            before = self.files.get(part)
            if before is None:
                continue
            if before == now.get(part):
                same.add(part)
            else:
                others.append(before)
        return same, others


class Reader(Protocol):
    """What reads the files of tables."""

    def read_part(self, file: PartFile, columns: list[str] | None = None) -> pa.Table:
        """Read the rows of a part."""

    def read_file(self, file: PartFile) -> bytes:
        """Read a whole file."""


def rows_of(parts: Mapping[int, PartFile], had: Readable, store: Reader) -> Iterator[pa.Table]:
    """Yield the rows of parts in any order. Those of parts that are as they were come from the
    files that readers had: one request for thousands of parts instead of one for each."""
    rest = dict(parts)
    with ThreadPoolExecutor(_READERS) as threads:  # many at once for the latency of a bucket
        for file in had.compacted:
            same, others = had.compared(file, rest)
            if len(same) <= len(others):
                continue
            try:
                known = pq.read_table(io.BytesIO(store.read_file(file)))
                ids = list(threads.map(partial(_ids, store), others))
            except StoreError:  # lost or damaged, so all parts are read
                continue
            rest = {part: own for part, own in rest.items() if part not in same}
            yield _without(known, ids)
        yield from threads.map(store.read_part, rest.values())


def _ids(store: Reader, file: PartFile) -> pa.Array:
    return store.read_part(file, ["track_id"])["track_id"].unique()


def _without(rows: pa.Table, ids: Sequence[pa.Array]) -> pa.Table:
    """Leave out the rows of tracks."""
    gone = pa.concat_arrays([pa.array([], pa.string()), *ids])
    return rows.filter(pc.invert(pc.is_in(rows["track_id"], gone)))


def compacted_bytes(table: str, parts: Iterable[pa.Table]) -> bytes:
    """Return the rows of parts as one Parquet file, sorted by track, so that a track is found in
    one place."""
    schema = arrow_schema(TABLES[table])
    keys = [name for name in ("track_id", "segment_index") if name in schema.names]
    order = [(name, "ascending") for name in keys]
    together = pa.concat_tables(part.cast(schema) for part in parts)
    rows = together.combine_chunks().sort_by(order)
    buffer = io.BytesIO()
    tracks = max(1, pc.count_distinct(rows["track_id"]).as_py())
    _write(
        rows,
        buffer,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        compression_level=1,
        sorting_columns=pq.SortingColumn.from_ordering(schema, order),
        write_page_index=True,
        bloom_filter_options={"track_id": {"ndv": tracks, "fpp": _BLOOM_MISSES}},
    )
    return buffer.getvalue()


def list_bytes(files: Mapping[int, PartFile]) -> bytes:
    """Return the list of the files of parts as Parquet."""
    pairs = iter(in_order(files))
    pieces = []
    while piece := list(islice(pairs, _FILES_AT_ONCE)):
        pieces.append(_columns_of(piece))
    columns = pa.concat_tables(pieces).combine_chunks()
    # Paths differ in their last letters only, digests in all.
    encodings = {"part": "DELTA_BINARY_PACKED", "path": "DELTA_BYTE_ARRAY"}
    buffer = io.BytesIO()
    pq.write_table(
        columns,
        buffer,
        compression="zstd",
        use_dictionary=False,
        column_encoding=encodings,
    )
    return buffer.getvalue()


def _columns_of(listed: Sequence[tuple[int, PartFile]]) -> pa.Table:
    parts = [part for part, _ in listed]
    paths = [file.path for _, file in listed]
    rows = [file.rows for _, file in listed]
    sizes = [file.bytes for _, file in listed]
    digests = [bytes.fromhex(file.sha256) for _, file in listed]
    columns = {
        "part": pa.array(parts, pa.int32()),
        "path": pa.array(paths, pa.string()),
        "rows": pa.array(rows, pa.int64()),
        "bytes": pa.array(sizes, pa.int64()),
        "sha256": pa.array(digests, pa.binary(_DIGEST_BYTES)),
    }
    return pa.table(columns)


def _write(
    content: pa.Table, buffer: io.BytesIO, row_group_size: int = 256, **options: Any
) -> None:
    dictionary = [f.name for f in content.schema if pa.types.is_string(f.type)]
    options |= {"row_group_size": row_group_size, "use_dictionary": dictionary}
    pq.write_table(content, buffer, write_page_checksum=True, **options)
