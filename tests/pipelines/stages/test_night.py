"""A night of additions costs what is new: what was learned stands while the labelled tracks do."""

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest
import soundfile
from conftest import FAST, RATE_HZ, TRAINING, music

from pipelines.beam.job import read_manifest
from pipelines.cli import main
from pipelines.stages.score import PartScorer
from schemas import Song, arrow_schema
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
    assert night.sql(f"select count(*), count(distinct model_id) from songs where track_id in {new}") == [(3, 1)]
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


def test_another_file_of_a_track_without_a_label_trains_nothing_and_one_of_a_labelled_track_does(night, trained):
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


def test_plan_says_whether_a_run_will_train(night, capfd):
    night.add("new_a")
    plan = ["plan", *night.command()[1:5], *FAST[:4]]
    assert main(plan) == 0
    assert "no labelled track changed: `sssl run` trains only if its settings did" in capfd.readouterr().out
    night.rows = [[t, uri, "Q4" if t == "Q2_3" else label] for t, uri, label in night.rows]
    night.command()
    assert main(plan) == 0
    assert "1 labelled track new, gone or changed: `sssl run` trains again" in capfd.readouterr().out


def test_another_label_trains_again(night, trained):
    night.rows = [[t, uri, "Q4" if t == "Q2_3" else label] for t, uri, label in night.rows]
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run()
    assert trained == [0]


def test_never_labels_with_the_published_model_whatever_labels_say(night, trained, capfd):
    night.rows = [[t, uri, "Q4" if t == "Q2_3" else label] for t, uri, label in night.rows]
    night.add("new_a")
    night.run("--learn", "never")
    assert "not learning: --learn never" in " ".join(capfd.readouterr().err.split())
    assert trained == []
    assert night.digests("models") == {(m.table, m.round): m.digest for m in night.before.of("models")}
    assert night.sql("select label is not null, model_id in (select model_id from rounds) from songs "
                     "where track_id = 'new_a'") == [(True, True)]  # fmt: skip
    by_night = {m.ref: m.digest for m in night.snapshot.manifests}
    night.run("--learn", "never")
    assert {m.ref: m.digest for m in night.snapshot.manifests} == by_night
    night.run("--learn-after", "2")
    assert "1 labelled track new, gone or changed, --learn-after 2" in " ".join(capfd.readouterr().err.split())
    assert {m.ref: m.digest for m in night.snapshot.manifests} == by_night
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run()
    assert "learning: 1 labelled track new, gone or changed" in " ".join(capfd.readouterr().err.split())


def test_other_settings_train_again_and_the_reason_is_named(night, trained, capfd):
    with pytest.raises(AssertionError, match="round 0 is trained"):
        night.run("--learning-rate", "4e-3")
    assert "learning: --learning-rate (train) changed" in " ".join(capfd.readouterr().err.split())


def test_never_is_refused_where_nothing_is_published_or_it_does_not_fit(night, tmp_path, capfd):
    command = night.command("--learn", "never")
    empty = [str(tmp_path / "empty") if word == night.output else word for word in command]
    assert main(empty) == 1
    assert "publishes no model yet; run once with --learn auto" in " ".join(capfd.readouterr().err.split())
    assert main(night.command("--learn", "never", "--classes", "Q1", "Q2", "Q3", "Q4", "Q5")) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "the published model knows the classes Q1, Q2, Q3, Q4, not Q1, Q2, Q3, Q4, Q5" in said


def test_more_changed_labels_than_allowed_leave_what_is_published(night, trained, monkeypatch, capfd):
    night.add("new_a")
    changes = SongChanges(20, 3, "before", "after")
    monkeypatch.setattr("pipelines.commands.run.song_changes", lambda *_: changes)
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
    assert found == SongChanges(songs.rows - 1, 1, model, model)
    assert song_changes(store, before, before).changed == 0
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
        died = subprocess.run([sys.executable, "-c", DIES_AT_COMMIT, table, *killed], capture_output=True)
        assert died.returncode == -9, died.stderr.decode()
    assert main(killed) == 0
    assert {m.ref: m.digest for m in Store.open(untouched).latest().manifests} == by_night
