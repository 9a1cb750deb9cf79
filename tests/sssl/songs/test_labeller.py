"""What is said of a file that cannot be labelled, or only in part."""

import pickle

import pytest

from sssl.audio.cut import cut_track
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.catalog.read import new_track
from sssl.errors import Unlabelled
from sssl.model.settings import ScoreConfig
from sssl.songs.labeller import Labeller

SIGNED = "nowhere://ann:word@host/a.mp3?signature=secret"


class Labelling(Labeller):
    """Gives each file the same song."""

    def song(self, *_args):
        return "song"


def labeller(kind):
    return kind((), MelConfig(), GateConfig(), ScoreConfig(), None)


def test_a_file_that_cannot_be_labelled_is_named_without_what_is_secret():
    cut = cut_track(new_track(SIGNED, SIGNED), MelConfig(), GateConfig())
    with pytest.raises(Unlabelled, match=r"^nowhere://host/a\.mp3: unsupported-uri ") as refused:
        labeller(Labeller).song(cut)
    assert "word" not in repr(refused.value)
    assert "secret" not in repr(refused.value)


def test_a_warning_names_a_file_without_what_is_secret():
    with pytest.warns(UserWarning, match=r"^nowhere://host/a\.mp3: unsupported-uri ") as warned:
        labeller(Labelling).label(SIGNED)
    assert "secret" not in str(warned[0].message)


@pytest.mark.parametrize("detail", ["no file at the URI", None])
def test_that_a_file_cannot_be_labelled_survives_pickling(detail):
    error = Unlabelled("a.mp3", "missing", detail)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.uri, again.reason, again.detail) == ("a.mp3", "missing", detail)
