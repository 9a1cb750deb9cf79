import numpy as np
import pyarrow as pa
import pytest

from schemas import Catalog, to_arrow
from schemas.summaries import LabelsSummary, ScoresSummary
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.read import commit_catalog, read_held_out
from sssl.errors import ConfigError
from sssl.labels.acceptance import (
    Change,
    Comparison,
    JudgeConfig,
    Outcome,
    compare,
    compare_scores,
    interval_of_means,
    outcomes,
    round_row,
    unsplit_row,
    verdict,
)
from sssl.labels.relabel import SplitSummary
from sssl.model.scores import scores_table, summarize_scores
from sssl.store.folder import Store
from sssl.store.manifest import Manifest

CLASSES = ("a", "b")
DEFAULTS = JudgeConfig()


# The comparison with the parent round


def made(p_at_label):
    """Outcomes of tracks of two classes whose mean posterior at the label is given."""
    return {f"t{i:03d}": Outcome(p > 0.5, -np.log(p)) for i, p in enumerate(p_at_label)}


def compared(before, after, groups=None, config=DEFAULTS):
    groups = range(len(before)) if groups is None else groups
    return compare(made(after), made(before), {f"t{i:03d}": f"g{g}" for i, g in enumerate(groups)}, config)


def judged(before, after, config=DEFAULTS, groups=None):
    return verdict(compared(before, after, groups, config), config)


def noisy(p, count, seed, spread=0.3):
    """Posteriors at the label around p, as two models of the same quality have them."""
    logit = np.log(p / (1 - p)) + np.random.default_rng(seed).normal(0, spread, count)
    return 1 / (1 + np.exp(-logit))


def test_changes_are_means_over_tracks_of_the_round_less_its_parent():
    found = compared([0.6, 0.6, 0.4, 0.4], [0.6, 0.7, 0.8, 0.4])
    assert found.accuracy.value == pytest.approx(0.25)
    assert found.loss.value == pytest.approx((np.log(0.6 / 0.7) + np.log(0.4 / 0.8)) / 4)


def test_only_tracks_that_both_rounds_scored_are_compared():
    found = compare(made([0.9, 0.9, 0.1]), made([0.9, 0.9]), {"t000": "g", "t001": "h"}, DEFAULTS)
    assert (found.groups, found.accuracy.value) == (2, 0)
    assert compare(made([0.9]), {}, {}, DEFAULTS) is None


def test_intervals_hold_what_they_promise_also_for_few_groups():
    """Of 6 groups of 3 values that rise and fall together; percentiles taken as they are cover 86 of 100."""
    rng, group = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    covered = []
    for _ in range(150):
        values = rng.normal(0, 1, 6)[group] + rng.normal(0, 0.5, 18)
        (low,), (high,) = interval_of_means(values[:, None], group, 0.95)
        covered.append(low <= 0 <= high)
    assert 0.91 < np.mean(covered) <= 0.99


