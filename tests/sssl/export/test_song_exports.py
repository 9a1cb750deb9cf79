"""Song labels in other tools' formats: read back by those tools' own libraries, the user's files
untouched."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import av
import jams
import mutagen
import numpy as np
import pyarrow.parquet as pq
import pytest
from audio_files import CONTAINERS, tone, write_audio, write_container
from rows import a_ledger_row, a_song, a_track

from pipelines.cli import main
from schemas import to_arrow
from sssl.catalog.fingerprints import fingerprint
from sssl.errors import StoreError
from sssl.export.cells import cell
from sssl.export.labels import About, Labelled, write_csv, write_table
from sssl.export.songs import write_tags
from sssl.export.tables import write_csv as write_songs
from sssl.export.tags import tag
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.sql import connect
from sssl.urls import uri_of

UNTAGGABLE = {"aac", "matroska"}
TIMELINE = [
    {"start_s": 0.0, "end_s": 3.0, "label": "Q1", "confidence": 0.75},
    {"start_s": 3.0, "end_s": 6.0, "label": "Q3", "confidence": 0.5},
]


def song(track_id, abstained=False):
    return a_song(track_id, abstained=abstained, timeline=TIMELINE, round=1, model_id="abcdef")


def store_of(folder, uris, abstained=()):
    """An output folder that labels the tracks (id to uri)."""
    store = Store.open(str(folder / "out"), create=True)
    tables = {
        "catalog": [a_track(i, uri=str(uri)) for i, uri in uris.items()],
        "ledger": [
            a_ledger_row(i, source_fingerprint=fingerprint(str(uri))) for i, uri in uris.items()
        ],
        "songs": [song(i, i in abstained) for i in uris],
    }
    snapshot = Snapshot()
    for name, rows in tables.items():
        file = store.write_part(name, "g", 0, to_arrow(type(rows[0]), rows))
        summary = {"parts": 1, "classes": ["Q1", "Q3"]}
        snapshot = snapshot.add(
            store.commit(Manifest(name, "g", "test", None, {}, (), {0: file}, summary))
        )
    store.publish(snapshot)
    return store


def export(store, *flags):
    return main(["export", "--output", store.root, *flags])


def tags_of(path):
    """All tags of a file as text, by the end of their names in upper case."""
    tags = mutagen.File(path).tags or {}
    values = {
        name: value[0] if isinstance(value, list) else value for name, value in dict(tags).items()
    }
    texts = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in values.items()
    }
    return {
        name.split(":")[-1].upper().removeprefix("WM/").replace("TMOO", "MOOD"): t
        for name, t in texts.items()
    }


def samples(path):
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])


@pytest.fixture(scope="module")
def songs(finished):
    connection = connect(finished, finished.latest())
    query = (
        "select s.*, uri, decoded_s from songs s join catalog using (track_id) join ledger using"
        " (track_id)"
    )
    return {row["track_id"]: row for row in connection.sql(query).to_arrow_table().to_pylist()}


def test_csv_has_a_row_a_song_with_its_probabilities_and_timeline(
    finished, songs, tmp_path, capsys
):
    assert export(finished, "--format", "csv", "--to", str(tmp_path / "songs.csv")) == 0
    with (tmp_path / "songs.csv").open(newline="") as file:
        rows = {row["track_id"]: row for row in csv.DictReader(file)}
    assert list(rows) == sorted(songs)
    for track_id, row in rows.items():
        found = songs[track_id]
        assert row["label_source"] == "model"
        assert (row["label"], row["uri"], row["model_id"]) == (
            found["label"],
            found["uri"],
            found["model_id"],
        )
        shares = [float(row[f"probability_Q{i}"]) for i in (1, 2, 3, 4)]
        assert shares == pytest.approx(found["probabilities"])
        assert [e["label"] for e in json.loads(row["timeline"])] == [
            e["label"] for e in found["timeline"]
        ]
    assert "21 songs written" in capsys.readouterr().err


FORMULA = '=HYPERLINK("http://example.org")'


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    store = store_of(tmp_path, {FORMULA: tmp_path / "a.wav", "plain": tmp_path / "b.wav"})
    assert export(store, "--format", "csv", "--to", str(tmp_path / "songs.csv")) == 0
    with (tmp_path / "songs.csv").open(newline="") as file:
        assert {row["track_id"] for row in csv.DictReader(file)} == {f"'{FORMULA}", "plain"}
    assert export(store, "--format", "parquet", "--to", str(tmp_path / "songs.parquet")) == 0
    assert set(pq.read_table(tmp_path / "songs.parquet")["track_id"].to_pylist()) == {
        FORMULA,
        "plain",
    }


def test_a_table_for_people_has_hours():
    long = [{"start_s": 0.0, "end_s": 3725.0, "label": "Q1", "confidence": 0.75}]
    to = io.StringIO()
    write_table([Labelled(a_track("a"), replace(song("a"), timeline=long))], About(("Q1",)), to)
    assert "Q1 0:00-1:02:05" in to.getvalue()


def test_no_label_of_a_csv_is_a_formula(tmp_path):
    store = store_of(tmp_path, {"a": tmp_path / "a.wav"})
    called = {"Q1": "-V+A", "Q3": "@quiet"}
    write_songs(store, store.latest(), str(tmp_path / "songs.csv"), called)
    with (tmp_path / "songs.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] in ("'-V+A", "'@quiet")
    assert row["catalog_label"] in ("'-V+A", "'@quiet")
    to = io.StringIO()
    labelled = Labelled(a_track("a"), replace(song("a"), label="-V+A"))
    write_csv([labelled], About(("-V+A", "Q3")), to)
    (row,) = csv.DictReader(io.StringIO(to.getvalue()))
    assert row["label"] == "'-V+A"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_what_a_spreadsheet_takes_for_a_formula_is_text(start):
    assert cell(f"{start}1") == f"'{start}1"
    assert (cell(f"1{start}"), cell(""), cell(None)) == (f"1{start}", "", None)


def test_labels_as_csv_have_no_formula(tmp_path):
    labelled = [
        Labelled(a_track(FORMULA), song(FORMULA)),
        Labelled(a_track("b"), None, "not-audio", "@a"),
    ]
    to = io.StringIO()
    write_csv(labelled, About(("Q1", "Q3")), to)
    first, second = csv.DictReader(io.StringIO(to.getvalue()))
    assert (first["track_id"], second["detail"]) == (f"'{FORMULA}", "'@a")


def test_parquet_has_the_same_rows_and_the_columns_docs(finished, songs, tmp_path):
    assert export(finished, "--format", "parquet", "--to", str(tmp_path / "songs.parquet")) == 0
    table = pq.read_table(tmp_path / "songs.parquet")
    assert {row["track_id"]: row["timeline"] for row in table.to_pylist()} == {
        track_id: row["timeline"] for track_id, row in songs.items()
    }
    assert table.schema.field("confidence").metadata[b"doc"]


def test_tracks_that_failed_are_left_out_by_name_of_their_reason(finished, tmp_path, capsys):
    assert export(finished, "--format", "jams", "--to", str(tmp_path)) == 0
    assert "3 tracks left out" in " ".join(capsys.readouterr().err.split())
    with (tmp_path / "left_out.csv").open(newline="") as file:
        assert dict(tuple(row.values()) for row in csv.DictReader(file)) == {
            "text": "not-audio",
            "silent": "silent",
            "missing": "missing",
        }


def test_jams_files_are_valid_and_say_what_the_table_says(finished, songs, tmp_path):
    assert export(finished, "--format", "jams", "--to", str(tmp_path)) == 0
    assert {path.stem for path in tmp_path.glob("*.jams")} == songs.keys()
    for track_id, row in songs.items():
        found = jams.load(str(tmp_path / f"{track_id}.jams"))
        assert found.validate()
        assert found.file_metadata.duration == pytest.approx(row["decoded_s"])
        (label,), (timeline,) = (
            found.search(namespace="tag_open"),
            found.search(namespace="segment_open"),
        )
        assert [(o.value, o.confidence) for o in label.data] == [
            (row["label"], pytest.approx(row["confidence"]))
        ]
        assert label.sandbox.model_id == row["model_id"]
        assert [(o.time, o.time + o.duration, o.value) for o in timeline.data] == [
            (e["start_s"], e["end_s"], e["label"]) for e in row["timeline"]
        ]


@pytest.mark.parametrize("container", sorted(CONTAINERS.keys() - UNTAGGABLE))
def test_a_copy_is_tagged_and_sounds_like_the_original(container, tmp_path):
    path = write_container(tmp_path, container)
    before, heard = path.read_bytes(), samples(path)
    store = store_of(tmp_path, {"a": path})
    assert export(store, "--format", "id3", "--to", str(tmp_path / "tagged")) == 0
    assert path.read_bytes() == before
    copy = tmp_path / "tagged" / path.name
    np.testing.assert_array_equal(samples(copy), heard)
    tags = tags_of(copy)
    assert tags["MOOD"] == "happy"
    assert (tags["SSSL_CONFIDENCE"], tags["SSSL_MODEL"], tags["SSSL_ROUND"]) == (
        "0.7500",
        "abcdef",
        "1",
    )
    assert json.loads(tags["SSSL_TIMELINE"]) == [
        TIMELINE[0] | {"label": "happy"},
        TIMELINE[1] | {"label": "sad"},
    ]


@pytest.mark.parametrize("container", sorted(UNTAGGABLE))
def test_a_format_without_tags_is_left_out_and_no_copy_stays(container, tmp_path):
    path = write_container(tmp_path, container)
    found = write_tags(store_of(tmp_path, {"a": path}), *published(tmp_path), abstained=True)
    assert found.songs == 0
    assert "tag" in found.left_out["a"].lower()
    assert [p.name for p in (tmp_path / "tagged").iterdir()] == ["left_out.csv"]


def published(folder):
    return Store.open(str(folder / "out")).latest(), str(folder / "tagged")


def test_a_copy_has_the_suffix_of_its_track_whatever_signs_the_name_has(tmp_path):
    music = write_container(tmp_path, "flac").read_bytes()
    uris = {}
    for number, name in enumerate(
        ("Why?.flac", "Who? Band/x.flac", "a::b.flac", "#1.flac", "100% é.flac")
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(music)
        uris |= {f"plain{number}": path, f"escaped{number}": f"file://{quote(str(path))}"}
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac")
    Path(odd).write_bytes(music)
    uris["odd"] = uri_of(odd)
    found = write_tags(store_of(tmp_path, uris), *published(tmp_path), abstained=True)
    assert found.left_out == {}
    copies = {path.name for path in (tmp_path / "tagged").glob("*.flac")}
    assert copies == {f"{track_id}.flac" for track_id in uris}


def test_an_original_is_known_however_its_place_is_written(tmp_path):
    path = write_container(tmp_path, "flac").rename(tmp_path / "a b.flac")
    store = store_of(tmp_path, {"a b": f"file://{quote(str(path))}"})
    left_out = write_tags(store, published(tmp_path)[0], None, abstained=True).left_out
    assert left_out == {}
    assert tags_of(path)["MOOD"] == "Q1"
    (tmp_path / "left_out.csv").touch()
    left_out = write_tags(store, published(tmp_path)[0], str(tmp_path), abstained=True).left_out
    assert left_out == {"a b": "ValueError: it would overwrite the catalog's own file"}


def test_tags_that_were_there_stay(tmp_path):
    path = write_container(tmp_path, "mp3")
    audio = mutagen.File(path)
    audio.tags.add(mutagen.id3.TIT2(text=["A Title"]))
    audio.save()
    export(store_of(tmp_path, {"a": path}), "--format", "id3", "--to", str(tmp_path / "tagged"))
    assert tags_of(tmp_path / "tagged" / "a.mp3")["TIT2"] == "A Title"


@pytest.mark.parametrize("container", sorted(CONTAINERS.keys() - UNTAGGABLE))
def test_moods_of_others_stay_behind_ours_and_ours_of_before_goes(container, tmp_path):
    """A file that we have not tagged yet may have a mood by one of our names from somebody else."""
    path = write_container(tmp_path, container)
    tag(path, "joyful", {}, ())
    moods = ("happy", "joyful", "sad")
    assert tag(path, "sad", {"SSSL_MODEL": "a"}, moods)["MOOD"] == (["joyful"], ["sad", "joyful"])
    again = tag(path, "happy", {"SSSL_MODEL": "b"}, ("happy", "sad"))
    assert again == {
        "MOOD": (["sad", "joyful"], ["happy", "joyful"]),
        "SSSL_MODEL": (["a"], ["b"]),
    }
    assert tag(path, "happy", {"SSSL_MODEL": "b"}, ("happy", "sad")) == {}


def test_a_dry_run_says_what_changes_in_the_tags_and_writes_nothing(tmp_path, capsys):
    paths = {"a": write_container(tmp_path, "flac"), "b": tmp_path / "gone.flac"}
    tag(paths["a"], "summer", {}, ())
    before = paths["a"].read_bytes()
    store = store_of(tmp_path, paths)
    files = sorted(tmp_path.rglob("*"))
    tagging = ["--format", "id3", "--to", str(tmp_path / "tagged")]
    assert export(store, *tagging, "--dry-run") == 0
    said = capsys.readouterr()
    ours = "SSSL_CONFIDENCE, SSSL_TIMELINE, SSSL_MODEL, SSSL_ROUND"
    assert said.out == f"a: mood summer -> happy, summer; {ours}\n"
    assert "1 song would be written" in said.err
    assert "missing 1 (b)" in said.err
    assert (sorted(tmp_path.rglob("*")), paths["a"].read_bytes()) == (files, before)
    assert export(store, *tagging[:2], "--dry-run") == 0
    anew = capsys.readouterr()
    assert (anew.out, "1 song would be written; 1 track left out" in anew.err) == (said.out, True)
    assert export(store, *tagging) == 0
    tagged = mutagen.File(tmp_path / "tagged" / paths["a"].name)
    assert tagged["MOOD"] == ["happy", "summer"]


def test_uncertain_songs_are_tagged_on_request_only(tmp_path):
    store = store_of(tmp_path, {"a": write_container(tmp_path, "flac")}, abstained={"a"})
    assert write_tags(store, *published(tmp_path), abstained=False).left_out == {"a": "abstained"}
    assert write_tags(store, *published(tmp_path), abstained=True).songs == 1


def test_files_are_tagged_in_place_on_request_only(tmp_path):
    path = write_container(tmp_path, "flac")
    path.chmod(0o640)
    store = store_of(tmp_path, {"a": path})
    assert export(store, "--format", "id3", "--in-place") == 0
    assert tags_of(path)["MOOD"] == "happy"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.flac", "out"]


def test_copies_never_take_the_place_of_the_originals(tmp_path):
    """Nor of another track's: ids may be the file names of each other."""
    music = tmp_path / "music"
    music.mkdir()
    (music / "left_out.csv").touch()
    paths = {
        "a": write_audio(music / "b.wav", tone(1.0), 44100),
        "b": write_audio(music / "a.wav", tone(2.0), 44100),
    }
    before = {path: path.read_bytes() for path in paths.values()}
    found = write_tags(
        store_of(tmp_path, paths), published(tmp_path)[0], str(music), abstained=True
    )
    assert found.left_out == dict.fromkeys(
        "ab", "ValueError: it would overwrite the catalog's own file"
    )
    assert {path: path.read_bytes() for path in paths.values()} == before


