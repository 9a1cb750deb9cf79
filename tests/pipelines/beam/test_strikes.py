"""The short version of `make attack`: commands that are killed, or refused something by the
disk."""

import random

import pytest
import strikes

SHORT = ("songs", "takedown", "delivery")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("strikes")


@pytest.fixture(scope="module")
def scenes(folder):
    return strikes.scenes(folder)


def test_a_command_killed_at_any_operation_leaves_no_half_state_and_its_rerun_the_same_tables(
    scenes, folder
):
    tally = strikes.strike(scenes, strikes.kills(4, random.Random(1), SHORT), folder)
    assert tally.wrongs == []
    assert tally.ends[-9] >= 2  # others came to their end first


def test_what_the_disk_refuses_is_a_sentence_and_the_rerun_makes_the_same_tables(scenes, folder):
    tally = strikes.strike(scenes, strikes.faults(5, random.Random(1), SHORT), folder)
    assert tally.wrongs == []
    assert tally.ends[1] >= 3  # others did without what was refused
