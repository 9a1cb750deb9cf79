"""How many song labels a publication may change where stages run one by one, as in the cloud."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from reports import make_folder

from pipelines.beam import execute
from pipelines.cli import main
from pipelines.launch import command_line
from sssl.errors import StoreError
from sssl.songs.changes import song_changes
from sssl.store.folder import Store
from sssl.store.in_flight import InFlight, in_flight, launched
from sssl.store.manifest import Snapshot
from sssl.store.publications import last_with_songs, open_published

MONITORING = Path(__file__).parents[3] / "infra" / "terraform" / "monitoring.tf"
CHANGED = 0.3
"""Share of the labels that the new songs change."""


def with_other_labels(store, songs):
    """Commit songs of which three in ten have another label."""
    planned = replace(songs, generation="changed", files={})
    files = {}
    row = 0
    for part, file in songs.files.items():
        table = store.read_part(file)
        labels = table["label"].to_pylist()
        for place in range(len(labels)):
            if (row + place) % 10 < 10 * CHANGED:
                labels[place] = "another"
        row += len(labels)
        column = table.schema.get_field_index("label")
        changed = table.set_column(column, table.field("label"), pa.array(labels))
        files[part] = store.write_part("songs", planned.generation, part, changed)
    return store.commit(store.compact(replace(planned, files=files)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("churn") / "out"
    store, snapshot = make_folder(root, (0.9,))
    return store, snapshot, with_other_labels(store, snapshot.get("songs"))


@pytest.fixture
def night(folder):
    """A published output whose songs newer segments withdrew, and a job in flight that made
    others."""
    store, snapshot, changed = folder
    store.publish(snapshot)
    store.publish(Snapshot(tuple(m for m in snapshot.manifests if m.table != "songs")))
    job = InFlight("songs", None, (changed.ref,), 1, "2026-11-27T01:00:00+00:00", max_churn=0.2)
    launched(store, job)
    return store


def publish(store, *flags):
    return main(["publish", "--output", store.root, *flags])


def test_a_job_that_would_change_more_labels_than_its_launch_allowed_is_not_published(
    night, capsys
):
    heard = re.findall(r'jsonPayload.message:\\"(--max-churn [a-z]+)', MONITORING.read_text())
    before = night.latest()
    for _ in range(2):  # Cloud Run tries again
        assert publish(night) == 4
        said = " ".join(capsys.readouterr().err.split())
        assert "song labels (3" in said
        assert "--max-churn allows 20.0%" in said
        assert [words in said for words in heard] == [True]  # what the alert listens for
    assert night.latest() == before
    assert not before.of("songs")


def test_who_has_looked_at_the_changes_publishes_them_all_the_same(night):
    assert publish(night, "--max-churn", "0.5") == 0
    assert night.latest().get("songs").generation == "changed"
    assert in_flight(night) is None


def test_songs_that_are_held_back_are_given_up_for_the_next_night(night):
    assert publish(night) == 4
    assert publish(night, "--abandon") == 0
    assert in_flight(night) is None


def test_a_takedown_between_stages_leaves_nothing_to_compare_with_and_that_is_told(
    folder, tmp_path, monkeypatch, capsys
):
    made, snapshot, _ = folder
    store = Store.open(str(shutil.copytree(made.root, tmp_path / "out")))
    store.publish(snapshot)
    without_songs = Snapshot(tuple(m for m in snapshot.manifests if m.table != "songs"))
    store.publish(without_songs)  # newer segments withdrew them
    command = ["songs", "--output", store.root, "--max-churn", "0.0"]
    assert main([*command, "--abstain-below", "0.5"]) == 0
    said = "the songs that were published before are gone, as after a takedown"
    assert said not in " ".join(capsys.readouterr().err.split())
    store.publish(without_songs)
    track_id = store.read_table(snapshot.get("catalog"))["track_id"][0].as_py()
    assert main(["takedown", "--output", store.root, "--track-id", track_id]) == 0
    capsys.readouterr()
    assert main([*command, "--abstain-below", "0.6"]) == 0
    assert said in " ".join(capsys.readouterr().err.split())


def test_songs_that_were_taken_down_are_no_churn(folder, tmp_path):
    made, snapshot, _ = folder
    store = Store.open(str(shutil.copytree(made.root, tmp_path / "out")))
    store.publish(snapshot)
    track_id = store.read_table(snapshot.get("catalog"))["track_id"][0].as_py()
    assert main(["takedown", "--output", store.root, "--track-id", track_id]) == 0
    with pytest.raises(StoreError, match="what was published before is gone, as after a takedown"):
        open_published(f"{store.root}@before")
    left = last_with_songs(store)
    assert left.get("songs").rows == snapshot.get("songs").rows - 1
    songs = ["songs", "--output", store.root, "--abstain-below", "0.6", "--max-churn", "0.0"]
    assert main(songs) == 0
    changes = song_changes(store, left, store.latest())
    assert (changes.songs, changes.changed, changes.gone) == (left.get("songs").rows, 0, 0)


def test_a_first_publication_has_nothing_to_change(folder, tmp_path):
    store, snapshot, changed = folder
    first = Store.open(store.root)
    job = InFlight("songs", None, (changed.ref,), 1, "2026-11-27T01:00:00+00:00", max_churn=0.0)
    launched(first, job)
    (first_pointer,) = [path for path in first.find("") if path == "latest.json"]
    first.delete(first_pointer)
    first.publish(Snapshot(tuple(m for m in snapshot.manifests if m.table != "songs")))
    assert publish(first) == 0


def test_the_launch_of_a_template_notes_what_may_change(folder, monkeypatch):
    store, snapshot, _ = folder
    store.publish(snapshot)
    monkeypatch.setattr(execute, "_run", lambda *_: None)
    parameters = [f"--output={store.root}", "--max_churn=0.2", "--smooth_segments=5"]
    args = command_line("songs", [*parameters, "--template_location=gs://work/templates/job"])
    assert main(args) == 0
    assert in_flight(store).max_churn == 0.2
    assert main(["publish", "--output", store.root, "--abandon"]) == 0


def test_songs_that_an_earlier_night_made_are_held_back_by_publish_again(folder, monkeypatch):
    store, snapshot, changed = folder
    made = snapshot.get("songs")
    store.publish(snapshot.add(changed))
    monkeypatch.setattr("pipelines.stages.songs.launch_nothing", lambda _: None)
    parameters = [f"--output={store.root}", "--max_churn=0.2", "--abstain_below=0.5"]
    args = command_line("songs", [*parameters, "--template_location=gs://work/templates/job"])
    assert main(args) == 0
    assert store.latest().get("songs") == changed
    assert publish(store) == 4
    assert publish(store, "--max-churn", "0.5") == 0
    assert store.latest().get("songs").digest == made.digest


def test_a_limit_without_a_job_is_an_error(folder, capsys):
    store, _, _ = folder
    assert publish(store) == 0
    assert publish(store, "--max-churn", "0.5") == 1
    assert "no job was launched" in capsys.readouterr().err


def test_the_stage_by_itself_refuses_too(folder, monkeypatch):
    store, snapshot, changed = folder
    songs = snapshot.get("songs")
    store.publish(snapshot.add(changed))
    command = ["songs", "--output", store.root, "--abstain-below", "0.5", "--max-churn"]
    assert main([*command, "0.2"]) == 4
    assert store.latest().get("songs") == changed
    assert main([*command, "0.5"]) == 0
    assert store.latest().get("songs").digest == songs.digest


def test_what_is_no_share_is_refused(folder):
    store, _, _ = folder
    for command in ("songs", "publish"):
        with pytest.raises(SystemExit, match="2"):
            main([command, "--output", store.root, "--max-churn", "20"])
