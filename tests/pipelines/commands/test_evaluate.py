import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_catalog
from front_ends import write_onnx

from pipelines.cli import main
from pipelines.commands.evaluate import Config, _plantable, set_up
from pipelines.stages.context import Context
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.sql import connect

SMALL = [
    "--folds", "2", "--seeds", "1", "--warmup-epochs", "1", "--rounds", "1",
    "--test-share", "0", "--cross-folds", "2",
]  # fmt: skip
FLAGS = [*SMALL, "--methods", "prune", "--plant", "0.4"]


def evaluate(catalog, output, *flags):
    try:
        return main(["evaluate", "--catalog", catalog, "--output", str(output), *flags])
    except SystemExit as stop:
        return stop.code


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Four tracks a class of three segments, one without a label and three broken files."""
    return write_catalog(tmp_path_factory.mktemp("music"), tracks_per_class=4, seconds=9.0)


@pytest.fixture(scope="module")
def evaluated(music, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluated") / "out"
    assert evaluate(music, output, *FLAGS) == 0
    return Store.open(str(output))


@pytest.fixture(scope="module")
def result(evaluated):
    return evaluated.read_json("evaluation.json")


def manifests(store, table):
    return [
        store.manifest(table, path.split("/")[1])
        for path in store.find(table)
        if path.endswith("/_manifest.json")
    ]


def test_what_a_listener_said_counts_as_true_and_is_not_exchanged(music, tmp_path):
    store = Store.open(str(tmp_path / "out"), create=True)
    said = "track_id,start_s,end_s,label\nQ1_1,3,6,Q3\nQ2_1,,,Q4\n"
    (tmp_path / "out" / "corrections.csv").write_text(said)
    bench = set_up(Context(store, Snapshot()), Config(music, store.root, folds=2, cross_folds=2))
    true = bench.segments.set_index(["track_id", "start_s"])["true_label"]
    assert true["Q1_1"].to_dict() == {0.0: "Q1", 3.0: "Q3", 6.0: "Q1"}
    assert set(true["Q2_1"]) == {"Q4"}
    assert set(true["Q3_1"]) == {"Q3"}
    rows = [replace(row, split="train") for row in bench.rows]
    eligible = _plantable(bench.segments, rows).groupby("track_id")["eligible"].any()
    assert not eligible["Q1_1"]
    assert not eligible["Q2_1"]
    assert eligible["Q3_1"]


def test_every_usable_labelled_track_is_held_out_once(result):
    assert [(row["method"], row["seed"], row["fold"]) for row in result["rows"]] == [
        ("prune", 0, 0),
        ("prune", 0, 1),
    ]
    assert sum(row["held_out_tracks"] for row in result["rows"]) == 16


def test_every_metric_is_measured_and_summed_up(result):
    missing = {name for row in result["rows"] for name, value in row.items() if value is None}
    assert missing == {"song_accuracy_gain"}  # of the first method over itself
    for name in (
        "song_accuracy",
        "song_macro_f1",
        "segment_accuracy",
        "wrong_segment_auc",
        "wrong_segment_ap",
    ):
        values = [row[name] for row in result["rows"]]
        assert result["summary"]["prune"][name]["mean"] == pytest.approx(np.mean(values))
        assert all(0 <= value <= 1 for value in values)
    assert all(row["cpu_minutes"] > 0 for row in result["rows"])


def test_the_planted_share_of_training_segments_is_wrong(result):
    assert all(row["wrong_share"] == pytest.approx(0.4, abs=0.2) for row in result["rows"])


def test_audio_is_decoded_once_and_only_of_labelled_tracks(evaluated):
    segments = [m for m in manifests(evaluated, "segments") if m.stage == "segment"]
    assert len(segments) == 3  # the catalog itself and two folds
    assert len({file.path for m in segments for file in m.files.values()}) == len(segments[0].files)
    assert {m.rows for m in segments} == {16 * 3}


def test_no_stage_sees_a_label_of_the_outer_fold(evaluated):
    base = evaluated.latest().get("catalog")
    usable = set(
        evaluated.read_table(evaluated.latest().get("segments"), ["track_id"])[
            "track_id"
        ].to_pylist()
    )
    folds = [m for m in manifests(evaluated, "catalog") if m.ref != base.ref]
    withheld = []
    for manifest in folds:
        rows = evaluated.read_table(manifest).to_pylist()
        withheld += [
            row["track_id"] for row in rows if row["track_id"] in usable and row["label"] is None
        ]
    assert sorted(withheld) == sorted(usable)


def test_pruned_segments_carry_no_weight_and_keep_their_label(evaluated):
    pruned = [m for m in manifests(evaluated, "labels") if m.stage == "prune"]
    assert len(pruned) == 2
    for manifest in pruned:
        for row in evaluated.read_table(manifest).to_pylist():
            if row["reason"] == "pruned":
                assert (row["weight"], row["partition"], row["label"]) == (
                    0.0,
                    "noisy",
                    row["inherited_label"],
                )


def test_only_what_was_decoded_is_published(evaluated):
    assert {m.table for m in evaluated.latest().manifests} == {
        "catalog",
        "segments",
        "features",
        "ledger",
    }
    assert connect(evaluated, evaluated.latest()).sql("select count(*) from ledger").fetchall() == [
        (19,)
    ]


def test_a_second_evaluation_trains_nothing_and_says_the_same(
    music, evaluated, result, tmp_path, capfd
):
    output = shutil.copytree(evaluated.root, tmp_path / "out")
    assert evaluate(music, output, *FLAGS) == 0
    assert "train 0" not in capfd.readouterr().err
    assert json.loads((output / "evaluation.json").read_text())["rows"] == result["rows"]


def test_an_evaluation_reuses_the_segments_of_a_run_and_leaves_what_it_published(
    finished, catalog, tmp_path, capfd
):
    output = shutil.copytree(finished.root, tmp_path / "out")
    before = (output / "latest.json").read_text()
    assert evaluate(catalog, output, *SMALL, "--methods", "ce") == 0
    assert "unchanged" in capfd.readouterr().err
    assert (output / "latest.json").read_text() == before
    rows = json.loads((output / "evaluation.json").read_text())["rows"]
    assert sum(row["held_out_tracks"] for row in rows) == 20


def test_embeddings_are_made_once_and_planted_and_their_worth_is_said(music, tmp_path):
    front_end = write_onnx(tmp_path / "net.onnx")
    flags = [*SMALL, "--methods", "ce", "--plant", "0.2", "--front-end", front_end]
    assert evaluate(music, tmp_path / "out", *flags) == 0
    store = Store.open(str(tmp_path / "out"))
    embedded = [m for m in manifests(store, "embeddings") if m.stage == "embed"]
    assert len(embedded) == 2  # a fold each, of the same files
    assert len({file.path for m in embedded for file in m.files.values()}) == len(embedded[0].files)
    rows = store.read_json("evaluation.json")["rows"]
    assert all(0 <= row["accuracy_by_embedding"] <= 1 for row in rows)
    songs = manifests(store, "songs")
    planted = {m.ref for m in manifests(store, "embeddings") if "plant" in m.config}
    assert len(planted) == 2
    assert all(planted & set(m.parents) for m in songs)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--plant", "1.5"], "--plant 1.5: expected a share from 0 to below 1"),
        (["--folds", "1"], "--folds 1: expected 2 or more"),
        (["--seeds", "0"], "--seeds 0: expected 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags, message, tmp_path, capsys):
    assert evaluate("c.csv", tmp_path / "o", *flags) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


def test_a_catalog_without_labels_is_refused(tmp_path, capsys):
    (tmp_path / "c.csv").write_text("track_id,uri\na,/x\n")
    assert evaluate(str(tmp_path / "c.csv"), tmp_path / "o") == 1
    assert "no track has a label" in " ".join(capsys.readouterr().err.split())


def test_more_folds_than_groups_of_a_class_are_refused(music, evaluated, tmp_path, capsys):
    output = shutil.copytree(evaluated.root, tmp_path / "out")
    assert evaluate(music, output, "--folds", "5") == 1
    assert "class Q1 has usable tracks of 4 groups, expected at least --folds 5" in " ".join(
        capsys.readouterr().err.split()
    )


def test_without_cleanlab_the_error_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    assert evaluate("c.csv", tmp_path / "o", "--methods", "prune") == 1
    assert "pip install 'sssl[evaluate]'" in capsys.readouterr().err
