"""What was counted in each part of a generation, in one file: nobody has to open its receipts."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sssl.store import seal
from sssl.store.folder import Store
from sssl.store.layout import counts_path

Counts = Mapping[str, Any]
"""The summary of a part (schemas.summaries) as JSON."""


def write_counts(store: Store, ref: str, counts: Mapping[int, Counts]) -> None:
    """Write what was counted in the parts of a generation."""
    parts = sorted(counts)
    as_json = [json.dumps(counts[part], sort_keys=True) for part in parts]
    table = pa.table(
        {"part": pa.array(parts, pa.int32()), "counts": pa.array(as_json, pa.string())}
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.medium.put(counts_path(ref), seal.sealed(buffer.getvalue()), durable=False)


def read_counts(store: Store, ref: str) -> dict[int, dict[str, Any]] | None:
    """Return what was counted in each part; None where no file says it, or none that is whole, as
    of generations of an earlier version."""
    try:
        content = seal.opened(store.read_bytes(counts_path(ref)))
    except FileNotFoundError:
        return None
    if content is None:
        return None
    rows = pq.read_table(io.BytesIO(content)).to_pydict()
    return {p: json.loads(c) for p, c in zip(rows["part"], rows["counts"], strict=True)}
