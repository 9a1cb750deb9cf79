"""Engines may split, repeat, reorder and kill: the same scores, embeddings, labels and songs; and
what becomes of a part that kills its workers."""

import multiprocessing
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from conftest import TRAINING
from front_ends import write_onnx
from hostile import combined, digests, disturbed

from pipelines.beam import mass
from pipelines.beam.earlier import Earlier
from pipelines.beam.job import Job
from pipelines.beam.tries import MOST_TRIES, Tries
from pipelines.cli import main
from pipelines.stages import embed, relabel, relabel_part, score, shards, songs
from pipelines.stages.score import PartScorer
from pipelines.stages.score_part import known_scores
from schemas.records import dump
from schemas.summaries import ScoresSummary
from sssl.audio.mel import MelConfig
from sssl.errors import StoreError
from sssl.labels.consistency import fit_track_model
from sssl.labels.sound_classifier import fit_classifier, fit_scale
from sssl.model.shards.make import Sharding
from sssl.songs.classifier import SongModel
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot


def job_of(stage, command, monkeypatch):
    """Return the job that a command is about to run, and what its pipeline is given beside it."""
    found = []

    def keep(job, build, beam_args):
        given = {
            name: cell.cell_contents
            for name, cell in zip(build.__code__.co_freevars, build.__closure__, strict=True)
        }
        found.append((job, given))
        raise StoreError("kept")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "run_job", keep)
        assert main(command) == 1
    return found[0]


@pytest.fixture
def unmade(finished, tmp_path):
    """A function that copies the finished folder without a generation, as if it were to be made."""

    def copy(unmade):
        output = shutil.copytree(finished.root, tmp_path / "out")
        store = Store.open(str(output))
        kept, gone = list(finished.latest().manifests), {unmade.ref}
        while left := [m for m in kept if gone & {m.ref, *m.parents}]:
            gone |= {m.ref for m in left}
            kept = [m for m in kept if m not in left]
        store.publish(Snapshot(tuple(kept)))
        for within in ("", "_parts", "_receipts"):
            shutil.rmtree(output / within / unmade.ref, ignore_errors=True)
        return store

    return copy


def refs_of(job):
    return list(job.list_parts())


def test_scores_are_the_same_whatever_an_engine_does(finished, unmade, monkeypatch):
    scores = finished.latest().get("scores", 0)
    store = unmade(scores)
    command = ["score", "--output", store.root, "--round", "0", *TRAINING]
    job, given = job_of(score, command, monkeypatch)
    assert job.receipts == scores.ref

    def bundle(refs):
        tries = Tries.of(job, 0.5)  # of its own, as no worker here is really gone
        return PartScorer(job, given["settings"], None, 1, tries).score(refs)

    receipts = disturbed(refs_of(job), bundle, monkeypatch)
    assert digests(job.commit(receipts)) == digests([scores])


def test_songs_are_the_same_whatever_an_engine_does(finished, unmade, monkeypatch):
    made = finished.latest().get("songs")
    store = unmade(made)
    job, given = job_of(songs, ["songs", "--output", store.root], monkeypatch)
    assert job.receipts == made.ref
    settings, refs = given["settings"], refs_of(job)
    rows = combined(
        [songs.labelled_tracks(ref, job, settings) for ref in refs],
        lambda found: [row for one in found for row in one],
    )
    second = made.about(SongModel).second
    assert second is not None
    model = songs._fit(rows, len(job.classes), settings, None, second)
    model_id = given["used"].model_id
    segment_s = finished.latest().get("segments").settings(MelConfig, "cut").segment_s

    def bundle(refs):
        return [songs.write_songs(ref, job, settings, model_id, segment_s, model) for ref in refs]

    receipts = disturbed(refs, bundle, monkeypatch)
    assert digests(job.commit(receipts, model)) == digests([made])


@pytest.mark.parametrize("seed", [1, 2])
def test_labels_are_the_same_in_whatever_order_an_engine_adds_up(
    finished, unmade, monkeypatch, seed
):
    made = finished.latest().get("labels", 1)
    store = unmade(made)
    command = ["relabel", "--output", store.root, "--round", "1", *TRAINING]
    job, given = job_of(relabel, command, monkeypatch)
    assert job.receipts == made.ref
    settings, refs = given["settings"], refs_of(job)

    def over_parts(tell):
        return combined([tell(ref) for ref in refs], relabel._add, seed)

    scale = fit_scale(over_parts(lambda r: relabel_part.sum_scales(r, job, settings)))
    by_class = over_parts(lambda r: relabel_part.sum_classes(r, job, scale))
    classifier = fit_classifier(by_class, scale)
    assert classifier is not None
    losses = over_parts(lambda r: relabel_part.sum_part_losses(r, job, settings, classifier))
    calibration = relabel.fit_calibration(losses, classifier)
    tracks = fit_track_model(over_parts(lambda r: relabel_part.sum_sounds(r, job, settings)))
    spread = over_parts(lambda r: relabel_part.sum_spreads(r, job, settings, calibration, tracks))
    evidence = relabel.fit_reading(spread, calibration, tracks, settings.evidence)
    counts = over_parts(lambda r: relabel_part.count_losses(r, job, settings, evidence))
    reading = relabel.read_evidence(counts, job, settings, evidence)

    def bundle(refs):
        return [relabel_part.relabel_part(ref, job, settings, reading) for ref in refs]

    receipts = disturbed(refs, bundle, monkeypatch, seed)
    assert digests(job.commit(receipts)) == digests([made])


