"""Each guard of `guarded` on losses made to fool a mixture: what it does there, and what happens
without it."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from rows import a_track

from sssl.labels import mixture as mix
from sssl.labels.evidence import Evidence
from sssl.labels.evidence import Segments as Scored
from sssl.labels.relabel import Judged, relabel
from sssl.labels.split import fit_split, loss_histograms
from sssl.model.scores import scores_table
from sssl.presets import GUARDED

CLASSES = ("Q1", "Q2", "Q3")
DEFAULTS = GUARDED.relabel


@dataclass
class Segments:
    """Segments of one class: their losses, and which of them have a wrong label."""

    loss: np.ndarray
    wrong: np.ndarray

    def __add__(self, other):
        return Segments(np.append(self.loss, other.loss), np.append(self.wrong, other.wrong))


def draw(count, log_odds, std, wrong=False, seed=0):
    """Losses of segments whose log-odds for their label are normal."""
    loss = np.logaddexp(0, -np.random.default_rng([seed, count]).normal(log_odds, std, count))
    return Segments(loss, np.full(count, wrong))


def right(count, log_odds=3.0, std=1.0, seed=0):
    return draw(count, log_odds, std, seed=seed)


def wrong(count, log_odds=-3.0, std=0.7, seed=0):
    return draw(count, log_odds, std, wrong=True, seed=seed)


def losses(*values, wrong=False):
    return Segments(np.array(values), np.full(len(values), wrong))


def labels_of(classes, config=DEFAULTS, locked=()):
    """Relabel one track per class; the posterior that is not at the label is at the next class."""
    tracks = [
        a_track(f"track of {name}", label=name, group_id="g", locked=name in locked)
        for name, _ in zip(CLASSES, classes, strict=False)
    ]
    ids = [track.track_id for track, own in zip(tracks, classes, strict=True) for _ in own.loss]
    label = np.concatenate([np.full(len(own.loss), c) for c, own in enumerate(classes)])
    loss = np.concatenate([own.loss for own in classes])
    p, rows = np.exp(-np.nan_to_num(loss)), np.arange(len(loss))
    posterior = np.zeros((len(loss), len(CLASSES)), np.float32)
    posterior[rows, label], posterior[rows, (label + 1) % len(CLASSES)] = p, 1 - p
    segments = pa.table({"track_id": ids, "segment_index": pa.array(rows, pa.int32())})
    scores = scores_table(segments, posterior, tracks, CLASSES, 0, "m")
    # As given: the score stage would not let a loss of 100 or NaN through.
    scores = scores.set_column(
        scores.schema.names.index("loss"), "loss", pa.array(loss, pa.float32())
    )
    scored = Scored.of(scores, tracks, CLASSES, None)
    judged = Judged(scored.posterior, *Evidence().losses(scored))
    split = fit_split(loss_histograms(judged.loss, scored, config.axis), config)
    made = relabel(scores, judged, tracks, CLASSES, 1, split, config).to_pandas()
    return made.assign(wrong=np.concatenate([own.wrong for own in classes]), given=loss)


def flagged(classes, config=DEFAULTS, of=0):
    """Return the share of the right and of the wrong segments of a class that are called noisy."""
    made = labels_of(classes, config)
    own = made[made["inherited_label"] == CLASSES[of]]
    noisy = own["partition"] == "noisy"
    return tuple(
        float(noisy[own["wrong"] == which].mean()) if (own["wrong"] == which).any() else 0.0
        for which in (False, True)
    )


MIXED = right(1400) + wrong(600)


def without(**setting):
    """The defaults with one guard off."""
    return replace(DEFAULTS, **setting)


def test_a_single_loss_of_100_changes_nothing():
    """Two components that overlap; one outlier in a thousand widens the upper one until there seems
    to be only one."""
    segments = right(700, 2.0, 1.0) + wrong(300, -0.5, 1.0)
    outlier = segments + losses(100.0, wrong=True)
    assert flagged([outlier]) == pytest.approx(flagged([segments]), abs=0.02)
    assert flagged([segments])[1] > 0.7
    assert flagged([segments], without(clip_quantile=0.0))[1] > 0.7
    assert flagged([outlier], without(clip_quantile=0.0)) == (0, 0)


def test_where_nothing_is_wrong_nothing_is_flagged():
    assert flagged([right(2000, seed=1)]) == (0, 0)
    assert flagged([right(2000, seed=1)], without(min_separation=None))[0] > 0.3
    assert flagged([right(2000, seed=1)], without(min_separation=None, peaked=False))[0] > 0.3


def test_where_model_and_sound_agree_by_chance_losses_of_one_kind_are_not_split():
    for seed in range(4):
        histogram = mix.histogram(right(2000, seed=seed).loss, "logit")[None]
        assert fit_split(histogram, DEFAULTS, in_parts=True).common.noisy is None
    both = mix.histogram((right(1700) + wrong(300, 0.0, 0.7)).loss, "logit")[None]
    assert fit_split(both, DEFAULTS, in_parts=True).common.noisy is not None


def test_where_model_and_sound_do_not_agree_nothing_is_split():
    """Losses of two kinds that have nothing to do with how segments sound: hard ones, not wrong
    ones."""
    histograms = np.stack([mix.histogram(MIXED.loss, "logit"), np.zeros(mix.BINS, int)])
    assert fit_split(histograms, DEFAULTS, in_parts=False).common.noisy is None
    for known in (True, None):
        assert fit_split(histograms, DEFAULTS, known).common.noisy is not None


def test_a_loss_that_is_nan_is_left_out_and_its_segment_set_aside():
    """No setting turns this off. Counted, NaN has no bin."""
    made, expected = labels_of([MIXED + losses(np.nan)]), labels_of([MIXED])
    kept, last = made.iloc[:-1], made.iloc[-1]
    assert (kept["partition"] == expected["partition"]).all()
    assert (last["label"], last["reason"], last["weight"]) == ("Q1", "no-score", 0.0)
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="negative"):
        np.bincount(mix.bin_of(mix.to_axis(np.array([np.nan]), "logit"), "logit"))


def test_a_class_that_is_merely_harder_is_not_flagged():
    harder = right(2000, seed=1)
    harder.loss += 2.5
    assert flagged([MIXED, harder], of=1) == (0, 0)
    assert flagged([MIXED, harder], of=0)[1] > 0.95
    assert flagged([MIXED, harder], without(per_class_prior=None, peaked=False), of=1)[0] > 0.2


def test_a_class_with_a_third_of_the_segments_is_not_judged_by_the_large_one():
    """What is rare is learned worse: right segments of the small class have less than even odds."""
    small = right(800, -0.5, 0.6) + wrong(200)
    right_ones, wrong_ones = flagged([right(2100) + wrong(900), small], of=1)
    assert right_ones < 0.01
    assert wrong_ones > 0.1
    assert (
        flagged(
            [right(2100) + wrong(900), small], without(per_class_prior=None, peaked=False), of=1
        )[0]
        > 0.2
    )


def test_two_hard_tracks_of_a_class_of_five_are_not_called_wrong():
    """Ten segments each; three tracks that are easy and two that are right with a probability of 3
    in 4."""
    five = right(30, 4.0, 0.5) + right(20, 1.0, 0.3)
    assert flagged([MIXED, five], of=1) == (0, 0)


def test_a_class_of_five_tracks_that_are_mostly_wrong_is_not_taken_for_a_hard_one():
    five = right(10) + wrong(40)
    assert flagged([MIXED, five], of=1) == (0, 0.5)  # as many as the cap allows
    assert flagged([MIXED, five], without(per_class_prior=0.0), of=1) == (0, 0)


def test_labels_that_are_all_wrong_are_left_as_they_are():
    """Permuted labels have nothing to do with the posterior: no split, rather than the model's
    guesses as labels."""
    logits = np.random.default_rng(0).normal(0, 2, (2000, 4))
    permuted = losses(*np.logaddexp.reduce(logits - logits[:, :1], axis=1), wrong=True)
    assert flagged([permuted]) == (0, 0)
    assert flagged([permuted], without(min_separation=None, peaked=False))[1] > 0.3


def test_locked_labels_stand_and_do_not_shape_the_split():
    """A track that a human vouches for, whatever the model says; unlocked, most of its labels would
    go."""
    hard = right(400, -3.0, 0.5)
    made = labels_of([right(1400), hard], locked=("Q2",))
    locked = made[made["inherited_label"] == "Q2"]
    assert set(locked["partition"]) == {"locked"}
    assert set(locked["label"]) == {"Q2"}
    # Counted among the losses, the locked ones would make a second component.
    assert set(made["reason"]) == {"no-split", "locked"}
    unlocked = labels_of([right(1400), hard], without(max_noisy_share=None, per_class_prior=None))
    assert (unlocked["label"][unlocked["inherited_label"] == "Q2"] != "Q2").mean() > 0.9


def test_no_more_than_the_cap_is_relabelled_in_any_class():
    mostly_wrong = right(300) + wrong(700)
    for config, share in (
        (DEFAULTS, DEFAULTS.max_noisy_share),
        (without(max_noisy_share=None), 0.7),
    ):
        made = labels_of([mostly_wrong, MIXED], config)
        moved = (made["label"] != made["inherited_label"]).groupby(made["inherited_label"]).mean()
        assert moved["Q1"] == pytest.approx(share, abs=0.02)
        assert moved["Q2"] == pytest.approx(0.3, abs=0.02)


def test_the_easiest_segments_are_not_called_unlikely_to_be_right():
    """A wide noisy component is above a narrow confident one on both sides of it."""
    easy = right(20, 7.0, 0.2)
    segments = right(1400, 3.0, 0.4) + wrong(600, 0.0, 2.0) + easy
    assert labels_of([segments])["clean_probability"][-20:].min() > 0.9
    free = without(peaked=False, monotone=False)
    assert labels_of([segments], free)["clean_probability"][-20:].max() < 0.1
    assert flagged([segments], replace(free, max_noisy_share=None))[0] > flagged([segments])[0]
    # Beneath the cap it is only the number that is wrong: what is easy is never among the worst.
    capped = labels_of([segments], free)[-20:]
    assert set(capped["reason"]) == {"cap"}
    assert set(capped["label"]) == {"Q1"}
