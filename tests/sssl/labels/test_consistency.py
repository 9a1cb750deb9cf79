import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from sssl.labels.consistency import fit_track_model, sound_moments, track_sound

BANDS, TRACKS, SEGMENTS = 16, 40, 12


@pytest.fixture(scope="module")
def catalog():
    """The sound [N, M] of tracks that differ more from each other than their segments do; and their
    numbers [N]."""
    rng = np.random.default_rng(0)
    tracks = rng.normal(-40, 8, (TRACKS, BANDS))
    track = np.repeat(np.arange(TRACKS), SEGMENTS)
    return tracks[track] + rng.normal(0, 5, (len(track), BANDS)), track


def consistency(levels, track):
    return fit_track_model(sound_moments(levels, track)).consistency(levels, track)


def test_segments_of_another_track_are_inconsistent(catalog):
    levels, track = catalog
    rng = np.random.default_rng(1)
    strange = rng.permutation(len(track))[:60]
    mixed = levels.copy()
    mixed[strange] = levels[np.roll(strange, 1)]
    moved = np.zeros(len(track), bool)
    moved[strange] = track[np.roll(strange, 1)] != track[strange]
    assert roc_auc_score(moved, -consistency(mixed, track)) > 0.97


def test_a_loud_segment_of_a_quiet_track_is_less_consistent_than_its_neighbours(catalog):
    levels, track = catalog
    louder = levels.copy()
    louder[3] += 30
    found = consistency(louder, track)
    assert found[3] < found[[0, 1, 2, 4, 5]].min() - 5


def test_short_tracks_do_not_look_strange_by_their_length(catalog):
    """The fewer others, the less is known of a track: a right segment of it speaks less for itself,
    never against."""
    levels, track = catalog
    kept = (track % 2 == 0) | (np.arange(len(track)) % SEGMENTS < 2)
    found = consistency(levels[kept], track[kept])
    long, short = found[track[kept] % 2 == 0], found[track[kept] % 2 == 1]
    assert 0 < short.mean() < long.mean()


def test_the_only_segment_of_a_track_cannot_be_compared(catalog):
    levels, track = catalog
    alone = np.append(track, TRACKS)
    found = consistency(np.vstack([levels, levels[:1]]), alone)
    assert np.isnan(found[-1])
    assert np.isfinite(found[:-1]).all()


def test_parts_add_up_to_the_catalog_exactly_in_any_order(catalog):
    levels, track = catalog
    parts = [sound_moments(levels[track == t], track[track == t] - t) for t in range(TRACKS)]
    forward, backward = parts[0], parts[-1]
    for part in parts[1:]:
        forward = forward + part
    for part in parts[-2::-1]:
        backward = backward + part
    whole = sound_moments(levels, track)
    assert forward.segments == backward.segments == whole.segments
    assert forward.tracks == backward.tracks == whole.tracks == TRACKS
    for name in ("total", "outer", "track_outer"):
        np.testing.assert_array_equal(getattr(forward, name), getattr(backward, name))
        np.testing.assert_allclose(getattr(forward, name), getattr(whole, name), rtol=1e-4)


def test_too_few_segments_to_know_the_bands_give_no_model(catalog):
    levels, track = catalog
    assert fit_track_model(sound_moments(levels[: BANDS - 1], track[: BANDS - 1])) is None
    assert fit_track_model(sound_moments(levels, np.arange(len(levels)))) is None
    assert fit_track_model(None) is None


def test_tracks_are_known_by_floored_levels_and_by_how_levels_move():
    levels = np.array([[-20.0, -95.0, -40.0, -10.0], [-30.0, -50.0, -60.0, -70.0]], np.float16)
    segments = pa.table({"band_level_db": levels.tolist()})
    sound = np.arange(12.0).reshape(2, 6)  # of two groups: levels, deviations, steps
    np.testing.assert_array_equal(
        track_sound(segments, sound),
        [[-20, -80, -40, -10, 2, 3, 4, 5], [-30, -50, -60, -70, 8, 9, 10, 11]],
    )
    assert len(track_sound(segments.slice(0, 0), sound[:0])) == 0


def test_segments_of_a_track_that_is_as_loud_but_moves_otherwise_are_inconsistent():
    rng = np.random.default_rng(0)
    track = np.repeat(np.arange(TRACKS), SEGMENTS)
    sound = np.hstack(
        [
            rng.normal(-40, 3, (len(track), 4)),
            rng.normal(5 + 5 * (track % 2)[:, None], 1, (len(track), 4)),
        ]
    )
    sound[7, 4:] += 5
    levels_alone, whole = consistency(sound[:, :4], track), consistency(sound, track)
    assert whole[7] == whole[:SEGMENTS].min() < -5
    assert levels_alone[7] > -5
