"""What an engine shows of a job while it runs."""

import logging
import shutil
from pathlib import Path

import apache_beam as beam
import pandas as pd

from pipelines.beam.counters import count_part, tell_failed
from pipelines.cli import main
from sssl.store.folder import Store
from sssl.store.manifest import PartFile, Receipt


def counters_of(result):
    return {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}


def test_an_engine_counts_parts_tracks_by_status_and_reason_segments_bytes_and_seconds():
    counts = {
        "tracks": 4, "statuses": {"ok": 3, "failed": 1}, "reasons": {"missing": 1}, "segments": 30,
        "cpu_s": 1.5, "read_bytes": 5000, "read_s": 0.25,
    }  # fmt: skip
    files = {
        "segments": PartFile("a", 30, 1000, "0" * 64),
        "ledger": PartFile("b", 4, 24, "0" * 64),
    }
    receipts = [Receipt(0, files, counts), Receipt(1, files, counts)]
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create(receipts) | beam.Map(count_part, "segment")
    assert counters_of(pipeline.run()) == {
        "parts": 2, "tracks": 8, "tracks-ok": 6, "tracks-failed": 2, "tracks-missing": 2,
        "segments": 60, "read-bytes": 10000, "read-msec": 500, "write-bytes": 2048,
        "cpu-msec": 3000,
    }  # fmt: skip


def test_every_stage_that_is_a_job_knows_what_it_read_and_what_it_took(finished, catalog):
    snapshot = finished.latest()
    audio = [Path(uri) for uri in pd.read_csv(catalog)["uri"]]
    audio_bytes = sum(path.stat().st_size for path in audio if path.exists())
    assert snapshot.get("ledger").summary["read_bytes"] > audio_bytes
    scores = snapshot.get("scores", 0)
    assert scores.summary["read_bytes"] > 0.9 * snapshot.features.bytes  # some columns of it
    for manifest in (*snapshot.of("labels"), scores, snapshot.get("songs")):
        assert manifest.summary["read_bytes"] > 0, manifest.ref
        assert manifest.summary["read_s"] > 0, manifest.ref
        assert manifest.cpu_s > 0, manifest.ref


def test_a_job_counts_its_parts_and_not_those_that_were_done_before(
    finished, tmp_path, monkeypatch
):
    output = shutil.copytree(finished.root, tmp_path / "out")
    store = Store.open(str(output))
    songs = store.latest().get("songs")
    store.publish(store.latest().without("songs"))
    (output / songs.ref / "_manifest.json").unlink()
    (output / "_receipts" / songs.ref / "00000.json").unlink()
    results, run = [], beam.Pipeline.run

    def run_and_keep(self):
        results.append(run(self))
        return results[-1]

    monkeypatch.setattr(beam.Pipeline, "run", run_and_keep)
    assert main(["songs", "--output", store.root]) == 0
    found = counters_of(results[0])
    assert found["parts"] == 1
    assert found["parts-done-before"] == len(songs.files) - 1
    assert found["tracks"] == songs.files[0].rows
    assert store.latest().get("songs").digest == songs.digest


def test_a_track_that_failed_is_a_line_of_the_log_with_its_part_and_reason(caplog):
    caplog.set_level(logging.INFO)
    tell_failed("segment", 7, "an id\x1b[2J", "missing", "no file at the URI")
    (record,) = caplog.records
    assert record.getMessage() == ("segment: part 7, track an id?[2J: missing (no file at the URI)")
    assert record.labels == {
        "stage": "segment", "part": "7", "track_id": "an id?[2J", "reason": "missing",
    }  # fmt: skip
