"""All stages in a row, and what MLflow and the terminal are told of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from pipelines.commands import report
from pipelines.commands.outcome import outcome
from pipelines.commands.run_settings import Config
from pipelines.stages import embed, judge, relabel, score, segment, songs, train
from pipelines.stages.churn import check_churn
from pipelines.stages.context import Context
from pipelines.stages.embed_part import Placement
from pipelines.stages.learning import decide, published_method
from pipelines.stages.material import check_labels
from pipelines.stages.previous import TABLES
from pipelines.stages.settings_file import Source
from pipelines.stages.weights import initial_weights, named_by_content
from pipelines.terminal.console import tell
from schemas import Round
from schemas.records import dump
from schemas.summaries import SongsSummary
from sssl.evaluate.sections import WrongSegments, read_sections, wrong_segments
from sssl.labels.findings import Findings
from sssl.metrics import calibration_error, quality
from sssl.presets import Preset
from sssl.report.page import figures
from sssl.songs.changes import song_changes
from sssl.songs.classifier import SongModel
from sssl.songs.labeller import Recipe
from sssl.songs.regression import HELD_OUT
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot, digest_of
from sssl.store.publications import last_with_songs
from sssl.store.rounds import guesses_in_use, in_use, verdict_of
from sssl.tracking.card import model_card
from sssl.tracking.tracker import Tracker, server_of
from sssl.urls import without_secrets


def run_all(context: Context, config: Config) -> Context:
    """Run all stages; publish each as soon as that takes nothing away from readers, and all of them
    at the end."""
    store = context.store
    published = context.snapshot
    known = context.published
    had_songs = last_with_songs(store)
    if config.truth:
        read_sections(config.truth)  # refused now rather than by the report, hours later
    server_of(store, config.mlflow_uri)  # likewise
    asked = config.embed.front_end is not None
    front_end = embed.check(config.embed, config.segment.cut.segment_s) if asked else None

    may_learn = config.policy.learn != "never"

    def labels_suffice(tracks: pa.Table) -> None:
        if may_learn:
            check_labels(tracks, config.segment.deal, config.method.train)

    train_named = named_by_content(config.method.train, initial_weights(config.method.train, 0))
    remarks: list[str] = []
    context = segment.run(
        context,
        config.catalog,
        config.labels,
        config.segment,
        labels_suffice,
        remarks.append,
        config.corrections,
    )
    context = context.on(context.snapshot.only("catalog", *TABLES))
    _publish(context, published)
    if may_learn:
        train.check(context.snapshot, config.method.train)
    if front_end:
        # The same tracks are decoded as for segments, so the same limits hold.
        placement = Placement(processes=config.segment.processes, limits=config.segment.limits)
        context = embed.run(context, front_end, placement, config.segment.again.asks_ledger)
    method = replace(config.method, train=train_named)
    decision = decide(context, method, config.policy)
    tell(str(decision))
    used_method = config.method
    if config.policy.learn == "always":
        context = replace(context, published=Snapshot())
    if not decision.learns:
        context = replace(context, keeps_learned=True)
        used_method = published_method(known)
    # Two outputs are two runs, though their relative paths may be the same; URLs may carry
    # passwords and signatures.
    named_by = replace(config, output=store.root, mlflow_uri=None, method=method, source=Source())
    deal = replace(config.segment.deal, inventory=())  # each night has another
    named_by = replace(named_by, segment=replace(config.segment, deal=deal))
    params = dump(named_by) | {"preset": config.source.preset}
    if front_end:
        params["embed"] = front_end.described()
    key = digest_of([context.snapshot.get("catalog").ref, params])[:12]
    tracker = Tracker(store, config.mlflow_uri, key, params)
    with tracker.whole():
        segmented = replace(context, tracker=tracker)
        for round, context in enumerate(rounds(segmented, used_method)):
            _log_round(tracker, context, round)
            _publish(context, published)
        context = songs.run(context, config.songs)
        changes = song_changes(store, had_songs, context.snapshot)
        check_churn(changes, config.max_churn)
        store.publish(context.snapshot)
        recipe = Recipe.of(store, context.snapshot)
        tracker.model(recipe.weights, recipe.settings, model_card(store, context.snapshot))
        tracker.files(
            {f"plots/{name}.svg": data for name, data in figures(store, context.snapshot).items()}
        )
        report.run(context, config.truth)
        churn = {} if changes is None else {"song_labels_changed": changes.changed}
        tracker.log(_song_metrics(context.snapshot) | churn, step=round)
        found = None
        if config.truth:
            found = wrong_segments(store, context.snapshot, config.truth)
            tracker.log(_wrong_segment_metrics(found), step=round)
        # Named, not copied: a takedown could not reach into a tracking server.
        tracker.tag("sssl.report", without_secrets(store.url("report.html")))
        tracker.tag("sssl.findings", str(Findings.of(store, context.snapshot)))
    sys.stdout.write(outcome(store, context.snapshot, found, remarks, changes))
    return context


def rounds(context: Context, method: Preset) -> Iterator[Context]:
    """Run the warm-up and the rounds of self-learning on a segmented catalog; yield the context
    after each."""
    for round in range(method.rounds + 1):
        context = relabel.run(context, round, method.relabel)
        context = learn(context, round, method)
        yield context
        if verdict_of(judge.row_of(context, round)) != "accepted":
            break  # another round would split the same scores again


def learn(context: Context, round: int, method: Preset) -> Context:
    """Train a round's model on the round's labels, score with it and judge it."""
    context = train.run(context, round, method.train)
    context = score.run(context, round, method.score)
    return judge.run(context, round, method.judge)


def _publish(context: Context, published: Snapshot) -> None:
    if context.snapshot.covers(published):
        context.store.publish(context.snapshot)


def _log_round(tracker: Tracker, context: Context, round: int) -> None:
    """Log what a round came to: its own numbers in its run, in the parent what is in use after it
    and was read."""
    row = judge.row_of(context, round)
    snapshot = context.snapshot
    tracker.judged(
        round, _round_metrics(row), {"sssl.verdict": verdict_of(row), "sssl.reason": row.reason}
    )
    tracker.log(state_metrics(context.store, snapshot), step=round)
    for manifest in (*map(snapshot.get, ("catalog", "segments")), snapshot.get("labels", round)):
        tracker.read(manifest, context.store.url(context.store.manifest_path(manifest.ref)))


def _round_metrics(row: Round) -> dict[str, float | None]:
    """Return what MLflow shows of a round: what its own model makes of tracks that it has not
    learned."""
    names = (
        "log_loss_change",
        "log_loss_change_error",
        "log_loss_change_z",
        "accuracy_change",
        "accuracy_change_error",
        "judged_tracks",
        "judged_groups",
        "confident",
        "noisy",
        "relabelled",
    )
    return {
        "heldout_accuracy_mean_posterior": row.heldout_accuracy,
        "heldout_macro_f1_mean_posterior": row.heldout_macro_f1,
        "heldout_loss_mean_posterior": row.heldout_loss,
        "train_accuracy_mean_posterior": row.train_accuracy,
        "train_macro_f1_mean_posterior": row.train_macro_f1,
        **{name: getattr(row, name) for name in names},
    }


def state_metrics(store: Store, snapshot: Snapshot) -> dict[str, float | None]:
    """Return what MLflow shows of the models in use, and of the last split made."""
    used = in_use(store, snapshot)
    findings = Findings.of(store, snapshot)
    guesses = guesses_in_use(snapshot, used)
    held_out = quality(guesses.confusion("test"))
    train = quality(guesses.confusion("train"))
    return {
        "heldout_accuracy_mean_posterior": held_out.accuracy,
        "heldout_macro_f1_mean_posterior": held_out.macro_f1,
        "train_accuracy_mean_posterior": train.accuracy,
        "train_macro_f1_mean_posterior": train.macro_f1,
        "suspects": findings.suspects,
        "models_in_use": len(used.rounds),
    }


def _song_metrics(snapshot: Snapshot) -> dict[str, float | None]:
    """Return what MLflow shows of the published labels."""
    songs = snapshot.about("songs", SongsSummary)
    held_out = quality(songs.confusion("test"))
    model = snapshot.about("songs", SongModel)
    return {
        "heldout_accuracy_published_label": held_out.accuracy,
        "heldout_macro_f1_published_label": held_out.macro_f1,
        "heldout_tracks": held_out.tracks,
        "tracks_labelled": songs.tracks,
        "tracks_abstained": songs.abstained,
        "tracks_abstained_share": songs.abstained / songs.tracks if songs.tracks else None,
        "calibration_error": calibration_error(model.reliability),
        **number_metrics(model),
    }


def number_metrics(model: SongModel) -> dict[str, float | None]:
    """Return what MLflow shows of valence and arousal, by held-out tracks, else by train tracks
    that were left out of the fit."""
    metrics: dict[str, float | None] = {}
    for found in model.numbers:
        side = "heldout" if found.of == HELD_OUT else "train"
        for name in ("r2", "rmse", "ccc", "coverage"):
            metrics[f"{side}_{found.axis}_{name}"] = getattr(found, name)
    return metrics


def _wrong_segment_metrics(found: WrongSegments) -> dict[str, float | None]:
    """Return what MLflow shows of the findings, where the true sections are known."""
    return {
        "wrong_segments": found.wrong,
        "wrong_segments_precision": found.precision,
        "wrong_segments_recall": found.recall,
        "wrong_segments_auc": found.auc,
    }
