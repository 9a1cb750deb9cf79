"""Folders that an earlier version began, with log-mels in half precision, beside those of today,
whose log-mels are bytes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import FAST, RATE_HZ, music

from pipelines.cli import main
from pipelines.stages.settings import Settings
from sssl.audio.mel import MelConfig
from sssl.model.ensemble import load
from sssl.model.trainer import start_from
from sssl.songs.labeller import labeller_of
from sssl.store.folder import Store
from sssl.store.layout import BEFORE_ROUNDS
from sssl.store.manifest import Snapshot


@pytest.fixture
def begun(finished_in_halves, tmp_path):
    """A copy of a folder with log-mels in half precision."""
    return Store.open(str(shutil.copytree(finished_in_halves.root, tmp_path / "begun")))


@pytest.fixture
def grown(catalog, tmp_path):
    """The catalog with one more track."""
    soundfile.write(tmp_path / "more.wav", music("Q3", 9.5, seed=77), RATE_HZ)
    path = tmp_path / "grown.csv"
    path.write_text(f"{Path(catalog).read_text().rstrip()}\nmore,{tmp_path / 'more.wav'},\n")
    return str(path)


def run(command, store, catalog):
    return main([command, "--catalog", catalog, "--output", store.root, *FAST])


def widths(store):
    """Bytes of a segment's log-mel, of all parts."""
    types = [
        pq.read_schema(store.url(file.path)).field("log_mel").type
        for file in store.latest().features.files.values()
    ]
    assert all(map(pa.types.is_fixed_size_binary, types))
    return {type.byte_width for type in types}


def log_mels_by_segment(store):
    rows = store.read_table(store.latest().features).to_pylist()
    return {(row["track_id"], row["segment_index"]): row["log_mel"] for row in rows}


def model_ids(store):
    return [manifest.summary["model_id"] for manifest in store.latest().of("models")]


def test_a_new_folder_has_a_byte_per_value(finished, finished_in_halves):
    assert widths(finished) == {64 * 94}
    assert widths(finished_in_halves) == {2 * 64 * 94}


def test_segments_are_the_same_but_for_how_log_mels_are_stored(finished, finished_in_halves):
    ours, theirs = (
        store.read_table(store.latest().get("segments")) for store in (finished, finished_in_halves)
    )
    assert ours.equals(theirs)


def test_a_plan_for_a_folder_in_half_precision_decodes_and_learns_nothing(begun, catalog, capsys):
    assert run("plan", begun, catalog) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "│ 24 │ unchanged │ segments reused │" in said
    assert "not learning: no labelled track changed" in said


def test_a_run_without_changes_leaves_a_folder_in_half_precision_as_it_is(begun, catalog):
    before = begun.latest()
    assert run("run", begun, catalog) == 0
    assert begun.latest() == before


def test_a_folder_in_half_precision_grows_in_half_precision(begun, grown, capsys):
    before, learned = log_mels_by_segment(begun), model_ids(begun)
    assert run("plan", begun, grown) == 0
    assert "│ 1 │ new │ decoded │" in " ".join(capsys.readouterr().out.split())
    assert run("run", begun, grown) == 0
    assert widths(begun) == {2 * 64 * 94}
    after = log_mels_by_segment(begun)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 3
    assert model_ids(begun) == learned
    for table in BEFORE_ROUNDS:
        for manifest in begun.latest().of(table):
            assert "stored_as" not in json.dumps(manifest.config)


def test_a_folder_of_bytes_goes_on_with_bytes_whatever_is_asked_for(finished):
    asked = Settings(cut=MelConfig(stored_as="float16")).in_folder(finished, finished.latest())
    assert asked.cut == MelConfig()


