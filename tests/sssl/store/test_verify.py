"""What `sssl verify` finds, and what it makes room for."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from flips import attack

from pipelines.cli import main
from sssl.errors import StoreError
from sssl.store import seal
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Receipt, Snapshot
from sssl.store.verify import repair, verify

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def store(tmp_path):
    """A folder with a table of three parts, one made from it, and one beside them."""
    store = Store.open(str(tmp_path / "out"), create=True)
    files = {
        part: store.write_part("segments", "s", part, pa.table({"a": [part] * 9}))
        for part in range(3)
    }
    for part, file in files.items():
        store.write_receipt("segments/s", Receipt(part, {"segments": file}))
    segments = store.commit(Manifest("segments", "s", "segment", None, {}, (), files, {}))
    songs = {0: store.write_part("songs", "o", 0, pa.table({"a": [1]}))}
    made = store.commit(Manifest("songs", "o", "songs", None, {}, (segments.ref,), songs, {}))
    ledger = {0: store.write_part("ledger", "l", 0, pa.table({"a": [2]}))}
    beside = store.commit(Manifest("ledger", "l", "segment", None, {}, (), ledger, {}))
    store.write_bytes("models/m/member0.pt", seal.sealed(b"weights"))
    store.publish(Snapshot((segments, made, beside)))
    return store


def damaged(store):
    return {damage.path: damage.what for damage in verify(store).damages}


def flip(store, path, at=20):
    data = bytearray(store.read_bytes(path))
    data[at] ^= 1
    store.write_bytes(path, bytes(data))


def test_a_folder_as_it_was_written_has_no_damage(store):
    found = verify(store)
    assert found.damages == []
    assert found.files == 14  # mark, pointer, 3 manifests, 3 receipts, a checkpoint, 5 parts
    assert found.bytes > 0


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.glob("v*")))
def test_folders_of_earlier_versions_are_verified(version):
    assert verify(Store.open(str(GOLDEN / version))).damages == []


def test_parts_are_found_that_changed_got_lost_or_changed_places(store):
    one, two, three = (f"segments/s/part-0000{part}.parquet" for part in range(3))
    first, second = store.read_bytes(one), store.read_bytes(two)
    store.write_bytes(one, second)
    store.write_bytes(two, first)
    store.delete(three)
    store.write_bytes("_parts/songs/o/part-00000.parquet", b"short")
    assert set(damaged(store)) == {one, two, three, "_parts/songs/o/part-00000.parquet"}
    assert damaged(store)[three] == "is lost"
    assert "5 bytes instead of" in damaged(store)["_parts/songs/o/part-00000.parquet"]


@pytest.mark.parametrize(
    "path",
    [
        "sssl.json",
        "latest.json",
        "segments/s/_manifest.json",
        "_receipts/segments/s/00001.json",
        "segments/s/part-00001.parquet",
        "models/m/member0.pt",
    ],
)
def test_any_file_that_changed_is_found_and_set_aside(path, store):
    flip(store, path, at=3)
    assert list(damaged(store)) == [path]
    folder, _, name = path.rpartition("/")
    repair(store, verify(store).damages)
    assert store.exists(f"{folder}/.{name}.damaged" if folder else f".{name}.damaged")
    lost = [damage for damage in verify(store).damages if damage.what != "is lost"]
    assert lost == []


def test_a_table_without_its_manifest_is_published_no_more_nor_is_what_was_made_from_it(store):
    store.delete("segments/s/_manifest.json")
    assert list(damaged(store)) == ["segments/s/_manifest.json"]
    assert [m.table for m in repair(store, verify(store).damages).manifests] == ["ledger"]
    assert [m.table for m in store.latest().manifests] == ["ledger"]
    assert store.exists("segments/s/part-00000.parquet")


def test_a_lost_pointer_is_made_anew_from_the_newest_tables_that_belong_together(store):
    before = store.latest()
    older = replace(before.get("songs"), generation="older", created_at="2020-01-01T00:00:00+00:00")
    store.commit(older)
    for lost in ("deleted", "damaged"):
        store.delete("latest.json") if lost == "deleted" else flip(store, "latest.json")
        assert list(damaged(store)) == ["latest.json"]
        repair(store, verify(store).damages)
        assert {m.ref for m in store.latest().manifests} == {m.ref for m in before.manifests}


def test_who_was_taken_down_cannot_be_made_up(store, capsys):
    store.write_bytes("takedown.json", b"")
    assert main(["verify", "--output", store.root]) == 1
    assert "takedown.json is damaged: restore it from a backup" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["verify", "--output", store.root, "--repair"]) == 1
    assert store.read_bytes("takedown.json") == b""


def test_the_command_says_what_is_damaged_and_ends_with_one(store, capsys):
    assert main(["verify", "--output", store.root]) == 0
    assert "14 files, 0.0 MB: all as they were written" in " ".join(capsys.readouterr().err.split())
    flip(store, "_parts/songs/o/part-00000.parquet")
    assert main(["verify", "--output", store.root]) == 1
    said = " ".join(capsys.readouterr().out.split())
    remedy = "the same `sssl run` makes it again"
    assert (
        f"_parts/songs/o/part-00000.parquet is damaged (its SHA-256 is another): {remedy}" in said
    )
    assert main(["verify", "--output", store.root, "--repair"]) == 0


def test_a_folder_that_is_no_output_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is not an output folder"):
        verify(Store.at(str(tmp_path)))


def test_what_a_later_version_wrote_is_no_damage(store, capsys):
    mark = store.read_json("sssl.json")
    store.write_json("sssl.json", mark | {"schema_version": 99})
    before = {path: store.read_bytes(path) for path in store.find("")}
    assert main(["verify", "--output", store.root, "--repair"]) == 1
    assert "schema version 99" in " ".join(capsys.readouterr().err.split())
    after = {path: store.read_bytes(path) for path in store.find("") if path != ".lock"}
    assert after == before


def test_random_flips_are_all_found(store):
    """Each in a copy of its own: a bit anywhere in a file that is looked at."""
    chance, silent = random.Random(0), []
    paths = [path for path in store.find("") if not path.endswith(".lock")]
    for number in range(60):
        path = chance.choice(paths)
        whole = store.read_bytes(path)
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        store.write_bytes(path, bytes(flipped))
        if path not in damaged(store):
            silent.append((number, path, whole, bytes(flipped)))
        store.write_bytes(path, whole)
    for _, path, whole, flipped in silent:  # at most another way to write the same number
        assert path.endswith(".json")
        assert seal.opened_json(whole, path) == seal.opened_json(flipped, path)


def test_a_copy_with_damages_is_whole_again_after_repair_and_the_same_run(
    finished, catalog, tmp_path
):
    """The tables of a run, 40 of whose files were damaged, lost or exchanged."""
    from conftest import FAST

    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    store, chance = Store.open(output), random.Random(1)
    undisturbed = {m.ref: m.digest for m in store.latest().manifests}
    files = [
        path
        for path in store.find("")
        if path.endswith((".parquet", ".safetensors", ".pt")) and "mlflow" not in path
    ]
    for path in chance.sample(files, 40):
        chance.choice(
            [
                flip,
                lambda store, path: store.delete(path),
                lambda store, path: store.write_bytes(path, b""),
            ]
        )(store, path)
    assert main(["verify", "--output", output]) == 1
    assert main(["verify", "--output", output, "--repair"]) == 0
    assert main(["run", "--catalog", catalog, "--output", output, *FAST]) == 0
    assert {m.ref: m.digest for m in store.latest().manifests} == undisturbed
    assert main(["verify", "--output", output]) == 0


def test_no_flip_of_a_bit_changes_an_answer_in_silence(finished):
    """The short version of `make attack`."""
    found, silent = attack(finished.root, flips=54, seed=0)
    assert silent == []
    assert {
        kind: counts["verify"] for kind, counts in found.items() if "manifests" not in kind
    } == {kind: 6 for kind in found if "manifests" not in kind}