def test_tracks_of_a_group_tell_less_than_as_many_groups():
    """Posteriors that change by artist: five tracks each, up for some artists and down for others."""
    before, after = [0.7] * 40, np.repeat([0.6, 0.9, 0.8, 0.6, 0.7, 0.9, 0.6, 0.9], 5)
    alone, together = (compared(before, after, [i // size for i in range(40)]) for size in (1, 5))
    assert (alone.groups, together.groups) == (40, 8)
    assert together.loss.high - together.loss.low > alone.loss.high - alone.loss.low
    assert together.loss.value == alone.loss.value


def test_five_groups_have_no_interval_and_are_not_called_better():
    """All of them got better, which happens by chance in one of 16 cases."""
    five, six = (compared([0.6] * count, [0.9] * count) for count in (5, 6))
    assert (five.loss.low, five.loss.high) == (None, None)
    said = "held-out accuracy +0.0 points, loss -0.405 nat; 5 groups are too few for intervals"
    assert verdict(five, DEFAULTS) == (True, f"not shown to be better or worse: {said}")
    assert verdict(six, DEFAULTS)[1].startswith("better")


def test_the_interval_is_the_same_each_time_and_in_any_order():
    before, after = made(noisy(0.6, 20, 1)), made(noisy(0.7, 20, 2))
    groups = {track_id: track_id[:3] for track_id in before}
    once = compare(after, before, groups, DEFAULTS)
    backwards = {track_id: after[track_id] for track_id in reversed(after)}
    assert compare(backwards, before, groups, DEFAULTS) == once


# The verdict


def test_a_fall_of_one_track_is_enough_to_reject():
    accepted, reason = judged([0.9] * 30, [0.9] * 29 + [0.4])
    assert not accepted
    assert reason.startswith("accuracy fell: held-out accuracy -3.3 points (-")


def test_a_fall_that_the_user_allows_does_not_reject():
    after = [0.9] * 29 + [0.4]
    assert judged([0.9] * 30, after, JudgeConfig(max_drop=0.05, min_gain=None))[0]
    assert not judged([0.9] * 30, after, JudgeConfig(max_drop=0.03, min_gain=None))[0]


def test_a_round_is_rejected_where_posteriors_get_worse_though_no_track_changes_sides():
    before, after = noisy(0.9, 30, 1), noisy(0.7, 30, 1)
    accepted, reason = judged(before, after)
    assert (after > 0.5).all()
    assert not accepted
    assert reason.startswith("loss rose: held-out accuracy +0.0 points (+0.0 to +0.0), loss +0.2")


def test_a_loss_that_rose_by_chance_does_not_reject():
    before, after = noisy(0.6, 30, 0, spread=1.0), noisy(0.6, 30, 26, spread=1.0)
    found = compared(before, after)
    assert found.accuracy.value > 0
    assert 0 < found.loss.value < found.loss.high
    assert verdict(found, DEFAULTS) == (True, f"not shown to be better or worse: {found}")


def test_only_what_the_interval_shows_is_called_better():
    shown, by_chance = compared([0.4] * 12 + [0.9] * 20, [0.6] * 12 + [0.9] * 20), compared([0.4, 0.9], [0.6, 0.9])
    assert shown.accuracy.value < by_chance.accuracy.value
    assert verdict(shown, DEFAULTS) == (True, f"better: {shown}")
    assert verdict(by_chance, DEFAULTS) == (True, f"not shown to be better or worse: {by_chance}")


def test_a_round_that_surely_brings_nothing_ends_the_rounds():
    """The same labels for every held-out track, at a loss that differs by chance."""
    accepted, reason = judged(noisy(0.9, 40, 1), noisy(0.9, 40, 2))
    assert not accepted
    assert reason.startswith("brought nothing")


def test_a_loss_that_surely_falls_is_a_gain_although_no_track_changes_sides():
    accepted, reason = judged(noisy(0.7, 40, 1), noisy(0.9, 40, 1))
    assert accepted
    assert reason.startswith("better: held-out accuracy +0.0 points")


def test_a_gain_too_small_to_matter_is_nothing_once_there_are_enough_tracks():
    """One of many tracks more: the gain is sure to be less than half a point, or than a tenth."""
    before, after = [0.4] * 2 + [0.9] * 2998, [0.6] * 1 + [0.4] * 1 + [0.9] * 2998
    found = Comparison(3000, compared(before, after).accuracy, Change(0.0, -0.1, 0.1))
    assert verdict(found, DEFAULTS)[1].startswith("brought nothing")
    assert verdict(found, JudgeConfig(min_gain=0.0001))[0]


def test_accepted_rounds_never_add_up_to_a_fall():
    """However many rounds of pure noise: the accuracy of the last accepted one is not below the warm-up's."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        first = standing = 1 / (1 + np.exp(-rng.normal(0.5, 1, 25)))
        for _ in range(10):
            round = 1 / (1 + np.exp(-np.log(standing / (1 - standing)) - rng.normal(0, 0.5, 25)))
            if judged(standing, round)[0]:
                standing = round
        assert np.mean(standing > 0.5) >= np.mean(first > 0.5)


def test_without_held_out_tracks_or_without_a_test_a_round_is_accepted_and_says_so():
    assert verdict(None, DEFAULTS) == (True, "accepted without a test: no held-out track")
    worse = compared([0.9] * 9, [0.1] * 9)
    assert verdict(worse, JudgeConfig(max_drop=None)) == (True, "accepted without a test (no --max-drop)")


def test_a_level_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="--interval-level 95: expected a share between 0 and 1"):
        JudgeConfig(interval_level=95)


# Tables


def track(track_id, label, split, part=0):
    return Catalog(track_id, "", label, split, f"group of {track_id}", 0, None, False, part, None)


def scored(posterior, tracks, round=0):
    """Scores of one segment a row: (track id, posterior)."""
    ids = [track_id for track_id, _ in posterior]
    segments = pa.table({"track_id": ids, "segment_index": pa.array(range(len(ids)), pa.int32())})
    return scores_table(segments, np.array([p for _, p in posterior], np.float32), tracks, CLASSES, round, "m")


def test_outcomes_agree_with_what_the_score_stage_counts():
    tracks = [track("x", "a", "test"), track("y", "b", "test"), track("z", "b", "test")]
    scores = scored([("x", (0.9, 0.1)), ("x", (0.2, 0.8)), ("y", (0.7, 0.3)), ("z", (0.0, 1.0))], tracks)
    found, counts = outcomes(scores, tracks, CLASSES), summarize_scores(scores, tracks, CLASSES)
    assert [found[name].correct for name in "xyz"] == [True, False, True]
    assert sum(outcome.loss for outcome in found.values()) == pytest.approx(counts.losses["test"])


def test_a_track_that_a_round_cannot_score_any_more_counts_against_it():
    tracks = [track("x", "a", "test"), track("y", "b", "test"), track("without segments", "b", "test")]
    before = scored([("x", (0.9, 0.1)), ("y", (0.1, 0.9))], tracks)
    after = scored([("x", (np.nan, np.nan)), ("y", (0.1, 0.9))], tracks)
    found, parents = (outcomes(scores, tracks, CLASSES) for scores in (after, before))
    groups = {track.track_id: track.group_id for track in tracks}
    comparison = compare(found, parents, groups, DEFAULTS)
    assert comparison.accuracy.value == -0.5
    assert not verdict(comparison, DEFAULTS)[0]


@pytest.fixture
def committed(in_memory):
    """A catalog of six parts, held-out tracks in the second and the last; and a maker of scores of a round."""
    store = Store.open(in_memory, create=True)
    held_out = {1: "test", 5: "test", 2: "train"}
    rows = [
        track(f"{part}{name}", name if part in held_out else None, held_out.get(part), part)
        for part in range(6)
        for name in CLASSES
    ]
    catalog = commit_catalog(store, to_arrow(Catalog, rows), CatalogConfig(classes=CLASSES))

    def scores(round, p):
        files = {}
        for part in range(6):
            own = [row for row in rows if row.part == part]
            posterior = [(row.track_id, (p, 1 - p) if row.label == "a" else (1 - p, p)) for row in own]
            files[part] = store.write_part("scores", f"r{round}", part, scored(posterior, own, round))
        return store.commit(Manifest("scores", f"r{round}", "score", round, {}, (catalog.ref,), files, {}))

    return store, catalog, scores


def test_held_out_tracks_are_found_in_a_catalog(committed):
    store, catalog, _ = committed
    assert [row.track_id for row in read_held_out(store, catalog)] == ["1a", "1b", "5a", "5b"]


def test_only_parts_with_held_out_tracks_are_read(committed):
    store, catalog, scores = committed
    before, after = scores(0, 0.6), scores(1, 0.9)
    for part in (0, 2, 3, 4):
        for table in (before, after):
            store.delete(table.files[part].path)
    found = compare_scores(store, catalog, after, before, DEFAULTS)
    assert (found.groups, found.accuracy.value) == (4, 0.0)
    assert found.loss.value == pytest.approx(np.log(0.6 / 0.9))


def test_a_round_row_is_made_of_both_summaries_and_the_comparison():
    confusions = {"test": {"a": {"a": 3, "b": 1}}, "train": {"b": {"b": 2}}}
    scores = ScoresSummary(classes=CLASSES, confusions=confusions, losses={"test": 2.0})
    labels, no_split = LabelsSummary(confident=8, noisy=2, relabelled=1), SplitSummary()
    row = round_row(0, None, "m", scores, labels, no_split, None, DEFAULTS)
    assert (row.accepted, row.reason, row.parent_round, row.heldout_tracks) == (True, "warm-up", None, 4)
    assert row.heldout_accuracy == pytest.approx(0.75)
    assert row.heldout_loss == pytest.approx(0.5)
    assert row.train_accuracy == pytest.approx(1.0)
    assert (row.confident, row.noisy, row.relabelled, row.locked) == (8, 2, 1, 0)
    assert (row.heldout_groups, row.heldout_accuracy_change, row.heldout_loss_change_low) == (None, None, None)

    comparison = Comparison(3, Change(-0.25, -0.6, 0.1), Change(0.2, -0.1, 0.5))
    row = round_row(1, row, "n", scores, labels, no_split, comparison, DEFAULTS)
    assert (row.accepted, row.parent_round, row.heldout_groups) == (False, 0, 3)
    changes = [getattr(row, f"heldout_accuracy_change{end}") for end in ("_low", "", "_high")]
    assert changes == [-0.6, -0.25, 0.1]
    changes = [getattr(row, f"heldout_loss_change{end}") for end in ("_low", "", "_high")]
    assert changes == [-0.1, 0.2, 0.5]


def test_a_round_with_nothing_to_split_keeps_the_parent_s_model_and_numbers():
    scores = ScoresSummary(classes=CLASSES, confusions={"test": {"a": {"a": 3, "b": 1}}})
    labels, no_split = LabelsSummary(confident=10), SplitSummary()
    comparison = Comparison(3, Change(0.2, 0.1, 0.3), Change(0.2, -0.1, 0.5))
    warm_up = round_row(0, None, "m", scores, labels, no_split, None, DEFAULTS)
    parent = round_row(1, warm_up, "n", scores, labels, no_split, comparison, DEFAULTS)
    row = unsplit_row(2, parent, labels, no_split)
    assert (row.round, row.accepted, row.parent_round, row.model_id) == (2, False, 1, "n")
    assert row.heldout_accuracy == parent.heldout_accuracy
    assert row.heldout_accuracy_change is None
    assert "nothing to split" in row.reason
