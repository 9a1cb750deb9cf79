"""Tables as Parquet files: parts for stages, compacted ones for readers."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import TABLES, arrow_schema
from sssl.store.manifest import PartFile

_FILE_BYTES = 64 << 20
_ROW_GROUP = 1 << 19  # rows: 16 MB of scores
_BLOOM_MISSES = 0.01  # share of tracks that a filter takes for its own
_TENSOR_PAGE_BYTES = 128 << 10
"""Small enough for a page to stay in the cache between its reading and its decoding."""


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


def _write(
    content: pa.Table, buffer: io.BytesIO, row_group_size: int = 256, **options: Any
) -> None:
    dictionary = [f.name for f in content.schema if pa.types.is_string(f.type)]
    options |= {"row_group_size": row_group_size, "use_dictionary": dictionary}
    pq.write_table(content, buffer, write_page_checksum=True, **options)
