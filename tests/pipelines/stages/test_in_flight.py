"""From the launch of a job that nobody waits for until its tables are published."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import write_catalog

from pipelines.beam import execute
from pipelines.cli import main
from pipelines.stages import segment
from sssl.store.folder import Store
from sssl.store.in_flight import InFlight, in_flight, launched
from sssl.store.removals import hash_id
from sssl.store.sql import connect, rows_on_disk

LAUNCH = ["--", "--template_location=gs://work/templates/job"]


class Launched:
    """A small catalog whose job was built by a launcher. `run` does in this process what Dataflow
    would do."""

    def __init__(self, folder, monkeypatch):
        self.catalog = write_catalog(folder, tracks_per_class=2, seconds=6.0)
        self.output = str(folder / "out")
        self.pipelines = []
        with monkeypatch.context() as patched:
            patched.setattr(
                execute, "_run", lambda pipeline, job, beam_args: self.pipelines.append(pipeline)
            )
            assert self.launch() == 0

    def launch(self, *flags):
        own = [
            "--catalog",
            self.catalog,
            "--output",
            self.output,
            "--tracks-per-part",
            "4",
            "--max-error-ratio",
            "0.5",
        ]
        return main(["segment", *own, *flags, *LAUNCH])

    def run(self):
        self.pipelines[0].run().wait_until_finish()

    def call(self, command, *flags):
        return main([command, "--output", self.output, *flags])

    @property
    def store(self):
        return Store.open(self.output)


@pytest.fixture
def job(tmp_path, monkeypatch):
    return Launched(tmp_path, monkeypatch)


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_a_job_is_published_from_what_its_launch_noted_without_a_look_at_the_catalog(job, capsys):
    job.run()
    assert job.store.latest().manifests == ()
    shutil.rmtree(Path(job.catalog).parent / "audio")
    Path(job.catalog).unlink()
    assert job.call("publish") == 0
    assert [m.table for m in job.store.latest().manifests] == [
        "catalog",
        "features",
        "ledger",
        "segments",
    ]
    assert job.store.latest().get("ledger").rows == 12
    assert in_flight(job.store) is None
    assert job.call("publish") == 0
    assert "nothing to publish" in said(capsys)


def test_what_is_not_committed_yet_is_not_published(job, capsys):
    assert job.call("publish") == 1
    assert "has not committed its tables: 0 of 3 parts are done" in said(capsys)
    assert in_flight(job.store) is not None


def test_more_failures_than_the_launch_allowed_are_not_published(job):
    job.run()
    launched(job.store, replace(in_flight(job.store), max_error_ratio=0.1))
    assert job.call("publish") == 3
    assert job.call("publish") == 3  # tried again by whoever runs it
    assert job.call("publish", "--abandon") == 0
    assert job.call("publish") == 0


@pytest.mark.parametrize(
    "command",
    [
        ("takedown", "--track-id", "nobody"),
        ("rollback", "--round", "0"),
        ("verify", "--repair"),
        ("songs",),
    ],
    ids=lambda command: command[0],
)
def test_while_a_job_is_in_flight_no_other_command_writes(command, job, capsys):
    job.run()
    before = job.store.find("")
    assert job.call(*command) == 1
    assert "a job of segment, launched at " in (message := said(capsys))
    assert "3 of 3 parts are done, the last sign of life is 0 minutes old" in message
    assert "`sssl publish --abandon`" in message
    assert job.store.find("") == before
    assert job.call("publish") == 0


def test_the_same_job_can_be_launched_again_and_another_one_cannot(job, monkeypatch, capsys):
    monkeypatch.setattr(execute, "_run", lambda *_: None)
    assert job.launch() == 0
    assert job.launch("--segment-s", "2") == 1
    assert "a job of segment, launched at " in said(capsys)


def test_a_job_without_a_sign_of_life_counts_as_dead(job):
    old = (datetime.now(UTC) - timedelta(hours=13)).isoformat()
    launched(job.store, replace(in_flight(job.store), launched_at=old))
    assert in_flight(job.store) is None
    job.run()  # it was alive, and finishes parts
    assert in_flight(job.store) is not None


def test_a_job_that_has_committed_its_tables_waits_for_its_publication_however_long(job):
    job.run()
    old = (datetime.now(UTC) - timedelta(hours=80)).isoformat()
    launched(job.store, replace(in_flight(job.store), launched_at=old))
    for receipt in Path(job.output, "_receipts").rglob("*"):
        os.utime(receipt, (0, 0))
    assert job.call("takedown", "--track-id", "Q1_0") == 1
    assert job.call("publish") == 0
    assert job.store.latest().get("ledger").rows == 12


@pytest.mark.parametrize("note", ['{"stage": "seg', '{"stage": "segment"}', "TIME", "ZONE"])
def test_a_damaged_note_of_a_job_is_a_sentence_and_can_be_given_up(note, job, capsys):
    known = in_flight(job.store)
    if note == "TIME":
        launched(job.store, replace(known, launched_at="yesterday"))
    elif note == "ZONE":
        launched(job.store, replace(known, launched_at="2026-11-27T10:00:00"))
    else:
        Path(job.output, "in_flight.json").write_text(note)
    assert job.call("songs") == 1
    assert job.call("publish") == 1
    assert "`sssl publish --abandon`" in said(capsys)
    assert job.call("publish", "--abandon") == 0
    assert in_flight(job.store) is None


def test_a_takedown_during_a_job_that_was_given_up_leaves_no_row_on_the_disk(job):
    """The job goes on after all, and reads a catalog that still has the track."""
    assert job.call("publish", "--abandon") == 0
    assert job.call("takedown", "--track-id", "Q1_0") == 0
    # What deletes the catalog of the job ends it at once; here it gets as far as it can.
    with pytest.raises(Exception, match="is not there"):
        job.run()
    assert rows_of(job.store) == 0


def test_a_job_that_ends_after_a_takedown_commits_nothing_and_deletes_what_it_wrote(job):
    from sssl.store.removals import remember

    remember(job.store, ["Q1_0"])
    with pytest.raises(Exception, match="tracks were taken down while it ran"):
        job.run()
    assert rows_of(job.store) == 1  # the catalog's own, which the takedown deletes itself
    assert (
        job.store.find("segments") == job.store.find("_receipts") == job.store.find("_parts") == []
    )


def rows_of(store):
    query = rows_on_disk(store, ["Q1_0"])
    if not query:
        return 0
    with connect(store, store.latest()) as connection:
        return sum(rows for _, rows in connection.sql(query).fetchall())


def test_a_job_whose_files_were_deleted_does_not_commit(job, monkeypatch):
    """As a takedown of an id that does not exist once did."""
    commit = segment.Job.commit

    def after_a_deletion(self, receipts, fitted=None):
        receipts = list(receipts)
        self.store.delete(receipts[0].files["segments"].path)
        return commit(self, receipts, fitted)

    monkeypatch.setattr(segment.Job, "commit", after_a_deletion)
    with pytest.raises(
        Exception, match=r"files that it wrote were deleted since: segments/\w+/part-0000"
    ):
        job.run()
    assert [ref for ref in job.store.committed_refs() if ref.startswith("segments")] == []


def test_what_is_noted_of_a_job_is_no_secret_and_names_no_track(job):
    noted = job.store.read_bytes("in_flight.json").decode()
    assert "Q1_0" not in noted
    assert hash_id("Q1_0") not in noted
    assert isinstance(in_flight(job.store), InFlight)
