import numpy as np
import pyarrow as pa
import pytest
from rows import a_track

from sssl.labels.evidence import Evidence, Segments
from sssl.labels.relabel import Judged, inherit, relabel
from sssl.labels.settings import RelabelConfig
from sssl.labels.split import fit_split, loss_histograms
from sssl.model.scores import scores_table
from sssl.presets import PAPER

CLASSES = ("Q1", "Q2", "Q3", "Q4")
GUARDED = RelabelConfig()


def track(track_id, label, split="train", locked=False):
    return a_track(track_id, label=label, split=split, locked=locked)


def make_scores(by_track, tracks):
    """Scores of tracks whose posterior at class 0 is given by segment; the rest goes to class 1."""
    ids = [track_id for track_id, ps in by_track.items() for _ in ps]
    index = [i for ps in by_track.values() for i in range(len(ps))]
    p = np.array([x for ps in by_track.values() for x in ps], np.float32)
    rest = (1 - p)[:, None] * np.array([[0.9, 0.05, 0.05]], np.float32)
    segments = pa.table({"track_id": ids, "segment_index": pa.array(index, pa.int32())})
    return scores_table(segments, np.hstack([p[:, None], rest]), tracks, CLASSES, 0, "m")


def probabilities(clean, noisy, seed=0):
    """Posteriors at the label: `clean` segments around 0.95, `noisy` ones around 0.05."""
    rng = np.random.default_rng(seed)
    logits = np.concatenate([rng.normal(3, 1, clean), rng.normal(-3, 0.7, noisy)])
    return (1 / (1 + np.exp(-logits))).tolist()


def run(by_track, tracks, config=GUARDED):
    return split_and_relabel(make_scores(by_track, tracks), tracks, config)


def split_and_relabel(scores, tracks, config=GUARDED):
    segments = Segments.of(scores, tracks, CLASSES, None)
    judged = Judged(segments.posterior, *Evidence().losses(segments))
    split = fit_split(loss_histograms(judged.loss, segments, config.axis), config)
    return relabel(scores, judged, tracks, CLASSES, 1, split, config).to_pandas(), split


@pytest.mark.parametrize("config", [GUARDED, PAPER.relabel], ids=["guarded", "paper"])
def test_wrong_segments_become_noisy_and_take_the_model_s_label(config):
    tracks = [track("a", "Q1")]
    labels, _ = run({"a": probabilities(700, 300)}, tracks, config)
    wrong = np.arange(1000) >= 700
    noisy = (labels["partition"] == "noisy").to_numpy()
    assert (noisy == wrong).mean() > 0.98
    assert (labels["label"][noisy & wrong] == "Q2").all()
    assert (labels["label"][~noisy] == "Q1").mean() > 0.99


def test_nothing_is_relabelled_where_nothing_is_wrong():
    labels, split = run({"a": probabilities(1000, 0)}, [track("a", "Q1")])
    assert split.common.noisy is None
    assert set(labels["partition"]) == {"confident"}
    assert set(labels["reason"]) == {"no-split"}


def test_a_class_that_is_merely_hard_is_not_noisy():
    """All losses of Q2 are higher than those of Q1, but none of them is wrong."""
    rng = np.random.default_rng(1)
    q1 = 1 / (1 + np.exp(-np.concatenate([rng.normal(4, 0.8, 700), rng.normal(-3, 0.7, 300)])))
    tracks = [track("a", "Q1"), track("b", "Q2")]
    scores = make_scores(
        {"a": q1.tolist(), "b": (1 / (1 + np.exp(-rng.normal(1.5, 0.8, 1000)))).tolist()}, tracks
    )
    # Give Q2 its posterior at class 1, which make_scores puts at class 0.
    swapped = [
        [p[1], p[0], *p[2:]] if i >= 1000 else p
        for i, p in enumerate(scores["probabilities"].to_pylist())
    ]
    segments = scores.select(["track_id", "segment_index"])
    scores = scores_table(segments, np.array(swapped, np.float32), tracks, CLASSES, 0, "m")
    labels, _ = split_and_relabel(scores, tracks)
    assert (labels["partition"][1000:] == "noisy").mean() < 0.02
    assert (labels["partition"][:700] == "noisy").mean() < 0.02
    assert (labels["partition"][700:1000] == "noisy").mean() > 0.95


def test_no_more_than_the_cap_is_called_noisy_and_those_are_the_worst():
    labels, _ = run({"a": probabilities(550, 450)}, [track("a", "Q1")])
    noisy = (labels["partition"] == "noisy").to_numpy()
    assert noisy.mean() <= GUARDED.max_noisy_share
    assert labels["loss"][noisy].min() >= labels["loss"][~noisy].max() - 0.05
    assert (labels["reason"] == "cap").any()
    # The cap would be none if capped segments took the model's label all the same.
    assert set(labels["label"][labels["reason"] == "cap"]) == {"Q1"}


def test_without_monotone_posteriors_only_what_the_threshold_says_is_noisy():
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.5, 0.1, 1400), rng.normal(1.6, 0.6, 600)]).clip(0.01)
    labels, _ = run({"a": np.exp(-losses).tolist()}, [track("a", "Q1")], PAPER.relabel)
    noisy = labels["partition"] == "noisy"
    assert (labels["clean_probability"][noisy] <= PAPER.relabel.tau).all()
    assert (labels["clean_probability"][~noisy] > PAPER.relabel.tau).all()
    assert 0.2 < noisy.mean() < 0.4


