"""Tensors as values of a fixed number of bytes: what any reader gets, and that nobody copies
them."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import TABLES, Feature, arrow_schema, columns
from sssl.audio.mel import MelConfig, as_stored, features_of, in_db
from sssl.store.folder import Store
from sssl.store.tensors import log_mels, tensor_column

CUT = MelConfig()


HALVES = MelConfig(stored_as="float16")


def features(rows, cut=CUT):
    computed = np.random.default_rng(0).normal(-40, 10, (rows, *cut.shape)).astype(np.float16)
    log_mel = as_stored(computed, cut)
    return log_mel, features_of(["t"] * rows, pa.array(range(rows), pa.int32()), log_mel, cut)


@pytest.mark.parametrize("cut", [CUT, HALVES], ids=lambda cut: cut.stored_as)
def test_tensors_become_a_column_without_a_copy(cut):
    log_mel, table = features(5, cut)
    assert log_mel.dtype == cut.stored_as
    assert np.shares_memory(log_mel, log_mels(table))
    values = tensor_column(log_mel).buffers()[1]
    assert np.shares_memory(log_mel, np.frombuffer(values, cut.stored_as))


def test_log_mels_that_are_stored_otherwise_than_the_cut_says_make_no_table():
    log_mel, _ = features(5, HALVES)
    with pytest.raises(pa.ArrowException, match="binary"):
        features_of(["t"] * 5, pa.array(range(5), pa.int32()), log_mel, CUT)


def test_a_slice_of_a_table_has_its_own_tensors():
    log_mel, table = features(9)
    np.testing.assert_array_equal(log_mels(table.slice(2, 4)), log_mel[2:6])


@pytest.mark.parametrize("cut", [CUT, HALVES], ids=lambda cut: cut.stored_as)
def test_a_part_is_read_as_numpy_in_three_lines(tmp_path, cut):
    store = Store.open(str(tmp_path), create=True)
    log_mel, table = features(300, cut)
    path = store.url(store.write_part("features", "g", 0, table).path)
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text()
    (lines,) = re.findall(
        r"^(about = [^`]*?\nlog_mel = [^`]*?\nlog_mel_db = [^`]*)```", page, re.MULTILINE
    )
    known = {"json": json, "np": np, "table": pq.read_table(path).combine_chunks()}
    exec(lines, known)
    np.testing.assert_array_equal(known["log_mel"], log_mel)
    np.testing.assert_array_equal(known["log_mel_db"], in_db(log_mel))
    assert known["log_mel_db"].dtype == np.float32


@pytest.mark.parametrize("cut", [CUT, HALVES], ids=lambda cut: cut.stored_as)
def test_a_part_comes_in_one_piece_that_numpy_sees_without_a_copy(tmp_path, cut):
    store = Store.open(str(tmp_path), create=True)
    _, table = features(256, cut)
    read = store.read_part(store.write_part("features", "g", 0, table), ["log_mel"])
    assert read["log_mel"].num_chunks == 1
    values = read["log_mel"].chunk(0).buffers()[1]
    assert np.shares_memory(log_mels(read), np.frombuffer(values, cut.stored_as))


def test_no_table_has_half_floats():
    for table in TABLES.values():
        types = {column.name: pa.binary(4) for column in columns(table) if column.type is None}
        assert "halffloat" not in str(arrow_schema(table, **types))
    assert {column.name for column in columns(Feature) if column.type is None} == {"log_mel"}