def test_inherited_labels_are_the_same_whatever_an_engine_does(finished, unmade, monkeypatch):
    made = finished.latest().get("labels", 0)
    store = unmade(made)
    command = ["relabel", "--output", store.root, "--round", "0", *TRAINING]
    job, _ = job_of(relabel, command, monkeypatch)
    assert job.receipts == made.ref
    receipts = disturbed(
        refs_of(job),
        lambda refs: [relabel_part.inherit_part(ref, job) for ref in refs],
        monkeypatch,
    )
    assert digests(job.commit(receipts)) == digests([made])


def test_shards_are_the_same_whatever_an_engine_does(finished, tmp_path, monkeypatch):
    snapshot, sharding = finished.latest(), Sharding(parts=2, layers=2, chunk=4)
    inputs = {"catalog": snapshot.get("catalog"), "features": snapshot.features}
    planned = Manifest.plan("shards", "shards", dump(sharding), inputs.values(), None)
    refs = {name: manifest.ref for name, manifest in inputs.items()}

    def job_in(folder):
        store = Store.open(str(shutil.copytree(finished.root, tmp_path / folder)))
        about = sharding.shards(snapshot.catalog.parts), snapshot.catalog.classes
        return shards.ShardJob(store, (planned,), refs, *about, sharding=sharding)

    def done(job, refs):
        return [shards.write_shard(ref, job) for ref in refs]

    orderly, job = job_in("orderly"), job_in("disturbed")
    made = orderly.commit(done(orderly, refs_of(orderly)))
    assert made[0].rows > 0
    receipts = disturbed(refs_of(job), lambda refs: done(job, refs), monkeypatch)
    assert digests(job.commit(receipts)) == digests(made)


@pytest.fixture(scope="module")
def embedded(catalog, tmp_path_factory):
    """A folder with embeddings of an undisturbed run, and how to make them."""
    folder = tmp_path_factory.mktemp("hostile")
    output, net = str(folder / "out"), write_onnx(folder / "net.onnx")
    cut = ["segment", "--catalog", catalog, "--output", output, "--tracks-per-part", "4"]
    assert main([*cut, "--sound-version", "0"]) == 0
    segmented = shutil.copytree(output, folder / "segmented")
    assert main(["embed", "--output", output, "--front-end", net]) == 0
    return Store.open(output), segmented, net


def to_embed(embedded, folder, monkeypatch):
    _, segmented, net = embedded
    output = str(shutil.copytree(segmented, folder / "out"))
    command = ["embed", "--output", output, "--front-end", net]
    return job_of(embed, command, monkeypatch)[1]["task"]


def embed_parts(task, refs):
    return list(embed.PartEmbedder(task, 1, 1).embed(refs))


def test_embeddings_are_the_same_whatever_an_engine_does(embedded, tmp_path, monkeypatch):
    task = to_embed(embedded, tmp_path, monkeypatch)
    job = task.job

    def bundle(refs):
        return embed_parts(task._replace(tries=Tries.of(job, 0.5)), refs)

    receipts = disturbed(refs_of(job), bundle, monkeypatch, deaths=3)
    made = job.commit(receipts, embed.Origin.of(task.front_end))
    assert digests(made) == digests([embedded[0].latest().get("embeddings")])


# A part that kills its workers


def tried_until_done(job, work):
    """Do as an engine does with a bundle whose worker is killed: up to four tries of it."""
    exits = []
    while bundle := [ref for ref in refs_of(job) if job.receipt(ref.part) is None]:
        assert len(exits) < 4, "an engine gives the job up"
        worker = multiprocessing.get_context("spawn").Process(target=work, args=(bundle,))
        worker.start()
        worker.join()
        exits.append(worker.exitcode)
    return exits


class ScoresOrDies:
    """Scores a bundle in a worker that one of its parts, which has no labels, kills."""

    def __init__(self, job, settings, tries, poison):
        self._given, self._tries, self._poison = (job, settings, None, 1), tries, poison

    def __call__(self, refs):
        write, tracks = PartScorer._write, Job.tracks

        def write_or_die(scorer, ref, *given):
            if ref.part == self._poison:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(scorer, ref, *given)

        def without_labels(job, ref):
            labels = {} if ref.part != self._poison else {"label": None}
            return [replace(track, **labels) for track in tracks(job, ref)]

        PartScorer._write, Job.tracks = write_or_die, without_labels
        PartScorer(*self._given, self._tries).score(refs)


