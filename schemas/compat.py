"""Files of earlier schema versions, read as today's: a version adds nullable columns, or says here
how it reads others.

Up to version 4 `segments` had the log-mels, as tensors of half floats; `band_level_db` was such a
tensor, too. Up to version 8 `features.log_mel` was half floats in dB; since then only folders that
were begun so have these, and readers go by the type (`sssl.audio.mel.in_db`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.columns import SCHEMA_VERSION, columns, field_of
from schemas.tables import TABLES

READABLE_VERSIONS = range(1, SCHEMA_VERSION + 1)
"""Raise its start where a version adds what an older file cannot be without; `tests/golden` has a
folder of each."""


def version_of(schema: pa.Schema) -> int:
    """Return the schema version that a file was written under; ours if it does not say."""
    return int((schema.metadata or {}).get(b"sssl.schema_version", SCHEMA_VERSION))


def conform(content: pa.Table, wanted: Sequence[str] | None = None) -> pa.Table:
    """Return a file's rows as rows of today: the wanted columns (default: all that are declared) in
    the order wanted. One that its schema version did not have is null in every row, tensors of half
    floats are lists of reals."""
    metadata = content.schema.metadata or {}
    table = TABLES.get(metadata.get(b"sssl.table", b"").decode())
    if table is None:
        return content
    for declared in columns(table):
        if declared.name in content.column_names or declared.type is None or not declared.nullable:
            continue
        if wanted is None or declared.name in wanted:
            nulls = pa.nulls(len(content), declared.type)
            content = content.append_column(field_of(declared, declared.type), nulls)
    content = _without_half_floats(content, table)
    order = [column.name for column in columns(table)] if wanted is None else wanted
    content = content.select([name for name in order if name in content.column_names])
    return content.replace_schema_metadata(
        {**metadata, b"sssl.schema_version": str(SCHEMA_VERSION).encode()}
    )


def _without_half_floats(content: pa.Table, table: type) -> pa.Table:
    """Read tensors of half floats as the lists of reals that their columns are today."""
    for declared in columns(table):
        at = content.schema.get_field_index(declared.name)
        if (
            at < 0
            or declared.type is None
            or not isinstance(content.schema.field(at).type, pa.FixedShapeTensorType)
        ):
            continue
        lists = [_lists(chunk).cast(declared.type) for chunk in content[declared.name].chunks]
        column = pa.chunked_array(lists, declared.type)
        content = content.set_column(at, field_of(declared, declared.type), column)
    return content


def _lists(tensors: pa.FixedShapeTensorArray) -> pa.FixedSizeListArray:
    values = tensors.storage.flatten().to_numpy().astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(values, tensors.type.storage_type.list_size)
