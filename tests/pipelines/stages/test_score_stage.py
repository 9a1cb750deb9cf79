"""Scoring by parts: what is done is not done again."""

import pytest

from pipelines.beam.job import Job
from pipelines.stages.score import PartScorer
from sssl.model.settings import ScoreConfig


@pytest.fixture
def job(finished):
    """The job that scored round 0."""
    snapshot = finished.latest()
    scores = snapshot.get("scores", 0)
    inputs = [snapshot.get("catalog"), snapshot.get("models", 0)]
    job = Job.of(finished, "score", ("scores",), scores.config, inputs, 0, named={"features": snapshot.features})
    assert [planned.ref for planned in job.planned] == [scores.ref]
    return job


def test_parts_that_a_bundle_finished_before_it_is_tried_again_are_not_scored_again(job, monkeypatch):
    refs = list(job.list_parts())
    scorer = PartScorer(job, ScoreConfig(), None, threads=1)
    scored = []
    monkeypatch.setattr(PartScorer, "_on_cpu", lambda _, todo: scored.extend(todo) or [])
    monkeypatch.setattr(scorer, "_gpus", [])
    assert scorer.score(refs) == [job.receipt(ref.part) for ref in refs]
    assert scored == []
    monkeypatch.setattr(Job, "receipt", lambda _, part: None if part == refs[1].part else "done")
    assert scorer.score(refs) == ["done"] * (len(refs) - 1)
    assert scored == [refs[1]]
