"""Evidence is read as of labels that are wrong in parts of tracks only where two heaps come of
it."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.stages.relabel import read_evidence
from pipelines.stages.relabel_part import readings
from sssl.labels.evidence import Evidence
from sssl.labels.mixture import histogram
from sssl.labels.settings import RelabelConfig

SETTINGS = RelabelConfig()
IN_PARTS = Evidence(between=0.5, agreement=0.3, in_parts=True)


def heaps(*means):
    """A loss histogram [1, BINS] of one heap or several, 1,000 segments each."""
    random = np.random.default_rng(0)
    odds = np.concatenate([random.normal(mean, 1.0, 1000) for mean in means])
    return histogram(np.logaddexp(0.0, odds), SETTINGS.axis)[None]


@pytest.fixture
def job():
    kept = {}
    store = SimpleNamespace(write_record=kept.__setitem__)
    return SimpleNamespace(store=store, receipts="labels/g", kept=kept)


def test_two_heaps_of_segments_compared_with_their_track_are_split(job):
    read = read_evidence(np.stack([heaps(-3, 3), heaps(-3)]), job, SETTINGS, IN_PARTS)
    assert read.evidence == IN_PARTS
    assert read.split.common.noisy is not None


def test_where_they_make_one_heap_tracks_are_hard_as_a_whole_and_nothing_is_split(job):
    whole = heaps(-3, 3)  # however many heaps there are then: hard tracks make one, too
    read = read_evidence(np.stack([heaps(-3), whole]), job, SETTINGS, IN_PARTS)
    assert (read.evidence.between, read.evidence.in_parts) == (0.0, False)
    assert read.evidence.agreement == IN_PARTS.agreement
    assert read.split.common.noisy is None
    (kept,) = job.kept.values()
    assert kept.evidence() == read.evidence
    np.testing.assert_array_equal(kept.histograms, whole)
    assert kept.split(SETTINGS).common.noisy is None


def test_without_agreement_there_is_one_reading(job):
    for evidence in (IN_PARTS.of_whole_tracks, Evidence()):
        assert readings(evidence) == [evidence]
    read = read_evidence(heaps(-3, 3)[None], job, SETTINGS, IN_PARTS.of_whole_tracks)
    assert read.split.common.noisy is None
