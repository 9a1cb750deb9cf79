"""Log-mels as bytes of steps: what becomes of a level in dB."""

import numpy as np

from sssl.audio.mel import FLOOR_DB, STEP_DB, in_db, in_steps

HIGHEST_DB = FLOOR_DB + 255 * STEP_DB


def test_a_level_comes_back_within_half_a_step():
    level_db = np.linspace(FLOOR_DB, HIGHEST_DB, 10_007, dtype=np.float32)
    for levels in (level_db, level_db.astype(np.float16)):
        back = in_db(in_steps(levels))
        assert np.abs(back - levels.astype(np.float32)).max() <= STEP_DB / 2
        assert back.dtype == np.float32


def test_every_step_comes_back_as_it_was():
    steps = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(in_steps(in_db(steps)), steps)
    np.testing.assert_array_equal(in_db(steps), FLOOR_DB + STEP_DB * np.arange(256))


def test_levels_beyond_the_steps_are_the_first_and_the_last_step():
    beyond = np.array([-np.inf, -120, -100.4, 43.5, 90, np.inf], np.float32)
    assert in_steps(beyond).tolist() == [0, 0, 0, 255, 255, 255]
    assert (in_db(in_steps(beyond)) == [FLOOR_DB] * 3 + [HIGHEST_DB] * 3).all()
    assert HIGHEST_DB == 43.4375


def test_half_precision_is_in_db_already():
    levels = np.array([-100, -31.5, 12.25], np.float16)
    assert in_db(levels).tolist() == levels.tolist()
    assert in_db(levels).dtype == np.float32