def test_locked_labels_stand_whatever_the_loss():
    tracks = [track("a", "Q1"), track("b", "Q1", locked=True)]
    labels, _ = run({"a": probabilities(700, 300), "b": [0.01] * 10}, tracks)
    locked = labels[labels["track_id"] == "b"]
    assert set(locked["partition"]) == {"locked"}
    assert set(locked["label"]) == {"Q1"}
    assert np.stack(locked["target"]).tolist() == [[1, 0, 0, 0]] * 10


def test_held_out_tracks_never_carry_weight():
    tracks = [track("a", "Q1"), track("b", "Q1", split="test")]
    labels, _ = run({"a": probabilities(700, 300), "b": [0.9] * 5}, tracks)
    assert (labels["weight"][labels["track_id"] == "b"] == 0).all()
    of_a = labels[labels["track_id"] == "a"]
    assert (
        (of_a["weight"] > 0) == (of_a["partition"] == "confident")
    ).all()  # noisy ones are set aside


def test_tracks_without_a_label_keep_none_and_carry_no_weight():
    tracks = [track("a", "Q1"), track("u", None)]
    labels, _ = run({"a": probabilities(700, 300), "u": [0.9] * 5}, tracks)
    unlabelled = labels[labels["track_id"] == "u"]
    assert set(unlabelled["partition"]) == {"unlabelled"}
    assert unlabelled["label"].isna().all()
    assert unlabelled["target"].isna().all()
    assert (unlabelled["weight"] == 0).all()


def test_a_score_that_is_not_finite_keeps_the_label_and_sets_the_segment_aside():
    labels, _ = run({"a": [*probabilities(700, 300), float("nan")]}, [track("a", "Q1")])
    last = labels.iloc[-1]
    assert (last["label"], last["reason"], last["weight"]) == ("Q1", "no-score", 0.0)


def test_without_any_score_nothing_changes():
    labels, _ = run({"a": [float("nan")] * 5}, [track("a", "Q1")])
    assert set(labels["label"]) == {"Q1"}


def test_targets_are_distributions():
    labels, _ = run({"a": probabilities(700, 300)}, [track("a", "Q1")])
    np.testing.assert_allclose(np.stack(labels["target"]).sum(axis=1), 1.0, atol=1e-6)


def test_inherited_labels_are_the_tracks_labels():
    tracks = [track("a", "Q3"), track("u", None), track("h", "Q2", split="test")]
    segments = pa.table(
        {"track_id": ["a", "a", "u", "h"], "segment_index": pa.array([0, 1, 0, 0], pa.int32())}
    )
    labels = inherit(segments, tracks, CLASSES).to_pandas()
    assert labels["label"].tolist()[:2] == ["Q3", "Q3"]
    assert labels["weight"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert labels["partition"].tolist() == ["confident", "confident", "unlabelled", "confident"]


def test_corrected_segments_take_the_listener_s_label_and_the_others_of_their_track_stay_free():
    tracks = [track("a", "Q1"), track("b", "Q1")]
    corrected = np.full(1010, -1)
    corrected[[0, 999, 1000]] = [2, 0, 3]  # a right segment, a wrong one and one of another track
    by_track = {"a": probabilities(700, 300), "b": [0.01] * 10}
    scores = make_scores(by_track, tracks)
    segments = Segments.of(scores, tracks, CLASSES, None, corrected)
    judged = Judged(segments.posterior, *Evidence().losses(segments))
    split = fit_split(loss_histograms(judged.loss, segments, GUARDED.axis), GUARDED)
    labels = relabel(scores, judged, tracks, CLASSES, 1, split, GUARDED, corrected).to_pandas()
    said = labels.iloc[[0, 999, 1000]]
    assert list(said["label"]) == ["Q3", "Q1", "Q4"]
    assert np.stack(said["target"]).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert set(said["partition"]) == {"locked"}
    assert set(said["reason"]) == {"corrected"}
    assert set(said["inherited_label"]) == {"Q1"}
    assert (said["weight"] == 1).all()
    rest = labels.drop(index=said.index)
    assert set(rest["partition"]) == {"confident", "noisy"}
    assert (rest[rest["track_id"] == "b"]["partition"] == "noisy").all()


def test_evidence_is_not_fitted_to_corrected_segments():
    tracks = [track("a", "Q1")]
    scores = make_scores({"a": [0.9, 0.9, 0.1]}, tracks)
    fitted = Segments.of(scores, tracks, CLASSES, None, np.array([-1, 0, 1])).fitted
    assert fitted.tolist() == [True, False, False]


def test_a_corrected_passage_of_an_unlabelled_or_held_out_track_is_labelled_and_carries_no_weight():
    tracks = [track("u", None), track("t", "Q1", split="test")]
    segments = pa.table(
        {"track_id": ["u", "u", "t"], "segment_index": pa.array([0, 1, 0], pa.int32())}
    )
    labels = inherit(segments, tracks, CLASSES, np.array([3, -1, 1])).to_pydict()
    assert labels["label"] == ["Q4", None, "Q2"]
    assert labels["reason"] == ["corrected", "no-label", "corrected"]
    assert labels["weight"] == [0, 0, 0]
