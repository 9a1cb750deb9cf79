"""Tensors in tables: one value a row, as every Parquet reader takes it, or lists, as in schema versions 1 and 2."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_META = b"sssl.tensor"


def log_mels(segments: pa.Table) -> NDArray[Any]:
    """Return the log-mels [N, mels, frames] of a table's rows; without a copy where they lie in one piece."""
    return tensors(segments, "log_mel")


def tensors(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a tensor column as one array [N, ...]; without a copy where it lies in one piece."""
    field, chunks = table.schema.field(name), table[name]
    column = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()  # which would copy a single one
    if isinstance(field.type, pa.FixedShapeTensorType):
        shape = tuple(field.type.shape)
        if not len(column):
            return np.empty((0, *shape), np.float16)
        return np.asarray(column.to_numpy_ndarray())
    about = json.loads((field.metadata or {})[_META])
    values = np.frombuffer(column.buffers()[1], about["dtype"])
    rows = values.reshape(-1, *about["shape"])
    return rows[column.offset : column.offset + len(column)]


def tensor_field(name: str, dtype: str, shape: tuple[int, ...]) -> pa.Field:
    """Return the field of a column with one tensor a row, of a fixed number of bytes."""
    width = np.dtype(dtype).itemsize * int(np.prod(shape))
    return pa.field(name, pa.binary(width), metadata={_META: json.dumps({"dtype": dtype, "shape": shape})})


def tensor_column(values: NDArray[Any]) -> pa.Array:
    """Return tensors [N, ...] as a column of one value a row; their memory is not copied."""
    values = np.ascontiguousarray(values)
    width = values.itemsize * int(np.prod(values.shape[1:]))
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])
