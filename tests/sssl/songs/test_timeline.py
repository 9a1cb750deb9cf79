"""Timelines go by what the network and the classifier on the sound say together; songs by the
network and by the sound of the whole track."""

from dataclasses import replace

import numpy as np
import pytest

from sssl.labels.fitted import KeptOpinion
from sssl.labels.sound_classifier import Scale, SecondOpinion, SoundClassifier
from sssl.songs.classifier import LabelledTracks, fit_songs
from sssl.songs.settings import SongConfig
from sssl.songs.softmax import statistics
from sssl.songs.song import SongMaker

CLASSES, SEGMENTS = ("Q1", "Q2"), 12
UNDECIDED = np.full((SEGMENTS, 2), 0.5)
SOUND = np.repeat([[3.0], [-3.0]], SEGMENTS // 2, axis=0)  # first half and second


def opinion(*signs):
    """What says Q1 where the one number of the sound is high, or low: by fold, the last for tracks
    in none."""
    weights = np.array([[[sign, -sign]] for sign in signs])
    classifier = SoundClassifier(Scale(np.zeros(1), np.ones(1)), weights, np.zeros((len(signs), 2)))
    return KeptOpinion.of(SecondOpinion(classifier, 0.5))


@pytest.fixture
def maker():
    random = np.random.default_rng(0)
    label = np.arange(24) % 2
    rows = []
    for own in label:
        posterior = random.dirichlet((1, 3) if own else (3, 1), 8)
        rows.append(statistics(posterior, random.normal(size=(8, 1))))
    tracks = LabelledTracks(np.array(rows), label, np.arange(24) // 6)
    none = LabelledTracks(np.empty((0, rows[0].size)), np.empty(0, int), np.empty(0, int))
    return SongMaker(fit_songs(tracks, none, 2, SongConfig()), SongConfig(), CLASSES, 3.0, 0, "m")


def song_of(maker, **where):
    return maker.song("t", UNDECIDED, SOUND, np.arange(SEGMENTS) * 3.0, **where)


def labels(song):
    return [entry["label"] for entry in song.timeline]


def test_a_timeline_hears_what_the_network_does_not(maker):
    with_second = replace(maker, model=replace(maker.model, second=opinion(1.0, 1.0)))
    alone, both = song_of(maker), song_of(with_second)
    assert labels(alone) == ["Q1"]
    assert labels(both) == ["Q1", "Q2"]
    assert both.probabilities == alone.probabilities
    assert both.label == alone.label


def test_a_train_track_is_heard_by_what_left_its_fold_out(maker):
    second = opinion(1.0, -1.0, 1.0)
    maker = replace(maker, model=replace(maker.model, second=second))
    assert labels(song_of(maker, split="train", fold=1)) == ["Q2", "Q1"]
    for where in ({"split": "train", "fold": 0}, {"split": "test", "fold": 1}, {}):
        assert labels(song_of(maker, **where)) == ["Q1", "Q2"]
