"""What listeners say is in the next run's labels, there and nowhere else without a reason."""

import csv
import json

import pytest
from conftest import FAST
from reports import text_of

from pipelines.cli import main
from sssl.store.sql import connect, rows

SUSPECTS = 10


def run(catalog, store, *flags):
    return main(["run", "--catalog", catalog, "--output", store.root, *FAST, *flags])


def query(store, sql):
    return rows(connect(store, store.latest()), sql)


def labels(store):
    """The labels of all rounds, by round and segment."""
    found = query(
        store, "select round, track_id, segment_index, label, partition, reason, weight from labels"
    )
    return {(row["round"], row["track_id"], row["segment_index"]): row for row in found}


def decode_nothing(track, **_):
    raise AssertionError(f"{track.track_id} is decoded again")


def songs(store):
    return {row["track_id"]: row for row in query(store, "from songs")}


@pytest.fixture(scope="module")
def corrected(finished_copy, catalog):
    """A folder before and after a listener took ten suspects for what they are not, by the
    published model."""
    store = finished_copy
    suspects = query(store, "from suspects order by evidence desc, track_id, segment_index")[
        :SUSPECTS
    ]
    before = labels(store), songs(store)
    classes = store.latest().catalog.classes
    said = {}
    with open(f"{store.root}/corrections.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["track_id", "start_s", "end_s", "label", "who", "when"])
        for row in suspects:
            other = next(
                name for name in classes if name not in (row["model_label"], row["inherited_label"])
            )
            said[row["track_id"], row["segment_index"]] = other
            writer.writerow(
                [
                    row["track_id"],
                    row["start_s"],
                    row["end_s"],
                    other,
                    "ann",
                    "2026-11-27T10:00:00Z",
                ]
            )
        writer.writerow(["new", "", "", "Q4", "ann", "2026-11-27T10:00:00Z"])
        writer.writerow(["nobody", "", "", "Q4", "ann", "2026-11-27T10:00:00Z"])
        writer.writerow(["Q1_1", "300", "303", "Q4", "ann", "2026-11-27T10:00:00Z"])
    assert run(catalog, store, "--learn", "never") == 0
    return store, said, before


def test_corrections_of_suspects_change_the_labels_there_and_nowhere_else(corrected):
    store, said, (before, _) = corrected
    now = labels(store)
    changed = {key[1:] for key in now if now[key] != before[key] and key[1] != "new"}
    assert changed == set(said)
    for (_, *segment), row in now.items():
        if tuple(segment) in said:
            assert (row["label"], row["partition"], row["reason"]) == (
                said[tuple(segment)],
                "locked",
                "corrected",
            )
    assert {row["label"] for row in now.values() if row["track_id"] == "new"} == {"Q4"}


def test_diff_lists_the_segments_that_a_listener_changed(corrected, capsys):
    store, said, _ = corrected
    outputs = [f"{store.root}@before", store.root]
    capsys.readouterr()
    assert main(["diff", *outputs, "--limit", "1000", "--format", "json"]) == 0
    changed = json.loads(capsys.readouterr().out)["segments that changed, in order"]
    by_listener = [row for row in changed if row["because"] == "listener"]
    tracks = {track_id for track_id, _ in said}
    assert by_listener
    assert {row["track_id"] for row in by_listener} <= tracks
    order = [(row["track_id"], row["start_s"]) for row in changed]
    assert order == sorted(order)


def test_a_corrected_segment_is_no_suspect_any_more(corrected):
    store, said, _ = corrected
    left = {(row["track_id"], row["segment_index"]) for row in query(store, "from suspects")}
    assert not left & set(said)


def test_a_track_that_a_listener_labelled_publishes_that_label_and_says_so(corrected):
    store, _, (_, before) = corrected
    now = songs(store)
    new = now.pop("new")
    assert (new["label"], new["confidence"], new["abstained"], new["label_source"]) == (
        "Q4",
        1.0,
        False,
        "human",
    )
    assert (
        max(new["probabilities"]) != new["probabilities"][3]
    )  # what the models think stays to be seen
    assert {row["label_source"] for row in now.values()} == {"model"}
    assert {track_id: row["label"] for track_id, row in now.items()} == {
        t: before[t]["label"] for t in now
    }


def test_corrections_are_counted_in_the_catalog_and_in_the_labels(corrected):
    store, said, _ = corrected
    summary = store.latest().get("catalog").summary
    assert (summary["corrected_tracks"], summary["corrected_passages"]) == (1, len(said) + 1)
    of_new = len([key for key in labels(store) if key[0] == 0 and key[1] == "new"])
    assert store.latest().get("labels", 0).summary["corrected"] == len(said) + of_new


def test_the_next_run_learns_from_corrections_and_decodes_nothing(
    corrected, catalog, capsys, monkeypatch
):
    store, said, (before, _) = corrected
    ledger = store.latest().get("ledger").files
    monkeypatch.setattr("pipelines.stages.segment.cut_track", decode_nothing)
    assert run(catalog, store) == 0
    out = " ".join("".join(capsys.readouterr()).split())
    assert "new, gone or changed since the published model learned" in out
    assert (
        f"labels that a listener corrected or confirmed: of 1 track and of {len(said) + 1} passages"
        in out
    )
    summary = store.latest().get("labels", 1).summary
    by_listener = f"1 track and {len(said) + 1} passages by a listener"
    assert f"corrections {by_listener}, which decide the labels of {summary['corrected']}" in out
    assert by_listener in text_of(store.read_bytes("report.html").decode())
    assert "1 corrected passage without effect" in out
    assert "Q1_1 (300-303 s)" in out
    assert "1 correction left out, no such track in the catalog: nobody" in out
    assert {part: file.sha256 for part, file in store.latest().get("ledger").files.items()} == {
        part: file.sha256 for part, file in ledger.items()
    }
    now = labels(store)
    of_round_0 = {
        key[1:] for key in now if not key[0] and now[key] != before[key] and key[1] != "new"
    }
    assert of_round_0 == set(said)
    assert all(now[0, *segment]["weight"] == 1 for segment in said)
    for (_, *segment), row in now.items():
        if tuple(segment) in said:
            assert (row["label"], row["reason"]) == (said[tuple(segment)], "corrected")
        elif row["label"] != now[0, *segment]["label"]:
            assert row["reason"] in ("high-loss", "low-loss")


def test_a_plan_knows_that_corrections_changed_labelled_tracks(
    corrected, catalog, tmp_path, capsys
):
    store, _, _ = corrected
    (tmp_path / "none.csv").write_text("track_id,start_s,end_s,label\n")
    flags = ["--catalog", catalog, "--output", store.root, *FAST]
    assert main(["plan", *flags]) == 0
    assert "no labelled track changed" in capsys.readouterr().out
    assert main(["plan", *flags, "--corrections", str(tmp_path / "none.csv")]) == 0
    assert "labelled tracks new, gone or changed" in capsys.readouterr().out
