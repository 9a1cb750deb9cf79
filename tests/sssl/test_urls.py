import json
import os
import subprocess
import sys

import fsspec
import gcs
import gcsfs
import pytest

from sssl.google_storage import GoogleStorage
from sssl.urls import file_system, opened

IN_A_FRESH_PROCESS = """
import json, os, sys
import fsspec, gcsfs
def settings():
    caches = {name: f"{kind.__module__}.{kind.__name__}" for name, kind in fsspec.caching.caches.items()}
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
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GCSFS")} | gcs.ENVIRONMENT
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == os.EX_OK, done.stderr
    before, after = json.loads(done.stdout)
    assert before == after


def test_google_storage_is_asked_for_objects_only():
    for url in ("gs://bucket/a", "gcs://bucket/a"):
        fs, path = file_system(url)
        assert type(fs) is GoogleStorage
        assert not isinstance(fs, gcsfs.GCSFileSystem)  # the one that asks what kind of bucket it is
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
