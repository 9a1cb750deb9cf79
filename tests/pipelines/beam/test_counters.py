import apache_beam as beam

from pipelines.beam.counters import count_part
from sssl.store.manifest import PartFile, Receipt


def test_an_engine_counts_tracks_by_status_and_reason_segments_and_bytes():
    counts = {
        "statuses": {"ok": 3, "failed": 1},
        "reasons": {"missing": 1},
        "segments": 30,
        "cpu_s": 1.5,
    }
    files = {
        "segments": PartFile("a", 30, 1000, "0" * 64),
        "ledger": PartFile("b", 4, 24, "0" * 64),
    }
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = (
        pipeline
        | beam.Create([Receipt(0, files, counts), Receipt(1, files, counts)])
        | beam.Map(count_part)
    )
    found = {c.key.metric.name: c.committed for c in pipeline.run().metrics().query()["counters"]}
    assert found == {
        "tracks-ok": 6, "tracks-failed": 2, "tracks-missing": 2, "segments": 60,
        "write-bytes": 2048, "cpu-msec": 3000,
    }  # fmt: skip