def test_a_part_that_kills_its_scorers_costs_its_own_scores_and_the_next_delivery_tries_it_again(
    finished, unmade, monkeypatch
):
    scores = finished.latest().get("scores", 0)
    store = unmade(scores)
    command = ["score", "--output", store.root, "--round", "0", *TRAINING]
    job, given = job_of(score, command, monkeypatch)
    poison, tries = 1, Tries.of(job, 0.5)
    exits = tried_until_done(job, ScoresOrDies(job, given["settings"], tries, poison))
    assert exits == [-signal.SIGKILL] * MOST_TRIES + [0]
    (made,) = job.commit([job.receipt(ref.part) for ref in refs_of(job)])
    for part, file in made.files.items():
        rows, before = store.read_part(file), finished.read_part(scores.files[part])
        if part == poison:
            assert rows.select(["track_id", "segment_index"]).equals(
                before.select(["track_id", "segment_index"])
            )
            assert set(rows["reason"].to_pylist()) == {"part-failed"}
            assert rows["probabilities"].null_count == len(rows)
        else:
            assert rows.equals(before)
    lost = finished.read_part(scores.files[poison], ["track_id"])["track_id"].unique()
    assert made.about(ScoresSummary).reasons == {"part-failed": len(lost)}
    named = {name: ref for name, ref in job.inputs.items() if name != "models"}
    earlier = Earlier(made.ref, job.inputs, {"scores": made.ref})
    assert set(earlier.standing(store, named)) == set(made.files) - {poison}
    again = [ref for ref in refs_of(job) if ref.part == poison]
    columns = ["track_id", "segment_index", "log_mel"]
    following = job.__class__(store, job.planned, job.inputs, job.parts, job.classes, earlier)
    known = known_scores(
        following, again[0], job.read(again[0], "features", columns), job.tracks(again[0])
    )
    assert len(known) == 0


def test_a_part_with_labels_is_not_given_up_by_scoring(finished, unmade, monkeypatch):
    store = unmade(finished.latest().get("scores", 0))
    command = ["score", "--output", store.root, "--round", "0", *TRAINING]
    job, given = job_of(score, command, monkeypatch)
    tries, (ref, *_) = Tries.of(job, 0.5), refs_of(job)
    assert any(track.label for track in job.tracks(ref))
    for _ in range(MOST_TRIES):
        tries.begin(ref.part)
    with pytest.raises(StoreError, match="part 0, which has labels, ended its workers 3 times"):
        PartScorer(job, given["settings"], None, 1, tries).score([ref])
    assert job.receipt(ref.part) is None


def test_a_job_stops_where_more_parts_are_given_up_than_may_be(embedded, tmp_path, monkeypatch):
    task = to_embed(embedded, tmp_path, monkeypatch)
    job = task.job
    tries = Tries.of(job, 0.2)
    refs = refs_of(job)[:3]
    assert job.parts == 6
    for ref in refs:
        for _ in range(MOST_TRIES):
            tries.begin(ref.part)
    embed_parts(task._replace(tries=tries), refs[:1])
    with pytest.raises(StoreError, match="embed: stopped, since 2 of 6 parts ended their workers"):
        embed_parts(task._replace(tries=tries), refs[1:])


def test_a_part_that_was_given_up_has_rows_with_a_reason_and_is_embedded_the_next_time(
    embedded, tmp_path, monkeypatch
):
    task = to_embed(embedded, tmp_path, monkeypatch)
    job, orderly = task.job, embedded[0].latest().get("embeddings")
    refs, tries = refs_of(job), Tries.of(job, 0.5)
    for _ in range(MOST_TRIES):
        tries.begin(refs[0].part)
    receipts = embed_parts(task._replace(tries=tries), refs)
    (made,) = job.commit(receipts, embed.Origin.of(task.front_end))
    lost = job.store.read_part(made.files[0])
    assert set(lost["reason"].to_pylist()) == {"part-failed"}
    assert lost["embedding"].null_count == len(lost)
    assert {p: f.sha256 for p, f in made.files.items() if p} == {
        p: f.sha256 for p, f in orderly.files.items() if p
    }
    before = embed.Before(made.ref, job.inputs["segments"])
    again = embed.PartEmbedder(task._replace(before=before, tries=None), 1, 1)
    assert again._as_before(refs[0]) is None
    assert again._plan(refs[0]).kept == {}
    assert again._as_before(refs[1]) is not None


def test_a_model_that_gives_no_posterior_stops_the_job(finished, unmade, monkeypatch):
    store = unmade(finished.latest().get("scores", 0))
    command = ["score", "--output", store.root, "--round", "0", *TRAINING]
    job, given = job_of(score, command, monkeypatch)
    monkeypatch.setattr(mass, "MASS", 4)
    scorer = PartScorer(job, given["settings"], None, 1)

    def nothing(part):
        return np.full((len(part.log_mel), len(job.classes)), np.nan, np.float32)

    monkeypatch.setattr(scorer, "_posteriors", nothing)
    with pytest.raises(StoreError, match="of 4 tracks nearly all failed: non-finite 4; a model"):
        scorer.score(refs_of(job))
