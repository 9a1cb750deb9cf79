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
from pipelines.stages.material import Material, check_labels
from pipelines.stages.previous import TABLES
from pipelines.stages.settings_file import Source
from pipelines.stages.weights import initial_weights, named_by_content
from pipelines.terminal.console import tell
from schemas import Round
from schemas.records import dump
from schemas.summaries import SongsSummary
from sssl.audio.mel import MelConfig
from sssl.embedding.contract import FrontEnd
from sssl.evaluate.sections import WrongSegments, read_sections, wrong_segments
from sssl.labels.findings import Findings
from sssl.metrics import calibration_error, quality
from sssl.presets import Preset
from sssl.report.page import figures
from sssl.songs.changes import SongChanges, song_changes
from sssl.songs.classifier import SongModel
from sssl.songs.labeller import Recipe
from sssl.songs.regression import HELD_OUT
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot, digest_of
from sssl.store.publications import last_whole, last_with_songs
from sssl.store.rounds import guesses_in_use, in_use, verdict_of
from sssl.tracking.card import model_card
from sssl.tracking.tracker import Tracker, server_of
from sssl.urls import without_secrets


def run_all(context: Context, config: Config) -> Context:
    """Run all stages; publish each as soon as that takes nothing away from readers, and all of them
    at the end."""
    store = context.store
    published = context.snapshot
    had_songs = last_with_songs(store)
    in_effect = last_whole(store)
    front_end = _check_early(store, config)
    remarks: list[str] = []
    context = _segment(context, config, remarks)
    _publish(context, published)
    if config.policy.learn != "never":
        train.check(context.snapshot, config.method.train)
    if front_end is not None:
        # The same tracks are decoded as for segments, so the same limits hold.
        placement = Placement(processes=config.segment.processes, limits=config.segment.limits)
        context = embed.run(context, front_end, placement, config.segment.again.asks_ledger)
    train_named = named_by_content(config.method.train, initial_weights(config.method.train, 0))
    method = replace(config.method, train=train_named)
    context, used_method = _decide(context, config, method, in_effect)
    tracker = _tracker(context, config, method, front_end)
    with tracker.whole():
        segmented = replace(context, tracker=tracker)
        for round, context in enumerate(rounds(segmented, used_method)):
            _log_round(tracker, context, round)
            _publish(context, published)
        context = songs.run(context, config.songs)
        changes = song_changes(store, had_songs, context.snapshot)
        check_churn(store, changes, config.max_churn)
        store.publish(context.snapshot)
        _log_model(tracker, context)
        report.run(context, config.truth)
        found = None
        if config.truth:
            found = wrong_segments(store, context.snapshot, config.truth)
        _log_songs(tracker, context, round, changes, found)
    sys.stdout.write(outcome(store, context.snapshot, found, remarks, changes))
    return context


def _check_early(store: Store, config: Config) -> FrontEnd | None:
    """Refuse now what would be refused hours later; return the front-end that is asked for."""
    if config.truth:
        read_sections(config.truth, config.segment.deal.classes)
    server_of(store, config.mlflow_uri)
    initial_weights(config.method.train, 0)
    if config.embed.front_end is None:
        return None
    return embed.check(config.embed, config.segment.cut.segment_s)


def _segment(context: Context, config: Config, remarks: list[str]) -> Context:
    """Segment the catalog; what is said of it is added to `remarks`."""

    def labels_suffice(tracks: pa.Table) -> None:
        if config.policy.learn != "never":
            check_labels(tracks, config.segment.deal, config.method.train)

    context = segment.run(
        context,
        config.catalog,
        config.labels,
        config.segment,
        labels_suffice,
        remarks.append,
        config.corrections,
    )
    return context.on(context.snapshot.only("catalog", *TABLES))


def _decide(
    context: Context, config: Config, method: Preset, in_effect: Snapshot
) -> tuple[Context, Preset]:
    """Decide whether to learn, on top of what labelled the songs of before; return the context for
    that, and the method that labels are by."""
    decision = decide(replace(context, published=in_effect), method, config.policy)
    tell(str(decision))
    if config.policy.learn == "always":
        context = replace(context, published=Snapshot())
    if decision.learns:
        return context, config.method
    context = replace(context, keeps_learned=True, keeps_songs=decision.keeps_songs)
    return context, published_method(in_effect)


def _tracker(
    context: Context, config: Config, method: Preset, front_end: FrontEnd | None
) -> Tracker:
    """Return what MLflow is told by, under a name that a rerun of the same has, too."""
    store = context.store
    settled = Material.of(context.snapshot).settled(method.train)
    train = replace(method.train, warmup_epochs=settled.warmup_epochs)
    method = replace(method, train=train)
    # Two outputs are two runs, though their relative paths may be the same; URLs may carry
    # passwords and signatures.
    named_by = replace(config, output=store.root, mlflow_uri=None, method=method, source=Source())
    deal = replace(config.segment.deal, inventory=())  # each night has another
    cut = context.snapshot.features.settings(MelConfig, "cut")  # as the folder stores it
    named_by = replace(named_by, segment=replace(config.segment, deal=deal, cut=cut))
    params = dump(named_by) | {"preset": config.source.preset}
    if front_end is not None:
        params["embed"] = front_end.described()
    key = digest_of([context.snapshot.get("catalog").ref, params])[:12]
    return Tracker(store, config.mlflow_uri, key, params)


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


def _log_model(tracker: Tracker, context: Context) -> None:
    store = context.store
    recipe = Recipe.of(store, context.snapshot)
    tracker.model(recipe.weights, recipe.settings, model_card(store, context.snapshot))
    drawn = figures(store, context.snapshot)
    tracker.files({f"plots/{name}.svg": data for name, data in drawn.items()})


def _log_songs(
    tracker: Tracker,
    context: Context,
    round: int,
    changes: SongChanges | None,
    found: WrongSegments | None,
) -> None:
    """Log what the published labels came to, as of the last round."""
    tracker.log(_song_metrics(context.snapshot), step=round)
    if changes is not None:
        tracker.log({"song_labels_changed": changes.changed}, step=round)
    if found is not None:
        tracker.log(_wrong_segment_metrics(found), step=round)
    # Named, not copied: a takedown could not reach into a tracking server.
    tracker.tag("sssl.report", without_secrets(context.store.url("report.html")))
    tracker.tag("sssl.findings", str(Findings.of(context.store, context.snapshot)))


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
