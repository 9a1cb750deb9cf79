import json
import os
import subprocess
import sys
import zipfile

import fsspec
import gcs
import gcsfs
import pytest

from sssl.google_storage import GoogleStorage
from sssl.urls import (
    beside,
    file_name,
    file_system,
    first_line,
    is_on_web,
    local_path,
    opened,
    suffix_of,
    uri_of,
)

IN_A_FRESH_PROCESS = """
import json, os, sys
import fsspec, gcsfs
def settings():
    caches = fsspec.caching.caches.items()
    caches = {name: f"{kind.__module__}.{kind.__name__}" for name, kind in caches}
    return {"environment": dict(os.environ), "caches": caches, "config": fsspec.config.conf,
            "gs": str(fsspec.get_filesystem_class("gs"))}
before = settings()
import sssl, sssl.store.sql
from sssl.store.folder import Store
Store.at("gs://bucket/out").medium.fs
json.dump([before, settings()], sys.stdout)
"""


def test_importing_sssl_changes_nothing_of_the_process_or_of_fsspec():
    # The variables of the emulator keep gcsfs from looking for credentials.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GCSFS")
    } | gcs.ENVIRONMENT
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == os.EX_OK, done.stderr
    before, after = json.loads(done.stdout)
    assert before == after


def test_google_storage_is_asked_for_objects_only():
    for url in ("gs://bucket/a", "gcs://bucket/a"):
        fs, path = file_system(url)
        assert type(fs) is GoogleStorage
        assert not isinstance(
            fs, gcsfs.GCSFileSystem
        )  # the one that asks what kind of bucket it is
        assert path == "bucket/a"


def test_other_urls_are_fsspecs(tmp_path):
    assert type(file_system("memory://a")[0]) is fsspec.get_filesystem_class("memory")
    assert file_system(str(tmp_path / "a"))[1] == str(tmp_path / "a")
    with pytest.raises(ValueError, match="nowhere"):
        file_system("nowhere://a")


def test_a_file_is_read_from_a_path_or_a_url(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    for url in (str(tmp_path / "a"), f"file://{tmp_path}/a"):
        with opened(url) as file:
            assert file.read() == b"1"


def test_a_path_is_taken_as_it_is_whatever_signs_it_has(tmp_path):
    for name in (
        "Re::Start.wav",
        "Why?.wav",
        "a#1.wav",
        "100%25.wav",
        "c:d.wav",
        "zip::x.wav",
        "*.wav",
    ):
        path = str(tmp_path / name)
        (tmp_path / name).write_text(name)
        assert local_path(path) == path
        assert file_system(path)[1] == path
        for url in (path, f"file://{path}", uri_of(path)):
            with opened(url) as file:
                assert file.read().decode() == name
        assert suffix_of(path) == ".wav"


@pytest.mark.parametrize("scheme", ["file://", "FILE://", "file:", "file://localhost", "local://"])
def test_a_file_uri_may_have_escapes(tmp_path, scheme):
    path = tmp_path / "one two é.wav"
    path.write_text("1")
    escaped = f"{tmp_path}/one%20two%20%C3%A9.wav"
    for url in (f"{scheme}{escaped}", f"{scheme}{path}"):
        assert local_path(url) == str(path)
        assert file_name(url) == path.name


def test_of_two_files_that_a_uri_may_mean_the_form_decides(tmp_path):
    (tmp_path / "a%20b").write_text("literal")
    (tmp_path / "a b").write_text("decoded")
    assert local_path(f"file://{tmp_path}/a%20b") == f"{tmp_path}/a%20b"
    for scheme in ("file:", "file://localhost"):
        assert local_path(f"{scheme}{tmp_path}/a%20b") == f"{tmp_path}/a b"


def test_a_name_that_is_not_utf8_has_a_uri(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 %41.wav")
    with open(path, "w") as file:
        file.write("1")
    assert uri_of(path).isascii()
    assert local_path(uri_of(path)) == path


def test_the_home_folder_is_meant_unless_a_file_has_that_name(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.wav").touch()
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    monkeypatch.chdir(tmp_path)
    assert local_path("~/a.wav") == f"{tmp_path}/home/a.wav"
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "a.wav").touch()
    assert local_path("~/a.wav") == "~/a.wav"


def test_two_colons_in_a_web_address_are_part_of_a_name():
    fs, path = file_system("https://host/Re::Start.wav?sign=a::b")
    assert path == "https://host/Re::Start.wav?sign=a::b"
    assert file_system("HTTPS://host/a.wav") == (fs, "https://host/a.wav")


def test_a_chain_leads_to_a_file_in_an_archive_however_that_is_written(tmp_path):
    with zipfile.ZipFile(tmp_path / "all of it.zip", "w") as archive:
        archive.writestr("a.wav", "1")
    for place in (f"{tmp_path}/all of it.zip", f"file://{tmp_path}/all%20of%20it.zip"):
        with opened(f"zip://a.wav::{place}") as file:
            assert file.read() == b"1"
        assert suffix_of(f"zip://a.wav::{place}") == ".wav"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/b/c.csv?X-Amz-Signature=a/b.mp3&x=1", "c.csv"),
        ("https://host/b/c.csv#sheet", "c.csv"),
        ("gs://bucket/why?.mp3", "why?.mp3"),
        ("s3://bucket/a.mp3?versionId=3", "a.mp3"),
        ("/music/Why?/x.tar.gz", "x.tar.gz"),
        ("https://host/", ""),
    ],
)
def test_a_name_has_no_query_and_a_query_no_name(url, name):
    assert file_name(url) == name
    assert is_on_web(url) == url.startswith("https")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/m/clap.onnx", "/m/clap.onnx.json"),
        ("/m/why?#1.onnx", "/m/why?#1.onnx.json"),
        ("file:///m/clap.onnx", "file:///m/clap.onnx.json"),
        ("gs://bucket/clap.onnx", "gs://bucket/clap.onnx.json"),
        ("s3://b/clap.onnx?versionId=3", "s3://b/clap.onnx.json?versionId=3"),
        ("https://h/clap.onnx?x=clap.onnx", "https://h/clap.onnx.json?x=clap.onnx"),
        ("zip://clap.onnx::/m/clap.onnx.zip", "zip://clap.onnx.json::/m/clap.onnx.zip"),
        ("simplecache::https://h/a.onnx?x=1", "simplecache::https://h/a.onnx.json?x=1"),
    ],
)
def test_what_lies_beside_a_file_is_named_after_it(uri, expected):
    assert beside(uri, ".json") == expected


def test_a_first_line_is_read_wherever_the_file_lies(in_memory):
    for start, line in ((b"\xef\xbb\xbfa,b\r\nc", "a,b"), (b"a;b", "a;b"), (b"", "")):
        file_system(in_memory)[0].pipe_file(f"{in_memory}/x.csv", start)
        with opened(f"{in_memory}/x.csv") as file:
            assert first_line(file) == line