@pytest.mark.parametrize("command", ["plan", "segment"])
def test_what_is_asked_for_and_not_done_is_said(finished, catalog, tmp_path, command, capsys):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    settings = tmp_path / "halves.toml"
    settings.write_text('[cut]\nstored_as = "float16"\n')
    flags = ["--tracks-per-part", "2", "--folds", "3", "--settings", str(settings)]
    assert main([command, "--catalog", catalog, "--output", output, *flags]) == 0
    said = capsys.readouterr()
    words = " ".join(f"{said.out} {said.err}".split())
    assert "stored_as = float16 is for new folders: log-mels here stay uint8" in words


@pytest.mark.parametrize("folder", ["finished", "finished_in_halves"])
def test_a_first_run_goes_on_as_its_parts_are_whatever_became_of_the_mark(
    folder, request, tmp_path
):
    root = request.getfixturevalue(folder).root
    shutil.copytree(f"{root}/features", tmp_path / "out" / "features")
    (tmp_path / "out" / "latest.json").write_text('{"tables": []}')
    store = Store.open(str(tmp_path / "out"), create=True)
    expected = "uint8" if folder == "finished" else "float16"
    assert Settings().in_folder(store, Snapshot()).cut.stored_as == expected
    another = Settings(cut=MelConfig(mels=32)).in_folder(store, Snapshot())
    assert another.cut.stored_as == "uint8"


def test_log_mels_that_are_cut_otherwise_are_stored_as_in_a_new_folder(finished_in_halves):
    published = finished_in_halves.latest()
    assert Settings().in_folder(finished_in_halves, published).cut.stored_as == "float16"
    another = Settings(cut=MelConfig(mels=32)).in_folder(finished_in_halves, published)
    assert another.cut == MelConfig(mels=32)


def test_a_first_run_that_an_earlier_version_began_goes_on_in_half_precision(tmp_path):
    store = Store.open(str(tmp_path / "out"), create=True)
    assert Settings().in_folder(store, Snapshot()).cut == MelConfig()
    earlier = {"schema_version": 8, "made_by": "sssl 0.1.0.dev0"}
    store.write_json("sssl.json", earlier)
    assert Settings().in_folder(store, Snapshot()).cut == MelConfig(stored_as="float16")


def test_a_folder_that_an_earlier_version_began_stays_one_when_its_mark_is_raised(
    tmp_path, catalog
):
    store = Store.open(str(tmp_path / "out"), create=True)
    store.write_json("sssl.json", {"schema_version": 8, "made_by": "sssl 0.1.0.dev0"})
    assert run("segment", store, catalog) == 0
    assert widths(store) == {2 * 64 * 94}
    assert store.read_json("sssl.json")["schema_version"] == 9
    assert Settings().in_folder(store, Snapshot()).cut == MelConfig(stored_as="float16")


def test_a_plan_for_a_folder_that_is_not_there_is_one_for_bytes(tmp_path):
    store = Store.at(str(tmp_path / "nowhere"))
    assert Settings().in_folder(store, Snapshot()).cut == MelConfig()


@pytest.mark.parametrize("folder", ["finished", "finished_in_halves"])
def test_a_model_labels_log_mels_however_they_are_stored(folder, request, tmp_path):
    store = request.getfixturevalue(folder)
    labeller = labeller_of(store, store.latest())
    soundfile.write(tmp_path / "new.wav", music("Q2", 15, seed=5), RATE_HZ)
    found = []
    for stored_as in ("uint8", "float16"):
        other = replace(labeller, mel=replace(labeller.mel, stored_as=stored_as))
        song = other.label(str(tmp_path / "new.wav"))
        found.append(song.probabilities)
    np.testing.assert_allclose(*found, atol=0.02)


def test_training_starts_from_weights_of_log_mels_that_were_stored_otherwise(
    finished, finished_in_halves
):
    stores = (finished, finished_in_halves)
    models = [load(store.read_file(store.latest().of("models")[-1].files[0])) for store in stores]
    assert [model.spec.cut.stored_as for model in models] == ["uint8", "float16"]
    for start, other in (models, models[::-1]):
        network = other.spec.build()
        start_from(network, start, other.spec, member=0)
        for name, weight in start.members[0].state_dict().items():
            assert network.state_dict()[name].equal(weight)
