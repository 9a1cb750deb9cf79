"""`sssl review` from its start to Ctrl-C, and what the next run makes of the answers."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from conftest import FAST
from reports import make_folder

from pipelines.cli import main
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.sql import connect, rows

SUSPECTS = 10


@contextmanager
def serving(root, *flags):
    """Run the command; gives its address and, once the block ends with Ctrl-C, what it said."""
    command = [sys.executable, "-m", "pipelines.cli", "review", "--output", root, *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = {"url": process.stdout.readline().strip()}
    try:
        yield said
        process.send_signal(signal.SIGINT)
        said["err"] = process.communicate(timeout=60)[1]
        said["code"] = process.returncode
    finally:
        process.kill()
        process.wait()


def say(url, track, start_s, end_s, label):
    origin = "/".join(url.split("/")[:3])
    request = urllib.request.Request(
        f"{url}answers",
        json.dumps({"track": track, "start_s": start_s, "end_s": end_s, "label": label}).encode(),
        {"Content-Type": "application/json", "Origin": origin},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def content(url):
    """What the page shows."""
    with urllib.request.urlopen(url) as response:
        page = response.read().decode()
    return json.loads(page.partition('id="review-data">')[2].partition("</script>")[0])


def labels(store):
    """The labels of all rounds, by round and segment."""
    found = rows(
        connect(store, store.latest()),
        "select round, track_id, segment_index, start_s, label, partition, reason from labels "
        "join segments using (track_id, segment_index)",
    )
    return {(row["round"], row["track_id"], row["segment_index"]): row for row in found}


@pytest.fixture(scope="module")
def reviewed(finished, catalog, tmp_path_factory):
    """A folder before and after a listener accepted passages on the page, and the next run."""
    root = str(shutil.copytree(finished.root, tmp_path_factory.mktemp("reviewed") / "out"))
    store = Store.open(root)
    before = labels(store)
    with serving(root, "--who", "ann") as said:
        page = content(said["url"])
        passages = [item for item in page["items"] if item["kind"] == "passage"][:SUSPECTS]
        for item in passages:
            say(said["url"], item["track"], item["start_s"], item["end_s"], item["label"])
    flags = ["--output", root, *FAST, "--learn", "never"]
    assert main(["run", "--catalog", catalog, *flags]) == 0
    answered = {
        (page["tracks"][item["track"]]["track_id"], item["start_s"], item["end_s"]): item["label"]
        for item in passages
    }
    return Store.open(root), said, answered, before


def test_ctrl_c_ends_it_as_other_commands_and_says_what_was_written(reviewed):
    store, said, answered, _ = reviewed
    assert said["code"] == 130
    assert "Traceback" not in said["err"]
    words = " ".join(said["err"].split())
    count = len(answered)
    assert f"{count} answers written to {store.root}/corrections.csv; the next `sssl run`" in words


def test_the_file_says_what_was_answered_and_who_did(reviewed):
    store, _, answered, _ = reviewed
    with open(f"{store.root}/corrections.csv", newline="") as file:
        found = {
            (row["track_id"], float(row["start_s"]), float(row["end_s"])): row["label"]
            for row in csv.DictReader(file)
            if row["who"] == "ann"
        }
    assert found == answered


def test_the_next_run_changes_labels_where_something_was_answered_and_nowhere_else(reviewed):
    store, _, answered, before = reviewed
    now = labels(store)
    corrected = {key for key, row in now.items() if row["reason"] == "corrected"}
    assert corrected
    for key in corrected:
        (label,) = {
            label
            for (track_id, start_s, end_s), label in answered.items()
            if track_id == key[1] and start_s <= now[key]["start_s"] < end_s
        }
        assert (now[key]["label"], now[key]["partition"]) == (label, "locked")
    assert {key for key in now if now[key] != before[key]} == corrected


def test_the_page_is_had_on_this_machine_only_and_ends_with_the_command(finished):
    with serving(finished.root) as said:
        assert said["url"].startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen("/".join(said["url"].split("/")[:3]) + "/")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(said["url"])
    assert "0 answers written" in said["err"]


def test_a_port_that_is_taken_is_a_sentence(finished, capsys):
    with serving(finished.root) as said:
        port = said["url"].split(":")[2].partition("/")[0]
        assert main(["review", "--output", finished.root, "--port", port]) == 1
    assert "in use" in capsys.readouterr().err


def test_answers_go_to_a_file_of_this_machine(report_folder, capsys):
    store, _ = report_folder
    assert main(["review", "--output", store.root]) == 1
    assert "give --corrections FILE" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "command", [["review"], ["export", "--format", "label-studio", "--to", "tasks.json"]]
)
def test_a_folder_whose_songs_are_being_made_again_is_a_sentence(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    store, snapshot = make_folder(tmp_path / "out", (0.6,))
    others = [manifest for manifest in snapshot.manifests if manifest.table != "songs"]
    store.publish(Snapshot(tuple(others)))
    assert main([*command, "--output", store.root]) == 1
    assert "table songs is not committed yet" in " ".join(capsys.readouterr().err.split())


def test_files_that_a_catalog_from_elsewhere_must_not_name_are_not_served(
    report_folder, tmp_path, capsys
):
    store, snapshot = report_folder
    store.publish(snapshot)
    corrections = str(tmp_path / "corrections.csv")
    assert main(["review", "--output", store.root, "--corrections", corrections]) == 1
    assert "allow their folder by --allow-uri" in " ".join(capsys.readouterr().err.split())


def test_a_takedown_takes_what_was_said_of_its_tracks_out_of_the_file(tmp_path, capsys):
    store, snapshot = make_folder(tmp_path / "out", (0.6,))
    store.publish(snapshot)
    corrections = tmp_path / "out" / "corrections.csv"
    corrections.write_text("track_id,start_s,end_s,label\ntrack-01,,,never\ntrack-02,0,3,never\n")
    assert main(["takedown", "--output", store.root, "--track-id", "track-01"]) == 0
    assert corrections.read_text() == "track_id,start_s,end_s,label\ntrack-02,0,3,never\n"
    corrections.write_text("dear diary\n")
    capsys.readouterr()
    assert main(["takedown", "--output", store.root, "--track-id", "track-02"]) == 0
    assert "take the rows of these tracks out yourself" in " ".join(capsys.readouterr().err.split())
    assert corrections.read_text() == "dear diary\n"


def test_a_takedown_reaches_a_page_that_is_open(tmp_path):
    store, snapshot = make_folder(tmp_path / "out", (0.6,))
    store.publish(snapshot)
    with serving(store.root) as said:
        page = content(said["url"])
        place = page["items"][0]["track"]
        track_id = page["tracks"][place]["track_id"]
        assert main(["takedown", "--output", store.root, "--track-id", track_id]) == 0
        with pytest.raises(urllib.error.HTTPError, match="400"):
            say(said["url"], place, None, None, page["items"][0]["label"])
    assert "0 answers written" in said["err"]


def test_a_folder_without_songs_is_a_sentence(tmp_path, capsys):
    Store.open(str(tmp_path / "out"), create=True)
    assert main(["review", "--output", str(tmp_path / "out")]) == 1
    assert "error:" in capsys.readouterr().err
