"""What a model is trained with follows the number of labelled tracks."""

import math
from dataclasses import replace

import pytest

from schemas.records import dump
from sssl.audio.integrity import GateConfig
from sssl.errors import ConfigError
from sssl.labels.settings import RelabelConfig
from sssl.model.settings import AugmentConfig, ScoreConfig, TrainConfig
from sssl.presets import GUARDED, PAPER
from sssl.songs.settings import SongConfig, SongsMade
from sssl.store.manifest import loaded


def test_few_labelled_tracks_train_on_bags_with_mixup_as_ever():
    settled = GUARDED.train.settled(labelled_tracks=199)
    assert (settled.bag, settled.mixup_alpha) == (4, 0.5)
    assert "plain_from" not in dump(settled)  # so that models of before are found by their name


def test_many_labelled_tracks_train_on_single_segments_without_mixup():
    settled = GUARDED.train.settled(labelled_tracks=200)
    assert (settled.bag, settled.mixup_alpha) == (1, 0.0)
    assert settled == GUARDED.train.settled(labelled_tracks=10_000)


def test_members_trained_on_single_segments_have_fewer_epochs_unless_told_otherwise():
    assert GUARDED.train.settled(labelled_tracks=199).warmup_epochs == 12
    assert GUARDED.train.settled(labelled_tracks=200).warmup_epochs == 7
    alone = replace(GUARDED.train, cross_fit=False)
    assert alone.settled(labelled_tracks=200).warmup_epochs == 12
    asked = replace(GUARDED.train, warmup_epochs=9)
    assert asked.settled(labelled_tracks=200).epochs_of(0) == 9
    assert asked.settled(labelled_tracks=200).epochs_of(1) == asked.epochs
    for settled in (GUARDED.train.settled(200), PAPER.train.settled(200)):
        assert settled == settled.settled(200)


def test_a_training_begun_with_twelve_epochs_is_found():
    asked = GUARDED.train
    settled = asked.settled(labelled_tracks=200)
    begun_before = replace(settled, warmup_epochs=12)
    assert begun_before in asked.begun_as(settled)
    fixed = replace(asked, warmup_epochs=7)
    assert begun_before not in fixed.begun_as(fixed.settled(200))


def test_a_setting_of_none_keeps_bags_however_many_tracks_there_are():
    assert TrainConfig(plain_from=None, bag=3).settled(10_000).bag == 3
    settled = PAPER.train.settled(10_000)
    assert dump(settled) == {n: v for n, v in dump(PAPER.train).items() if n in dump(settled)}
    assert settled == settled.settled(10_000)


def test_a_number_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="--plain-from 0"):
        TrainConfig(plain_from=0)
    with pytest.raises(ConfigError, match="--warmup-epochs 0"):
        TrainConfig(warmup_epochs=0)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (AugmentConfig, "mel_mask", -1),
        (AugmentConfig, "frame_mask", -1),
        (AugmentConfig, "gain_db", -1.0),
        (TrainConfig, "learning_rate", 0.0),
        (TrainConfig, "learning_rate", math.inf),
        (TrainConfig, "lambda_prior", math.nan),
        (TrainConfig, "mixup_alpha", -0.5),
        (TrainConfig, "weight_decay", -0.1),
        (ScoreConfig, "views", 0),
        (ScoreConfig, "score_batch", 0),
        (RelabelConfig, "tau", 50.0),
        (RelabelConfig, "temperature", 0.0),
        (RelabelConfig, "temperature", math.nan),
        (RelabelConfig, "clip_quantile", 0.5),
        (RelabelConfig, "max_noisy_share", 40.0),
        (RelabelConfig, "noisy_weight", -1.0),
        (SongConfig, "abstain_below", -0.1),
        (SongConfig, "abstain_below", 50.0),
        (SongConfig, "abstain_below", math.nan),
        (SongConfig, "regularization", 0.0),
        (SongConfig, "smooth_segments", -1),
        (GateConfig, "tolerance_s", -1.0),
        (GateConfig, "max_s", 0.0),
        (GateConfig, "max_clipped_share", -0.1),
        (GateConfig, "max_dc_offset", math.nan),
    ],
)
def test_what_would_fail_after_hours_is_refused_before_anything_starts(kind, name, value):
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} {value}"):
        kind(**{name: value})


def test_settings_that_songs_were_made_with_are_read_whatever_is_refused_today():
    assert loaded(SongsMade, {"abstain_below": 2.0}, "a manifest").abstain_below == 2.0