def test_a_folder_with_files_that_no_export_made_is_refused(tmp_path):
    path = write_container(tmp_path, "flac")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.flac").write_bytes(b"not in the catalog")
    store = store_of(tmp_path, {"a": path})
    with pytest.raises(StoreError, match="has files that are not of an export"):
        write_tags(store, published(tmp_path)[0], str(tmp_path / "mine"), abstained=True)
    assert (tmp_path / "mine" / "a.flac").read_bytes() == b"not in the catalog"
    for _ in range(2):  # into its own folder again
        assert write_tags(store, *published(tmp_path), abstained=True).songs == 1


def test_a_link_that_is_tagged_in_place_stays_a_link(tmp_path):
    path = write_container(tmp_path, "flac")
    link = tmp_path / "link.flac"
    link.symlink_to(path)
    assert (
        write_tags(
            store_of(tmp_path, {"a": link}), published(tmp_path)[0], None, abstained=True
        ).songs
        == 1
    )
    assert link.is_symlink()
    assert tags_of(path)["MOOD"] == "Q1"


def test_ids_make_folders_but_never_lead_out_of_the_target(tmp_path):
    path = write_audio(tmp_path / "x.wav", tone(1.0), 44100)
    store = store_of(
        tmp_path,
        {"album/one.wav": path, "../out-of-it": path, "/tmp/absolute": path, "album/one": path},
    )
    found = write_tags(store, *published(tmp_path), abstained=True)
    assert (tmp_path / "tagged" / "album" / "one.wav").exists()
    assert found.songs == 1
    assert found.left_out == {
        "../out-of-it": "ValueError: its id leads out of the folder",
        "/tmp/absolute": "ValueError: its id leads out of the folder",
        "album/one": "same file as another track",
    }


