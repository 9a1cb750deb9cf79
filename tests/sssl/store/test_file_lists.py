"""Manifests of many parts: their files are a list in Parquet, named by its digest."""

import json
import pickle

import pyarrow as pa
import pytest

import sssl.store.manifest as module
from schemas.records import RecordError, load
from sssl.errors import StoreError
from sssl.removal.deletion import delete_unpublished
from sssl.removal.vacuum import beyond, delete, find_old
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, PartFile, Snapshot
from sssl.store.verify import repair, verify

PARTS = 12


@pytest.fixture(autouse=True)
def few_in_json(monkeypatch):
    monkeypatch.setattr(module, "MOST_IN_JSON", 4)


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "out"), create=True)


def commit(store, generation="g", parts=range(PARTS), rows=2, created_at=""):
    files = {
        part: store.write_part("segments", generation, part, pa.table({"a": [part] * rows}))
        for part in parts
    }
    plan = Manifest(
        "segments",
        generation,
        "segment",
        None,
        {},
        (),
        files,
        {"cpu_s": 1.0},
        created_at=created_at,
    )
    return plan, store.commit(plan)


def committed_json(store, manifest):
    return json.loads(store.read_bytes(store.manifest_path(manifest.ref)))


def test_a_list_gives_the_files_that_were_committed(store):
    plan, made = commit(store, parts=[7, 3, 2, 11, 5])
    found = Store.at(store.root).named(made.ref)
    for manifest in (made, found):
        assert manifest.listed is not None
        assert manifest.files == plan.files
        assert list(manifest.files) == sorted(plan.files)
        assert dict(manifest.files.items()) == plan.files
        assert set(manifest.files.values()) == set(plan.files.values())
        assert (manifest.rows, manifest.bytes) == (plan.rows, plan.bytes)
        assert manifest.digest == plan.digest
        assert 7 in manifest.files
        assert manifest.files.get(4) is None
        assert manifest.files.get(12) is None
    assert committed_json(store, made)["files"].keys() == {"listed"}
    assert found.summary == {"cpu_s": 1.0}


def test_few_files_stay_in_the_manifest(store):
    _, made = commit(store, parts=range(4))
    assert made.listed is None
    assert committed_json(store, made)["files"].keys() == {"0", "1", "2", "3"}


def test_files_travel_to_other_processes(store):
    _, made = commit(store)
    assert pickle.loads(pickle.dumps(made)).files == made.files


def test_a_list_is_read_when_a_file_is_asked_for(store):
    _, made = commit(store)
    store.delete(made.listed.path)
    found = Store.at(store.root).named(made.ref)
    assert (found.digest, len(found.files)) == (made.digest, PARTS)
    with pytest.raises(StoreError, match=r"\.files is not there, though its manifest names it"):
        list(found.files)
    assert store.manifest_if_whole(made.ref) is None


def test_a_bit_that_flips_in_a_list_is_noticed_and_the_table_committed_again(store):
    plan, made = commit(store)
    store.publish(Snapshot((made,)))
    data = bytearray(store.read_bytes(made.listed.path))
    data[40] ^= 1
    store.write_bytes(made.listed.path, bytes(data))
    store = Store.open(store.root)
    with pytest.raises(StoreError, match=r"\.files is damaged: its SHA-256 is not"):
        list(store.named(made.ref).files)
    damages = verify(store).damages
    assert [damage.path for damage in damages] == [store.manifest_path(made.ref)]
    assert repair(store, damages).manifests == ()
    assert store.commit(plan).files == plan.files
    assert verify(store).damages == []


def test_a_table_whose_list_is_lost_is_made_again(store):
    plan, made = commit(store)
    store.delete(made.listed.path)
    store = Store.open(store.root)
    assert store.committed(plan) is None
    again = store.commit_once(plan, lambda _: Made(plan.files, plan.summary, knows_cpu_s=True))
    assert again.files == plan.files
    assert store.committed(plan).files == plan.files
    assert verify(store).damages == []


def test_a_program_that_knows_no_lists_takes_no_table_for_empty(store):
    _, made = commit(store)
    with pytest.raises(RecordError, match=r"key in Manifest.files: expected `int`"):
        load(Manifest, committed_json(store, made))


def test_another_list_of_a_generation_has_another_name(store):
    _, first = commit(store)
    file = next(iter(first.files.values()))
    store.delete(file.path)
    plan, second = commit(store, rows=3)
    assert second.listed.path != first.listed.path
    assert Store.at(store.root).named(second.ref).files == plan.files


def test_a_takedown_keeps_the_lists_of_what_is_published(store):
    _, old = commit(store, "old")
    _, made = commit(store, "new")
    store.publish(Snapshot((made,)))
    delete_unpublished(store)
    assert store.exists(made.listed.path)
    assert not store.exists(old.listed.path)


def test_a_vacuum_deletes_a_list_with_its_generation(store):
    nights = [("old", 1), ("new", 2), ("newest", 3)]
    committed = []
    for generation, day in nights:
        _, made = commit(store, generation, created_at=f"2026-11-0{day}T00:00:00+00:00")
        store.publish(Snapshot((made,)))
        committed.append(made)
    old = committed[0]
    delete(store, find_old(store, beyond(1)))
    assert store.exists(made.listed.path)
    assert not store.exists(old.listed.path)


def test_what_replaces_a_file_counts_in_the_digest(store):
    _, made = commit(store)
    other = PartFile("segments/h/part-00000.parquet", 1, 1, "0" * 64)
    changed = module.replace(made, files={**made.files, 0: other})
    assert changed.digest != made.digest
    assert changed.listed is None
