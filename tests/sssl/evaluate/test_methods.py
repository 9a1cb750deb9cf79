from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from rows import a_track

from sssl.catalog.assign import CatalogConfig
from sssl.errors import CatalogError
from sssl.evaluate.methods import (
    METHODS,
    METRICS,
    Fold,
    Outcome,
    check_folds,
    label_metrics,
    posterior_metrics,
    render,
    said,
    song_metrics,
    summarize,
    suspicion_rank,
    tabulate,
    to_records,
    withhold,
)
from sssl.evaluate.numbers import NUMBER_METRICS, number_metrics
from sssl.labels.confident_learning import find_issues
from sssl.metrics import calibration_error, reliability
from sssl.store.manifest import Snapshot

CLASSES = ("Q1", "Q2")
CONFIG = CatalogConfig(CLASSES, folds=3, test_share=0.2)


def catalog(groups=20, of_group=2):
    return [
        a_track(f"g{g}-{n}", label=CLASSES[g % 2], split=None, group_id=f"g{g}", part=g % 4)
        for g in range(groups)
        for n in range(of_group)
    ]


def test_each_track_is_withheld_once_a_seed_together_with_its_group():
    rows = catalog()
    withheld = [withhold(rows, 5, fold, 0, CONFIG)[1] for fold in range(5)]
    assert sorted(track for fold in withheld for track in fold) == sorted(
        row.track_id for row in rows
    )
    for fold in withheld:
        groups = {track.split("-")[0] for track in fold}
        assert len(fold) == 2 * len(groups)
        assert {label: list(fold.values()).count(label) for label in CLASSES} == {"Q1": 4, "Q2": 4}


def test_what_a_listener_said_of_a_track_is_withheld_with_its_label():
    said = [{"start_s": None, "end_s": None, "label": "Q1"}]
    vouched = [replace(row, locked=True, corrections=said) for row in catalog()]
    rows, withheld = withhold(vouched, 5, 2, 0, CONFIG)
    for row in rows:
        assert (row.corrections is None) == (row.track_id in withheld)
        assert row.locked == (row.track_id not in withheld)


def test_numbers_are_withheld_with_labels():
    rated = [replace(row, valence=0.5, arousal=-0.5) for row in catalog()]
    rows, withheld = withhold(rated, 5, 2, 0, CONFIG)
    for row in rows:
        numbers = (None, None) if row.track_id in withheld else (0.5, -0.5)
        assert (row.valence, row.arousal) == numbers


def rated_songs():
    """Three songs that are exactly right, a tenth too high, and without numbers."""
    songs = pd.DataFrame({"track_id": ["a", "b", "c"], "valence": [0.5, 0.1, np.nan]})
    for axis, values in (("valence", songs["valence"]), ("arousal", songs["valence"] - 0.2)):
        songs[axis] = values
        songs[f"{axis}_low"] = values - 0.05
        songs[f"{axis}_high"] = values + 0.05
    return songs


def test_numbers_are_measured_where_songs_and_tracks_have_them():
    numbers = {"a": (0.5, 0.3), "b": (0.0, -0.1), "c": (1.0, 1.0)}
    found = number_metrics(rated_songs(), numbers)
    assert found["valence_rmse"] == pytest.approx(np.sqrt(0.1**2 / 2))
    assert found["valence_coverage"] == 0.5
    assert found["arousal_rmse"] == pytest.approx(0.0)
    assert found["arousal_r2"] == found["arousal_ccc"] == pytest.approx(1.0)
    assert set(found) == {name for name, _, _ in NUMBER_METRICS}


def test_without_numbers_none_are_measured():
    assert number_metrics(rated_songs(), {}) == {}
    bare = rated_songs().assign(valence=None)
    assert number_metrics(bare, {"a": (0.5, 0.3)}) == {}


def test_a_withheld_track_has_no_label_in_the_catalog_of_its_fold():
    rows, withheld = withhold(catalog(), 5, 2, 0, CONFIG)
    by_id = {row.track_id: row for row in rows}
    assert all((by_id[track].label, by_id[track].split) == (None, None) for track in withheld)
    assert all(row.label and row.split for row in rows if row.track_id not in withheld)


def test_other_tracks_are_held_out_and_folded_by_group():
    rows, withheld = withhold(catalog(), 5, 0, 0, CONFIG)
    known = [row for row in rows if row.track_id not in withheld]
    assert sum(row.split == "test" for row in known) / len(known) == pytest.approx(0.2, abs=0.1)
    for group in {row.group_id for row in known}:
        assert len({(row.split, row.fold) for row in known if row.group_id == group}) == 1
    assert {row.fold for row in known if row.split == "train" and row.label == "Q1"} == {0, 1, 2}


