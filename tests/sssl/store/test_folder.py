import fnmatch
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from gcsfs.retry import HttpError

from schemas import SCHEMA_VERSION
from sssl.errors import StoreError
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, Receipt, Snapshot, generation_name
from sssl.store.media.disk import Disk
from sssl.store.sql import connect, rows_on_disk


@pytest.fixture
def store(in_memory):
    return Store.open(in_memory, create=True)


@pytest.fixture
def on_disk(tmp_path):
    return Store.open(str(tmp_path / "out"), create=True)


def manifest(table, generation, round=None, parents=(), files=None):
    return Manifest(table, generation, "stage", round, {}, tuple(parents), files or {}, {})


def test_a_folder_that_is_not_an_output_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is not an output folder"):
        Store.open(str(tmp_path))


def test_another_schema_version_is_refused(store):
    store.write_json("sssl.json", {"schema_version": 99})
    with pytest.raises(
        StoreError, match=f"schema version 99, this program reads and writes {SCHEMA_VERSION}"
    ):
        Store.open(store.root, create=True)


def test_a_killed_write_leaves_no_file_under_the_final_name(on_disk, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        on_disk.write_bytes("segments/g/part-00000.parquet", b"half")
    assert on_disk.names("segments/g") == []


KILLED_AMID_A_WRITE = """
import os, signal, sys
from sssl.store.folder import Store
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Store.at(sys.argv[1]).write_bytes("songs/g/songs-00000.parquet", b"whole")
"""


def test_no_pattern_of_a_reader_finds_what_a_kill_leaves(on_disk):
    done = subprocess.run([sys.executable, "-c", KILLED_AMID_A_WRITE, on_disk.root], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = Path(on_disk.url("songs/g")).iterdir()
    assert left.name.startswith(".songs-00000.sssl-")
    assert not fnmatch.fnmatch(left.name, "*.parquet")


@pytest.fixture
def bucket(cloud):
    return Store.open(f"{cloud.make_bucket()}/out", create=True)


def test_what_is_being_written_is_not_listed(on_disk):
    with replacing(Path(on_disk.url("folder/00000.json"))) as temporary:
        temporary.write_bytes(b"")
        assert on_disk.names("folder") == []
        temporary.write_bytes(b"{}")
    assert on_disk.names("folder") == ["00000.json"]


def test_an_upload_that_fails_leaves_no_object(bucket, cloud):
    with cloud.failing(1.0, kinds=["418"]), pytest.raises(HttpError):
        bucket.write_bytes("segments/g/part-00000.parquet", b"half")
    assert bucket.names("segments/g") == []


@pytest.mark.parametrize("fault", ["503", "cut-request", "lost-answer"])
def test_a_large_upload_survives_a_failing_request(fault, bucket, cloud):
    content = np.random.default_rng(0).bytes(60 << 20)
    with cloud.failing(0.5, seed=1, kinds=[fault]) as injected:
        bucket.write_bytes("a", content)
    assert injected == {fault: 1}
    assert bucket.read_bytes("a") == content


def test_a_part_without_a_receipt_is_not_done(store):
    file = store.write_part("songs", "g", 3, pa.table({"a": [1, 2]}))
    assert store.receipt("songs/g", 3) is None
    receipt = Receipt(3, {"songs": file}, {"tracks": 2})
    store.write_receipt("songs/g", receipt)
    assert store.receipt("songs/g", 3) == receipt
    assert store.read_part(file).to_pydict() == {"a": [1, 2]}


def test_the_same_rows_make_the_same_bytes(store):
    table = pa.table({"a": [1.5, None], "b": ["x", "y"]})
    assert (
        store.write_part("t", "g1", 0, table).sha256 == store.write_part("t", "g2", 0, table).sha256
    )


def test_a_commit_is_read_back_and_a_second_one_changes_nothing(store):
    file = store.write_part("songs", "g", 0, pa.table({"a": [1]}))
    first = store.commit(manifest("songs", "g", files={0: file}))
    assert store.manifest("songs", "g") == first
    assert store.commit(manifest("songs", "g", files={0: file})) == first
    assert store.manifest("songs", "other") is None


def test_what_is_committed_is_not_made_again(store):
    planned = Manifest.plan(
        "rounds", "judge", {"max_drop": 0.1}, [manifest("labels", "l", 1)], round=1
    )
    made = []

    def make(plan):
        made.append(plan)
        return Made(
            {0: store.write_part("rounds", plan.generation, 0, pa.table({"a": [1]}))},
            {"accepted": True},
        )

    first = store.commit_once(planned, make)
    assert store.commit_once(planned, make) == first == store.committed(planned)
    assert made == [planned]
    assert (first.parents, first.rows, first.summary["accepted"]) == (("labels/l",), 1, True)


def test_the_cpu_time_of_a_table_is_what_it_took_to_make(store, monkeypatch):
    spent_s = [100.0]
    monkeypatch.setattr("sssl.runtime.cpu_time.tree_cpu_s", lambda: sum(spent_s))

    def make(planned):
        spent_s.append(3.5)
        return Made({}, {})

    store.commit_once(manifest("songs", "before"), lambda planned: Made({}, {}))
    spent_s.append(20.0)  # for nothing that is committed
    assert store.commit_once(manifest("songs", "g"), make).cpu_s == 3.5


@pytest.mark.parametrize("known_s", [12.5, None])
def test_a_cpu_time_that_is_known_is_not_measured_again(known_s, store):
    made = Made({}, {"cpu_s": known_s}, knows_cpu_s=True)
    assert store.commit_once(manifest("songs", "g"), lambda _planned: made).cpu_s == known_s


def test_a_table_of_older_rows_keeps_their_date(store):
    older = "2026-01-02T03:04:05+00:00"
    assert store.commit(replace(manifest("songs", "g"), created_at=older)).created_at == older
    assert store.commit(manifest("songs", "new")).created_at > older


def test_the_digest_follows_the_content(store):
    one = store.write_part("t", "g", 0, pa.table({"a": [1]}))
    two = store.write_part("t", "g", 1, pa.table({"a": [2]}))
    assert manifest("t", "g", files={0: one}).digest != manifest("t", "g", files={0: two}).digest


def test_a_generation_is_named_after_config_round_and_parents():
    parent = manifest("segments", "g")
    name = generation_name("score", 1, {"views": 1}, [parent])
    assert name == generation_name("score", 1, {"views": 1}, [parent])
    others = [
        ("score", 2, {"views": 1}, [parent]),
        ("score", 1, {"views": 2}, [parent]),
        ("score", 1, {"views": 1}, []),
    ]
    assert name not in [generation_name(*other) for other in others]


def test_what_was_made_from_a_replaced_table_leaves_the_snapshot():
    old = (
        Snapshot().add(manifest("segments", "s1")).add(manifest("scores", "c1", 0, ["segments/s1"]))
    )
    old = old.add(manifest("songs", "o1", None, ["scores/c1"]))
    assert [m.ref for m in old.add(manifest("segments", "s2")).manifests] == ["segments/s2"]


def test_rounds_live_beside_each_other():
    snapshot = (
        Snapshot()
        .add(manifest("scores", "a", 0))
        .add(manifest("scores", "b", 1))
        .add(manifest("scores", "c", 1))
    )
    assert [m.generation for m in snapshot.of("scores")] == ["a", "c"]


def test_a_missing_table_is_named(store):
    with pytest.raises(StoreError, match="table scores of round 2 is not committed yet"):
        store.latest().get("scores", 2)


def test_publishing_flips_the_whole_snapshot(store):
    snapshot = (
        Snapshot()
        .add(store.commit(manifest("segments", "s")))
        .add(store.commit(manifest("ledger", "s")))
    )
    assert store.latest() == Snapshot()
    store.publish(snapshot)
    assert store.latest() == snapshot
    assert snapshot.covers(store.latest())
    assert not Snapshot().covers(store.latest())


def test_a_file_url_is_a_folder_of_this_machine(tmp_path):
    store = Store.open(f"file://{tmp_path}/out", create=True)
    assert store == Store.open(str(tmp_path / "out")) == Store(Disk(str(tmp_path / "out")))


def test_rows_on_disk_are_found_where_a_path_looks_like_a_pattern(tmp_path):
    golden = Path(__file__).parents[2] / "golden" / "v1"
    for name in ("out", "o[u]t*?"):
        store = Store.open(str(shutil.copytree(golden, tmp_path / name)))
        track_id = store.read_table(store.latest().get("catalog"))["track_id"][0].as_py()
        found = dict(connect(store, store.latest()).sql(rows_on_disk(store, [track_id])).fetchall())
        assert found["catalog"] == 1
        assert min(found.values()) >= 1


@pytest.mark.parametrize(
    "emptied", ["segments/g/part-00003.parquet", "_receipts/segments/g/00003.json"]
)
def test_a_part_that_a_power_failure_emptied_is_not_done(on_disk, emptied):
    file = on_disk.write_part("segments", "g", 3, pa.table({"x": [1, 2]}))
    on_disk.write_receipt("segments/g", Receipt(3, {"segments": file}))
    assert on_disk.receipt("segments/g", 3) is not None
    Path(on_disk.url(emptied)).write_bytes(b"")
    assert on_disk.receipt("segments/g", 3) is None


def test_a_release_renames_no_generation(monkeypatch):
    """A name as schema version 2 gave it."""
    parent = manifest("scores", "g")
    for version in (2, 3, 4):
        monkeypatch.setattr("sssl.store.manifest.SCHEMA_VERSION", version)
        assert generation_name("score", 1, {"views": 1}, [parent]) == "236a1682e280"


def published(store, *manifests):
    snapshot = Snapshot(tuple(map(store.commit, manifests)))
    store.publish(snapshot)
    return snapshot


def test_a_manifest_that_is_named_and_not_there_is_an_error_that_names_it(store):
    published(store, manifest("segments", "s"), manifest("ledger", "s"))
    store.delete("ledger/s/_manifest.json")
    with pytest.raises(
        StoreError, match=r"/ledger/s/_manifest.json is not there, though it is named"
    ):
        store.latest()


def test_a_reader_that_meets_a_takedown_reads_the_pointer_again(store, monkeypatch):
    """The pointer is read before the takedown, the manifest after it."""
    published(store, manifest("segments", "before"))
    read_before = store.read_bytes("latest.json")
    after = published(store, manifest("segments", "after"))
    store.delete("segments/before/_manifest.json")
    looks = iter([read_before])
    read = type(store.medium).read
    monkeypatch.setattr(
        type(store.medium),
        "read",
        lambda medium, path: (
            next(looks, None) or read(medium, path) if path == "latest.json" else read(medium, path)
        ),
    )
    assert store.latest() == after


def test_a_new_folder_has_a_pointer_to_no_table(store):
    assert store.has_pointer
    assert store.latest() == Snapshot()


def test_a_folder_that_lost_its_mark_keeps_what_is_published(store):
    songs = manifest("songs", "s")
    store.commit(songs)
    store.publish(Snapshot((songs,)))
    published = store.latest()
    assert published.manifests
    store.delete("sssl.json")
    again = Store.open(store.root, create=True)
    assert again.latest() == published


def test_a_part_whose_content_changed_on_the_disk_is_not_done(on_disk):
    file = on_disk.write_part("segments", "g", 3, pa.table({"x": [1, 2]}))
    on_disk.write_receipt("segments/g", Receipt(3, {"segments": file}))
    flip_bit(on_disk.url(file.path), 40)
    assert on_disk.receipt("segments/g", 3) is None


def flip_bit(path, at):
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 4
    Path(path).write_bytes(data)


@pytest.mark.parametrize("how", ["emptied", "half", "flipped"])
def test_a_json_file_that_is_damaged_is_named(how, on_disk):
    on_disk.commit(manifest("songs", "g"))
    path = Path(on_disk.url("songs/g/_manifest.json"))
    whole = path.read_bytes()
    flipped = whole.replace(b'"stage": "stage"', b'"stage": "stagd"')
    path.write_bytes({"emptied": b"", "half": whole[:100], "flipped": flipped}[how])
    with pytest.raises(StoreError, match=f"{path} is damaged: "):
        on_disk.manifest("songs", "g")
    assert on_disk.read_record_if_whole("songs/g/_manifest.json", Manifest) is None


def test_json_of_versions_without_seals_is_read(on_disk):
    path = Path(on_disk.url("songs/g/_manifest.json"))
    first = on_disk.commit(manifest("songs", "g"))
    values = json.loads(path.read_bytes())
    assert values.pop("content_sha256")
    path.write_text(json.dumps(values))
    assert on_disk.manifest("songs", "g") == first


def test_any_bit_of_a_manifest_that_flips_is_noticed_or_changes_nothing(on_disk):
    file = on_disk.write_part("songs", "g", 0, pa.table({"a": [1, 2]}))
    first = on_disk.commit(replace(manifest("songs", "g", files={0: file}), summary={"loss": 0.25}))
    path = Path(on_disk.url("songs/g/_manifest.json"))
    whole = path.read_bytes()
    noticed = 0
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = on_disk.manifest("songs", "g")
            except StoreError:
                noticed += 1
            else:
                assert found == first
    assert noticed > 0.95 * 8 * len(whole)


def test_a_page_that_changed_on_the_disk_is_damaged_and_not_other_numbers(on_disk):
    numbers = pa.table({"x": np.random.default_rng(0).normal(size=1000)})
    file = on_disk.write_part("scores", "g", 0, numbers)
    flip_bit(on_disk.url(file.path), file.bytes // 3)
    with pytest.raises(StoreError, match=f"{file.path} is damaged: "):
        on_disk.read_part(file)


def test_a_part_that_is_gone_is_named_with_what_to_do(store):
    file = store.write_part("scores", "g", 0, pa.table({"x": [1]}))
    store.commit(replace(manifest("scores", "g"), files={0: file}))
    store.delete(file.path)
    with pytest.raises(StoreError, match=f"{file.path} is not there, .*`sssl verify --repair`"):
        store.read_part(file)


def test_a_part_that_a_takedown_deletes_while_it_is_read_is_no_damage(store):
    file = store.write_part("scores", "g", 0, pa.table({"x": [1]}))
    before = store.commit(replace(manifest("scores", "g"), files={0: file}))
    for path in (file.path, store.manifest_path(before.ref)):
        store.delete(path)
    with pytest.raises(
        StoreError, match=f"{file.path} was deleted since .*: run the same command again"
    ):
        store.read_part(before.files[0])


def test_a_table_whose_file_is_lost_is_not_committed_until_it_is_made_again(store):
    def make_of(value):
        table = pa.table({"a": [value]})
        return lambda _: Made({0: store.write_part("segments", "g", 0, table)}, {})

    planned = manifest("segments", "g")
    first = store.commit_once(planned, make_of(1))
    assert store.committed(planned) == first
    store.delete(first.files[0].path)
    assert store.committed(planned) is None
    assert store.commit_once(planned, make_of(1)) == first
    store.delete(first.files[0].path)
    other = store.commit_once(planned, make_of(2))
    assert other.digest != first.digest
    assert store.manifest("segments", "g") == other


def test_a_model_that_changed_on_the_disk_is_not_loaded(on_disk):
    file = on_disk.write_file("models/g/model.safetensors", b"weights" * 100, rows=1)
    assert on_disk.read_file(file) == b"weights" * 100
    flip_bit(on_disk.url(file.path), 50)
    with pytest.raises(StoreError, match=r"model.safetensors is damaged: its SHA-256"):
        on_disk.read_file(file)
