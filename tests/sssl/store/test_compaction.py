"""Files made for readers: what is in them, how many there are, and which stay as they are."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import a_song

from schemas import SCHEMA_VERSION, Song, to_arrow
from sssl.removal.deletion import delete_unpublished
from sssl.removal.takedown import without
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Receipt, Snapshot
from sssl.store.parquet import compacted_bytes, deal, part_bytes
from sssl.store.sql import connect
from sssl.store.verify import verify

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "out"), create=True)


def songs(*track_ids, label="Q1"):
    return to_arrow(Song, [a_song(track_id=track_id, label=label) for track_id in track_ids])


def committed(store, generation, parts, files=None):
    """Commit songs, given by part, besides `files` that are there."""
    files = (files or {}) | {
        part: store.write_part("songs", generation, part, rows) for part, rows in parts.items()
    }
    return store.commit(
        store.compact(Manifest("songs", generation, "songs", None, {}, (), files, {}))
    )


PARTS = {0: songs("t5", "t1"), 1: songs("t4"), 2: songs("t9", "t0")}


def test_readers_get_the_rows_of_all_parts_sorted_in_one_file(store):
    manifest = committed(store, "g", PARTS)
    (file,) = manifest.for_readers.values()
    read = pq.read_table(store.url(file.path))
    assert read["track_id"].to_pylist() == ["t0", "t1", "t4", "t5", "t9"]
    assert (file.rows, file.path) == (5, "songs/g/songs-00000.parquet")
    assert store.read_table(manifest)["track_id"].to_pylist() == ["t5", "t1", "t4", "t9", "t0"]


def test_a_folder_of_a_generation_has_nothing_else_that_readers_take_for_rows(store):
    manifest = committed(store, "g", PARTS)
    store.write_receipt(manifest.ref, Receipt(0, {"songs": manifest.files[0]}))
    names = {path.split("/")[2] for path in store.find("songs")}
    assert names == {"_manifest.json", "songs-00000.parquet"}
    assert pa.dataset.dataset(store.url("songs/g")).count_rows() == 5


def test_a_file_for_readers_knows_its_order_and_how_to_find_a_track(store):
    (file,) = committed(store, "g", PARTS).for_readers.values()
    metadata = pq.read_metadata(store.url(file.path))
    column = metadata.row_group(0).column(0)
    assert [
        (key.column_index, key.descending) for key in metadata.row_group(0).sorting_columns
    ] == [(0, False)]
    assert column.path_in_schema == "track_id"
    assert column.has_offset_index
    assert column.has_column_index
    assert column.bloom_filter_length > 0


def test_a_flipped_bit_is_noticed_by_a_reader_that_verifies(store):
    (file,) = committed(
        store, "g", {0: songs(*(f"t{n:04d}" for n in range(2000)))}
    ).for_readers.values()
    data = bytearray(store.read_bytes(file.path))
    at = pq.read_metadata(store.url(file.path)).row_group(0).column(0).data_page_offset + 200
    data[at] ^= 1
    store.write_bytes(file.path, bytes(data))
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(store.url(file.path), page_checksum_verification=True).read()


def test_parts_are_dealt_by_powers_of_two_that_a_growing_catalog_keeps(store, monkeypatch):
    monkeypatch.setattr("sssl.store.parquet._FILE_BYTES", 1000)
    files = {part: replace(committed(store, "x", PARTS).files[0], bytes=240) for part in range(11)}
    assert [list(group) for group in deal(files)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    grown = {**files, 11: replace(files[0], bytes=100), 12: replace(files[0], bytes=260)}
    assert [list(group) for group in deal(grown)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12],
    ]


def test_where_few_parts_change_the_files_of_the_others_stay_byte_by_byte(store, monkeypatch):
    monkeypatch.setattr("sssl.store.parquet._FILE_BYTES", 1)
    before = committed(store, "g", PARTS)
    store.publish(Snapshot((before,)))
    made = []
    monkeypatch.setattr(
        "sssl.store.folder.compacted_bytes",
        lambda table, parts: made.append(list(parts)) or b"made anew",
    )
    after = committed(store, "h", {**PARTS, 1: songs("t4", label="Q2")})
    assert [file.sha256 for file in after.compacted][::2] == [
        file.sha256 for file in before.compacted
    ][::2]
    assert [len(rows) for rows in made] == [1]
    assert all(
        file.path.startswith("songs/h/") and store.exists(file.path) for file in after.compacted
    )


EIGHT = {part: songs(f"t{part}a", f"t{part}b") for part in range(8)}
NIGHT = {3: songs("t3a"), 5: songs("t5a", "t5b", "t3b"), 8: songs("t0c")}
"""A track leaves a part for another one, and there is a new part."""


@pytest.fixture
def part_reads(monkeypatch):
    """The paths of the parts that are read."""
    read_part = Store.read_part
    paths = []

    def noted(self, file, columns=None):
        paths.append(file.path)
        return read_part(self, file, columns)

    monkeypatch.setattr(Store, "read_part", noted)
    return paths


def bytes_for_readers(store, manifest):
    (file,) = manifest.compacted
    return store.read_bytes(file.path)


def test_where_few_parts_change_the_rows_of_all_others_come_from_the_file_before(store, part_reads):
    before = committed(store, "g", EIGHT)
    store.publish(Snapshot((before,)))
    part_reads.clear()
    after = committed(store, "h", NIGHT, before.files)
    assert sorted(part_reads) == sorted(
        [before.files[3].path, before.files[5].path, *(after.files[part].path for part in NIGHT)]
    )
    all_parts = [store.read_part(file) for file in after.files.values()]
    assert bytes_for_readers(store, after) == compacted_bytes("songs", all_parts)


def test_where_the_file_before_is_damaged_all_parts_are_read(store, part_reads):
    before = committed(store, "g", EIGHT)
    store.publish(Snapshot((before,)))
    store.write_bytes(before.compacted[0].path, b"damaged")
    part_reads.clear()
    after = committed(store, "h", NIGHT, before.files)
    assert len(part_reads) == len(after.files)
    all_parts = [store.read_part(file) for file in after.files.values()]
    assert bytes_for_readers(store, after) == compacted_bytes("songs", all_parts)


def test_where_most_parts_change_they_are_read(store, part_reads):
    before = committed(store, "g", EIGHT)
    store.publish(Snapshot((before,)))
    part_reads.clear()
    changed = {part: songs(f"t{part}a") for part in range(4)}
    after = committed(store, "h", changed, before.files)
    assert sorted(part_reads) == sorted(file.path for file in after.files.values())


def test_compacting_again_gives_the_same_bytes(store):
    assert [f.sha256 for f in committed(store, "g", PARTS).compacted] == [
        f.sha256 for f in committed(store, "h", PARTS).compacted
    ]


def test_what_a_kill_left_before_the_commit_is_written_again(store):
    files = {part: store.write_part("songs", "g", part, rows) for part, rows in PARTS.items()}
    plan = Manifest("songs", "g", "songs", None, {}, (), files, {})
    made = store.compact(plan)
    store.write_bytes(made.compacted[0].path, b"half")
    assert store.commit(store.compact(plan)).compacted == made.compacted
    assert verify(store).damages == []


def test_a_lost_file_for_readers_is_found_and_made_again_from_the_parts(store):
    manifest = committed(store, "g", PARTS)
    store.publish(Snapshot((manifest,)))
    store.delete(manifest.compacted[0].path)
    assert [damage.path for damage in verify(store).damages] == ["songs/g/songs-00000.parquet"]
    assert store.committed(manifest) is None
    assert committed(store, "g", PARTS) == manifest
    assert verify(store).damages == []


def test_a_damaged_file_of_the_published_table_is_not_copied(store):
    before = committed(store, "g", PARTS)
    store.publish(Snapshot((before,)))
    store.write_bytes(before.compacted[0].path, b"damaged")
    assert committed(store, "h", PARTS).compacted[0].sha256 == before.compacted[0].sha256


def test_a_generation_that_an_earlier_version_began_is_finished_where_that_one_puts_parts(store):
    old = store.write_file("songs/g/part-00000.parquet", part_bytes(PARTS[0]), 2)
    store.write_json(
        "songs/g/receipts/00000.json", {"part": 0, "files": {"songs": asdict(old)}, "counts": {}}
    )
    assert store.receipt("songs/g", 0).files == {"songs": old}
    manifest = committed(store, "g", {1: PARTS[1]}, files={0: old})
    assert not manifest.compacted
    files = Path(store.url("songs/g")).glob("*.parquet")
    assert sum(pq.read_metadata(file).num_rows for file in files) == 3
    assert connect(store, Snapshot((manifest,))).sql("select count(*) from songs").fetchall() == [
        (3,)
    ]


def test_tables_of_an_earlier_version_that_are_rewritten_are_made_for_readers(tmp_path):
    store = Store.open(str(shutil.copytree(GOLDEN / "v5", tmp_path / "out")))
    reduced = without(store, store.latest(), ["track002"])
    store.publish(reduced)
    (file,) = reduced.get("songs").for_readers.values()
    assert pq.read_table(store.url(file.path))["track_id"].to_pylist() == ["track001"]
    assert connect(store, reduced).sql("select track_id from songs").fetchall() == [("track001",)]
    delete_unpublished(store)
    assert [store.find(folder) for folder in ("songs/golden", "_parts/songs/golden")] == [[], []]
    assert verify(store).damages == []


def test_a_folder_of_an_earlier_version_says_when_tables_of_today_are_in_it(tmp_path):
    store = Store.open(str(shutil.copytree(GOLDEN / "v5", tmp_path / "out")))
    assert store.read_json("sssl.json")["schema_version"] == 5
    committed(store, "g", PARTS)
    assert store.read_json("sssl.json")["schema_version"] == SCHEMA_VERSION


def test_a_manifest_of_an_earlier_version_is_read_by_its_old_name(store):
    manifest = committed(store, "g", PARTS)
    store.write_bytes("songs/g/manifest.json", store.read_bytes("songs/g/_manifest.json"))
    store.delete("songs/g/_manifest.json")
    assert store.manifest("songs", "g") == manifest
    assert store.manifest_path("songs/g") == "songs/g/manifest.json"
    assert store.commit(replace(manifest, summary={"other": 1})) == manifest


def test_sql_reads_what_is_made_for_readers(store):
    manifest = committed(store, "g", PARTS)
    connection = connect(store, Snapshot((manifest,)))
    assert connection.sql("select count(*) from songs").fetchall() == [(5,)]
    paths = connection.sql("select path, rows from files").fetchall()
    assert paths == [(store.url("songs/g/songs-00000.parquet"), 5)]
    assert connection.sql("select part, last_part from files").fetchall() == [(0, 2)]
    assert connection.sql("select files, rows, bytes from manifests").fetchall() == [
        (1, 5, manifest.bytes)
    ]
