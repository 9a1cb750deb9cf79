"""Valence and arousal as numbers in a catalog."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import a_track

from schemas import Catalog, to_arrow
from sssl.catalog.assign import CatalogConfig, Dealt
from sssl.catalog.committed import commit_catalog, read_part, rows_of
from sssl.catalog.plane import numbers_of, quadrant
from sssl.catalog.read import read_catalog
from sssl.errors import CatalogError, ConfigError
from sssl.store.folder import Store

WITH_NUMBERS = CatalogConfig(task="valence-arousal")
HEADER = "track_id,uri,valence,arousal\n"


def read(tmp_path, text, config=WITH_NUMBERS, labels=None, tell=lambda _: None):
    catalog = tmp_path / "c.csv"
    catalog.write_text(text)
    rows = rows_of(read_catalog(str(catalog), labels, config, tell=tell))
    return {row.track_id: row for row in rows}


def test_labels_are_read_off_the_numbers_where_there_are_none(tmp_path):
    rows = read(
        tmp_path,
        "track_id,uri,label,valence,arousal\n"
        "a,/a.wav,,0.5,0.25\nb,/b.wav,,-0.5,1\nc,/c.wav,,-1,-0.1\nd,/d.wav,,0.1,-0.1\n"
        "said,/e.wav,Q3,0.5,0.5\nnothing,/f.wav,,,\n",
    )
    assert {name: row.label for name, row in rows.items()} == {
        "a": "Q1", "b": "Q2", "c": "Q3", "d": "Q4", "said": "Q3", "nothing": None,
    }  # fmt: skip
    assert (rows["a"].valence, rows["a"].arousal) == (0.5, 0.25)
    assert (rows["nothing"].valence, rows["nothing"].arousal) == (None, None)
    assert all((row.split is None) == (row.label is None) for row in rows.values())


@pytest.mark.parametrize("place", ["0,0.5", "0.5,0", "0.5,", ",0.5", "nan,0.5"])
def test_no_label_is_made_up_where_a_side_is_not_known(place, tmp_path):
    rows = read(tmp_path, f"{HEADER}a,/a.wav,{place}\nb,/b.wav,0.5,0.5\n")
    assert rows["a"].label is None
    assert rows["b"].label == "Q1"


def test_numbers_are_not_read_unless_they_are_asked_for(tmp_path):
    said = []
    rows = read(tmp_path, f"{HEADER}a,/a.wav,5.9,6.1\n", config=CatalogConfig(), tell=said.append)
    assert (rows["a"].valence, rows["a"].arousal, rows["a"].label) == (None, None, None)
    assert "`--task valence-arousal` reads valence and arousal from -1 to 1" in said[0]


def test_numbers_may_come_with_the_labels(tmp_path):
    labels = tmp_path / "l.csv"
    labels.write_text("track_id,valence,arousal\nb,-0.5,0.5\n")
    rows = read(tmp_path, "track_id,uri\na,/a.wav\nb,/b.wav\n", labels=str(labels))
    assert (rows["b"].label, rows["b"].valence, rows["a"].label) == ("Q2", -0.5, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}a,/a.wav,5.9,0.5\n", r"track 'a' has valence '5.9', expected a number from -1 "
         r"to 1; of a scale from 1 to 9 it is \(rating - 5\) / 4"),
        (f"{HEADER}a,/a.wav,0.5,-1.01\n", "track 'a' has arousal '-1.01', expected a number"),
        (f"{HEADER}a,/a.wav,inf,0\n", "has valence 'inf', expected a number from -1 to 1"),
        (f"{HEADER}a,/a.wav,much,0\n", "has valence 'much', expected a number from -1 to 1"),
        ("track_id,uri,valence\na,/a.wav,0.5\n",
         "column arousal is missing: --task valence-arousal needs it"),
        ("track_id,uri,label\na,/a.wav,Q1\n", "column valence is missing"),
        (f"{HEADER}a,/a.wav,0.5,\nb,/b.wav,,0.5\n",
         "no track has valence and arousal: leave out --task"),
        (f"{HEADER[:-1]},valence\na,/a.wav,0,0,0\n", "column valence appears more than once"),
    ],
)  # fmt: skip
def test_numbers_that_are_no_place_are_refused_in_a_sentence(text, message, tmp_path):
    with pytest.raises(CatalogError, match=message):
        read(tmp_path, text)


def test_numbers_in_parquet_may_have_any_type_of_number(tmp_path):
    path = tmp_path / "c.parquet"
    content = {"track_id": ["a"], "uri": ["/a.wav"], "valence": pa.array([1], pa.int8())}
    content["arousal"] = pa.array([-0.5], pa.float32())
    pq.write_table(pa.table(content), path)
    (row,) = rows_of(read_catalog(str(path), None, WITH_NUMBERS))
    assert (row.label, row.valence, row.arousal) == ("Q4", 1.0, -0.5)


def test_other_classes_than_quadrants_have_no_numbers():
    with pytest.raises(ConfigError, match="--classes sad happy: expected Q1 Q2 Q3 Q4 with --task"):
        CatalogConfig(classes=("sad", "happy"), task="valence-arousal")


def test_numbers_are_committed_and_name_the_catalog(tmp_path):
    store = Store.open(str(tmp_path / "o"), create=True)
    track = a_track(valence=0.5, arousal=0.25)
    with_numbers, without = (
        commit_catalog(store, to_arrow(Catalog, [row]), CatalogConfig())
        for row in (track, a_track())
    )
    assert with_numbers.ref != without.ref
    assert read_part(store, with_numbers, 0) == [track]


def test_a_catalog_without_numbers_has_the_name_that_it_always_had(tmp_path):
    store = Store.open(str(tmp_path / "o"), create=True)
    made = commit_catalog(store, to_arrow(Catalog, [a_track()]), CatalogConfig())
    assert made.generation == "55976bf891df"  # as schema version 7 called it


def test_corrected_labels_that_contradict_numbers_take_them_away():
    track = a_track(label="Q1", valence=0.5, arousal=0.5)
    corrected = replace(track, label="Q3", locked=True, corrections=[{"label": "Q3"}])
    confirmed = replace(corrected, label="Q1")
    assert numbers_of(track) == numbers_of(confirmed) == (0.5, 0.5)
    assert np.isnan(numbers_of(corrected)).all()
    assert np.isnan(numbers_of(replace(track, arousal=None))).all()


def test_quadrants_go_by_signs():
    signs = [(0.1, 0.1), (-0.1, 0.1), (-0.1, -0.1), (0.1, -0.1), (0.0, 0.1)]
    assert [quadrant(*place) for place in signs] == ["Q1", "Q2", "Q3", "Q4", None]


def test_what_was_dealt_stays_when_numbers_come(tmp_path):
    plain = "track_id,uri,label\n" + "".join(f"t{i},/{i}.wav,Q{i % 4 + 1}\n" for i in range(40))
    signs = ["1,1", "-1,1", "-1,-1", "1,-1"]
    told = HEADER + "".join(f"t{i},/{i}.wav,{signs[i % 4]}\n" for i in range(40))
    before = read(tmp_path, plain, CatalogConfig())
    dealt = Dealt(to_arrow(Catalog, before.values()), CatalogConfig())
    (tmp_path / "c.csv").write_text(told)
    now = rows_of(read_catalog(str(tmp_path / "c.csv"), None, WITH_NUMBERS, dealt))
    assert {row.track_id: replace(row, valence=None, arousal=None) for row in now} == before
