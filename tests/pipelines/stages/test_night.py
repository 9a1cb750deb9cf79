"""A night of additions costs what is new: what was learned stands while the labelled tracks do."""

import csv
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import soundfile
from conftest import FAST, RATE_HZ, TRAINING, music

from pipelines.beam.earlier import changed_parts, read_manifest
from pipelines.cli import main
from pipelines.stages.score import PartScorer
from schemas import Catalog, Song, arrow_schema, to_arrow
from sssl.catalog.assign import CatalogConfig, Dealt, deal
from sssl.catalog.committed import commit_catalog
from sssl.catalog.read import new_track
from sssl.songs.changes import SongChanges, song_changes
from sssl.store.folder import Store
from sssl.store.publications import published_before
from sssl.store.sql import connect

DERIVED = ("labels", "models", "scores", "rounds", "songs")


class Night:
    """A finished output folder and its catalog, which changes overnight."""

    def __init__(self, finished, catalog, folder):
        self.output = str(shutil.copytree(finished.root, folder / "out"))
        self.audio = folder / "audio"
        self.audio.mkdir()
        with open(catalog, newline="") as file:
            self.head, *self.rows = csv.reader(file)
        self.catalog = str(folder / "catalog.csv")
        self.before = self.snapshot

    @property
    def snapshot(self):
        return Store.open(self.output).latest()

    def add(self, *track_ids, label=""):
        for number, track_id in enumerate(track_ids):
            path = self.audio / f"{track_id}.wav"
            soundfile.write(path, music("Q3", 15.0, seed=500 + number), RATE_HZ)
            self.rows.append([track_id, str(path), label])

    def replace(self, track_id, label, seconds=12.0):
        path = self.audio / f"{track_id}.wav"
        soundfile.write(path, music(label, seconds, seed=77), RATE_HZ)
        self.rows = [[t, str(path) if t == track_id else uri, own] for t, uri, own in self.rows]

    def command(self, *flags):
        with open(self.catalog, "w", newline="") as file:
            csv.writer(file).writerows([self.head, *self.rows])
        return ["run", "--catalog", self.catalog, "--output", self.output, *FAST, *flags]

    def run(self, *flags):
        assert main(self.command(*flags)) == 0

    def sql(self, query, snapshot=None):
        store = Store.open(self.output)
        return connect(store, snapshot or store.latest()).sql(query).fetchall()

    def digests(self, *tables):
        return {(m.table, m.round): m.digest for m in self.snapshot.manifests if m.table in tables}


