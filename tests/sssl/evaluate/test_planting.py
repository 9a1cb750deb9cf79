from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from schemas import Segment, arrow_schema
from sssl.arrays import real_lists
from sssl.audio.mel import MelConfig, features_of
from sssl.embedding.table import embeddings_of, embeddings_table
from sssl.evaluate.planting import Planting, draw, write_planted
from sssl.store.folder import Store
from sssl.store.manifest import Manifest
from sssl.store.tensors import log_mels


def rows(tracks=40, segments=15, classes=4, folds=3):
    return pd.DataFrame(
        [
            {
                "track_id": f"t{t}",
                "label": f"Q{t % classes}",
                "fold": t // classes % folds,
                "eligible": t % 10 != 9,
            }
            for t in range(tracks)
            for _ in range(segments)
        ]
    )


def moved(source):
    return source != np.arange(len(source))


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_the_asked_share_of_eligible_segments_changes_places(share, spans):
    table = rows()
    planted = moved(draw(table, Planting(share, spans, seed=1)))
    assert planted[table["eligible"]].mean() == pytest.approx(share, abs=0.1 if spans else 0.01)
    assert not planted[~table["eligible"]].any()


@pytest.mark.parametrize("spans", [False, True])
def test_no_segment_is_lost_or_there_twice(spans):
    source = draw(rows(), Planting(0.5, spans, seed=1))
    assert sorted(source) == list(range(len(source)))


@pytest.mark.parametrize("spans", [False, True])
def test_planted_segments_come_from_another_label_and_the_same_fold(spans):
    table = rows()
    source = draw(table, Planting(0.5, spans, seed=1))
    here, there = table[moved(source)], table.iloc[source[moved(source)]]
    assert (here["label"].to_numpy() != there["label"].to_numpy()).all()
    assert (here["fold"].to_numpy() == there["fold"].to_numpy()).all()


def test_spans_are_stretches_of_one_other_track():
    table = rows(segments=40)
    source = draw(table, Planting(0.3, spans=True, seed=1))
    planted = np.flatnonzero(moved(source))
    in_a_row = [b == a + 1 and source[b] == source[a] + 1 for a, b in pairwise(planted)]
    assert (
        np.mean(in_a_row) > 0.6
    )  # stretches of 3 to 8, cut to the shorter of two: all but the first of each


def test_the_seed_decides_what_is_planted():
    table = rows()
    one, again, other = (draw(table, Planting(0.3, False, seed)) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_a_catalog_of_one_label_has_nothing_to_plant():
    assert not moved(draw(rows(classes=1), Planting(0.5, False, seed=1))).any()


def table_of(kind, numbers):
    """Rows that sound like their numbers."""
    key = {"track_id": [f"t{numbers[0] // 5}"] * 5, "segment_index": pa.array(range(5), pa.int32())}
    if kind == "features":
        mel = np.repeat(numbers, 6).astype(np.uint8).reshape(5, 2, 3)
        return features_of(*key.values(), mel, MelConfig(mels=2, segment_s=2 * 512 / 16000))
    return pa.table(
        {
            **key,
            "start_s": pa.array(range(5), pa.float32()),
            "level_db": pa.array(numbers, pa.float32()),
            "band_level_db": [[float(number)] * 2 for number in numbers],
            "sound_db": [[float(number)] for number in numbers],
            "sound": [[float(number)] for number in numbers],
        },
        schema=arrow_schema(Segment),
    )


def sounds_like(table):
    """The numbers of rows by each column that says them."""
    if "log_mel" in table.column_names:
        return [log_mels(table)[:, 1, 2].tolist()]
    lists = (
        real_lists(table, name)[:, 0].tolist() for name in ("band_level_db", "sound_db", "sound")
    )
    return [table["level_db"].to_pylist(), *lists]


@pytest.mark.parametrize("kind", ["segments", "features"])
def test_planted_audio_lies_where_the_draw_says_and_nothing_else_changes(kind, in_memory):
    store = Store.open(in_memory, create=True)
    files = {
        part: store.write_part(kind, "o", part, table_of(kind, np.arange(5) + 5 * part))
        for part in (0, 1)
    }
    original = store.commit(
        Manifest(kind, "o", "segment", None, {"cut": {}}, ("catalog/x",), files, {"tracks": 2})
    )
    source = np.array([0, 7, 2, 3, 9, 5, 6, 1, 8, 4])
    planted = write_planted(store, original, source, Planting(0.4, False, seed=0))
    before, after = store.read_table(original), store.read_table(planted)
    assert all(numbers == source.tolist() for numbers in sounds_like(after))
    for name in after.column_names:
        assert after[name].equals(before[name]) == (
            name in ("track_id", "segment_index", "start_s")
        )
    assert after.schema.equals(before.schema, check_metadata=True)
    assert planted.ref != original.ref
    assert planted.parents == original.parents
    assert {name: n for name, n in planted.summary.items() if name != "cpu_s"} == original.summary


def test_planted_embeddings_move_with_their_reasons_and_are_those_of_planted_segments(in_memory):
    store = Store.open(in_memory, create=True)
    files = {}
    for part in (0, 1):
        key = {"track_id": [f"t{part}"] * 5, "segment_index": pa.array(range(5), pa.int32())}
        found = (np.arange(5) + 5 * part).astype(np.float16)[:, None]
        reasons = [None, None, "missing" if part else None, None, None]
        table = embeddings_table(pa.table(key), found, reasons, {})
        files[part] = store.write_part("embeddings", "o", part, table)
    parents = ("catalog/x", "segments/x")
    original = store.commit(Manifest("embeddings", "o", "embed", None, {}, parents, files, {}))
    segments = Manifest("segments", "planted", "plant", None, {}, ("catalog/x",), {}, {})
    source = np.array([7, 1, 2, 3, 4, 5, 6, 0, 8, 9])
    planted = write_planted(store, original, source, Planting(0.2, False, seed=0), segments)
    after = store.read_table(planted)
    assert after["reason"].to_pylist() == ["missing"] + [None] * 9
    expected = np.where(np.arange(10) == 0, np.nan, source)
    np.testing.assert_array_equal(embeddings_of(after)[:, 0], expected)
    assert planted.parents == ("catalog/x", "segments/planted")
