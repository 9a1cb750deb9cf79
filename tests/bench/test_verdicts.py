import pytest
import verdicts

OURS = verdicts.RULES["log loss (now)"]
BEFORE = verdicts.RULES["held-out accuracy (before)"]
REPETITIONS = 400


@pytest.fixture(scope="module", params=verdicts.CATALOGS.values(), ids=verdicts.CATALOGS)
def tracks(request):
    return request.param


def test_a_rerun_disagrees_on_as_many_tracks_as_measured():
    random, tracks = verdicts.np.random.default_rng(1), verdicts.Tracks(20_000, 20_000, 0.0)
    parent, round = tracks.seen(tracks.margins(random), 0, random) > 0.5
    assert 0.11 < (parent != round).mean() < 0.13
    assert 0.74 < round.mean() < 0.76


def test_a_round_that_truly_loses_is_rarely_accepted(tracks):
    found = verdicts.rates(OURS, tracks, -8, REPETITIONS)
    assert found.accepted <= 0.1
    assert found.gained > -0.5


def test_a_round_that_truly_gains_is_nearly_always_accepted(tracks):
    """Where tracks of an artist are right or wrong together, 14 artists are few; what is not
    accepted is undecided."""
    found = verdicts.rates(OURS, tracks, 8, REPETITIONS)
    assert found.accepted >= (0.92 if tracks.shared else 0.95)
    assert found.kept < 0.01
    assert found.gained > 7


def test_few_labels_hang_on_the_verdict_of_a_round_that_changes_nothing(tracks):
    assert verdicts.rates(OURS, tracks, 0, REPETITIONS).labels_changed <= 4


def test_the_rule_before_missed_all_of_these_bars(tracks):
    assert verdicts.rates(BEFORE, tracks, -8, REPETITIONS).accepted > 0.3
    assert verdicts.rates(BEFORE, tracks, 8, REPETITIONS).accepted < 0.95
    assert verdicts.rates(BEFORE, tracks, 0, REPETITIONS).labels_changed > 4
