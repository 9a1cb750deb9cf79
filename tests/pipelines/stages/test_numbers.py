"""Valence and arousal from the catalog to the songs, by the real stages."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import reports
from reports import make_folder, query, read, text_of

from pipelines.commands.all_stages import number_metrics
from pipelines.commands.outcome import numbers_in_words, outcome
from pipelines.stages import songs
from pipelines.stages.context import Context
from schemas import Catalog, to_arrow
from schemas.songs import NUMBER_COLUMNS
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog, read_dealt, rows_of
from sssl.catalog.plane import QUADRANTS
from sssl.export.tables import write_csv, write_parquet
from sssl.report.browse import plane
from sssl.report.source import Source
from sssl.songs.classifier import NUMBERS, SongModel
from sssl.songs.settings import SongConfig
from sssl.store.manifest import Snapshot

TRACKS = 56


@pytest.fixture(scope="module")
def with_numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "CLASSES", QUADRANTS)
        return make_folder(folder / "o", (0.9,), task="valence-arousal", tracks=TRACKS)


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "CLASSES", QUADRANTS)
        return make_folder(folder / "o", (0.9,), tracks=TRACKS)


def test_every_song_has_its_numbers_within_their_intervals(with_numbers):
    rows = query(with_numbers, f"select {', '.join(NUMBER_COLUMNS)} from songs")
    numbers = np.array(rows, float).reshape(-1, 2, 3)
    value, low, high = np.moveaxis(numbers, 2, 0)
    assert len(rows) > 40
    assert (low >= -1).all()
    assert (low <= value).all()
    assert (value <= high).all()
    assert (high <= 1).all()


def test_numbers_follow_those_of_the_catalog(with_numbers):
    rows = query(
        with_numbers,
        "select s.valence, c.valence from songs s join catalog c using (track_id)"
        " where split = 'test'",
    )
    said, true = np.array(rows).T
    assert np.corrcoef(said, true)[0, 1] > 0.5


def test_the_timeline_has_every_scored_segment_and_ends_with_the_other(with_numbers):
    rows = query(
        with_numbers,
        "select segments, len(valence_arousal_timeline), timeline[1].start_s,"
        " valence_arousal_timeline[1].start_s, timeline[-1].end_s,"
        " valence_arousal_timeline[-1].end_s from songs",
    )
    assert all(segments == entries for segments, entries, *_ in rows)
    assert all(starts == others for _, _, starts, others, _, _ in rows)
    assert all(ends == others for *_, ends, others in rows)


def test_where_only_classes_are_known_nothing_is_made_up(without):
    ((songs_there, *known),) = query(
        without,
        f"select count(*), {', '.join(f'count({name})' for name in NUMBER_COLUMNS)},"
        " count(valence_arousal_timeline) from songs",
    )
    assert songs_there > 40
    assert known == [0] * (len(NUMBER_COLUMNS) + 1)
    assert "valence_r2" not in str(number_metrics(without[1].about("songs", SongModel)))
    assert "valence" not in outcome(*without, None)


def test_labels_are_not_worse_for_the_numbers(with_numbers, without):
    found, before = (
        {part.name: part for part in snapshot.about("songs", SongModel).parts}
        for _, snapshot in (with_numbers, without)
    )
    assert found["pool"].log_loss <= before["pool"].log_loss
    assert NUMBERS in found
    assert NUMBERS not in before


def test_a_run_says_how_good_its_numbers_are(with_numbers):
    said = outcome(*with_numbers, None)
    model = with_numbers[1].about("songs", SongModel)
    held_out = [quality for quality in model.numbers if quality.of == "held-out tracks"]
    assert [quality.axis for quality in held_out] == ["valence", "arousal"]
    for quality in held_out:
        assert f"R2 {quality.r2:.3f}, RMSE {quality.rmse:.3f}, CCC {quality.ccc:.3f}" in said
        assert f"({quality.tracks} held-out tracks)" in said
        assert number_metrics(model)[f"heldout_{quality.axis}_ccc"] == quality.ccc
        assert number_metrics(model)[f"heldout_{quality.axis}_coverage"] == quality.coverage


def test_a_run_says_why_there_are_no_numbers():
    said = numbers_in_words(())
    assert "not learned: fewer than 20 train tracks have both numbers" in said["valence, arousal"]


def test_the_report_draws_songs_at_their_own_numbers(with_numbers, without):
    html = read(with_numbers)
    assert "A song lies at its own numbers" in text_of(html)
    assert "Valence and arousal, from −1 to 1" in text_of(html)
    assert "· valence" in html
    assert "· valence" not in read(without)
    assert "sides of valence and arousal" in text_of(html)
    assert "computed from the probabilities" in text_of(read(without))
    places = query(with_numbers, "select valence, arousal from songs")
    cells = plane.cells(Source.of(*with_numbers))
    assert sum(cell.songs for cell in cells) == len(places)
    for cell in cells:
        distance = np.abs(np.array(places) - (cell.valence, cell.arousal)).max(axis=1)
        assert (distance <= 1 / plane.CELLS + 1e-6).sum() >= cell.songs


def test_exports_have_numbers_where_songs_have_them(with_numbers, without, tmp_path):
    write_csv(*with_numbers, str(tmp_path / "with.csv"))
    write_csv(*without, str(tmp_path / "without.csv"))
    write_parquet(*with_numbers, str(tmp_path / "with.parquet"))
    names = (tmp_path / "with.csv").read_text().splitlines()[0].replace('"', "").split(",")
    assert set(NUMBER_COLUMNS) <= set(names)
    assert not set(NUMBER_COLUMNS) & set(
        (tmp_path / "without.csv").read_text().splitlines()[0].replace('"', "").split(",")
    )
    table = pa.parquet.read_table(tmp_path / "with.parquet")
    assert table["valence_low"].null_count == 0


def test_numbers_take_the_songs_stage_alone_when_they_come(without):
    known = songs_on(without, [reports.with_numbers(*one) for one in numbered(without)])
    assert len(known) > 40
    assert None not in known.values()


@pytest.mark.parametrize("keeps_learned", [False, True])
def test_songs_learn_again_when_numbers_change(with_numbers, keeps_learned):
    assert agreement_once_moved(with_numbers, by=-1, keeps_learned=keeps_learned) < 0


def test_songs_that_may_not_learn_stay_as_they_are(with_numbers):
    kept = {"keeps_learned": True, "keeps_songs": True}
    assert agreement_once_moved(with_numbers, by=-0.5, **kept) > 0.99


def test_ratings_that_came_while_nothing_was_learned_are_learned_afterwards(with_numbers):
    moved = [replace(row, valence=-0.7 * row.valence) for row, _ in numbered(with_numbers)]
    store, snapshot = with_numbers
    never = run_on(with_numbers, moved, keeps_learned=True, keeps_songs=True)
    then = dict(query(with_numbers, "select track_id, valence from songs"))
    assert correlation(valence_of(store, never), then) > 0.99
    again = replace(never, published=never.snapshot)
    kept = songs.run(again, SongConfig(abstain_below=0.5)).snapshot.get("songs")
    assert kept.ref == never.snapshot.get("songs").ref
    learned = songs.run(replace(again, keeps_songs=False), SongConfig(abstain_below=0.5))
    assert correlation(valence_of(store, learned), then) < 0


def agreement_once_moved(folder, by, **kept):
    """How the valence of songs correlates with that of before, once that of tracks is multiplied by
    something."""
    moved = [replace(row, valence=by * row.valence) for row, _ in numbered(folder)]
    then = dict(query(folder, "select track_id, valence from songs"))
    return correlation(songs_on(folder, moved, **kept), then)


def correlation(told, then):
    assert told.keys() == then.keys()
    return np.corrcoef([told[name] for name in told], [then[name] for name in told])[0, 1]


def songs_on(folder, rows, **kept):
    """The valence of songs on a catalog with other numbers, above the tables of a folder."""
    return valence_of(folder[0], run_on(folder, rows, **kept))


def run_on(folder, rows, **kept):
    store, snapshot = folder
    config = CatalogConfig(classes=QUADRANTS, task="valence-arousal")
    catalog = commit_catalog(store, to_arrow(Catalog, rows), config)
    before = snapshot.get("catalog").ref
    others = []
    for manifest in snapshot.manifests:
        if manifest.table != "catalog":
            parents = tuple(catalog.ref if ref == before else ref for ref in manifest.parents)
            others.append(replace(manifest, parents=parents))
    context = Context(store, Snapshot((catalog, *others)), published=snapshot, **kept)
    return songs.run(context, SongConfig(abstain_below=0.5))


def valence_of(store, context):
    table = store.read_table(context.snapshot.get("songs"), ["track_id", "valence"])
    return dict(zip(*table.to_pydict().values(), strict=True))


def numbered(folder):
    """The tracks of a folder's catalog, each with a number."""
    store, snapshot = folder
    tracks = read_dealt(store, snapshot.get("catalog")).tracks
    return [(row, seed) for seed, row in enumerate(rows_of(tracks))]
