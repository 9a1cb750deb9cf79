"""Inventories of buckets, as storages write them once a day: fingerprints of millions of files
without a request.

Known are the reports of Google's Storage Insights and of Amazon's S3 Inventory (as Parquet, or as
CSV with a header), and any table with a column `uri` and a column that tells of the content.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sssl.catalog.lookup import TextIndex
from sssl.errors import CatalogError
from sssl.urls import file_name, first_line, opened, why_unreadable, without_secrets

_ROWS_AT_ONCE = 1 << 16
_NOT_LISTED = -1
_NAMES = {
    "uri": ("uri", "url"),
    "bucket": ("bucket",),
    "name": ("name",),
    "key": ("key",),
    "etag": ("etag",),
    "md5hash": ("md5hash", "md5"),
    "crc32c": ("crc32c",),
    "size": ("size",),
    "updated": ("updated", "lastmodifieddate"),
    "deleted": ("timedeleted", "isdeletemarker"),
    "latest": ("islatest",),
}
"""What storages call what we ask for, in small letters and without underscores."""
_GUESSED = (*_NAMES["size"], *_NAMES["updated"])
_HASHES = ("etag", "md5hash", "crc32c")
"""In the order in which a listing is asked for them, so that both tell the same of a file."""


def listed_fingerprints(uris: pa.Array, inventories: Sequence[str]) -> pa.Array:
    """Return the fingerprint of each URI [N] as inventories tell it, null where none lists it.

    Raises:
        CatalogError: an inventory cannot be read, or names no files, or nothing of their content.
    """
    if not inventories:
        return pa.nulls(len(uris), pa.string())
    index = TextIndex(uris)
    source = np.full(len(uris), _NOT_LISTED, np.int32)  # where in the pieces together it is listed
    pieces = [pa.array([], pa.string())]
    known = 0
    for listed in chain.from_iterable(map(_listed, inventories)):
        has_fingerprint = listed["fingerprint"].is_valid()
        listed_uris = listed["uri"].filter(has_fingerprint)
        fingerprints = listed["fingerprint"].filter(has_fingerprint)
        row, place = index.find(listed_uris)
        # The first of a piece counts, and it is written last.
        first_last = np.argsort(-place, kind="stable")
        source[row[first_last]] = known + np.arange(len(row))[first_last]
        pieces.append(fingerprints.take(pa.array(place)))
        known += len(row)
    del index
    pa.default_memory_pool().release_unused()  # what reading took: next comes the most of all
    together = pa.concat_arrays(pieces)
    pieces.clear()  # the same again, of millions
    pa.default_memory_pool().release_unused()
    return together.take(pa.array(source, mask=source == _NOT_LISTED))


def _listed(url: str) -> Iterator[dict[str, pa.Array]]:
    """Yield the URIs and fingerprints of an inventory, many at a time."""
    shown = without_secrets(url)
    try:
        with opened(url) as file:
            is_parquet = file_name(url).lower().endswith(".parquet")
            batches = _parquet_batches(file) if is_parquet else _csv_batches(file)
            for batch in batches:
                yield _fingerprints(batch, shown)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        why = why_unreadable(url, error)
        raise CatalogError(f"--inventory {shown}: cannot be read: {why}") from None


def _parquet_batches(file: object) -> Iterator[pa.RecordBatch]:
    parquet = pq.ParquetFile(file)
    columns = _wanted(parquet.schema_arrow.names)
    # What threads took of the memory pool, it gives back to nobody else.
    return parquet.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False)


def _csv_batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    header = first_line(file)
    file.seek(0)
    columns = _wanted(next(csv.reader([header]), []))
    # As text: a file may be called 007, and a date may be missing from all rows that types are
    # guessed from. Sizes and dates alone are guessed, as they are a part of known fingerprints.
    texts = [name for name in columns if _plain(name) not in _GUESSED]
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()),
        include_columns=columns,
    )
    return pa.csv.open_csv(file, convert_options=options)


def _wanted(names: Sequence[str]) -> list[str]:
    """Return the columns of an inventory that are asked for, in its own spelling."""
    wanted = [name for names in _NAMES.values() for name in names]
    return [name for name in names if _plain(name) in wanted]


def _fingerprints(batch: pa.RecordBatch, shown: str) -> dict[str, pa.Array]:
    columns = _named(batch)
    uri = _uris(columns, shown)
    fingerprint = pa.nulls(len(batch), pa.string())
    for name in _HASHES:
        if name in columns:
            of_hash = _hash(name, columns[name], uri)
            fingerprint = pc.coalesce(fingerprint, of_hash)
    if {"size", "updated"} <= columns.keys():
        size = columns["size"].cast(pa.string())
        updated = columns["updated"].cast(pa.string())
        dated = pc.binary_join_element_wise("size:", size, " mtime:", updated, "")
        fingerprint = pc.coalesce(fingerprint, dated)
    elif columns.keys().isdisjoint(_HASHES):
        raise CatalogError(
            f"--inventory {shown}: no column tells of the content: expected etag, md5Hash or crc32c"
        )
    there = _is_there(columns, len(batch))
    return {"uri": uri.filter(there), "fingerprint": fingerprint.filter(there)}


def _named(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of an inventory by the names that we have for them."""
    given = dict(zip(map(_plain, batch.schema.names), batch.columns, strict=True))
    found = {}
    for ours, names in _NAMES.items():
        known = [given[name] for name in names if name in given]
        if known:
            found[ours] = known[0]
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "")


def _uris(columns: Mapping[str, pa.Array], shown: str) -> pa.Array:
    if "uri" in columns:
        return columns["uri"].cast(pa.string())
    # Amazon calls an object's place in its bucket a key, Google a name.
    scheme = "gs://"
    place = "name"
    if "key" in columns:
        scheme = "s3://"
        place = "key"
    if not {"bucket", place} <= columns.keys():
        expected = "a column uri, or bucket and name, or bucket and key"
        raise CatalogError(f"--inventory {shown}: expected {expected}")
    bucket = columns["bucket"].cast(pa.string())
    name = columns[place].cast(pa.string())
    root = pc.binary_join_element_wise(scheme, bucket, "")
    return pc.binary_join_element_wise(root, name, "/")


def _hash(name: str, column: pa.Array, uri: pa.Array) -> pa.Array:
    """Return fingerprints as a listing gives them: that of Amazon has ETags in quotation marks, its
    inventory has not."""
    text = column.cast(pa.string())
    is_empty = pc.equal(pc.utf8_length(text), 0)
    text = pc.if_else(is_empty, None, text)
    if name == "etag":
        is_quoted = pc.starts_with(text, '"')
        is_bare = pc.and_(pc.starts_with(uri, "s3"), pc.invert(is_quoted))
        quoted = pc.binary_join_element_wise('"', text, '"', "")
        text = pc.if_else(is_bare, quoted, text)
    return pc.binary_join_element_wise(f"{name}:", text, "")


def _is_there(columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """Return which rows are of objects that are there, in their newest version."""
    there = pa.array([True] * rows)
    if "deleted" in columns:
        there = pc.and_(there, pc.invert(_is_said(columns["deleted"])))
    if "latest" in columns:
        there = pc.and_(there, _is_said(columns["latest"]))
    return there


def _is_said(column: pa.Array) -> pa.Array:
    """Return where a flag is set, or a date is given."""
    text = pc.utf8_lower(pc.fill_null(column.cast(pa.string()), ""))
    return pc.invert(pc.is_in(text, pa.array(["", "false"])))