def test_another_seed_deals_other_folds_and_the_same_seed_the_same():
    dealt = [withhold(catalog(), 5, 0, seed, CONFIG) for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1]
    assert dealt[0][1] != dealt[2][1]


def test_parts_stay_so_that_segments_are_reused():
    before = {row.track_id: row.part for row in catalog()}
    assert {row.track_id: row.part for row in withhold(catalog(), 5, 0, 0, CONFIG)[0]} == before


def test_without_a_test_share_no_round_is_judged():
    rows, _ = withhold(catalog(), 5, 0, 0, CatalogConfig(CLASSES, test_share=0.0))
    assert {row.split for row in rows} == {"train", None}


def test_a_class_with_too_few_groups_is_named():
    check_folds(catalog(), 10, CLASSES)
    with pytest.raises(
        CatalogError, match="class Q1 has usable tracks of 10 groups, expected at least --folds 11"
    ):
        check_folds(catalog(), 11, CLASSES)


def test_methods_differ_from_the_next_in_one_thing():
    ce, mixup, prune = (METHODS[name] for name in ("ce", "mixup", "prune"))
    assert {ce.preset.rounds, mixup.preset.rounds, prune.preset.rounds} == {0}
    assert (ce.preset.train.warmup_mixup, mixup.preset.train.warmup_mixup) == (False, True)
    assert prune.refit == mixup.preset
    assert prune.preset.train == METHODS["guarded"].preset.train  # a warm-up that is trained once


def test_settings_reach_both_trainings_of_a_method_and_rounds_only_shrink():
    method = METHODS["prune"].with_settings(seed=3, warmup_epochs=1, rounds=5)
    for preset in (method.preset, method.refit):
        assert (preset.train.seed, preset.train.warmup_epochs, preset.rounds) == (3, 1, 0)
    assert METHODS["paper"].with_settings(0, None, 2).preset.rounds == 2
    assert METHODS["paper"].with_settings(0, None, None).preset == METHODS["paper"].preset


def test_macro_f1_leaves_out_classes_that_do_not_occur():
    songs = pd.DataFrame({"true_label": ["Q1", "Q1", "Q2"], "label": ["Q1", "Q3", "Q2"]})
    assert song_metrics(songs) == {
        "song_accuracy": pytest.approx(2 / 3),
        "song_macro_f1": pytest.approx(5 / 6),
    }
    assert song_metrics(songs[:0]) == {"song_accuracy": None, "song_macro_f1": None}


def test_only_withheld_tracks_with_a_posterior_and_a_known_truth_are_measured():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [np.nan, np.nan], [0.2, 0.8], [0.9, 0.1]])
    truth = np.array(["Q1", "Q1", "Q1", None, "Q2"], dtype=object)
    fold = Fold(0, 0, Snapshot(), {"a": "Q1", "b": "Q1"}, truth)
    found = posterior_metrics(pd.Series(["a", "a", "a", "b", "c"]), p, fold, CLASSES)
    assert found == {"song_accuracy_mean_posterior": 0.5, "segment_accuracy": 0.5}


def labels(**columns):
    given = {
        "inherited_label": ["Q1"] * 4,
        "label": ["Q1"] * 4,
        "true_label": ["Q1", "Q1", "Q2", "Q2"],
    }
    return pd.DataFrame(given | {"suspicion": [0.1, 0.2, 0.3, 0.4]} | columns)


@pytest.mark.parametrize(
    ("table", "rank"),
    [
        ({"loss": [0.1, None, 3.0, 0.1]}, [0, None, 1, 0]),
        (
            {"clean_probability": [0.9, 0.2, 0.9, None], "loss": [0.5, 0.1, 0.6, None]},
            [0, 2, 1, None],
        ),
        ({"clean_probability": [0.9, 0.2, 0.5, None], "loss": [None] * 4}, [0, 2, 1, None]),
        ({"loss": [None, None]}, [None, None]),
    ],
    ids=["a model's loss", "a split, loss within equal probability", "pruned", "nothing"],
)
def test_segments_are_ranked_by_clean_probability_and_then_by_loss(table, rank):
    found = suspicion_rank(
        pa.table({name: pa.array(values, pa.float32()) for name, values in table.items()})
    )
    assert found.tolist() == pytest.approx(
        [np.nan if value is None else value for value in rank], nan_ok=True
    )