def test_a_file_that_is_gone_is_left_out_and_the_others_are_written(tmp_path):
    path = write_container(tmp_path, "flac")
    store = store_of(tmp_path, {"gone": tmp_path / "gone.flac", "a": path})
    found = write_tags(store, *published(tmp_path), abstained=True)
    assert (found.songs, found.left_out) == (1, {"gone": "missing"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "csv"], "expected a file or folder to write"),
        (["--format", "csv", "--in-place"], "expected --format id3"),
        (["--format", "id3", "--in-place", "--to", "x"], "expected nothing beside --in-place"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags, message, finished, capsys):
    with pytest.raises(SystemExit, match="2"):
        export(finished, *flags)
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("kind", ["m3u", "jams", "id3"])
def test_a_file_where_a_folder_is_needed_is_refused(kind, finished, tmp_path, capsys):
    (tmp_path / "songs.csv").write_text("before")
    with pytest.raises(SystemExit, match="2"):
        export(finished, "--format", kind, "--to", str(tmp_path / "songs.csv"))
    said = " ".join(capsys.readouterr().err.split())
    assert f"expected a folder, as --format {kind} writes several files; this is one" in said
    assert (tmp_path / "songs.csv").read_text() == "before"


@pytest.mark.parametrize("kind", ["csv", "parquet", "label-studio"])
def test_a_folder_where_a_file_is_needed_is_refused(kind, finished, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        export(finished, "--format", kind, "--to", str(tmp_path))
    said = " ".join(capsys.readouterr().err.split())
    assert f"--to {tmp_path}: expected a file to write; this is a folder" in said


def test_an_interrupted_export_leaves_the_file_of_before(finished, tmp_path, monkeypatch):
    (tmp_path / "songs.csv").write_text("before")

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sssl.export.tables._song_table", killed)
    assert export(finished, "--format", "csv", "--to", str(tmp_path / "songs.csv")) == 130
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("songs.csv", "before")]


