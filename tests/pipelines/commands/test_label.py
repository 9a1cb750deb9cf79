"""`sssl label`: music that no catalog has, with a model that is there."""

import csv
import io
import json
from pathlib import Path

import fsspec
import pytest
import soundfile
from conftest import RATE_HZ
from conftest import music as music_of
from mlflow.tracking import MlflowClient

from pipelines.cli import main
from pipelines.commands.label import tracks_of
from sssl.songs.labeller import Recipe, make_labeller


def label(capsys, *args):
    """Return exit code, what was asked for, and what was said."""
    code = main(["label", *map(str, args)])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def music(catalog):
    return Path(catalog).parent / "audio"


@pytest.fixture(scope="module")
def published(finished):
    """The song of the track that has no label in the catalog, as the pipeline made it."""
    (song,) = [
        row
        for row in finished.read_table(finished.latest().get("songs")).to_pylist()
        if row["track_id"] == "new"
    ]
    return song


def test_a_file_gets_the_label_that_the_pipeline_gave_it(finished, music, published, capsys):
    code, out, _ = label(capsys, "--model", finished.root, music / "new.wav", "--format", "json")
    assert code == 0
    (found,) = map(json.loads, out.splitlines())
    assert (found["track_id"], found["label"], found["model_id"]) == (
        "new.wav",
        published["label"],
        published["model_id"],
    )
    assert found["confidence"] == pytest.approx(published["confidence"], abs=1e-6)
    (entry,), (expected,) = found["timeline"], published["timeline"]
    assert entry == expected | {"confidence": pytest.approx(expected["confidence"], abs=1e-6)}
    assert sum(found["probabilities"].values()) == pytest.approx(1)


@pytest.fixture
def fourteen_s(tmp_path):
    """A file that ends within its last segment: these are 3 s long."""
    path = tmp_path / "fourteen.wav"
    soundfile.write(path, music_of("Q2", 14.0, seed=7), RATE_HZ)
    return path


def test_a_timeline_ends_where_its_track_does(finished, fourteen_s, capsys):
    published = finished.latest()
    ledger = finished.read_table(published.get("ledger"), ["track_id", "decoded_s"])
    decoded_s = dict(zip(*ledger.to_pydict().values(), strict=True))
    songs = finished.read_table(published.get("songs"), ["track_id", "timeline"]).to_pylist()
    ends_s = {song["track_id"]: song["timeline"][-1]["end_s"] for song in songs}
    assert ends_s == {track_id: decoded_s[track_id] for track_id in ends_s}
    _, out, _ = label(capsys, "--model", finished.root, fourteen_s, "--format", "json")
    assert json.loads(out)["timeline"][-1]["end_s"] == 14


def test_a_model_from_before_timelines_reached_the_end_labels_as_its_songs_were(
    finished, fourteen_s
):
    recipe = Recipe.of(finished, finished.latest())
    songs = dict(recipe.settings["songs"])
    assert songs.pop("timeline_to_end") is True
    weights = [Path(finished.root, path).read_bytes() for path in recipe.weights]
    labeller = make_labeller(weights, recipe.settings | {"songs": songs})
    assert labeller.label(str(fourteen_s)).timeline[-1]["end_s"] == 12


def test_a_folder_is_labelled_and_what_cannot_be_has_a_reason(finished, music, capsys):
    code, out, err = label(capsys, "--model", finished.root, music, "--format", "csv")
    assert code == 0
    rows = {row["track_id"]: row for row in csv.DictReader(io.StringIO(out))}
    assert len(rows) == len(list(music.iterdir()))
    assert {row["reason"] for row in rows.values() if not row["label"]} == {"not-audio", "silent"}
    assert "2 of 23 tracks not labelled" in err
    assert json.loads(rows["new.wav"]["timeline"])[0]["start_s"] == 0


def test_a_catalog_keeps_its_ids_and_needs_no_labels(finished, music, tmp_path, capsys):
    table = tmp_path / "new.csv"
    rows = f"first,{music / 'new.wav'},of another class set\nsecond,{tmp_path / 'missing.wav'},\n"
    table.write_text(f"track_id,uri,label\n{rows}")
    code, out, _ = label(capsys, "--model", finished.root, table, "--format", "json")
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert (first["track_id"], first["reason"]) == ("first", None)
    assert (second["track_id"], second["reason"], "label" in second) == ("second", "missing", False)


