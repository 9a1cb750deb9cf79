from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas import Segment, arrow_schema
from sssl.audio.sound import (
    SOUND_NAMES,
    sound_db,
    sound_features,
    sound_metadata,
    sound_of,
    sound_page,
    sound_width,
)


def test_level_deviation_and_step_by_group_of_bands():
    """Four bands to a group: the first group alternates by 2 dB around -10 to -13, the others are
    still."""
    mel = np.full((1, 64, 10), -40.0)
    mel[0, :4] = (-10.0 - np.arange(4))[:, None] + np.resize([1.0, -1.0], 10)
    level, deviation, step = sound_db(mel.astype(np.float16))[0].reshape(3, 16)
    np.testing.assert_allclose(level, [-11.5] + [-40.0] * 15)
    np.testing.assert_allclose(deviation, [1.0] + [0.0] * 15)
    np.testing.assert_allclose(step, [2.0] + [0.0] * 15)


def test_only_the_levels_depend_on_the_gain():
    mel = np.random.default_rng(0).normal(-40, 5, (3, 64, 94)).astype(np.float32)
    soft, loud = (sound_db(tensor).reshape(3, 3, 16) for tensor in (mel, mel + 6))
    np.testing.assert_allclose(
        loud - soft, np.broadcast_to([[[6.0], [0.0], [0.0]]], (3, 3, 16)), atol=1e-4
    )


@pytest.mark.parametrize(("mels", "frames"), [(128, 94), (40, 10), (16, 3), (5, 2), (1, 1)])
def test_any_shape_has_its_width(mels, frames):
    described = sound_db(np.zeros((2, mels, frames), np.float16))
    assert described.shape == (2, sound_width(mels))
    assert np.isfinite(described).all()


def test_the_column_is_read_as_a_matrix_whatever_its_chunks():
    column = pa.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], pa.list_(pa.float32()))
    for chunks, rows in (
        ([column], [0, 1, 2]),
        ([column[1:]], [1, 2]),
        ([column[:1], column[2:]], [0, 2]),
    ):
        sound = sound_of(pa.table({"sound_db": pa.chunked_array(chunks)}))
        np.testing.assert_array_equal(sound, np.arange(1.0, 10.0).reshape(3, 3)[rows])
    assert len(sound_of(pa.table({"sound_db": column[:0]}))) == 0


def described(values, version=1):
    """A segments table with nothing but the column `sound`."""
    field = arrow_schema(Segment, log_mel=pa.float16(), band_level_db=pa.float16()).field("sound")
    return pa.table({"sound": values}, schema=pa.schema([field], metadata=sound_metadata(version)))


def test_features_of_sound_have_their_names():
    values = np.arange(2.0 * len(SOUND_NAMES)).reshape(2, -1)
    names, found = sound_features(described(list(values)))
    assert names == list(SOUND_NAMES)
    np.testing.assert_array_equal(found, values)
    names, found = sound_features(described([]))
    assert found.shape == (0, len(names))


def test_segments_without_features_of_sound_have_none():
    row = [0.0] * len(SOUND_NAMES)
    assert sound_features(described([row, None])) is None
    assert sound_features(described([None, None], version=None)) is None
    assert sound_features(pa.table({"start_s": [0.0]})) is None


def test_the_page_of_features_is_current():
    page = Path(__file__).parents[3] / "docs" / "sound.md"
    assert page.read_text() == sound_page(), "run `make docs`"
