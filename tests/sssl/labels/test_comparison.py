import numpy as np
import pyarrow as pa
import pytest

from schemas import Catalog, to_arrow
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog, read_labelled
from sssl.labels.calibration import sharpen
from sssl.labels.comparison import (
    JudgedTracks,
    calibrated_losses,
    change_by_group,
    compare,
    compare_held_out,
    interval_of_means,
    mean_posteriors,
    read_judged,
)
from sssl.model.scores import scores_table, summarize_scores
from sssl.store.folder import Store
from sssl.store.manifest import Manifest

CLASSES = ("a", "b")


def judged(before, after, groups=None, held_out=False):
    """Tracks of class a whose mean posterior at the label is given, each a group of its own unless
    told otherwise."""
    posteriors = [np.stack([np.array(p), 1 - np.array(p)], axis=1) for p in (before, after)]
    group = np.arange(len(before)) if groups is None else np.array(groups)
    label = np.zeros(len(before), np.int64)
    return JudgedTracks(label, group, np.full(len(before), held_out), *posteriors)


def noisy(p, count, seed, spread=0.3):
    """Posteriors at the label around p, as two models of the same quality have them."""
    logit = np.log(p / (1 - p)) + np.random.default_rng(seed).normal(0, spread, count)
    return 1 / (1 + np.exp(-logit))


def test_a_group_counts_once_whatever_its_size():
    change = change_by_group(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1]))
    assert change.value == 0.5


def test_the_error_is_the_jackknife_over_groups():
    values, group = np.random.default_rng(0).normal(0.2, 1, 30), np.arange(30) % 7
    change = change_by_group(values, group)
    means = np.array([values[group == g].mean() for g in range(7)])
    left_out = np.array([np.delete(means, g).mean() for g in range(7)])
    assert change.error == pytest.approx(np.sqrt(6 / 7 * ((left_out - left_out.mean()) ** 2).sum()))
    assert change.z == change.value / change.error


def test_tracks_that_all_change_alike_have_a_finite_z():
    assert np.isfinite(change_by_group(np.full(8, -0.1), np.arange(8)).z)
    assert change_by_group(np.zeros(8), np.arange(8)).z == 0


def test_losses_are_those_at_the_likeliest_temperature():
    """Log odds that are twice too large."""
    random = np.random.default_rng(1)
    p = noisy(0.5, 4000, seed=1, spread=0.7)
    label = (random.uniform(size=4000) > p).astype(np.int64)
    right = np.stack([p, 1 - p], axis=1)
    found = calibrated_losses(sharpen(right, 0.5), label)
    assert np.quantile(np.abs(found + np.log(right[np.arange(4000), label])), 0.99) < 0.1


def test_a_model_that_is_only_surer_is_no_better():
    """The same ranking of the same tracks, every log odds doubled."""
    p = noisy(0.7, 60, seed=2, spread=1.5)
    surer = sharpen(np.stack([p, 1 - p], axis=1), 0.5)[:, 0]
    found = compare(judged(p, surer))
    assert abs(found.loss.value) < 0.01
    assert found.accuracy.value == 0


@pytest.mark.parametrize("seed", range(20))
def test_one_track_never_turns_acceptance_into_the_opposite(seed):
    """The surest of 55 tracks becomes hopeless: of the two zones that lie apart it may reach the
    next one only."""
    before, after = noisy(0.7, 55, seed, spread=1.6), noisy(0.7, 55, seed + 100, spread=1.6)
    once = compare(judged(before, after))
    after[before.argmax()] = 1e-6
    again = compare(judged(before, after))
    assert again.loss.z - once.loss.z < 2


