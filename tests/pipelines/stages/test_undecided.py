"""After an undecided round two models label together, wherever labels come from."""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import FAST
from reports import CLASSES, Page, make_folder, query, read, text_of

import sssl
from pipelines.cli import main
from pipelines.commands import all_stages
from pipelines.stages.context import Context
from schemas.summaries import RoundsSummary, ScoresSummary
from sssl.arrays import mean_of_models
from sssl.errors import StoreError
from sssl.evaluate.methods import Fold, measure
from sssl.labels.acceptance import JudgeConfig
from sssl.labels.comparison import read_judged
from sssl.presets import GUARDED
from sssl.removal.takedown import without
from sssl.report.source import Source
from sssl.report.story import tell
from sssl.songs.labeller import Recipe, make_labeller
from sssl.songs.song import timeline
from sssl.store.folder import Store
from sssl.store.rounds import in_use, last_accepted, read_rounds, verdict_of
from sssl.store.sql import connect


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A warm-up, and a round as good whose posteriors are others."""
    folder = tmp_path_factory.mktemp("undecided")
    return make_folder(folder, (0.8, 0.8), seeds=(0, 1), judging=JudgeConfig(decisive_z=1000.0))


def posteriors(folder, table):
    rows = query(
        folder, f"select track_id, probabilities from {table} order by track_id, segment_index"
    )
    return np.array([p for _, p in rows]), [track_id for track_id, _ in rows]


def test_the_round_is_not_accepted_and_both_are_in_use(folder):
    store, snapshot = folder
    assert [verdict_of(row) for row in read_rounds(store, snapshot)] == ["accepted", "undecided"]
    used = in_use(store, snapshot)
    assert [row.round for row in used.rounds] == [0, 1]
    assert last_accepted(store, snapshot).round == 0


def test_scores_in_use_are_the_means_of_both(folder):
    found, tracks = posteriors(folder, "accepted_scores")
    before, after = (posteriors(folder, f"scores where round = {round}")[0] for round in (0, 1))
    assert np.abs(before - after).max() > 0.1
    assert found == pytest.approx((before + after) / 2, abs=1e-6)
    assert query(folder, "select distinct round, model_id, reason from accepted_scores") == [
        (1, "m0+m1", None)
    ]
    losses = query(
        folder, "select track_id, loss from accepted_scores order by track_id, segment_index"
    )
    label = dict(query(folder, "select track_id, label from catalog"))
    at_label = [
        p[CLASSES.index(label[track_id])] for p, track_id in zip(found, tracks, strict=True)
    ]
    assert [loss for _, loss in losses] == pytest.approx(-np.log(at_label), abs=1e-5)


def test_where_one_model_gives_no_posterior_the_other_s_counts():
    first, second = (
        np.array([[0.9, 0.1], [np.nan, np.nan], [np.nan, np.nan]]),
        np.array([[0.5, 0.5]] * 2 + [[np.nan] * 2]),
    )
    assert mean_of_models([first, second]).tolist()[:2] == [[0.7, 0.3], [0.5, 0.5]]
    assert np.isnan(mean_of_models([first, second])[2]).all()


def test_songs_and_their_timelines_are_made_from_the_means(folder):
    songs = query(
        folder,
        "select track_id, round, model_id, songs.segments, timeline, timeline_label, decoded_s"
        " from songs join ledger using (track_id)",
    )
    assert songs
    for track_id, round, model_id, segments, entries, longest, decoded_s in songs:
        assert (round, model_id) == (1, "m0+m1")
        assert entries[-1]["end_s"] == decoded_s
        rows = query(
            folder,
            "select probabilities, start_s from accepted_scores join segments using (track_id,"
            f" segment_index) where track_id = '{track_id.replace(chr(39), chr(39) * 2)}' order by"
            " segment_index",
        )
        assert segments == len(rows)
        mean, start_s = np.array([p for p, _ in rows]), np.array([s for _, s in rows])
        expected = timeline(mean, start_s, 3.0, CLASSES, 3)
        assert [entry["label"] for entry in entries] == [entry["label"] for entry in expected]
        assert [e["confidence"] for e in entries] == pytest.approx(
            [e["confidence"] for e in expected], abs=1e-5
        )
        seconds = {
            name: sum(e["end_s"] - e["start_s"] for e in entries if e["label"] == name)
            for name in CLASSES
        }
        assert seconds[longest] == max(seconds.values())


def test_songs_name_both_tables_of_scores_as_parents(folder):
    _, snapshot = folder
    scores = {manifest.ref for manifest in snapshot.of("scores")}
    assert len(scores) == 2
    assert scores <= set(snapshot.get("songs").parents)


def test_the_story_of_a_track_shows_the_means(folder):
    store, snapshot = folder
    story = tell(store, snapshot, "track-00")
    found = query(
        folder,
        "select probabilities, loss, model_id from accepted_scores where track_id = 'track-00'"
        " order by segment_index",
    )
    assert np.array([row.probabilities for row in story.used.scores]) == pytest.approx(
        np.array([p for p, _, _ in found])
    )
    assert [row.loss for row in story.used.scores] == pytest.approx(
        [loss for _, loss, _ in found], abs=1e-5
    )
    assert {row.model_id for row in story.used.scores} == {story.song.model_id} == {"m0+m1"}
    told = {round.verdict.round: round.scores for round in story.rounds}
    assert np.array([row.probabilities for row in told[0]]) != pytest.approx(
        np.array([p for p, _, _ in found])
    )


def test_the_report_measures_and_names_what_is_in_use(folder):
    html = read(folder)
    assert "Songs are labelled by the mean of the posteriors of round 0 and round 1" in text_of(
        html
    )
    assert "The model trained without them labels together with the one before, because" in text_of(
        html
    )
    (row,) = [row for row in Page(html).rows if len(row) == 9 and row[0] == "1"]
    assert row[1] == "undecided"
    source = Source.of(*folder)
    assert source.used.model_id == "m0+m1"
    ((right, tracks),) = query(
        folder,
        "with means as (select track_id, i, avg(probabilities[i]) as p from accepted_scores,"
        f" range(1, 4) t(i) group by all), guesses as (select track_id, arg_max({list(CLASSES)}[i],"
        " p) as label from means group by all) select count_if(g.label = c.label), count(*) from"
        " guesses g join catalog c using (track_id) where split = 'test'",
    )
    assert f"by the model’s mean posterior {right / tracks:.1%}" in text_of(html)


def test_an_evaluation_measures_the_means(folder):
    store, snapshot = folder
    held_out = dict(
        query(folder, "select track_id, c.label from catalog c join songs using (track_id)")
    )
    truth = np.array(
        [
            label
            for (label,) in query(
                folder, "select label from segments join catalog using (track_id)"
            )
        ]
    )
    outcome = measure(store, snapshot, Fold(0, 0, snapshot, {}, truth), "guarded", 0.0)
    assert outcome.metrics["segment_accuracy"] is None  # nothing is withheld
    withheld = Fold(
        0,
        0,
        snapshot,
        held_out,
        np.array([held_out[t] for t in posteriors(folder, "scores where round = 0")[1]]),
    )
    found, tracks = posteriors(folder, "accepted_scores")
    right = [CLASSES[p.argmax()] == held_out[t] for p, t in zip(found, tracks, strict=True)]
    assert measure(store, snapshot, withheld, "guarded", 0.0).metrics[
        "segment_accuracy"
    ] == pytest.approx(np.mean(right))


def test_a_takedown_counts_what_both_models_make_of_the_tracks_that_stay(folder, tmp_path):
    root = shutil.copytree(folder[0].root, tmp_path / "out")
    store = Store.open(str(root))
    snapshot = dataclasses.replace(folder[1])
    gone = ["track-00", "track-01", "track-04"]
    reduced = without(store, snapshot, gone)
    before, after = (of.about("rounds", RoundsSummary, 1).confusions for of in (snapshot, reduced))
    assert counted_tracks(before) - counted_tracks(after) == len(gone)
    scores = tuple(reduced.get("scores", round) for round in (0, 1))
    tracks = read_judged(store, reduced.get("catalog"), *scores)
    assert after == tracks.confusions(tracks.both, CLASSES)


def counted_tracks(confusions):
    return sum(n for pairs in confusions.values() for row in pairs.values() for n in row.values())


def test_models_without_cross_fitting_are_shown_on_train_tracks_too(tmp_path):
    """The verdict goes by held-out tracks alone, which neither model has learned."""
    settings = dataclasses.replace(GUARDED.train, cross_fit=False)
    judging = JudgeConfig(decisive_z=1000.0)
    store, snapshot = make_folder(
        tmp_path / "out", (0.8, 0.8), seeds=(0, 1), judging=judging, settings=settings
    )
    row = read_rounds(store, snapshot)[1]
    assert verdict_of(row) == "undecided"
    both = snapshot.about("rounds", RoundsSummary, 1)
    own = snapshot.about("scores", ScoresSummary, 1)
    for split in ("test", "train"):
        assert both.confusion(split).sum() == own.confusion(split).sum() > 0
    assert row.judged_tracks == both.confusion("test").sum()


# With models that label files


@pytest.fixture(scope="module")
def output(finished, tmp_path_factory):
    """A run whose round 1 was judged anew, so strictly that nothing is decided."""
    output = str(shutil.copytree(finished.root, tmp_path_factory.mktemp("judged") / "out"))
    assert main(["judge", "--output", output, "--round", "1", "--decisive-z", "1000"]) == 0
    assert main(["songs", "--output", output]) == 0
    return Store.open(output)


def test_songs_go_with_the_models_that_made_them(finished, tmp_path, capsys):
    copied = str(shutil.copytree(finished.root, tmp_path / "out"))
    assert main(["judge", "--output", copied, "--round", "1", "--decisive-z", "1000"]) == 0
    assert "no longer published, made from what has just changed: " in " ".join(
        capsys.readouterr().err.split()
    )
    snapshot = Store.open(copied).latest()
    assert not snapshot.of("songs")
    assert snapshot.of("scores")
    assert main(["songs", "--output", copied]) == 0
    assert main(["judge", "--output", copied, "--round", "1", "--decisive-z", "1000"]) == 0
    assert Store.open(copied).latest().of("songs")


def test_a_file_is_labelled_as_its_track_was(output):
    rows = connect(output, output.latest()).sql(
        "select uri, fold, split, songs.* exclude (track_id) from songs join catalog using"
        " (track_id) order by track_id limit 3"
    )
    for row in rows.fetchdf().to_dict("records"):
        song = sssl.label(
            output.root, row["uri"], row["fold"] if row["split"] == "train" else None, row["split"]
        )
        assert (song.label, song.round, song.model_id) == (row["label"], 1, row["model_id"])
        assert song.probabilities == pytest.approx(row["probabilities"], abs=1e-5)


def test_what_mlflow_is_given_labels_by_both_models(output):
    recipe = Recipe.of(output, output.latest())
    assert len(recipe.weights) == 2
    weights = [output.read_bytes(path) for path in recipe.weights]
    assert weights[0] != weights[1]
    both, one = (make_labeller(given, recipe.settings) for given in (weights, weights[:1]))
    ((uri,),) = (
        connect(output, output.latest())
        .sql("select min(uri) from catalog where label = 'Q1'")
        .fetchall()
    )
    assert both.label(uri).probabilities != one.label(uri).probabilities


def test_settings_of_a_logged_model_that_are_damaged_are_a_sentence(output):
    recipe = Recipe.of(output, output.latest())
    weights = [output.read_bytes(path) for path in recipe.weights]
    for damaged in (recipe.settings | {"cut": 3}, recipe.settings | {"song_model": None}, {}):
        with pytest.raises(StoreError, match="what the model was logged with is damaged: "):
            make_labeller(weights, damaged)


def test_one_can_go_back_to_the_round_before_alone(output, tmp_path, capsys):
    copied = str(shutil.copytree(output.root, tmp_path / "out"))
    assert main(["rollback", "--output", copied, "--round", "1"]) == 0
    assert "round 1 is in use" in capsys.readouterr().err
    assert main(["rollback", "--output", copied, "--round", "0"]) == 0
    store = Store.open(copied)
    assert [row.round for row in in_use(store, store.latest()).rounds] == [0]
    models = (
        connect(store, store.latest())
        .sql("select distinct songs.round, model_id from songs")
        .fetchall()
    )
    assert models == [(0, store.latest().get("models", 0).summary["model_id"])]


def test_the_rounds_end_with_an_undecided_one(monkeypatch, folder):
    store, snapshot = folder
    warm_up, undecided = read_rounds(store, snapshot)
    rows = [warm_up, dataclasses.replace(undecided, round=1), undecided]
    monkeypatch.setattr(all_stages, "relabel", SimpleNamespace(run=lambda context, *_: context))
    monkeypatch.setattr(all_stages, "learn", lambda context, *_: context)
    monkeypatch.setattr(all_stages.judge, "row_of", lambda _, number: rows[number])
    method = dataclasses.replace(GUARDED, rounds=2)
    assert len(list(all_stages.rounds(Context(store, snapshot), method))) == 2


def test_old_flags_still_work_with_a_warning(finished, tmp_path, capsys):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    assert (
        main(["judge", "--output", output, "--round", "1", "--max-drop", "None", "--min_gain=0.01"])
        == 0
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: --max-drop None is now --accept-all" in said
    assert "warning: --min_gain 0.01 decides nothing any more: see decisive_z" in said
    assert "round 1 accepted: every round is, without a test (accept_all)" in said
    assert "--max-drop" not in FAST
