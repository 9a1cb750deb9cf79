"""Catalog, audio and output in buckets: the same tables as on a disk, also if the storage fails now
and then."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from conftest import FAST
from test_kill import start, wait_for

from pipelines.cli import main
from sssl.store.folder import Store
from sssl.store.media import lease
from sssl.store.sql import connect, rows_on_disk

PLACE = {"uri", "source_fingerprint"}
"""Columns that say where a file lies, and differ between a disk and a bucket."""


@pytest.fixture(scope="module")
def bucket(cloud):
    return cloud.make_bucket()


@pytest.fixture(scope="module")
def gs_catalog(catalog, bucket):
    """The catalog and its audio, copied into a bucket."""
    fs = Store.at(bucket).medium.fs
    table = pd.read_csv(catalog, dtype=str, keep_default_na=False)
    for uri in table["uri"]:
        if os.path.exists(uri):
            fs.put_file(uri, f"{bucket}/audio/{os.path.basename(uri)}")
    table["uri"] = [f"{bucket}/audio/{os.path.basename(uri)}" for uri in table["uri"]]
    fs.pipe_file(f"{bucket}/catalog.csv", table.to_csv(index=False).encode())
    return f"{bucket}/catalog.csv"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    return ["--mlflow-uri", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"]


@pytest.fixture(scope="module")
def in_bucket(bucket, gs_catalog, tracked, tmp_path_factory):
    """An output folder in a bucket, of an undisturbed `sssl run`."""
    output = f"{bucket}/out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))  # MLflow's artifacts go to the working folder
        assert main(["run", "--catalog", gs_catalog, "--output", output, *FAST, *tracked]) == 0
    return Store.open(output)


def digests(store):
    return {(m.table, m.round): m.digest for m in store.latest().manifests}


def names_and_digests(store):
    return {m.ref: m.digest for m in store.latest().manifests}


def test_a_bucket_gets_the_same_tables_as_a_disk(in_bucket, finished):
    local, remote = digests(finished), digests(in_bucket)
    assert set(remote) == set(local)
    assert {key for key in local if local[key] != remote[key]} == {
        ("catalog", None),
        ("ledger", None),
    }
    for table in ("catalog", "ledger"):
        rows = [store.read_table(store.latest().get(table)) for store in (finished, in_bucket)]
        local_rows, remote_rows = (
            table.drop_columns([c for c in table.column_names if c in PLACE]) for table in rows
        )
        assert remote_rows.equals(local_rows)


def test_the_report_of_a_bucket_lies_in_it(in_bucket):
    assert b"<html" in in_bucket.read_bytes("report.html")


def test_tables_in_a_bucket_answer_sql(in_bucket, capsys):
    sql = connect(in_bucket, in_bucket.latest()).sql
    assert sql("select count(*) from songs").fetchall() == [(21,)]
    assert (
        main(
            [
                "sql",
                "--output",
                in_bucket.root,
                "select count(*) as n from ledger",
                "--format",
                "csv",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == "n\n24\n"


def test_a_second_run_on_a_bucket_changes_nothing(in_bucket, gs_catalog, tracked):
    def versions():
        fs = in_bucket.medium.fs
        return {
            path: fs.info(in_bucket.url(path))["generation"] for path in in_bucket.find("songs")
        }

    before, refs = versions(), names_and_digests(in_bucket)
    assert main(["segment", "--catalog", gs_catalog, "--output", in_bucket.root, *FAST[:4]]) == 0
    assert main(["songs", "--output", in_bucket.root]) == 0
    assert names_and_digests(in_bucket) == refs
    assert versions() == before


def test_failing_requests_change_nothing(
    in_bucket, bucket, gs_catalog, tracked, cloud, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    output = f"{bucket}/failing"
    with cloud.failing(0.01, seed=1) as injected:
        assert main(["run", "--catalog", gs_catalog, "--output", output, *FAST, *tracked]) == 0
    assert (
        min(injected[kind] for kind in ("429", "503", "cut-request", "lost-answer", "cut-answer"))
        >= 3
    )
    assert names_and_digests(Store.open(output)) == names_and_digests(in_bucket)


def test_a_run_killed_in_a_bucket_is_taken_over(in_bucket, bucket, gs_catalog, monkeypatch, capsys):
    store = Store.at(f"{bucket}/killed")
    process = start(gs_catalog, store.root, "segment", FAST[:4])
    wait_for(lambda: store.find("_receipts/ledger"), interval_s=0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(lease, "PATIENCE_S", 12)
    assert main(["segment", "--catalog", gs_catalog, "--output", store.root, *FAST[:4]]) == 0
    assert "waiting up to 12 s: is process" in capsys.readouterr().err
    expected = {
        table: in_bucket.latest().get(table).digest
        for table in ("catalog", "segments", "features", "ledger")
    }
    assert {m.table: m.digest for m in store.latest().manifests} == expected


def test_a_track_is_taken_down_from_a_bucket(in_bucket, bucket):
    copy = Store.at(f"{bucket}/without")
    for path in in_bucket.find(""):
        copy.write_bytes(path, in_bucket.read_bytes(path))
    assert main(["takedown", "--output", copy.root, "--track-id", "Q1_0"]) == 0
    left = connect(copy, copy.latest()).sql(rows_on_disk(copy, ["Q1_0"])).fetchall()
    assert len(left) == 7  # tables that have track_id
    assert {rows for _, rows in left} == {0}


def test_two_outputs_in_buckets_are_compared(bucket, capsys):
    golden = Store.at(str(Path(__file__).parents[2] / "golden" / "v1"))
    copies = [Store.at(f"{bucket}/{name}") for name in ("before", "after")]
    for copy in copies:
        for path in golden.find(""):
            copy.write_bytes(path, golden.read_bytes(path))
    assert main(["diff", *(copy.root for copy in copies), "--format", "json"]) == 0
    (songs,) = json.loads(capsys.readouterr().out)["songs in both"]
    assert songs["songs"] == songs["same_label"] > 0


def test_a_bucket_needs_a_tracking_server_before_any_work(bucket, gs_catalog, capsys):
    output = f"{bucket}/untracked"
    assert main(["run", "--catalog", gs_catalog, "--output", output, *FAST]) == 1
    assert "cannot hold MLflow's database: give --mlflow-uri" in capsys.readouterr().err
    assert not Store.at(output).latest().manifests