def test_tracks_of_a_group_tell_less_than_as_many_groups():
    """Posteriors that change by artist: five tracks each, up for some artists and down for
    others."""
    before, after = [0.7] * 40, np.repeat([0.6, 0.9, 0.8, 0.6, 0.7, 0.9, 0.6, 0.9], 5)
    alone, together = (
        compare(judged(before, after, [i // size for i in range(40)])) for size in (1, 5)
    )
    assert (alone.groups, together.groups) == (40, 8)
    assert together.loss.error > 1.5 * alone.loss.error


def test_fewer_than_six_groups_are_not_compared():
    assert compare(judged([0.6] * 20, [0.9] * 20, [i % 5 for i in range(20)])) is None
    assert compare(judged([0.6] * 20, [0.9] * 20, [i % 6 for i in range(20)])).groups == 6
    assert compare(judged([], [])) is None


def test_the_comparison_does_not_depend_on_the_names_of_groups():
    before, after = noisy(0.6, 20, 1), noisy(0.7, 20, 2)
    once = compare(judged(before, after, [i // 2 for i in range(20)]))
    other = compare(judged(before, after, [9 - i // 2 for i in range(20)]))
    assert other.loss.value == pytest.approx(once.loss.value)
    assert other.loss.error == pytest.approx(once.loss.error)


def test_intervals_hold_what_they_promise_also_for_few_groups():
    """Of 6 groups of 3 values that rise and fall together; percentiles taken as they are cover 86
    of 100."""
    rng, group = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    covered = []
    for _ in range(150):
        values = rng.normal(0, 1, 6)[group] + rng.normal(0, 0.5, 18)
        (low,), (high,) = interval_of_means(values[:, None], group, 0.95)
        covered.append(low <= 0 <= high)
    assert 0.91 < np.mean(covered) <= 0.99


def test_held_out_changes_are_of_held_out_tracks_alone_and_as_they_are_scored():
    tracks = judged([0.6, 0.6, 0.4, 0.4], [0.6, 0.7, 0.8, 0.4])
    assert compare_held_out(tracks, 0.95) is None
    own = JudgedTracks(
        tracks.label,
        tracks.group,
        np.array([False, True, True, False]),
        tracks.before,
        tracks.after,
    )
    found = compare_held_out(own, 0.95)
    assert found.groups == 2
    assert found.accuracy.value == pytest.approx(0.5)
    assert found.loss.value == pytest.approx((np.log(0.6 / 0.7) + np.log(0.4 / 0.8)) / 2)
    assert (found.loss.low, found.loss.high) == (None, None)
    six = compare_held_out(judged([0.6] * 6, [0.9] * 6, held_out=True), 0.95)
    assert six.loss.low <= six.loss.value <= six.loss.high


# Tables


def track(track_id, label, split, part=0):
    return Catalog(
        track_id, "", label, split, f"group of {track_id}", 0, None, False, part, *[None] * 4
    )


def scored(posterior, tracks, round=0):
    """Scores of one segment a row: (track id, posterior)."""
    ids = [track_id for track_id, _ in posterior]
    segments = pa.table({"track_id": ids, "segment_index": pa.array(range(len(ids)), pa.int32())})
    return scores_table(
        segments, np.array([p for _, p in posterior], np.float32), tracks, CLASSES, round, "m"
    )


def test_mean_posteriors_agree_with_what_the_score_stage_counts():
    tracks = [track("x", "a", "test"), track("y", "b", "test"), track("z", "b", "test")]
    scores = scored(
        [("x", (0.9, 0.1)), ("x", (0.2, 0.8)), ("y", (0.7, 0.3)), ("z", (0.0, 1.0))], tracks
    )
    found, counted = mean_posteriors(scores, 2), summarize_scores(scores, tracks, CLASSES)
    assert found["x"] == pytest.approx([0.55, 0.45])
    right = {name: found[name].argmax() == label for name, label in (("x", 0), ("y", 1), ("z", 1))}
    assert right == {"x": True, "y": False, "z": True}
    assert counted.confusion("test").tolist() == [[1, 0], [1, 1]]


def test_a_track_that_a_round_cannot_score_any_more_counts_against_it():
    tracks = [track("x", "a", "test")]
    lost = mean_posteriors(scored([("x", (np.nan, np.nan))], tracks), 2)
    assert lost["x"].tolist() == [0.5, 0.5]
    found = compare_held_out(judged([0.9], [0.5], held_out=True), 0.95)
    assert found.accuracy.value == -1
    assert found.loss.value > 0


@pytest.fixture
def committed(tmp_path):
    """A catalog of six parts, labelled tracks in three of them; and a maker of scores of a
    round."""
    store = Store.open(str(tmp_path / "out"), create=True)
    splits = {1: "test", 5: "test", 2: "train"}
    rows = [
        track(f"{part}{name}", name if part in splits else None, splits.get(part), part)
        for part in range(6)
        for name in CLASSES
    ]
    catalog = commit_catalog(store, to_arrow(Catalog, rows), CatalogConfig(classes=CLASSES))

    def scores(round, p):
        files = {}
        for part in range(6):
            own = [row for row in rows if row.part == part]
            posterior = [
                (row.track_id, (p, 1 - p) if row.label == "a" else (1 - p, p)) for row in own
            ]
            files[part] = store.write_part(
                "scores", f"r{round}", part, scored(posterior, own, round)
            )
        return store.commit(
            Manifest("scores", f"r{round}", "score", round, {}, (catalog.ref,), files, {})
        )

    return store, catalog, scores


def test_labelled_tracks_are_found_in_a_catalog(committed):
    store, catalog, _ = committed
    found = read_labelled(store, catalog)
    assert found["track_id"].to_pylist() == ["1a", "1b", "2a", "2b", "5a", "5b"]
    assert found["split"].to_pylist() == ["test", "test", "train", "train", "test", "test"]
    few = ("part", "corrections", "track_id")
    assert read_labelled(store, catalog, few).equals(found.select(few))


def test_a_catalog_without_labels_has_no_labelled_tracks(tmp_path):
    store = Store.open(str(tmp_path / "out"), create=True)
    tracks = to_arrow(Catalog, [track(name, None, None) for name in "ab"])
    found = read_labelled(store, commit_catalog(store, tracks, CatalogConfig()))
    assert found.schema.names == tracks.schema.names
    assert not len(found)


def test_only_parts_with_tracks_that_judge_are_read(committed):
    store, catalog, scores = committed
    before, after = scores(0, 0.6), scores(1, 0.9)
    for part in (0, 3, 4):
        for table in (before, after):
            store.delete(table.files[part].path)
    tracks = read_judged(store, catalog, before, after)
    assert tracks.held_out.tolist() == [True, True, False, False, True, True]
    assert tracks.groups == 6
    assert tracks.label.tolist() == [0, 1] * 3
    assert tracks.before[1] == pytest.approx([0.4, 0.6])
    assert tracks.after[1] == pytest.approx([0.1, 0.9])


def test_a_track_without_segments_does_not_judge(committed):
    store, catalog, scores = committed
    before, after = scores(0, 0.6), scores(1, 0.9)
    tables = [store.read_part(table.files[5]) for table in (before, after)]
    for table, rows in zip((before, after), tables, strict=True):
        store.write_part("scores", table.generation, 5, rows.slice(1))
    assert len(read_judged(store, catalog, before, after).label) == 5
