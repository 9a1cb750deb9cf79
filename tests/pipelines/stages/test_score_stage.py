"""Scoring by parts: what is done is not done again."""

import pytest

from pipelines.beam.job import Job
from pipelines.stages.score import PartScorer
from sssl.model.settings import ScoreConfig
from sssl.store.manifest import Manifest


@pytest.fixture
def job(finished):
    """The job that scored round 0."""
    snapshot = finished.latest()
    scores, dealt = snapshot.get("scores", 0), snapshot.catalog
    planned = Manifest.plan("scores", "score", scores.config, inputs := inputs_of(snapshot), round=0)
    assert planned.ref == scores.ref
    return Job(finished, (planned,), {m.table: m.ref for m in inputs}, dealt.parts, dealt.classes)


def inputs_of(snapshot):
    return [snapshot.get("catalog"), snapshot.get("segments"), snapshot.get("models", 0)]


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
