"""`--task valence-arousal` from the command line, on top of a folder that knew classes only."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import FAST

from pipelines.cli import main
from schemas.songs import NUMBER_COLUMNS
from schemas.views import PLACES
from sssl.store.folder import Store
from sssl.store.sql import connect

TASK = ["--task", "valence-arousal"]


@pytest.fixture(scope="module")
def ratings(catalog, tmp_path_factory):
    """The catalog with numbers in the place of labels, where it has labels."""
    table = pd.read_csv(catalog)
    rng = np.random.default_rng(0)
    places = np.array([PLACES.get(label, (np.nan, np.nan)) for label in table.pop("label")])
    table[["valence", "arousal"]] = places * rng.uniform(0.3, 0.9, places.shape)
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    table.to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def told(finished_copy, ratings):
    """The folder after a run with the numbers, and what was published before."""
    before = finished_copy.latest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sssl.songs.regression.FEWEST_TRACKS", 8)
        output = ["--output", finished_copy.root]
        assert main(["run", "--catalog", ratings, *output, *TASK, *FAST]) == 0
    return Store.open(finished_copy.root), before


def test_numbers_come_to_a_folder_without_training(told):
    store, before = told
    after = store.latest()
    models = {manifest.digest for manifest in before.of("models")}
    assert {manifest.digest for manifest in after.of("models")} == models
    rows = connect(store, after).sql(f"select {', '.join(NUMBER_COLUMNS)} from songs").fetchall()
    assert rows
    assert np.isfinite(np.array(rows, float)).all()


def test_a_file_is_labelled_with_numbers_as_its_song(told, ratings, capsys):
    store, _ = told
    uri = pd.read_csv(ratings).loc[0, "uri"]
    for format in ("json", "table", "csv"):
        assert main(["label", "--model", store.root, uri, "--format", format]) == 0
        said = capsys.readouterr().out
        if format == "json":
            one = json.loads(said)
            assert one["valence_low"] <= one["valence"] <= one["valence_high"]
        assert "valence" in said


def test_the_story_of_a_track_has_its_numbers(told, capsys):
    store, _ = told
    assert main(["explain", "--output", store.root, "--track-id", "Q2_0"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"valence +-?[01]\.\d\d \(-?[01]\.\d\d to -?[01]\.\d\d\), by regression", said)
    assert re.search(r"arousal +-?[01]\.\d\d \(", said)


def test_plan_counts_labels_that_numbers_say(ratings, tmp_path, capsys):
    output = ["--output", str(tmp_path / "o")]
    assert main(["plan", "--catalog", ratings, *output, *TASK]) == 0
    assert "have a label: Q1" in " ".join(capsys.readouterr().out.split())
