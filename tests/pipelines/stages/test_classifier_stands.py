"""When the classifier of songs is learned anew though no network is: its own numbers changed."""

import pytest
from front_ends import write_module
from test_night import Night

from pipelines.cli import main
from sssl.labels.split import SplitSummary
from sssl.songs.classifier import SongModel
from sssl.store.folder import Store
from sssl.store.rounds import last_split

ANEW = "their classifier is learned anew"


@pytest.fixture
def night(finished, catalog, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a network is trained")

    monkeypatch.setattr("pipelines.stages.train.train", refuse)
    return Night(finished, catalog, tmp_path)


def classifier(night):
    return night.snapshot.about("songs", SongModel)


def test_embeddings_of_another_network_are_learned_anew(night, tmp_path, monkeypatch, capfd):
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "nets_of_songs")
    night.run("--front-end", "module:nets_of_songs.loudness")
    first = classifier(night)
    capfd.readouterr()
    night.run("--front-end", "module:nets_of_songs.other_loudness")
    assert ANEW in capfd.readouterr().err
    assert classifier(night).by_fold != first.by_fold
    # Of another width: numbers could not even be multiplied.
    night.run("--front-end", "module:nets_of_songs.frames", "--learn", "never")
    assert ANEW in capfd.readouterr().err
    night.run("--front-end", "module:nets_of_songs.frames")
    assert ANEW not in capfd.readouterr().err


def test_another_version_of_sound_is_learned_anew_and_there_and_back_decodes(night, capfd):
    described = "select count(sound), count(*) from segments"
    ((every, segments),) = night.sql(described)
    assert every == segments
    assert share_of_sound(night) > 0
    night.run("--sound-version", "0")
    said = capfd.readouterr().err
    assert ANEW in said
    assert "config changed" in said
    assert night.sql(described) == [(0, segments)]
    assert share_of_sound(night) == 0  # the split does not go by what is not there
    assert {m.config.get("sound") for m in made_by_segment(night)} == {0}
    before = night.digests("segments", "ledger", "features")
    night.run("--sound-version", "0")
    assert "config changed" not in capfd.readouterr().err
    assert night.digests("segments", "ledger", "features") == before
    night.run("--sound-version", "1")
    assert night.sql(described) == [(segments, segments)]
    assert main(["verify", "--output", night.output]) == 0


def share_of_sound(night):
    split = last_split(night.snapshot)
    return split.about(SplitSummary).evidence.share_of_sound


def made_by_segment(night):
    snapshot = Store.open(night.output).latest()
    return [snapshot.get("ledger"), snapshot.get("segments"), snapshot.features]