def test_an_older_id3_keeps_its_version_and_all_frames(tmp_path):
    path = write_container(tmp_path, "mp3")
    tags = mutagen.id3.ID3()
    kept = [
        mutagen.id3.TYER(encoding=1, text=["1999"]), mutagen.id3.TDAT(encoding=1, text=["3112"]),
        mutagen.id3.TIME(encoding=1, text=["2359"]), mutagen.id3.TORY(encoding=1, text=["1971"]),
        mutagen.id3.TPE1(encoding=1, text=["A", "B"]), mutagen.id3.RVAD(adjustments=[1, 2]),
    ]  # fmt: skip
    for frame in kept:
        tags.add(frame)
    tags.save(path, v2_version=3, v23_sep=None)
    before = mutagen.id3.ID3(path, translate=False)
    assert (
        export(store_of(tmp_path, {"a": path}), "--format", "id3", "--to", str(tmp_path / "tagged"))
        == 0
    )
    after = mutagen.id3.ID3(tmp_path / "tagged" / "a.mp3", translate=False)
    assert after.version == before.version == (2, 3, 0)
    assert {name: frame for name, frame in after.items() if name in before} == dict(before)
    assert len(before) == len(kept)
    assert after["TXXX:MOOD"].text == ["happy"]


KILLED_IN_THE_BLOCK = """
import os, sys
from pathlib import Path
from sssl.store.atomic import replacing
with replacing(Path(sys.argv[1])) as left:
    left.write_bytes(Path(sys.argv[1]).read_bytes())
    os._exit(9)
"""


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    (tmp_path / "music [1]").mkdir()
    path = write_container(tmp_path / "music [1]", "flac")
    store = store_of(tmp_path, {"a": path})
    subprocess.run([sys.executable, "-c", KILLED_IN_THE_BLOCK, path], check=False)
    (left,) = [p for p in path.parent.iterdir() if p != path]
    assert left.name.startswith(".")
    assert left.suffix == ".flac"
    assert export(store, "--format", "id3", "--in-place") == 0
    assert [p.name for p in path.parent.iterdir()] == ["a.flac"]


