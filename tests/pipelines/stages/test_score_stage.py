"""Scoring by parts: what is done is not done again."""

import os
import shutil

import numpy as np
import pytest

from pipelines.beam.job import Job
from pipelines.stages.score import PartScorer
from pipelines.stages.score_part import PartScores, WriterProcesses
from sssl.errors import StoreError
from sssl.model.settings import ScoreConfig
from sssl.store.folder import Store


@pytest.fixture
def job(finished):
    """The job that scored round 0."""
    snapshot = finished.latest()
    scores = snapshot.get("scores", 0)
    inputs = [snapshot.get("catalog"), snapshot.get("models", 0)]
    job = Job.of(
        finished,
        "score",
        ("scores",),
        scores.config,
        inputs,
        0,
        named={"features": snapshot.features},
    )
    assert [planned.ref for planned in job.planned] == [scores.ref]
    return job


def test_parts_that_a_bundle_finished_before_it_is_tried_again_are_not_scored_again(
    job, monkeypatch
):
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


def test_processes_write_what_one_process_writes(finished, tmp_path, monkeypatch):
    shutil.copytree(finished.root, tmp_path / "copy")
    store = Store.open(str(tmp_path / "copy"))
    snapshot = store.latest()
    inputs = [snapshot.get("catalog"), snapshot.get("models", 0)]
    job = Job.of(
        store,
        "score",
        ("scores",),
        {"by": "processes"},
        inputs,
        0,
        named={"features": snapshot.features},
    )
    monkeypatch.setattr("pipelines.stages.score.gpus", lambda: ["cpu"])
    scorer = PartScorer(job, ScoreConfig(), None, threads=1)
    scorer.score(list(job.list_parts()))
    (made,) = job.commit([job.receipt(part) for part in range(job.parts)])
    old, new = (store.read_table(manifest) for manifest in (snapshot.get("scores", 0), made))
    assert old.drop(["probabilities", "loss"]) == new.drop(["probabilities", "loss"])
    for found, known in zip(
        new["probabilities"].to_pylist(), old["probabilities"].to_pylist(), strict=True
    ):
        assert found == pytest.approx(known, abs=1e-5)
    assert made.summary["confusions"] == snapshot.get("scores", 0).summary["confusions"]


def test_a_writer_that_dies_is_an_error_that_names_the_part(job):
    writers = WriterProcesses()
    scores = PartScores(job, 3, _Deadly(), [], np.zeros((0, 4), np.float32))
    with pytest.raises(StoreError, match="part 3 were written, its process ended with exit code 7"):
        writers.write(scores)


class _Deadly:
    """Ends the process that reads it back."""

    def __reduce__(self):
        return os._exit, (7,)
