"""kill -9 in the middle of stages, run again: the same tables as undisturbed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from conftest import FAST

from sssl.store.folder import Store

# A stage is in its middle when its first part (or epoch) is done and its table is not committed.
FIRST_SIGN = {
    "segment": "_receipts/ledger/*/*.json",
    "relabel": "_receipts/labels/*/*.json",
    "train": "models/*/member*.pt",
    "score": "_receipts/scores/*/*.json",
    "songs": "_receipts/songs/*/*.json",
}


KILLS = int(os.environ.get("SSSL_KILLS", "4"))


def start(catalog, output, stage="run", flags=FAST):
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        stage,
        "--catalog",
        catalog,
        "--output",
        str(output),
        *flags,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def descendants(pid):
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def alive(pids):
    states = [Path(f"/proc/{pid}/stat") for pid in pids]
    return [path for path in states if path.exists() and path.read_text().split()[2] != "Z"]


def wait_for(condition, timeout_s=120, interval_s=0.001):
    limit = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < limit, "timed out"
        time.sleep(interval_s)
    return found


def kill_in_the_middle_of(stage, catalog, output):
    process = start(catalog, output)
    sign = wait_for(lambda: next(output.glob(FIRST_SIGN[stage]), None))
    helpers = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    receipts = output / "_receipts"
    generation = (
        output / sign.relative_to(receipts if sign.is_relative_to(receipts) else output).parent
    )
    assert not (generation / "_manifest.json").exists(), (
        f"{stage}: killed too late to show anything"
    )
    wait_for(lambda: not alive(helpers), timeout_s=20, interval_s=0.1)


DIES_AT_COMMIT = """
import os, signal, sys
from pipelines.cli import main
from sssl.store.folder import Store

Store.commit = lambda store, manifest: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_a_run_killed_between_compaction_and_commit_ends_with_the_same_files(
    finished, catalog, tmp_path
):
    output = shutil.copytree(finished.root, tmp_path / "out")
    songs = finished.latest().get("songs")
    store = Store.open(str(output))
    store.publish(store.latest().without("songs"))
    for folder in ("songs", "_parts/songs", "_receipts/songs"):
        shutil.rmtree(output / folder)
    run = ["run", "--catalog", catalog, "--output", str(output), *FAST]
    killed = subprocess.run([sys.executable, "-c", DIES_AT_COMMIT, *run], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [path.name for path in (output / songs.ref).iterdir()] == ["songs-00000.parquet"]

    again = start(catalog, output)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == os.EX_OK, errors.decode()
    assert list(store.latest().get("songs").all_files) == list(songs.all_files)


def test_a_run_killed_in_the_middle_of_each_stage_ends_with_the_same_tables(
    finished, catalog, tmp_path
):
    """One run, killed five times: what a stage left half done is finished by the run that dies in
    the next one."""
    output = tmp_path / "out"
    for stage in FIRST_SIGN:
        kill_in_the_middle_of(stage, catalog, output)
    again = start(catalog, output)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == os.EX_OK, errors.decode()
    mine, undisturbed = Store.open(str(output)).latest(), finished.latest()
    assert {m.ref: m.digest for m in mine.manifests} == {
        m.ref: m.digest for m in undisturbed.manifests
    }


def test_two_commands_on_one_output_do_not_mix(finished, catalog, tmp_path):
    output = tmp_path / "out"
    process = start(catalog, output)
    wait_for(lambda: next(output.glob(FIRST_SIGN["segment"]), None))
    second = start(catalog, output)
    _, errors = second.communicate(timeout=60)
    process.kill()
    process.wait()
    assert second.returncode == 1
    assert b"another sssl command is writing to" in errors


def digests(output):
    return {m.table: m.digest for m in Store.open(str(output)).latest().manifests}


def test_segment_killed_at_random_moments_ends_with_the_same_tables(finished, catalog, tmp_path):
    undisturbed = {
        table: finished.latest().get(table).digest
        for table in ("catalog", "segments", "features", "ledger")
    }
    moments, attempt, flags = random.Random(0), 0, FAST[:4]
    for _ in range(KILLS):
        output = tmp_path / f"out{attempt}"
        process = start(catalog, output, "segment", flags)
        while b"tracks: " not in (said := process.stderr.readline()):
            assert said, "it ended before it cut anything"
        time.sleep(moments.uniform(0, 2.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (output / "latest.json").exists() and digests(
            output
        ):  # a new folder has a pointer to no table
            assert digests(output) == undisturbed
            attempt += 1
    output = tmp_path / f"out{attempt}"
    again = start(catalog, output, "segment", flags)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == os.EX_OK, errors.decode()
    assert digests(output) == undisturbed
