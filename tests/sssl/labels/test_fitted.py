"""What a split learned is kept as JSON and gives the same split again, without fitting anew."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from schemas.records import dump, load
from sssl.labels.consistency import TrackModel
from sssl.labels.evidence import Evidence
from sssl.labels.fitted import KeptSplit
from sssl.labels.mixture import BINS
from sssl.labels.settings import RelabelConfig
from sssl.labels.sound_classifier import Scale, SecondOpinion, SoundClassifier
from sssl.labels.split import fit_split


def histograms(*places, seed=0):
    """Losses of three classes in heaps at some bins."""
    rng = np.random.default_rng(seed)
    heaps = [np.concatenate([rng.normal(at, 0.04 * BINS, 400) for at in places]) for _ in range(3)]
    return np.array(
        [np.bincount(np.clip(h, 0, BINS - 1).astype(int), minlength=BINS) for h in heaps]
    )


NUMBERS = tuple(f.name for f in fields(Evidence) if f.name not in ("tracks", "second", "in_parts"))


def same(one, other):
    pairs = zip(one.by_class, other.by_class, strict=True)
    return one.common == other.common and all(
        a.mixture == b.mixture
        and a.first_allowed_bin == b.first_allowed_bin
        and np.array_equal(a.clean_probability, b.clean_probability)
        for a, b in pairs
    )


@pytest.mark.parametrize("peaked", [True, False])
@pytest.mark.parametrize("places", [(0.2 * BINS, 0.7 * BINS), (0.4 * BINS,), ()])
def test_a_kept_split_is_the_same_without_being_fitted_again(monkeypatch, peaked, places):
    config = RelabelConfig(peaked=peaked)
    counts = histograms(*places) if places else np.zeros((3, BINS), int)
    split = fit_split(counts, config)
    kept = dump(KeptSplit.of(counts, Evidence(), split))
    read = load(KeptSplit, json.loads(json.dumps(kept)))
    del kept["common"]  # as an earlier version wrote it
    older = load(KeptSplit, json.loads(json.dumps(kept)))
    assert same(older.split(config), split)
    monkeypatch.setattr("sssl.labels.split._fit", None)
    assert same(read.split(config), split)


def test_a_kept_split_says_how_evidence_was_read():
    tracks = TrackModel(np.array([0.5, 1.0]), np.eye(2), np.array([2.0, 3.0]))
    numbers = dict(zip(NUMBERS, np.linspace(0.1, 0.7, len(NUMBERS)).tolist(), strict=True))
    scale = Scale(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]))
    classifier = SoundClassifier(
        scale, np.arange(12.0).reshape(2, 3, 2), np.array([[1.0, 2], [3, 4]])
    )
    second = SecondOpinion(classifier, 0.3)
    evidence = Evidence(tracks, in_parts=True, second=second, **numbers)
    split = fit_split(np.zeros((3, BINS), int), RelabelConfig())
    kept = dump(KeptSplit.of(np.zeros((3, BINS), int), evidence, split))
    read = load(KeptSplit, json.loads(json.dumps(kept))).evidence()
    np.testing.assert_equal(vars(read.tracks), vars(tracks))
    assert read.second.share == second.share
    np.testing.assert_equal(vars(read.second.classifier.scale), vars(scale))
    for name in ("weights", "bias"):
        kept_values = getattr(read.second.classifier, name)
        np.testing.assert_array_equal(kept_values, getattr(classifier, name))
    bare = {"tracks": None, "second": None}
    assert replace(read, **bare) == replace(evidence, **bare)
    assert not {name for name in NUMBERS if getattr(read, name) == getattr(Evidence(), name)}
