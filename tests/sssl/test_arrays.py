import numpy as np
import pyarrow as pa
from rows import a_track

from sssl.arrays import fitted_to, inherited_indices, posteriors, spread


def track(track_id, label, split="train", locked=False):
    return a_track(track_id, label=label, split=split, locked=locked)


def test_a_missing_posterior_is_a_row_of_nan_wherever_it_stands():
    rows = [None, [0.25, 0.75], None, [1.0, 0.0]]
    for chunks in ([rows], [rows[:1], rows[1:2], rows[2:]], [[]]):
        listed = pa.chunked_array([pa.array(chunk, pa.list_(pa.float32())) for chunk in chunks])
        expected = [row or [np.nan] * 2 for chunk in chunks for row in chunk]
        found = posteriors(pa.table({"probabilities": listed}), 2)
        np.testing.assert_array_equal(found, np.array(expected).reshape(-1, 2))


def test_rows_have_the_label_of_their_track():
    tracks = [
        track("a", "Q2"),
        track("b", None),
        track("c", "Q1", "test"),
        track("d", "Q1", locked=True),
    ]
    rows = pa.table({"track_id": ["c", "a", "a", "b", "d"]})
    assert inherited_indices(rows, tracks, ("Q1", "Q2")).tolist() == [0, 1, 1, -1, 0]
    assert [t.track_id for t in fitted_to(tracks)] == ["a"]


def test_a_column_that_is_constant_but_for_rounding_has_no_spread():
    rows = np.tile([0.1, 1e9 / 3, 0.0, -0.7], (1000, 1))
    rows[:, 3] += 1e-6 * np.arange(1000)
    std = rows.std(axis=0)
    assert std[1] > 0
    assert spread(rows).tolist() == [1, 1, 1, std[3]]