def test_suspicion_that_ranks_wrong_segments_first_has_auc_one():
    assert (
        label_metrics(labels())["wrong_segment_auc"]
        == label_metrics(labels())["wrong_segment_ap"]
        == 1.0
    )
    assert label_metrics(labels(suspicion=[0.4, 0.3, 0.2, 0.1]))["wrong_segment_auc"] == 0.0


def test_where_nothing_is_wrong_there_is_nothing_to_rank():
    found = label_metrics(labels(true_label=["Q1"] * 4))
    assert (found["wrong_share"], found["wrong_segment_auc"], found["wrong_segment_ap"]) == (
        0.0,
        None,
        None,
    )


def test_relabelling_counts_as_wrong_where_the_label_was_right():
    found = label_metrics(labels(label=["Q2", "Q1", "Q2", "Q1"]))
    assert (found["relabelled_wrongly"], found["relabelled_rightly"]) == (0.25, 0.25)


def test_calibrated_confidence_has_no_error_and_overconfidence_its_excess():
    correct = np.tile([True, True, True, False], 25)
    assert calibration_error(reliability(np.full(100, 0.75), correct, 1)) == pytest.approx(0.0)
    assert calibration_error(reliability(np.full(100, 0.95), correct, 1)) == pytest.approx(0.2)
    assert calibration_error(reliability(np.array([]), np.array([], bool), 10)) is None


def test_bins_of_the_calibration_error_have_equal_mass():
    confidence = np.concatenate([np.full(10, 0.5), np.full(10, 1.0)])
    correct = np.concatenate([np.zeros(10, bool), np.ones(10, bool)])
    assert calibration_error(reliability(confidence, correct, 2)) == pytest.approx(0.25)


def outcome(method, seed, fold, accuracy, correct=(True, False)):
    metrics = {"song_accuracy": accuracy, "wrong_segment_auc": None}
    return Outcome(method, seed, fold, metrics, np.full(len(correct), 0.5), np.array(correct))


OUTCOMES = [
    outcome(method, seed, fold, accuracy + 0.1 * fold)
    for seed in (0, 1)
    for fold in (0, 1)
    for method, accuracy in (("ce", 0.5), ("guarded", 0.6))
]


def test_the_summary_has_mean_and_standard_error_over_seeds_and_folds():
    found = summarize(OUTCOMES)["ce"]["song_accuracy"]
    assert found == {
        "mean": pytest.approx(0.55),
        "standard_error": pytest.approx(0.1 / np.sqrt(12)),
        "values": 4,
    }


def test_a_gain_is_paired_by_fold():
    gain = summarize(OUTCOMES)["guarded"]["song_accuracy_gain"]
    assert (gain["mean"], gain["standard_error"]) == (pytest.approx(0.1), pytest.approx(0.0))
    assert summarize(OUTCOMES)["ce"]["song_accuracy_gain"]["mean"] is None


def test_calibration_is_measured_over_all_folds_of_a_seed():
    found = summarize(
        [outcome("ce", 0, 0, 1.0, (True, True)), outcome("ce", 0, 1, 0.0, (False, False))]
    )
    assert found["ce"]["calibration_error"] == {
        "mean": pytest.approx(0.5),
        "standard_error": None,
        "values": 1,
    }


def test_what_could_not_be_measured_is_null_and_a_dash():
    summary = summarize(OUTCOMES)
    assert all(row["wrong_segment_auc"] is None for row in to_records(tabulate(OUTCOMES)))
    assert said(summary["ce"]["wrong_segment_auc"]) == "—"
    assert said({"mean": 0.5, "standard_error": 0.0123}) == "0.500 ± 0.012"


def test_the_page_escapes_names_and_needs_nothing_else():
    metrics = {metric.name: {"mean": 0.5, "standard_error": None} for metric in METRICS}
    page = render({"ce": metrics}, {"catalog": "<b>.csv", "folds": 2, "seeds": 1})
    assert "&lt;b&gt;.csv" in page
    assert "http" not in page


def test_confident_learning_finds_swapped_labels():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    posterior = np.full((300, 3), 0.05)
    posterior[np.arange(300), true] = 0.9
    given = np.where(np.arange(300) % 10 == 0, (true + 1) % 3, true)
    issue, quality = find_issues(given, posterior)
    assert (issue == (given != true)).all()
    assert quality[issue].max() < quality[~issue].min()
