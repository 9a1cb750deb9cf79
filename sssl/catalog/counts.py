"""What was counted in each part of a generation, in one file: nobody has to open its receipts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sssl.store import seal
from sssl.store.folder import Store
from sssl.store.layout import counts_path

Counts = Mapping[str, Any]
"""The summary of a part (schemas.summaries) as JSON."""
_SCHEMA = pa.schema([("part", pa.int32()), ("counts", pa.string())])
_PARTS_AT_ONCE = 1 << 14


def write_counts(store: Store, ref: str, counts: Mapping[int, Counts]) -> None:
    """Write what was counted in the parts of a generation."""
    parts = sorted(counts)
    texts = [_text(counts[part]) for part in parts]
    numbers = pa.array(parts, pa.int32())
    column = pa.array(texts, pa.string())
    table = pa.table([numbers, column], schema=_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.medium.put(counts_path(ref), seal.sealed(buffer.getvalue()), durable=False)


def read_counts(store: Store, ref: str) -> dict[int, dict[str, Any]] | None:
    """Return what was counted in each part; None where no file says it, or none that is whole, as
    of generations of an earlier version."""
    content = _content(store, ref)
    if content is None:
        return None
    rows = pq.read_table(io.BytesIO(content))
    columns = rows.to_pydict().values()
    return {part: json.loads(text) for part, text in zip(*columns, strict=True)}


def copy_counts(
    store: Store,
    ref: str,
    to: str,
    parts: Collection[int],
    change: Callable[[int, dict[str, Any]], Counts],
) -> None:
    """Write the counts of a generation for another one, those of some parts as `change` makes them
    of a part and what was counted in it. Where nothing is known of the one, nothing is of the
    other."""
    content = _content(store, ref)
    if content is None:
        return
    before = pq.ParquetFile(io.BytesIO(content))
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, _SCHEMA, compression="zstd") as writer:
        for batch in before.iter_batches(_PARTS_AT_ONCE):
            changed = _changed(batch, parts, change)
            writer.write_batch(changed)
    data = seal.sealed(buffer.getvalue())
    store.medium.put(counts_path(to), data, durable=False)


def _changed(
    batch: pa.RecordBatch,
    parts: Collection[int],
    change: Callable[[int, dict[str, Any]], Counts],
) -> pa.RecordBatch:
    numbers = batch["part"]
    is_changed = [part in parts for part in numbers.to_pylist()]
    mask = pa.array(is_changed, pa.bool_())
    own = batch.filter(mask)
    new = []
    for part, text in zip(*own.to_pydict().values(), strict=True):
        counts = json.loads(text)
        changed = change(part, counts)
        new.append(_text(changed))
    texts = pa.array(new, pa.string())
    column = pc.replace_with_mask(batch["counts"], mask, texts)
    return pa.record_batch([numbers, column], schema=_SCHEMA)


def _content(store: Store, ref: str) -> bytes | None:
    """Return the Parquet file of counts, None if there is none, or none that is whole."""
    try:
        return seal.opened(store.read_bytes(counts_path(ref)))
    except FileNotFoundError:
        return None


def _text(counts: Counts) -> str:
    return json.dumps(counts, sort_keys=True)
