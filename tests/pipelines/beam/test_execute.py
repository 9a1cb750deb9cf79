import shutil
import time

import pytest

from pipelines.beam import execute
from pipelines.cli import main
from sssl.errors import StoreError
from sssl.runtime.cpu_time import tree_cpu_s
from sssl.store.folder import Store


@pytest.fixture
def segment(tmp_path):
    (tmp_path / "catalog.csv").write_text(f"track_id,uri\na,{tmp_path}/a.wav\n")

    def run(runner):
        folders = ["--catalog", str(tmp_path / "catalog.csv"), "--output", str(tmp_path / "out")]
        return main(["segment", *folders, "--", f"--runner={runner}"])

    return run


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "OSError: [Errno 28] No space left on device: '/out/a' [while running 'Cut']",
            (28, "/out/a"),
        ),
        ("PermissionError: [Errno 13] Permission denied: '/out/a b'", (13, "/out/a b")),
    ],
)
def test_what_the_storage_refused_is_told_although_the_engine_raised_its_text(line, expected):
    raised = execute._as_it_was(
        RuntimeError(f"Traceback (most recent call last):\n  File ...\n{line}")
    )
    assert isinstance(raised, OSError)
    assert (raised.errno, raised.filename) == expected


def test_an_error_of_an_output_folder_stays_one_although_the_engine_raised_its_text():
    raised = execute._as_it_was(
        RuntimeError("Traceback\nsssl.errors.StoreError: a is damaged [while running 'Cut']")
    )
    assert isinstance(raised, StoreError)
    assert str(raised) == "a is damaged"
    ours = RuntimeError("mistaken")
    assert execute._as_it_was(ours) is ours


def test_a_job_that_fails_on_an_engine_is_a_message(segment, capsys):
    assert segment("failing_engine.Failing") == 1
    said = capsys.readouterr().err
    assert (
        "segment: the job failed: Pipeline job-001 failed: bundle failed ... OSError: x; the same"
        " command" in said
    )
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
