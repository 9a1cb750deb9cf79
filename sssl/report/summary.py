"""What was labelled, how good it is, what self-learning did and what failed, in numbers and
words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np

from schemas.summaries import LabelsSummary, LedgerSummary, SongsSummary
from sssl.audio.mel import MelConfig
from sssl.labels.findings import Findings, corrections_in_words
from sssl.metrics import quality, wilson
from sssl.model.settings import TrainConfig
from sssl.presets import GUARDED, PRESETS, Preset
from sssl.report.source import Context, Source
from sssl.store.rounds import guesses_in_use


def context(source: Source) -> Context:
    """What came out, in numbers."""
    snapshot = source.snapshot
    segments = snapshot.get("segments")
    songs = snapshot.get("songs")
    model = snapshot.get("models", source.used.last.round)
    training = model.settings(TrainConfig)
    preset, differences = nearest_preset(source)
    cut = segments.settings(MelConfig, "cut")
    shown = _counts(source)
    shown |= _held_out_quality(source)
    # Whether a verdict was reached by tracks, which earlier versions did not count.
    judged = [row for row in source.rounds if row.judged_tracks is not None]
    return shown | {
        "segments": segments.rows,
        "segment_s": cut.segment_s,
        "threshold": source.song_model.threshold,
        "warm_up": source.rounds[0],
        "used": source.used,
        "findings": Findings.of(source.store, snapshot),
        "corrections": corrections_in_words(snapshot),
        "relabelled": source.split.about(LabelsSummary).relabelled,
        "selected": bool(judged),
        "made_at": songs.created_at,
        "train": training,
        "cross_fitted": training.cross_fit and snapshot.catalog.folds > 1,
        "preset": preset,
        "differences": differences,
    }


def _counts(source: Source) -> Context:
    (found,) = source.rows(
        "select (select count(*) from catalog) tracks, (select count(*) from songs) labelled, "
        "(select count(*) from songs where abstained) abstained, "
        "(select coalesce(sum(decoded_s), 0) from ledger) decoded_s, "
        "(select count(*) from ledger where status = 'failed') failed, "
        "(select count(*) from ledger where status = 'partial') partial"
    )
    labelled = found["labelled"]
    found["abstained_share"] = None
    if labelled:
        found["abstained_share"] = found["abstained"] / labelled
    return found


def _held_out_quality(source: Source) -> Context:
    """How often published labels and mean posteriors of held-out tracks are right."""
    by_song = source.snapshot.about("songs", SongsSummary).confusion("test")
    by_mean = guesses_in_use(source.snapshot, source.used).confusion("test")
    published = quality(by_song)
    interval = None
    if published.accuracy is not None:
        interval = wilson(published.accuracy, published.tracks)
    right = np.trace(by_song)
    gained = right - np.trace(by_mean)
    return {
        "song_quality": published,
        "mean_quality": quality(by_mean),
        "gained": int(gained),
        "interval": interval,
    }


def nearest_preset(source: Source) -> tuple[str, list[str]]:
    """Name the preset that a run's settings are nearest to, and each setting in which they differ
    from it."""
    tables = {"relabel": "labels", "train": "models", "score": "scores", "judge": "rounds"}
    manifests = {stage: source.snapshot.of(table)[-1] for stage, table in tables.items()}
    used = {}
    for stage, manifest in manifests.items():
        if manifest.config:  # the labels of the warm-up have none
            kind = type(getattr(GUARDED, stage))
            used[stage] = asdict(manifest.settings(kind))
    tracks = source.snapshot.about("segments", LedgerSummary).labelled_train_tracks
    differing = {}
    for name, preset in PRESETS.items():
        wanted = asdict(_settled(preset, tracks))
        differing[name] = list(_differences(used, wanted))
    nearest = min(differing, key=lambda name: len(differing[name]))
    return nearest, differing[nearest]


def _settled(preset: Preset, labelled_tracks: int) -> Preset:
    """Return a preset as it trains so many labelled train tracks: that is what tables are named
    after."""
    return replace(preset, train=preset.train.settled(labelled_tracks))


def _differences(used: Context, wanted: Context) -> Iterator[str]:
    for name, value in sorted(used.items()):
        if isinstance(value, dict):
            yield from _differences(value, wanted.get(name) or {})
        elif name not in wanted or wanted[name] != value:
            yield f"{name} {value}"
