"""What holds for an output folder wherever it lies, and what is different."""

import errno
import os
import pickle
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.media.bucket import Bucket
from sssl.store.media.disk import Disk
from sssl.store.media.memory import Memory


def nobody_waits(message):
    raise AssertionError(message)


@pytest.fixture(params=["disk", "memory", pytest.param("bucket", marks=pytest.mark.cloud)])
def medium(request, tmp_path):
    match request.param:
        case "disk":
            return Disk(str(tmp_path / "out"))
        case "memory":
            return Memory(f"memory://{tmp_path.name}")
        case "bucket":
            return Bucket(f"{request.getfixturevalue('cloud').make_bucket()}/out")


def test_a_url_leads_to_its_medium(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        Store.at("out").medium
        == Store.at(f"file://{tmp_path}/out").medium
        == Disk(str(tmp_path / "out"))
    )
    assert Store.at("memory://out").medium == Memory("memory://out")
    assert Store.at("gs://bucket/out").medium == Bucket("gs://bucket/out")


def test_an_unknown_kind_of_url_is_refused():
    with pytest.raises(
        StoreError, match="cannot use nowhere://bucket/out: Protocol not known: nowhere"
    ):
        Store.open("nowhere://bucket/out", create=True)


def test_what_is_put_is_read_back_whole_and_in_pieces(medium):
    medium.put("a/b/c.bin", b"0123456789")
    medium.put("empty", b"")
    assert medium.read("a/b/c.bin") == b"0123456789"
    assert medium.read("empty") == b""
    with medium.open("a/b/c.bin") as file:
        file.seek(7)
        assert file.read(2) == b"78"


def test_a_file_takes_the_place_of_the_one_before(medium):
    for data in (b"long ago", b"now"):
        medium.put("a", data)
        assert medium.read("a") == data


def test_readers_of_one_file_do_not_disturb_each_other(medium):
    medium.put("a", b"0123456789")
    with medium.open("a") as one, medium.open("a") as other:
        assert (one.read(3), other.read(5), one.read(3)) == (b"012", b"01234", b"345")


def test_what_is_there_is_not_created_again(medium):
    assert medium.create_if_absent("a", b"first")
    assert not medium.create_if_absent("a", b"second")
    assert medium.read("a") == b"first"


def test_what_is_not_there_is_missing(medium):
    assert not medium.exists("a")
    with pytest.raises(FileNotFoundError):
        medium.read("a")
    medium.delete("a")  # nobody minds


def test_a_file_that_is_deleted_is_gone(medium):
    medium.put("a", b"1")
    assert medium.exists("a")
    medium.delete("a")
    assert not medium.exists("a")
    assert not medium.list("")


def test_many_files_are_deleted_whether_they_are_there_or_not(medium):
    for name in "abc":
        medium.put(f"folder/{name}", b"x")
    medium.delete_many(["folder/a", "folder/missing", "folder/c"])
    assert medium.list("folder") == ["folder/b"]
    medium.delete_many(["folder/a", "folder/[b]", "folder/*"])
    medium.delete_many([])
    assert medium.list("folder") == ["folder/b"]


@pytest.fixture
def at_google(monkeypatch):
    """A class of buckets whose files are in memory, and that fsspec deletes as at Google: many at
    once, and names with signs of patterns as patterns."""

    class Files(MemoryFileSystem):
        store, pseudo_dirs = {}, [""]
        batches = 0

        def rm(self, path):
            type(self).batches += 1
            for found in self.expand_path(path):
                with suppress(FileNotFoundError):
                    self.rm_file(found)

        def delete_noncurrent(self, folder):
            return 0

    monkeypatch.setattr(Bucket, "fs", property(lambda _: Files(skip_instance_cache=True)))
    return Files


@pytest.mark.parametrize("root", ["memory://out", "memory://out[12]", "memory://o*"])
def test_no_file_is_deleted_by_a_pattern(at_google, root):
    bucket = Bucket(root)
    beside = [Bucket("memory://out1"), Bucket("memory://out")]
    for medium in (bucket, *beside):
        for name in ("a", "b[12]", "b1", "c*", "cc", "d?", "dd"):
            medium.put(f"t/{name}", b"x")
    others = [medium.list("") for medium in beside if medium != bucket]
    bucket.delete_many(["t/a", "t/b[12]", "t/c*", "t/d?", "t/missing"])
    assert bucket.list("t") == ["t/b1", "t/cc", "t/dd"]
    assert [medium.list("") for medium in beside if medium != bucket] == others
    assert at_google.batches == (root == "memory://out")


def test_all_files_below_a_folder_are_listed_in_order(medium):
    for path in ("t/g/receipts/1.json", "t/g/b", "t/g/a", "t2/g/a", "t.json"):
        medium.put(path, b"1")
    assert list(medium.list("t")) == ["t/g/a", "t/g/b", "t/g/receipts/1.json"]
    assert len(medium.list("")) == 5
    assert not medium.list("other")


def test_files_are_walked_folder_by_folder_while_they_are_deleted(medium):
    for path in ("t/g/b", "t/g/a", "t/h/c", "t/d", "t2/e"):
        medium.put(path, b"1")
    found = []
    for paths in medium.walk("t"):
        medium.delete_many(paths)
        found.append(paths)
    assert sorted(filter(None, found)) == [["t/d"], ["t/g/a", "t/g/b"], ["t/h/c"]]
    assert not [path for paths in medium.walk("t") for path in paths]
    assert not [path for paths in medium.walk("nowhere") for path in paths]
    assert [path for paths in medium.walk("") for path in paths] == ["t2/e"]


def test_files_below_a_folder_have_their_sizes(medium):
    medium.put("t/g/a", b"123")
    medium.put("t/g/b", b"", durable=False)
    medium.put("other", b"1")
    assert medium.sizes("t") == {"t/g/a": 3, "t/g/b": 0}
    assert medium.sizes("nowhere") == {}


def test_a_file_that_is_renamed_while_a_folder_is_looked_at_is_passed_over(tmp_path, monkeypatch):
    disk = Disk(str(tmp_path))
    disk.put("t/a", b"abc")
    monkeypatch.setattr(Disk, "list", lambda *_: ["t/.b.sssl-0123", "t/a"])
    assert disk.sizes("t") == {"t/a": 3}
    assert disk.written_at("t").timestamp() == pytest.approx(Path(tmp_path, "t/a").stat().st_mtime)


def test_a_second_writer_is_refused_until_the_first_is_through(medium, monkeypatch):
    monkeypatch.setattr("sssl.store.media.lease.BEAT_S", 0.1)
    monkeypatch.setattr("sssl.store.media.lease.PATIENCE_S", 20)
    refused = []

    def write():
        try:
            with medium.hold(lambda message: None):
                pass
        except StoreError as error:
            refused.append(str(error))

    with medium.hold(nobody_waits):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert medium.root in refused[0]
    with medium.hold(nobody_waits):
        pass


def test_the_same_place_is_the_same_key_also_in_another_process(medium):
    store = Store(medium)
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert hash(again) == hash(store)
    assert store != Store(type(medium)(f"{medium.root}-other"))


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    def scandir(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    disk = Disk(str(tmp_path / "out"))
    disk.put("folder/a", b"1")
    monkeypatch.setattr(os, "scandir", scandir)
    for look in (disk.list, disk.sizes, disk.written_at):
        with pytest.raises(OSError, match="folder"):
            look("folder")
    monkeypatch.undo()
    assert disk.list("nowhere") == []
