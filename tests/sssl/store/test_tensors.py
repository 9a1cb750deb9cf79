"""Tensors as values of a fixed number of bytes: what any reader gets, and that nobody copies
them."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import TABLES, Feature, arrow_schema, columns
from sssl.audio.mel import MelConfig, features_of
from sssl.store.folder import Store
from sssl.store.tensors import log_mels, tensor_column

CUT = MelConfig()


def features(rows, part=0):
    log_mel = np.random.default_rng(part).normal(-40, 10, (rows, *CUT.shape)).astype(np.float16)
    return log_mel, features_of(["t"] * rows, pa.array(range(rows), pa.int32()), log_mel, CUT)


def test_tensors_become_a_column_without_a_copy():
    log_mel, table = features(5)
    assert np.shares_memory(log_mel, log_mels(table))
    assert np.shares_memory(log_mel, np.frombuffer(tensor_column(log_mel).buffers()[1], np.float16))


def test_a_slice_of_a_table_has_its_own_tensors():
    log_mel, table = features(9)
    np.testing.assert_array_equal(log_mels(table.slice(2, 4)), log_mel[2:6])


def test_a_part_is_read_as_numpy_in_two_lines(tmp_path):
    store = Store.open(str(tmp_path), create=True)
    log_mel, table = features(300)
    path = store.url(store.write_part("features", "g", 0, table).path)
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text()
    (two_lines,) = re.findall(r"^(about = [^`]*?\nlog_mel = [^`]*)```", page, re.MULTILINE)
    known = {"json": json, "np": np, "table": pq.read_table(path).combine_chunks()}
    exec(two_lines, known)
    np.testing.assert_array_equal(known["log_mel"], log_mel)


def test_a_part_comes_in_one_piece_that_numpy_sees_without_a_copy(tmp_path):
    store = Store.open(str(tmp_path), create=True)
    _, table = features(256)
    read = store.read_part(store.write_part("features", "g", 0, table), ["log_mel"])
    assert read["log_mel"].num_chunks == 1
    assert np.shares_memory(
        log_mels(read), np.frombuffer(read["log_mel"].chunk(0).buffers()[1], np.float16)
    )


def test_no_table_has_half_floats():
    for table in TABLES.values():
        types = {column.name: pa.binary(4) for column in columns(table) if column.type is None}
        assert "halffloat" not in str(arrow_schema(table, **types))
    assert {column.name for column in columns(Feature) if column.type is None} == {"log_mel"}
