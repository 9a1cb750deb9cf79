from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from schemas import Segment, arrow_schema
from sssl.evaluate.planting import Planting, draw, write_planted
from sssl.store.folder import Store
from sssl.store.manifest import Manifest


def rows(tracks=40, segments=15, classes=4, folds=3):
    return pd.DataFrame(
        [
            {"track_id": f"t{t}", "label": f"Q{t % classes}", "fold": t // classes % folds, "eligible": t % 10 != 9}
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
    assert np.mean(in_a_row) > 0.6  # stretches of 3 to 8, cut to the shorter of two: all but the first of each


def test_the_seed_decides_what_is_planted():
    table = rows()
    one, again, other = (draw(table, Planting(0.3, False, seed)) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_a_catalog_of_one_label_has_nothing_to_plant():
    assert not moved(draw(rows(classes=1), Planting(0.5, False, seed=1))).any()


def tensors(values, type):
    return pa.ExtensionArray.from_storage(type, pa.FixedSizeListArray.from_arrays(pa.array(values), len(values) // 5))


@pytest.fixture
def segments(in_memory):
    """Ten segments in two parts, each with a log-mel of its own number."""
    store = Store.open(in_memory, create=True)
    tensor, bands = pa.fixed_shape_tensor(pa.float16(), [2, 3]), pa.fixed_shape_tensor(pa.float16(), [2])
    files = {}
    for part in (0, 1):
        index = np.arange(5 * part, 5 * part + 5)
        mel = np.repeat(index, 6).astype(np.float16)
        table = pa.table(
            {
                "track_id": [f"t{part}"] * 5,
                "segment_index": pa.array(range(5), pa.int32()),
                "start_s": pa.array(range(5), pa.float32()),
                "log_mel": tensors(mel, tensor),
                "level_db": pa.array(index, pa.float32()),
                "band_level_db": tensors(mel.reshape(5, 6)[:, :2].reshape(-1), bands),
                "sound_db": [[float(number)] for number in index],
            },
            schema=arrow_schema(Segment, log_mel=tensor, band_level_db=bands),
        )
        files[part] = store.write_part("segments", "original", part, table)
    manifest = Manifest("segments", "original", "segment", None, {"cut": {}}, ("catalog/x",), files, {"tracks": 2})
    return store, store.commit(manifest)


def test_planted_audio_lies_where_the_draw_says_and_nothing_else_changes(segments):
    store, original = segments
    source = np.array([0, 7, 2, 3, 9, 5, 6, 1, 8, 4])
    planted = write_planted(store, original, source, Planting(0.4, False, seed=0))
    before, after = store.read_table(original), store.read_table(planted)
    mels = np.concatenate([part.to_numpy_ndarray() for part in after["log_mel"].chunks])
    bands = np.concatenate([part.to_numpy_ndarray() for part in after["band_level_db"].chunks])
    sound = [values[0] for values in after["sound_db"].to_pylist()]
    assert mels[:, 0, 0].tolist() == bands[:, 0].tolist() == after["level_db"].to_pylist() == sound == source.tolist()
    for name in ("track_id", "segment_index", "start_s"):
        assert after[name].equals(before[name])
    assert after.schema.equals(before.schema, check_metadata=True)
    assert planted.ref != original.ref
    assert planted.parents == original.parents
    assert {name: n for name, n in planted.summary.items() if name != "cpu_s"} == original.summary