@pytest.fixture
def night(finished, catalog, tmp_path):
    return Night(finished, catalog, tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """The rounds whose models are trained, which here fails."""
    rounds = []

    def refuse(training, *_):
        rounds.append(training.round)
        raise AssertionError(f"round {training.round} is trained")

    monkeypatch.setattr("pipelines.stages.train.train", refuse)
    return rounds


@pytest.fixture
def scored(monkeypatch):
    """The numbers of segments of the parts that are scored, by part."""
    segments, posteriors = [], PartScorer._posteriors

    def count(scorer, part):
        segments.append(len(part.log_mel))
        return posteriors(scorer, part)

    monkeypatch.setattr(PartScorer, "_posteriors", count)
    return segments


def test_tracks_without_a_label_are_labelled_without_training(night, trained, scored, capfd):
    night.add("new_a", "new_b", "new_c")
    night.run()
    assert trained == []
    assert "not learning: no labelled track changed" in " ".join(capfd.readouterr().err.split())
    before, after = night.before, night.snapshot
    assert night.digests("models") == {(m.table, m.round): m.digest for m in before.of("models")}
    new = "('new_a', 'new_b', 'new_c')"
    ((segments,),) = night.sql(f"select count(*) from segments where track_id in {new}")
    assert sum(scored) == segments * len(before.of("models"))
    for table in ("scores", "labels", "songs", "ledger"):
        query = f"select * from {table} where track_id not in {new} order by all"
        assert night.sql(query) == night.sql(query, before)
    verdicts = "select * exclude (unlabelled) from rounds order by round"
    assert night.sql(verdicts) == night.sql(verdicts, before)
    assert night.sql(
        f"select count(*), count(distinct model_id) from songs where track_id in {new}"
    ) == [(3, 1)]
    unchanged = set(after.get("segments").files.items()) & set(before.get("segments").files.items())
    for table, round in (("scores", 0), ("labels", 1), ("songs", None)):
        files = set(after.get(table, round).files.items())
        assert len(files & set(before.get(table, round).files.items())) == len(unchanged)
    assert main(["verify", "--output", night.output]) == 0


def test_tables_equal_those_that_the_same_models_make_of_everything(night, trained):
    night.add("new_a", "new_b", "new_c")
    night.run()
    by_night = night.digests(*DERIVED)
    store = Store.open(night.output)
    store.publish(night.snapshot.only("catalog", "segments", "features", "ledger"))
    for table in set(DERIVED) - {"models"}:
        for folder in (table, f"_parts/{table}", f"_receipts/{table}"):
            shutil.rmtree(os.path.join(night.output, folder), ignore_errors=True)
    read_manifest.cache_clear()  # of tables that were never deleted
    night.run()
    assert trained == []
    assert night.digests(*DERIVED) == by_night


def test_another_file_of_a_track_without_a_label_trains_nothing_and_one_of_a_labelled_track_does(
    night, trained
):
    night.replace("new", "Q4")
    night.run()
    assert trained == []
    night.replace("Q2_3", "Q2")
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run()


def test_a_track_without_a_label_that_leaves_trains_nothing(night, trained):
    night.rows = [row for row in night.rows if row[0] != "new"]
    night.run()
    assert trained == []
    assert night.sql("select count(*) from songs where track_id = 'new'") == [(0,)]


def test_plan_says_what_the_run_will_say_of_learning(night, monkeypatch, capfd):
    monkeypatch.setattr("pipelines.commands.all_stages.rounds", stop)

    def said(command):
        with suppress(Stopped):
            main(command)
        out, err = capfd.readouterr()
        (line,) = re.findall(r"^(?:not )?learning: .*$", out + err, re.MULTILINE)
        return line

    def both(*flags):
        command = night.command(*flags)
        foreseen = said(["plan", *command[1:]])
        assert foreseen == said(command)
        return foreseen

    night.add("new_a")
    assert both().startswith("not learning: no labelled track changed")
    assert both("--learn", "always") == "learning: --learn always"
    settings = TRAINING[1]
    Path(night.output, "other.toml").write_text(
        Path(settings).read_text().replace("batch_size = ", "batch_size = 1")
    )
    other = ["--settings", str(Path(night.output, "other.toml"))]
    assert both(*other) == "learning: batch_size (train) changed"
    assert both("--test-share", "0.3").endswith("since the published model learned")
    night.head = [*night.head, "locked", "group_id", "split"]
    held_out = dict(night.sql("select track_id, split from catalog where split = 'test'"))
    rows = [[*row, "", row[0], held_out.get(row[0], "")] for row in night.rows]
    night.rows = rows
    assert both().startswith("not learning: no labelled track changed")
    changed = "learning: 1 labelled track new, gone or changed since the published model learned"
    of_track = {row[0]: number for number, row in enumerate(rows)}
    (trained_on, another), (of_test, *_) = sorted(of_track.keys() - held_out)[:2], held_out
    for track_id, column, value in (
        (trained_on, 2, "Q4"),
        (trained_on, 3, "true"),
        (another, 4, "somebody"),
        (of_test, 5, "train"),
    ):
        night.rows = [list(row) for row in rows]
        night.rows[of_track[track_id]][column] = value
        assert both("--learn-after", "2") == (
            "not learning: 1 labelled track new, gone or changed, --learn-after 2: the published"
            " model labels what is new"
        )
        assert both() == changed, (track_id, column)


def test_plan_refuses_what_the_run_refuses(night, capfd):
    """The tracks of a class are in several groups, but all of them in one fold."""
    folds = night.sql("select track_id, fold from catalog where label = 'Q1' and split = 'train'")
    fold = folds[0][1]
    elsewhere = {track_id for track_id, other in folds if other != fold}
    night.rows = [[t, uri, "" if t in elsewhere else own] for t, uri, own in night.rows]
    command = night.command()
    assert main(command) == 1
    _, why = capfd.readouterr().err.split("error: ")
    assert "usable tracks of class Q1 are in one fold" in why
    assert main(["plan", *command[1:]]) == 0
    assert f"`sssl run` refuses this: {why}" in capfd.readouterr().out


class Stopped(Exception):
    """A run that has said whether it learns."""


def stop(*_):
    raise Stopped


def test_another_label_trains_again(night, trained):
    night.rows = [[t, uri, "Q4" if t == "Q2_3" else label] for t, uri, label in night.rows]
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run()
    assert trained == [0]


def test_what_learned_from_a_track_that_was_taken_down_learns_again(night, trained, capfd):
    takedown = ["takedown", "--output", night.output, "--track-id"]
    assert main([*takedown, "new"]) == 0  # without a label
    night.run()
    assert trained == []
    assert main([*takedown, "Q2_3"]) == 0
    for learned in ("models", "labels", "rounds", "songs"):
        for manifest in night.snapshot.of(learned):
            assert manifest.summary["taken_down"] == 1, manifest.ref
    capfd.readouterr()
    assert main(["plan", *night.command()[1:]]) == 0
    assert "1 labelled track new, gone or changed" in " ".join(capfd.readouterr().out.split())
    night.run("--learn", "never")
    assert trained == []
    for learned in ("models", "songs"):  # what is kept is as it was
        for manifest in night.snapshot.of(learned):
            assert manifest.summary["taken_down"] == 1, manifest.ref
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run()


def test_never_labels_with_the_published_model_whatever_labels_say(night, trained, capfd):
    night.rows = [[t, uri, "Q4" if t == "Q2_3" else label] for t, uri, label in night.rows]
    night.add("new_a")
    night.run("--learn", "never")
    assert "not learning: --learn never" in " ".join(capfd.readouterr().err.split())
    assert trained == []
    assert night.digests("models") == {
        (m.table, m.round): m.digest for m in night.before.of("models")
    }
    assert night.sql("select label is not null, model_id in (select model_id from rounds) "
                     "from songs where track_id = 'new_a'") == [(True, True)]  # fmt: skip
    by_night = {m.ref: m.digest for m in night.snapshot.manifests}
    night.run("--learn", "never")
    assert {m.ref: m.digest for m in night.snapshot.manifests} == by_night
    night.run("--learn-after", "2")
    assert "1 labelled track new, gone or changed, --learn-after 2" in " ".join(
        capfd.readouterr().err.split()
    )
    assert {m.ref: m.digest for m in night.snapshot.manifests} == by_night
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run()
    assert "learning: 1 labelled track new, gone or changed" in " ".join(
        capfd.readouterr().err.split()
    )


def test_other_settings_train_again_and_the_reason_is_named(night, trained, capfd):
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run("--learning-rate", "4e-3")
    assert "learning: learning_rate (train) changed" in " ".join(capfd.readouterr().err.split())


def test_never_is_refused_where_nothing_is_published_or_it_does_not_fit(night, tmp_path, capfd):
    command = night.command("--learn", "never")
    empty = [str(tmp_path / "empty") if word == night.output else word for word in command]
    assert main(empty) == 1
    assert "publishes no model yet; run once with --learn auto" in " ".join(
        capfd.readouterr().err.split()
    )
    assert main(night.command("--learn", "never", "--classes", "Q1", "Q2", "Q3", "Q4", "Q5")) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "the published model knows the classes Q1, Q2, Q3, Q4, not Q1, Q2, Q3, Q4, Q5" in said


def test_more_changed_labels_than_allowed_leave_what_is_published(
    night, trained, monkeypatch, capfd
):
    night.add("new_a")
    changes = SongChanges(20, 3, "before", "after")
    monkeypatch.setattr("pipelines.commands.all_stages.song_changes", lambda *_: changes)
    assert main(night.command("--max-churn", "0.1")) == 4
    said = " ".join(capfd.readouterr().err.split())
    assert "3 of 20 song labels (15.0%), from model before to after would change" in said
    assert night.snapshot == night.before
    assert main(night.command("--max-churn", "0.15")) == 0
    assert night.snapshot.get("songs") != night.before.get("songs")
    assert "labels changed    3 of 20 song labels" in capfd.readouterr().out


def test_two_publications_of_a_folder_are_compared(night, trained, capfd):
    assert main(["diff", f"{night.output}@before", night.output]) == 1
    assert "nothing comes before it" in " ".join(capfd.readouterr().err.split())
    assert night.sql("select count(*) from song_changes") == [(0,)]
    night.add("new_a")
    night.run("--regularization", "1000")
    assert published_before(Store.open(night.output)) == night.before
    before = dict(night.sql("select track_id, label from songs", night.before))
    after = night.sql("select track_id, label from songs")
    changed = {(t, before[t], label) for t, label in after if t in before and before[t] != label}
    assert set(night.sql("select track_id, label_before, label from song_changes")) == changed
    assert main(["diff", f"{night.output}@before", night.output]) == 0
    assert "only_after" in capfd.readouterr().out
    query = "select track_id, label from songs order by track_id"
    assert main(["sql", "--output", f"{night.output}@before", query, "--format", "csv"]) == 0
    _, *rows = csv.reader(capfd.readouterr().out.splitlines())
    assert dict(rows) == before
    night.run("--regularization", "1000")
    assert published_before(Store.open(night.output)) == night.before


def test_stages_that_run_by_themselves_take_over_likewise(night, trained):
    night.add("new_a")
    catalog = night.command()[2]
    assert main(["segment", "--catalog", catalog, "--output", night.output, *FAST[:4]]) == 0
    assert night.snapshot.of("models") == []
    assert main(["relabel", "--output", night.output, "--round", "0"]) == 0
    assert main(["train", "--output", night.output, "--round", "0", *TRAINING]) == 0
    assert night.snapshot.get("models", 0).digest == night.before.get("models", 0).digest
    assert trained == []


def test_parts_that_did_not_change_are_neither_opened_nor_given_a_receipt(
    night, trained, monkeypatch
):
    read, before = (
        Store.read_part,
        {file.path for manifest in night.before.manifests for file in manifest.all_files},
    )
    opened = []

    def note(store, file, columns=None):
        opened.append(file.path)
        return read(store, file, columns)

    monkeypatch.setattr(Store, "read_part", note)
    night.add("new_a", "new_b", "new_c")
    night.run()
    after = night.snapshot
    for table, round in (("features", None), ("scores", 0), ("labels", 0), ("songs", None)):
        made = after.get(table, round)
        own = {part for part, file in made.files.items() if file.path not in before}
        with_receipts = after.get("ledger") if table == "features" else made
        receipts = Store.open(night.output).names(f"_receipts/{with_receipts.ref}")
        assert receipts == [f"{part:05d}.json" for part in sorted(own)]
        assert own
        assert len(own) < len(made.files)
    unchanged = {f.path for f in after.features.files.values()} & {
        f.path for f in night.before.features.files.values()
    }
    assert unchanged
    assert unchanged.isdisjoint(opened)


def test_a_night_without_a_new_row_takes_every_part_over(night, trained, scored):
    for row in night.rows:
        row.append("")
    night.head.append("group_id")
    next(row for row in night.rows if row[0] == "new")[-1] = "somebody"
    night.run()
    assert night.snapshot.get("catalog").ref != night.before.get("catalog").ref
    assert (trained, scored) == ([], [])
    assert night.digests("scores", "labels", "songs") == {
        (m.table, m.round): m.digest
        for m in night.before.manifests
        if m.table in ("scores", "labels", "songs")
    }


@pytest.mark.parametrize("counts", ["deleted", "damaged"])
def test_counts_by_part_that_are_lost_are_read_from_receipts(night, trained, counts):
    store = Store.open(night.output)
    for path in [path for path in store.find("_receipts") if path.endswith(".counts")]:
        store.delete(path) if counts == "deleted" else store.write_bytes(path, b"something else")
    night.add("new_a")
    night.run()
    assert night.snapshot.get("songs").rows == night.before.get("songs").rows + 1
    assert (
        len(
            set(night.snapshot.get("songs").files.items())
            & set(night.before.get("songs").files.items())
        )
        > 1
    )


def test_a_part_of_which_a_file_is_lost_is_made_again(night, trained):
    songs = night.before.get("songs")
    Store.open(night.output).delete(songs.files[0].path)
    night.add("new_a")
    night.run()
    assert night.snapshot.get("songs").files[0].sha256 == songs.files[0].sha256
    assert night.snapshot.get("songs").files[0].path != songs.files[0].path


def test_parts_whose_tracks_changed_are_told_from_the_others():
    store = Store.open("memory://changed-parts", create=True)
    config = CatalogConfig(tracks_per_part=2)
    tracks = [new_track(f"t{number}", f"/music/{number}.ogg") for number in range(8)]

    def committed(rows, before):
        dealt = deal(to_arrow(Catalog, rows), config, before)
        return commit_catalog(store, dealt, config), Dealt(dealt, config)

    first, dealt = committed(tracks, Dealt())
    part = {row["track_id"]: row["part"] for row in dealt.tracks.to_pylist()}
    more, _ = committed([*tracks, new_track("more", "/music/more.ogg")], dealt)
    fewer, _ = committed(tracks[1:], dealt)
    moved, _ = committed([*tracks[:-1], new_track("t7", "/music/7.flac")], dealt)
    ids, places = ("track_id", "label"), ("track_id", "uri")
    assert changed_parts(store, first.ref, first.ref, places) == set()
    assert changed_parts(store, first.ref, more.ref, ids) == {4}
    assert changed_parts(store, more.ref, first.ref, ids) == set()
    assert changed_parts(store, first.ref, fewer.ref, ids) == {part["t0"]}
    assert changed_parts(store, first.ref, moved.ref, ids) == set()
    assert changed_parts(store, first.ref, moved.ref, places) == {part["t7"]}


def test_song_changes_are_those_of_songs_in_both(night):
    store, before = Store.open(night.output), night.before
    songs = before.get("songs")
    part = next(part for part, file in songs.files.items() if file.rows > 1)
    rows = store.read_part(songs.files[part]).to_pylist()
    rows[0]["label"] = "Q1" if rows[0]["label"] != "Q1" else "Q2"
    del rows[1]
    changed = pa.Table.from_pylist(rows, schema=arrow_schema(Song))
    files = songs.files | {part: store.write_part("songs", "0123456789ab", part, changed)}
    after = before.add(replace(songs, generation="0123456789ab", files=files))
    found = song_changes(store, before, after)
    model = songs_model(store, before)
    assert found == SongChanges(songs.rows - 1, 1, model, model, gone=1)
    assert str(found).endswith("1 song of before gone")
    assert song_changes(store, before, before).changed == 0
    assert song_changes(store, before, before).gone == 0
    assert song_changes(store, before.without("songs"), after) is None


def songs_model(store, snapshot):
    (model,) = set(store.read_table(snapshot.get("songs"), ["model_id"])["model_id"].to_pylist())
    return model


DIES_AT_COMMIT = """
import os, signal, sys
from pipelines.cli import main
from schemas import Song, arrow_schema
from sssl.songs.changes import SongChanges, song_changes
from sssl.store.folder import Store

commit, table = Store.commit, sys.argv[1]

def die(store, manifest):
    if manifest.table == table:
        os.kill(os.getpid(), signal.SIGKILL)
    return commit(store, manifest)

Store.commit = die
main(sys.argv[2:])
"""


def test_a_night_that_is_killed_ends_with_the_same_tables(night, tmp_path):
    night.add("new_a", "new_b", "new_c")
    command = night.command()
    untouched = str(shutil.copytree(night.output, tmp_path / "untouched"))
    night.run()
    by_night = {m.ref: m.digest for m in night.snapshot.manifests}
    killed = [untouched if word == night.output else word for word in command]
    for table in ("models", "scores", "rounds", "songs"):
        died = subprocess.run(
            [sys.executable, "-c", DIES_AT_COMMIT, table, *killed], capture_output=True
        )
        assert died.returncode == -9, died.stderr.decode()
    assert main(killed) == 0
    assert {m.ref: m.digest for m in Store.open(untouched).latest().manifests} == by_night
