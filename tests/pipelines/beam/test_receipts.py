"""Which parts of a job are done: receipts that were there at the start are read many at once."""

import threading
from dataclasses import dataclass, replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

import pipelines.beam.transforms as module
from pipelines.beam.execute import beam_options
from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import ReadReceipts, SplitDone, todo_or_done
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Receipt

REFS = [PartRef(part, {}) for part in range(10)]


@pytest.fixture
def job(tmp_path):
    """A job of ten parts, of which four are done and the receipt of one is damaged."""
    store = Store.open(str(tmp_path / "out"), create=True)
    planned = Manifest("songs", "0123456789ab", "songs", None, {}, (), {}, {})
    made = Job(store, (planned,), {}, 10, ("Q1", "Q2"))
    for part in (0, 3, 4, 9):
        file = store.write_file(f"_parts/{planned.ref}/part-{part:05d}.parquet", b"rows", 1)
        store.write_receipt(planned.ref, Receipt(part, {"songs": file}))
    store.write_bytes(f"_receipts/{planned.ref}/00005.json", b"{")
    return made


def test_receipts_are_found_by_a_listing(job):
    assert job.receipts_there() == {0, 3, 4, 5, 9}
    older = replace(job.planned[0], generation="older0000000")
    job.store.write_json(f"{older.ref}/receipts/00007.json", {})
    assert replace(job, planned=(older,)).receipts_there() == {7}


@pytest.mark.parametrize("at_once", [1, 2, 1024])
def test_a_pipeline_splits_parts_into_done_and_to_do(job, monkeypatch, at_once):
    monkeypatch.setattr(module, "_RECEIPTS_AT_ONCE", at_once)
    with beam.Pipeline(options=beam_options([])) as pipeline:
        split = pipeline | beam.Create(REFS) | SplitDone(job)
        assert_that(
            split.todo | "Parts" >> beam.Map(lambda ref: ref.part),
            equal_to([1, 2, 5, 6, 7, 8]),
            label="todo",
        )
        assert_that(
            split.done | "Done" >> beam.Map(lambda receipt: receipt.part),
            equal_to([0, 3, 4, 9]),
            label="done",
        )


def test_a_part_that_is_not_done_waits_for_no_other(job):
    reading = ReadReceipts(job)
    reading.setup()
    reading.start_bundle()
    assert list(reading.process(REFS[0])) == []
    assert list(reading.process(REFS[1])) == [REFS[1]]


def test_a_bundle_that_is_tried_again_finds_what_it_did(job):
    reading = ReadReceipts(job)
    reading.setup()
    file = job.store.write_file(f"_parts/{job.receipts}/part-00001.parquet", b"rows", 1)
    job.store.write_receipt(job.receipts, Receipt(1, {"songs": file}))
    reading.start_bundle()
    (found,) = reading.process(REFS[1])
    assert (found.tag, found.value.part) == ("done", 1)


@dataclass
class Slow:
    """A job whose receipts come once so many are asked for at the same time."""

    together: threading.Barrier

    def receipt(self, part):
        self.together.wait(timeout=30)
        return Receipt(part, {})


def test_receipts_are_read_at_the_same_time():
    found = list(todo_or_done(REFS, Slow(threading.Barrier(len(REFS)))))
    assert [one.value.part for one in found] == list(range(10))