def test_a_file_that_is_not_the_labelled_one_is_not_tagged_in_place(tmp_path):
    path = write_container(tmp_path, "flac")
    store = store_of(tmp_path, {"a": path})
    write_audio(path, tone(1.0), 44100)
    before = path.read_bytes()
    found = write_tags(store, published(tmp_path)[0], None, abstained=True)
    assert found.songs == 0
    assert "changed since it was labelled" in found.left_out["a"]
    assert path.read_bytes() == before


def test_an_export_that_wrote_no_song_says_so_by_its_exit_code(tmp_path, capsys):
    store = store_of(tmp_path, {"a": write_container(tmp_path, "flac")}, abstained={"a"})
    assert export(store, "--format", "id3", "--to", str(tmp_path / "tagged")) == 1
    assert "0 songs written" in capsys.readouterr().err
    assert (
        export(store, "--format", "id3", "--to", str(tmp_path / "tagged"), "--with-abstained") == 0
    )


def test_a_playlist_per_emotion_has_the_surest_first_and_nothing_uncertain(tmp_path):
    uris = {
        "a": "music/a.flac",
        "b": "/music/b b.flac",
        "c": "gs://bucket/c.flac",
        "d": "/music/d.flac",
    }
    store = store_of(tmp_path, {**uris, "e": "/music/e\n.flac"}, abstained={"d"})
    folder = tmp_path / "lists"
    assert export(store, "--format", "m3u", "--to", str(folder), "--names", "Q3=melancholy") == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "happy.m3u8",
        "left_out.csv",
        "melancholy.m3u8",
    ]
    lines = (folder / "happy.m3u8").read_text().splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[2::2] == [
        str(Path("music/a.flac").absolute()),
        "/music/b b.flac",
        "gs://bucket/c.flac",
    ]
    assert re.fullmatch(r"#EXTINF:\d+,a \(happy 0.75\)", lines[1])
    assert (folder / "melancholy.m3u8").read_text() == "#EXTM3U\n"
    left_out = dict(csv.reader((folder / "left_out.csv").read_text().splitlines()[1:]))
    assert left_out == {"d": "abstained", "e": "a playlist cannot name it"}


