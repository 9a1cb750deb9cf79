import json
import shutil

import pytest

from pipelines.cli import main
from sssl.store.folder import Store
from sssl.store.sql import connect


def copied(store, url):
    """Copy an output to another place, which may be in memory."""
    copy = Store.at(url)
    for path in store.find(""):
        copy.write_bytes(path, store.read_bytes(path))
    return copy


@pytest.fixture(scope="module")
def changed(report_folder):
    """An output whose accepted round changes songs and labels on every machine: its posteriors are
    made up."""
    store, snapshot = report_folder
    copy = copied(store, "memory://changed")
    copy.publish(snapshot)
    return copy


@pytest.fixture(scope="module")
def sql(changed):
    connection = connect(changed, changed.latest())
    return lambda query: connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def earlier(changed):
    """The same output as of the warm-up."""
    store = copied(changed, "memory://earlier")
    assert main(["rollback", "--output", store.root, "--round", "0"]) == 0
    return store


def diff(capsys, *args):
    capsys.readouterr()
    assert main(["diff", *args, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_output_does_not_differ_from_itself(finished, capsys):
    found = diff(capsys, finished.root, finished.root)
    songs = found.pop("songs in both")[0]
    assert (songs["songs"], songs["same_label"], songs["other_label"]) == (21, 21, 0)
    assert found.pop("catalog") == [
        {"in_both": 24, "only_before": 0, "only_after": 0, "other_label": 0, "other_source": 0}
    ]
    before, after = found.pop("rounds in use")
    assert before | {"of": "after"} == after
    assert set(map(len, found.values())) == {0}


def test_runs_differ_in_the_songs_that_joining_them_says(changed, earlier, capsys):
    found = diff(capsys, earlier.root, changed.root, "--limit", "100")
    now, then = (
        dict(connect(store, store.latest()).execute("select track_id, label from songs").fetchall())
        for store in (changed, earlier)
    )
    moved = {
        track_id: (then[track_id], now[track_id])
        for track_id in now
        if then[track_id] != now[track_id]
    }
    listed = found["songs that changed, surest first"]
    assert {row["track_id"]: (row["before"], row["after"]) for row in listed} == moved
    assert sum(row["songs"] for row in found["song labels that changed"]) == len(moved) > 0
    assert [row["round"] for row in found["rounds in use"]] == [0, 1]


def test_songs_that_are_new_or_gone_are_listed(changed, sql, capsys):
    ((track_id,),) = sql("select track_id from songs order by track_id limit 1")
    less = copied(changed, "memory://less")
    assert main(["takedown", "--output", less.root, "--track-id", track_id]) == 0
    grown = diff(capsys, less.root, changed.root)
    shrunk = diff(capsys, changed.root, less.root)
    (row,) = grown["songs that are new, surest first"]
    assert row["track_id"] == track_id
    assert set(row) == {"track_id", "label", "confidence"}
    assert shrunk["songs that are gone, surest first"] == [row]
    assert shrunk["songs that are new, surest first"] == []
    assert grown["songs that are gone, surest first"] == []


def test_runs_differ_in_the_labels_that_self_learning_changed(changed, earlier, sql, capsys):
    found = diff(capsys, earlier.root, changed.root)["labels of segments that changed"]
    assert [(row["before"], row["after"], row["segments"]) for row in found] == sql(
        "select inherited_label, label, count(*) n from accepted_labels where label <>"
        " inherited_label group by all order by n desc, 1, 2"
    )
    assert found


def test_other_settings_are_told_by_stage(finished, catalog, tmp_path, capsys):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    assert main(["songs", "--output", output, "--smooth-segments", "5"]) == 0
    found = diff(capsys, finished.root, output)
    assert found["settings that differ"] == [
        {"stage": "songs", "setting": "smooth_segments", "before": "3", "after": "5"}
    ]
    assert found["songs in both"][0]["other_label"] == 0


def test_rounds_differ_in_the_segments_that_their_labels_say(changed, sql, capsys):
    found = diff(capsys, changed.root, "--rounds", "0", "1")
    moved = [(*map(row.get, ("split", "inherited", "after")), row["segments"])
             for row in found["labels of segments that changed"]]  # fmt: skip
    assert sorted(moved) == sql(
        "select split, inherited_label, l.label, count(*) from labels l join catalog using"
        " (track_id) where round = 1 and l.label <> inherited_label group by all order by all"
    )
    assert [row["round"] for row in found["verdicts"]] == [0, 1]


def test_what_became_noisy_on_train_tracks_is_what_the_verdicts_count(changed, capsys):
    found = diff(capsys, changed.root, "--rounds", "0", "1")
    moved = [
        row
        for row in found["partitions of segments"]
        if (row["split"], row["after"]) == ("train", "noisy")
    ]
    assert sum(row["segments"] for row in moved) == found["verdicts"][1]["noisy"] > 0


def test_rounds_differ_in_the_tracks_whose_mean_posterior_moved(changed, capsys):
    import numpy as np

    from sssl.model.scores import by_track

    found = diff(capsys, changed.root, "--rounds", "0", "1", "--limit", "100")
    peaks = [
        {
            track_id: int(rows.mean(axis=0).argmax())
            for track_id, rows in by_track(changed.read_table(table)).items()
        }
        for table in (changed.latest().get("scores", round) for round in (0, 1))
    ]
    moved = {track_id for track_id, peak in peaks[0].items() if peak != peaks[1][track_id]}
    assert {
        row["track_id"] for row in found["tracks whose mean posterior peaks elsewhere"]
    } == moved
    assert moved
    confidence = np.array([row["after"] for row in found["confidence by class"]])
    assert ((confidence > 1 / 3) & (confidence <= 1)).all()


def test_what_cannot_be_compared_is_refused(finished, tmp_path, capsys):
    Store.open(str(tmp_path / "empty"), create=True)
    for args, message in (
        ([finished.root, "--rounds", "0", "7"], "no round 7"),
        ([finished.root, str(tmp_path / "empty")], "publishes no songs"),
        ([finished.root, str(tmp_path)], "is not an output folder"),
    ):
        assert main(["diff", *args]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit, match="2"):
        main(["diff", finished.root])
    said = " ".join(capsys.readouterr().err.split())
    assert said == f"error: expected two output folders, or one with --rounds, not {finished.root}"


def test_ids_that_look_like_markup_are_printed_as_they_are(capsys):
    from pipelines.commands.diff import _print

    _print({"songs": [{"track_id": "Song [live] [/]"}]})
    assert "Song [live] [/]" in capsys.readouterr().out


def test_a_table_is_printed_a_question(finished, capsys):
    assert main(["diff", finished.root, "--rounds", "0", "1"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("verdicts")]
    assert "heldout_accuracy" in out


def test_two_outputs_on_one_object_store_are_compared(finished, capsys):
    urls = ["memory://before", "memory://after"]
    for url in urls:
        copied(finished, url)
    assert diff(capsys, *urls) == diff(capsys, finished.root, finished.root)


def test_a_table_that_cannot_be_read_ends_the_diff_with_its_reason(finished, tmp_path, capsys):
    broken = Store.open(str(shutil.copytree(finished.root, tmp_path / "out")))
    for file in broken.latest().get("songs").all_files:
        broken.delete(file.path)
    assert main(["diff", finished.root, broken.root]) == 1
    assert "error: " in capsys.readouterr().err


def test_rounds_of_what_was_published_before_are_compared(changed, earlier, capsys):
    before = diff(capsys, f"{earlier.root}@before", "--rounds", "0", "1")
    assert before == diff(capsys, changed.root, "--rounds", "0", "1")


def test_fewer_than_none_to_list_is_misuse(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["diff", "a", "b", "--limit", "-1"])
    assert "--limit -1: expected 0 or more" in capsys.readouterr().err
