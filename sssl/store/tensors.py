"""Tensors in tables: one value per row, as every Parquet reader takes it, or lists, as up to schema
version 4."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def log_mels(features: pa.Table) -> NDArray[Any]:
    """Return the log-mels [N, mels, frames] of a table's rows; without a copy where they lie in one
    piece."""
    return tensors(features, "log_mel")


def tensors(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a tensor column as one array [N, ...]; without a copy where it lies in one piece."""
    type = table.schema.field(name).type
    chunks = table[name]
    is_single = chunks.num_chunks == 1  # combining would copy it
    column = chunks.chunk(0) if is_single else chunks.combine_chunks()
    if isinstance(type, pa.FixedShapeTensorType):
        shape = tuple(type.shape)
        if not len(column):
            return np.empty((0, *shape), np.float16)
        return np.asarray(column.to_numpy_ndarray())
    about = tensor_about(table.schema, name)
    if not len(column):
        return np.empty((0, *about["shape"]), about["dtype"])
    _, values = column.buffers()
    rows = np.frombuffer(values, about["dtype"]).reshape(-1, *about["shape"])
    end = column.offset + len(column)
    return rows[column.offset : end]


def tensor_type(dtype: str, shape: tuple[int, ...]) -> pa.DataType:
    """Return the type of a column with one tensor per row, of a fixed number of bytes."""
    return pa.binary(np.dtype(dtype).itemsize * int(np.prod(shape)))


def tensor_metadata(
    name: str, dtype: str, shape: tuple[int, ...], **more: Any
) -> Mapping[str, str]:
    """Return what the metadata of a table's schema has to say of a tensor column; `more` goes with
    it."""
    return {_key(name): json.dumps({"dtype": dtype, "shape": shape, **more})}


def tensor_about(schema: pa.Schema, name: str) -> Any:
    """Return what the metadata of a table's schema says of a tensor column.

    Raises:
        ValueError: it says nothing.
    """
    try:
        return json.loads(schema.metadata[_key(name).encode()])
    except (KeyError, TypeError):
        raise ValueError(f"nothing says what is in {name}") from None


def tensor_column(values: NDArray[Any]) -> pa.Array:
    """Return tensors [N, ...] as a column of one value per row; their memory is not copied."""
    values = np.ascontiguousarray(values)
    numbers = int(np.prod(values.shape[1:]))
    width = values.itemsize * numbers
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])


def _key(name: str) -> str:
    return f"sssl.{name}"
