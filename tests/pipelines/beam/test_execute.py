import shutil
import time

import pytest

from pipelines.cli import main
from sssl.runtime.cpu_time import tree_cpu_s
from sssl.store.folder import Store


@pytest.fixture
def segment(tmp_path):
    (tmp_path / "catalog.csv").write_text(f"track_id,uri\na,{tmp_path}/a.wav\n")

    def run(runner):
        folders = ["--catalog", str(tmp_path / "catalog.csv"), "--output", str(tmp_path / "out")]
        return main(["segment", *folders, "--", f"--runner={runner}"])

    return run


def test_a_job_that_fails_on_an_engine_is_a_message(segment, capsys):
    assert segment("failing_engine.Failing") == 1
    said = capsys.readouterr().err
    assert "segment: the job failed: Pipeline job-001 failed: bundle failed ... OSError: x; the same command" in said
    assert "Traceback" not in said


def test_ctrl_c_while_an_engine_works_is_no_failure(segment, capsys):
    assert segment("failing_engine.Stopped") == 130
    assert "stopped; the same command goes on from here" in capsys.readouterr().err


def test_a_job_is_not_charged_for_what_this_process_did_before(finished, tmp_path):
    store = Store.open(str(shutil.copytree(finished.root, tmp_path / "out")))
    store.publish(store.latest().without("songs"))
    (tmp_path / "out" / finished.latest().get("songs").ref / "_manifest.json").unlink()
    for receipt in (tmp_path / "out" / "_receipts" / "songs").glob("*/*"):
        receipt.unlink()
    spent_s = time.process_time()
    while time.process_time() < spent_s + 1:
        pass
    before_s = tree_cpu_s()
    assert main(["songs", "--output", store.root]) == 0
    assert 0 < store.latest().get("songs").cpu_s <= tree_cpu_s() - before_s
