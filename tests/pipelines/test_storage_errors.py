"""What the storage refuses is a sentence with the path and an exit code."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from pipelines import cli
from pipelines.cli import main
from pipelines.terminal.storage import sentence, storage_error
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.media.disk import Disk
from sssl.store.removals import remember

GOLDEN = Path(__file__).parents[1] / "golden" / "v2"
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_a_disk_that_refuses_to_write_is_a_sentence_with_the_path(
    code, tmp_path, monkeypatch, capsys
):
    """The system names no file where a write fails."""
    store = Store.open(str(tmp_path / "out"), create=True)
    remember(store, ["a"])  # a takedown that was stopped, which is gone on with

    def refused(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("pathlib.Path.write_bytes", refused)
    assert main(["takedown", "--output", str(tmp_path / "out"), "--track-id", "a"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"error: {tmp_path}/out/takedown.json: {os.strerror(code)}; " in said
    assert said.endswith("the same command goes on from here")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")]
)
def test_a_file_system_without_locks_is_a_sentence(error, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with (
        pytest.raises(StoreError, match=r"cannot be locked .*: check what you may do there"),
        Disk(str(tmp_path)).hold(print),
    ):
        pass


def test_what_the_storage_did_keeps_its_words_through_an_engine_and_duckdb():
    raised_anew = OSError("[Errno 28] No space left on device: '/out/a' [while running 'Cut']")
    assert sentence(raised_anew).startswith("[Errno 28] No space left on device: '/out/a'")
    assert "could not open" in sentence(storage_error(duckdb.IOException("could not open /out/a")))
    assert storage_error(ValueError("ours")) is None


def test_an_error_of_ours_still_has_its_traceback(monkeypatch):
    def mistaken(_):
        raise ValueError("ours")

    monkeypatch.setattr(
        cli, "module_of", lambda _: type("Module", (), {"main": staticmethod(mistaken)})
    )
    with pytest.raises(ValueError, match="ours"):
        main(["sql"])


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_a_reader_that_stops_reading_ends_the_command_quietly(format):
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "sql",
        "--output",
        str(GOLDEN),
        "--format",
        format,
    ]
    writer = subprocess.Popen(
        [*command, "select range as number, repeat('x', 100) as filler from range(100000)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer.stdout.read(10)
    writer.stdout.close()
    errors = writer.stderr.read().decode()
    assert (writer.wait(), errors) == (141, "")


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--catalog", "c.csv", "--output", "o", "--print-settings"],
        ["tables", "--output", str(GOLDEN)],
    ],
)
def test_a_reader_that_is_gone_from_the_start_ends_a_command_quietly_too(args):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pipelines.cli", *args]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")
