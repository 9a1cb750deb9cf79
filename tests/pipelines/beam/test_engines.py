"""The pipelines with workers in processes of their own: on Beam's Prism, and on the local runner
with several."""

import os
import signal
import subprocess
from pathlib import Path

import engine
import pytest
from conftest import FAST
from test_kill import alive, descendants, wait_for

from sssl.store.folder import Store

PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.fixture(scope="module")
def prism():
    with engine.engine() as running:
        yield running


def names_and_digests(store):
    return {m.ref: m.digest for m in store.latest().manifests}


def sdk_workers(prism):
    return [
        pid
        for pid in descendants(prism.pid)
        if "SdkHarness" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


@pytest.mark.parametrize(
    "beam_args", [engine.ON_PRISM, PROCESSES], ids=["prism", "multi_processing"]
)
def test_an_engine_makes_the_same_tables_as_this_process(
    beam_args, prism, finished, catalog, tmp_path
):
    process = prism.start(
        "run", "--catalog", catalog, "--output", tmp_path / "out", *FAST, beam_args=beam_args
    )
    _, errors = process.communicate(timeout=600)
    assert process.returncode == os.EX_OK, errors
    assert names_and_digests(Store.open(str(tmp_path / "out"))) == names_and_digests(finished)


def test_a_worker_that_dies_costs_the_job_and_a_rerun_completes_it(
    prism, finished, catalog, tmp_path
):
    output = tmp_path / "out"
    segment = ("segment", "--catalog", catalog, "--output", output, *FAST[:4])
    earlier = set(sdk_workers(prism))  # workers of an earlier job may take their time to end
    process = prism.start(*segment)
    receipt = wait_for(lambda: next(output.glob("_receipts/ledger/*/*.json"), None))
    (worker,) = set(sdk_workers(prism)) - earlier
    decoders = descendants(worker)
    os.kill(worker, signal.SIGKILL)
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()  # Prism does not always notice; then whoever waits for the job gives it up
        process.communicate()
    else:
        assert process.returncode != os.EX_OK
        assert "SDK worker disconnected" in errors
    assert not (output / "ledger" / receipt.parent.name / "_manifest.json").exists()
    wait_for(lambda: not alive(decoders), timeout_s=20, interval_s=0.1)

    again = prism.start(*segment)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == os.EX_OK, errors
    expected = {
        table: finished.latest().get(table).digest
        for table in ("catalog", "segments", "features", "ledger")
    }
    assert {m.table: m.digest for m in Store.open(str(output)).latest().manifests} == expected
