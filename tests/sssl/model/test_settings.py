"""What a model is trained with follows the number of labelled tracks."""

import pytest

from schemas.records import dump
from sssl.errors import ConfigError
from sssl.model.settings import TrainConfig
from sssl.presets import GUARDED, PAPER


def test_few_labelled_tracks_train_on_bags_with_mixup_as_ever():
    settled = GUARDED.train.settled(labelled_tracks=199)
    assert (settled.bag, settled.mixup_alpha) == (4, 0.5)
    assert "plain_from" not in dump(settled)  # so that models of before are found by their name


def test_many_labelled_tracks_train_on_single_segments_without_mixup():
    settled = GUARDED.train.settled(labelled_tracks=200)
    assert (settled.bag, settled.mixup_alpha) == (1, 0.0)
    assert settled == GUARDED.train.settled(labelled_tracks=10_000)


def test_a_setting_of_none_keeps_bags_however_many_tracks_there_are():
    assert TrainConfig(plain_from=None, bag=3).settled(10_000).bag == 3
    settled = PAPER.train.settled(10_000)
    assert dump(settled) == {n: v for n, v in dump(PAPER.train).items() if n in dump(settled)}
    assert settled == settled.settled(10_000)


def test_a_number_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="--plain-from 0"):
        TrainConfig(plain_from=0)