def test_a_named_file_that_cannot_be_labelled_is_an_error(finished, music, tmp_path, capsys):
    missing = tmp_path / "missing.wav"
    code, out, err = label(
        capsys, "--model", finished.root, music / "new.wav", missing, "--format", "json"
    )
    assert code == 1
    assert [json.loads(line)["reason"] for line in out.splitlines()] == [None, "missing"]
    assert "1 of 2 tracks not labelled" in err
    assert "missing.wav" in err


def test_a_playlist_goes_emotion_by_emotion_the_surest_first(finished, music, tmp_path, capsys):
    to = tmp_path / "songs.m3u"
    assert label(capsys, "--model", finished.root, music, "--format", "m3u", "--to", to)[:2] == (
        0,
        "",
    )
    first, *lines = to.read_text().splitlines()
    assert first == "#EXTM3U"
    titles = [
        line.rpartition("(")[2].rstrip(")").split() for line in lines if line.startswith("#EXTINF")
    ]
    assert titles == sorted(titles, key=lambda title: (title[0], -float(title[1])))
    assert all(Path(line).exists() for line in lines if not line.startswith("#"))


def test_people_get_a_table(finished, music, capsys):
    code, out, _ = label(capsys, "--model", finished.root, music / "new.wav", music / "text.mp3")
    assert code == 1
    assert "new.wav" in out
    assert "not labelled: not-audio" in " ".join(out.split())


def test_a_model_that_mlflow_has_labels_alike(finished, music, published, capsys):
    uri = f"sqlite:///{finished.root}/mlflow.db"
    (version, *_) = MlflowClient(uri).search_model_versions("")
    flags = (
        "--model",
        f"models:/{version.name}/{version.version}",
        "--mlflow-uri",
        uri,
        "--format",
        "json",
    )
    code, out, _ = label(capsys, *flags, music / "new.wav")
    assert (code, json.loads(out)["label"]) == (0, published["label"])


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("nowhere", "new.wav", "not an output folder"),
        ("models:/nobody/1", "new.wav", "no model of sssl that can be loaded"),
        (
            None,
            "text.mp3",
            "1 of 1 track not labelled; --format csv has the reason of each: text.mp3",
        ),
        (None, "*.nothing", "no tracks"),
    ],
)
def test_where_nothing_can_be_labelled_the_exit_code_is_1(
    model, given, said, finished, music, tmp_path, capsys
):
    flags = (
        ("--mlflow-uri", f"sqlite:///{tmp_path}/empty.db")
        if model and model.startswith("models:")
        else ()
    )
    code, _, err = label(capsys, "--model", model or finished.root, *flags, music / given)
    assert code == 1
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_nothing_is_written_to_the_models_folder(finished, music, capsys):
    before = {path: path.stat().st_mtime_ns for path in Path(finished.root).rglob("*")}
    label(capsys, "--model", finished.root, music / "new.wav")
    assert {path: path.stat().st_mtime_ns for path in Path(finished.root).rglob("*")} == before


def test_names_with_signs_of_a_pattern_are_files_and_what_a_terminal_acts_on_is_not_printed(
    finished, music, tmp_path, capsys
):
    odd = tmp_path / "song [live]?\x1b]0;title\x07.wav"
    odd.write_bytes((music / "new.wav").read_bytes())
    code, out, _ = label(capsys, "--model", finished.root, odd)
    assert code == 0
    assert "\x1b" not in out
    assert "song [live]?" in "".join(out.split("\n")[1])


def test_a_server_that_cannot_be_reached_gives_no_password_away(
    music, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    flags = ("--model", "models:/x@y", "--mlflow-uri", "http://user:hunter2@127.0.0.1:9")
    code, out, err = label(capsys, *flags, music / "new.wav")
    assert code == 1
    assert "hunter2" not in out + err


def test_a_pattern_in_another_storage_names_the_files_that_fit(in_memory):
    storage, folder = fsspec.core.url_to_fs(in_memory)
    for name in ("a.mp3", "b.mp3", "c [live].mp3", "notes.txt"):
        storage.pipe_file(f"{folder}/{name}", b"")
    names = [track.track_id for track in tracks_of([f"{in_memory}/*.mp3"])]
    assert names == ["a.mp3", "b.mp3", "c [live].mp3"]
    (track,) = tracks_of([f"{in_memory}/c [live].mp3"])
    assert track.track_id == "c [live].mp3"
