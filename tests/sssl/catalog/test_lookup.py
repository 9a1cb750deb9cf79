from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from rows import a_track

import sssl.catalog.lookup as module
from schemas import Catalog, to_arrow
from sssl.catalog.lookup import TextIndex, in_one_piece, without_alike
from sssl.catalog.plan import AgainConfig, Cause, count_causes, known_tracks

COMPARED = ("track_id", "uri", "source_fingerprint", "expected_s", "label", "corrections")


def pairs(texts, given):
    row, place = TextIndex(pa.array(texts, pa.string())).find(pa.array(given, pa.string()))
    return sorted(zip(row.tolist(), place.tolist(), strict=True))


def test_a_text_is_found_in_each_row_that_has_it():
    assert pairs(["b", "a", "b", "", None], ["b", "x", "", "b"]) == [
        (0, 0), (0, 3), (2, 0), (2, 3), (3, 2),
    ]  # fmt: skip


def test_nothing_is_found_in_no_rows():
    assert pairs([], ["a"]) == pairs(["a"], []) == []


def test_texts_of_the_same_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(module, "_hashes", lambda texts: np.zeros(len(texts), np.int64))
    assert pairs(["a", "b", "c"], ["c", "a", "x"]) == [(0, 1), (2, 0)]


def test_columns_in_one_piece_have_the_same_values():
    pieces = pa.chunked_array([["a"], ["b", None], []], pa.string())
    table = in_one_piece(pa.table({"x": pieces, "y": [1, 2, 3]}))
    assert table["x"].num_chunks == 1
    assert table["x"].to_pylist() == ["a", "b", None]


def random_catalog(rng, ids):
    """Make a catalog in which about half of all tracks look as others of their id do."""

    def one_of(*values):
        return values[rng.integers(len(values))] if rng.random() < 0.4 else values[0]

    tracks = [
        a_track(
            str(name),
            uri=one_of(f"gs://a/{name}", "gs://b"),
            source_fingerprint=one_of("etag:1", "etag:2", None),
            expected_s=one_of(None, 1.5),
            label=one_of("Q1", "Q2", None),
            corrections=one_of(None, [{"label": "Q2", "start_s": 1.0, "end_s": 2.0}]),
        )
        for name in ids
    ]
    return to_arrow(Catalog, tracks)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_left_out_changes_no_count(seed):
    rng = np.random.default_rng(seed)
    now = random_catalog(rng, rng.permutation(60)[:50])
    before = random_catalog(rng, np.sort(rng.permutation(60)[:50]))
    pieces = [before.slice(0, 17), before.slice(17, 0), before.slice(17)]
    left = without_alike(now, pieces, COMPARED)
    assert 0 < left.alike < 40
    assert len(left.now) == 50 - left.alike == len(left.before)
    again = AgainConfig()
    whole = count_causes(now, known_tracks(before, None), False, again)
    some = count_causes(left.now, known_tracks(left.before, None), False, again)
    assert some + Counter({Cause.UNCHANGED: left.alike}) == whole


def test_tracks_without_fingerprint_or_with_corrections_stay_in():
    said = [{"label": "Q2", "start_s": 1.0, "end_s": 2.0}]
    rows = [
        a_track("a", source_fingerprint="etag:1"),
        a_track("b", source_fingerprint=None),
        a_track("c", source_fingerprint="etag:1", corrections=said),
    ]
    catalog = to_arrow(Catalog, rows)
    left = without_alike(catalog, [catalog], COMPARED)
    assert left.now["track_id"].to_pylist() == left.before["track_id"].to_pylist() == ["b", "c"]
    assert left.alike == 1