def test_names_are_given_to_all_that_is_exported_and_only_if_asked_to_tables(tmp_path):
    store = store_of(tmp_path, {"a": "/music/a.flac"})
    to = tmp_path / "songs.parquet"
    assert export(store, "--format", "parquet", "--to", str(to)) == 0
    assert pq.read_table(to)["label"].to_pylist() == ["Q1"]
    assert export(store, "--format", "parquet", "--to", str(to), "--names", "Q1=joy") == 0
    rows = pq.read_table(to)
    assert rows["label"].to_pylist() == ["joy"]
    assert {"probability_joy", "probability_Q3"} < set(rows.column_names)
    assert [entry["label"] for entry in rows["timeline"][0].as_py()] == ["joy", "Q3"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("Q7=odd", "Q7 is no class of Q1, Q3"),
        ("Q1=a/b", "is no name for a"),
        ("Q1=Sad", "two classes have one name: Sad, sad"),
    ],
)
def test_a_name_that_cannot_be_is_refused(names, said, tmp_path, capsys):
    store = store_of(tmp_path, {"a": "/music/a.flac"})
    assert export(store, "--format", "m3u", "--to", str(tmp_path / "lists"), "--names", names) == 1
    assert said in capsys.readouterr().err


def test_a_playlist_names_a_file_that_is_not_utf8_as_it_is_on_the_disk(tmp_path):
    store = store_of(tmp_path, {"a": uri_of("/music/caf\udce9.flac")})
    assert export(store, "--format", "m3u", "--to", str(tmp_path / "lists")) == 0
    lines = (tmp_path / "lists" / "happy.m3u8").read_bytes().splitlines()
    assert lines[2] == b"/music/caf\xe9.flac"


def test_files_of_an_earlier_export_are_named_and_stay(tmp_path, capsys):
    store = store_of(tmp_path, {"a": "/music/a.flac", "b/c": "/music/c.flac"})
    lists = ["--format", "m3u", "--to", str(tmp_path / "lists")]
    for again in range(2):
        assert export(store, *lists) == 0
        assert "did not write" not in capsys.readouterr().err, again
    assert export(store, *lists, "--names", "Q1=joyful") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "has 1 file that this export did not write (happy.m3u8)" in said
    assert (tmp_path / "lists" / "happy.m3u8").exists()
    (tmp_path / "lists" / ".git").mkdir()
    (tmp_path / "lists" / ".git" / "config").touch()
    assert export(store, *lists, "--names", "Q1=joyful") == 0
    assert "has 1 file that" in " ".join(capsys.readouterr().err.split())
    files = ["--format", "jams", "--to", str(tmp_path / "files")]
    assert export(store, *files) == 0
    (tmp_path / "less").mkdir()
    assert export(store_of(tmp_path / "less", {"a": "/music/a.flac"}), *files) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "has 1 file that this export did not write (b/c.jams)" in said
