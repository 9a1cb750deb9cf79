"""Engines may split, repeat, reorder and kill: the same tables, and one part that kills costs its
own tracks only."""

import multiprocessing
import os
import signal

import pytest
from apache_beam.utils.windowed_value import WindowedValue
from hostile import digests, disturbed

from pipelines.beam import mass
from pipelines.beam.job import Job
from pipelines.beam.transforms import todo_or_done
from pipelines.beam.tries import MOST_TRIES, Tries
from pipelines.stages import segment
from pipelines.stages.previous import TABLES, Previous
from pipelines.stages.segment import CutPart, Settings
from schemas.records import dump
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog
from sssl.catalog.read import read_catalog
from sssl.errors import StoreError
from sssl.store.folder import Store

SETTINGS = Settings(deal=CatalogConfig(tracks_per_part=2), sound_version=0)
POISON = 1


def made_job(catalog, folder):
    store = Store.open(str(folder), create=True)
    previous = Previous.of(store, store.latest(), SETTINGS.of_rows())
    tracks = read_catalog(catalog, None, SETTINGS.deal, previous.dealt())
    return Job.of(
        store,
        "segment",
        TABLES,
        dump(SETTINGS.deal),
        [commit_catalog(store, tracks, SETTINGS.deal)],
    )


def run_bundle(job, refs, tries=None, settings=SETTINGS):
    """Do what an engine does with a bundle; return its receipts."""
    cutting = CutPart(job, Previous(job.store, {}, False), settings, 1, tries)
    cutting.setup()
    try:
        cutting.start_bundle()
        receipts = [receipt for ref in refs for receipt in cutting.process(ref)]
        return receipts + [
            last.value if isinstance(last, WindowedValue) else last
            for last in cutting.finish_bundle()
        ]
    finally:
        cutting.teardown()


def todo(job, refs):
    return [ref for ref in refs if job.receipt(ref.part) is None]


@pytest.fixture(scope="module")
def orderly(catalog, tmp_path_factory):
    """The tables of an undisturbed run, and its job."""
    job = made_job(catalog, tmp_path_factory.mktemp("orderly") / "out")
    return job.commit(run_bundle(job, list(job.list_parts()))), job


def test_split_repeated_and_reordered_bundles_make_the_same_tables(
    orderly, catalog, tmp_path, monkeypatch
):
    job = made_job(catalog, tmp_path / "out")
    receipts = disturbed(job.list_parts(), lambda refs: run_bundle(job, refs), monkeypatch)
    assert digests(job.commit(receipts)) == digests(orderly[0])


def poisoned(job, refs, tries):
    """Run a bundle in a worker that one of its parts kills."""
    merge = segment.merge

    def merge_or_die(tracks, cuts, before, settings):
        if tracks[0].part == POISON and cuts[0].ledger.reason != "part-failed":
            os.kill(os.getpid(), signal.SIGKILL)
        return merge(tracks, cuts, before, settings)

    segment.merge = merge_or_die
    run_bundle(job, refs, tries)


def test_a_part_that_kills_its_worker_costs_its_own_tracks_and_the_rest_goes_on(
    orderly, catalog, tmp_path
):
    job = made_job(catalog, tmp_path / "out")
    refs, tries = list(job.list_parts())[:4], Tries.of(job, 0.5)
    exits = []
    while bundle := todo(job, refs):
        worker = multiprocessing.get_context("spawn").Process(
            target=poisoned, args=(job, bundle, tries)
        )
        worker.start()
        worker.join()
        exits.append(worker.exitcode)
        assert len(exits) <= 4, "an engine gives the job up"
    assert exits == [-signal.SIGKILL] * MOST_TRIES + [0]
    rest = run_bundle(job, list(job.list_parts())[4:])
    ledger = job.commit([*map(job.receipt, range(4)), *rest])[-1]
    assert ledger.table == "ledger"
    rows = {row["track_id"]: row for row in job.store.read_table(ledger).to_pylist()}
    before = {row["track_id"]: row for row in job.store.read_table(orderly[0][-1]).to_pylist()}
    lost = {track_id for track_id, row in rows.items() if row["part"] == POISON}
    assert {rows[track_id]["reason"] for track_id in lost} == {"part-failed"}
    assert all(rows[track_id]["retryable"] for track_id in lost)
    assert {t: row for t, row in rows.items() if t not in lost} == {
        t: r for t, r in before.items() if t not in lost
    }
    assert not job.store.find("_tries")  # they are of use until the table is committed


def test_what_the_storage_refuses_is_no_try_of_a_part(catalog, tmp_path, monkeypatch):
    job = made_job(catalog, tmp_path / "out")
    tries, refs = Tries.of(job, 0.5), list(job.list_parts())[:1]

    def refuse(*_):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(Store, "write_part", refuse)
    for _ in range(MOST_TRIES + 1):
        with pytest.raises(OSError, match="No space left"):
            run_bundle(job, refs, tries)
    assert tries.made(0) == 0


def test_a_launch_does_not_count_the_tries_of_another_one(orderly):
    job = orderly[1]
    first = Tries.of(job, 0.5)
    first.begin(0)
    assert (first.made(0), Tries.of(job, 0.5).made(0)) == (1, 0)


def test_a_job_stops_where_nearly_everything_fails(tmp_path, monkeypatch):
    (tmp_path / "c.csv").write_text(
        "track_id,uri\n" + "".join(f"{n},{tmp_path}/{n}.wav\n" for n in range(20))
    )
    monkeypatch.setattr(mass, "MASS", 10)
    job = made_job(str(tmp_path / "c.csv"), tmp_path / "out")
    with pytest.raises(
        StoreError, match="of 10 tracks nearly all failed: missing 10; once the cause is gone"
    ):
        run_bundle(job, list(job.list_parts()))
    assert [ref.part for ref in todo(job, job.list_parts())] != []


def test_a_part_that_is_done_is_not_begun_again(orderly):
    job = orderly[1]
    (tagged,) = todo_or_done([next(job.list_parts())], job)
    assert tagged.tag == "done"
