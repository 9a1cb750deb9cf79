"""What the relabel stage does to a part: it sums up what its segments tell of evidence, and writes
their labels."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.beam.job import Job, PartRef
from sssl.arrays import Floats, fitted_to, inherited_indices, of_tracks, track_numbers
from sssl.audio.mel import MelConfig
from sssl.audio.sound import sound_features
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.corrections import corrected_classes
from sssl.labels.consistency import SoundMoments, TrackModel, sound_moments, track_sound
from sssl.labels.evidence import Evidence, Segments, Spread, sum_losses, sum_spread
from sssl.labels.relabel import Judged, inherit, relabel, summarize_labels
from sssl.labels.settings import RelabelConfig
from sssl.labels.sound_classifier import (
    ClassSums,
    Scale,
    ScaleSums,
    SecondOpinion,
    SoundClassifier,
)
from sssl.labels.split import Split, loss_histograms
from sssl.store.manifest import Receipt

_KEY = ["track_id", "segment_index"]
_SOUND = ["track_id", "band_level_db", "sound_db"]


class Described(NamedTuple):
    """What a part's segments sound like."""

    sound: Floats  # [N, K]
    label: NDArray[np.int64]  # [N]: the inherited one, -1 where there is none
    fold: NDArray[np.int64]  # [N]: the cross-fitting fold of their track, -1 for none
    fitted: NDArray[np.bool_]  # [N]: a classifier is fitted to it


class Calibration(NamedTuple):
    """What is thought of segments: the temperature of their posteriors, and what is mixed into
    those of the network before."""

    temperature: float
    second: SecondOpinion | None


class Reading(NamedTuple):
    """How the evidence of a round is read, and the split that follows."""

    evidence: Evidence
    split: Split


def inherit_part(ref: PartRef, job: Job) -> Receipt:
    """Write the inherited labels of a part."""
    tracks = job.tracks(ref)
    corrected = _corrected(ref, job)
    labels = inherit(job.read(ref, "segments", _KEY), tracks, job.classes, corrected)
    return job.write(ref.part, {"labels": labels}, summarize_labels(labels, tracks, job.classes))


def sum_scales(ref: PartRef, job: Job, settings: RelabelConfig) -> ScaleSums | None:
    """Return what a part tells about the units of sound; None if it tells, or is asked, nothing."""
    if not settings.evidence.by_sound:
        return None
    described = _described(ref, job)
    if described is None or not described.fitted.any():
        return None
    return ScaleSums.of(described.sound[described.fitted])


def sum_classes(ref: PartRef, job: Job, scale: Scale | None) -> ClassSums | None:
    """Return what a part tells about the sound of each class; None if it tells nothing."""
    described = _described(ref, job) if scale is not None else None
    if scale is None or described is None or not described.fitted.any():
        return None
    fitted = described.fitted
    standardized = scale.standardized(described.sound[fitted])
    folds = job.input("catalog").settings(CatalogConfig).folds
    return ClassSums.of(
        standardized, described.label[fitted], described.fold[fitted], folds, len(job.classes)
    )


def sum_part_losses(
    ref: PartRef, job: Job, settings: RelabelConfig, classifier: SoundClassifier | None
) -> Floats | None:
    """Return what a part tells about how sure the model may be, and how much a classifier on the
    sound counts beside it; None if it is not asked."""
    if not _is_asked(settings):
        return None
    described = _described(ref, job) if classifier is not None else None
    by_sound = None
    if classifier is not None and described is not None:
        by_sound = classifier.posteriors(described.sound, described.fold)
    return sum_losses(_segments(ref, job), by_sound)


def sum_sounds(ref: PartRef, job: Job, settings: RelabelConfig) -> SoundMoments | None:
    """Return what a part tells about the sound of train tracks; None if it tells, or is asked,
    nothing."""
    train = [
        track.track_id
        for track in job.tracks(ref)
        if track.label is not None and track.split == "train"
    ]
    if not train or not settings.evidence.consistency:
        return None
    segments = job.read(ref, "segments", _SOUND)
    of_train = pc.is_in(segments["track_id"], pa.array(train))
    if not pc.any(of_train).as_py():
        return None
    sound = track_sound(segments, job.sound(ref, segments))[of_train.to_numpy()]
    return sound_moments(sound, track_numbers(segments.filter(of_train)))


def sum_spreads(
    ref: PartRef,
    job: Job,
    settings: RelabelConfig,
    calibration: Calibration,
    model: TrackModel | None,
) -> Spread | None:
    """Return what a part tells about the scale of the evidence; None if it is not asked."""
    if _is_asked(settings):
        return sum_spread(
            _segments(ref, job, model, calibration.second), calibration.temperature, model
        )
    return None


def count_losses(
    ref: PartRef, job: Job, settings: RelabelConfig, evidence: Evidence
) -> NDArray[np.int64]:
    """Return the loss histograms [R, C, BINS] of a part, by how the evidence can be read: see
    `readings`."""
    segments = _segments(ref, job, evidence.tracks, evidence.second)
    losses = [reading.losses(segments)[0] for reading in readings(evidence)]
    return np.stack([loss_histograms(loss, segments, settings.axis) for loss in losses])


def relabel_part(ref: PartRef, job: Job, settings: RelabelConfig, reading: Reading) -> Receipt:
    """Write the labels of a part under a fitted split."""
    evidence, split = reading
    tracks = job.tracks(ref)
    round = job.round
    scores = job.read(ref, "scores")
    assert round is not None
    corrected = _corrected(ref, job)
    segments = _segments(ref, job, evidence.tracks, evidence.second)
    judged = Judged(segments.posterior, *evidence.losses(segments))
    labels = relabel(scores, judged, tracks, job.classes, round, split, settings, corrected)
    return job.write(ref.part, {"labels": labels}, summarize_labels(labels, tracks, job.classes))


def readings(evidence: Evidence) -> list[Evidence]:
    """Return how evidence can be read. Labels that look wrong in parts of tracks may turn out not
    to be, when the losses have a single peak."""
    if evidence.in_parts:
        return [evidence, evidence.of_whole_tracks]
    return [evidence]


def _is_asked(settings: RelabelConfig) -> bool:
    evidence = settings.evidence
    return bool(evidence.consistency) or evidence.neighbours or evidence.by_sound


def _segments(
    ref: PartRef, job: Job, model: TrackModel | None = None, second: SecondOpinion | None = None
) -> Segments:
    """Read the scored segments of a part, with their sound if a model asks for it, and with a
    second opinion if there is one."""
    scores = job.read(ref, "scores", ["track_id", "probabilities", "loss"])
    segments = Segments.of(
        scores, job.tracks(ref), job.classes, _sound(ref, job, model), _corrected(ref, job)
    )
    described = _described(ref, job) if second is not None else None
    if second is None or described is None:
        return segments
    mixed = second.mixed(segments.posterior, described.sound, described.fold)
    return replace(segments, posterior=mixed)


def _described(ref: PartRef, job: Job) -> Described | None:
    """Read what a part's segments sound like; None where no track has a label, or `sound` is not
    there."""
    tracks = job.tracks(ref)
    if all(track.label is None for track in tracks):
        return None
    rows = job.read(ref, "segments", ["track_id", "sound"])
    features = sound_features(rows)
    if features is None:
        return None
    _, sound = features
    folds = {track.track_id: track.fold for track in tracks if track.split == "train"}
    fitted = inherited_indices(rows, fitted_to(tracks), job.classes) >= 0
    corrected = _corrected(ref, job)
    if corrected is not None:
        fitted &= corrected < 0
    return Described(
        sound.astype(np.float64),
        inherited_indices(rows, tracks, job.classes),
        of_tracks(rows, folds),
        fitted,
    )


def _corrected(ref: PartRef, job: Job) -> NDArray[np.int64] | None:
    """Return what listeners said of a part's segments [N], None where they said nothing."""
    tracks = [track for track in job.tracks(ref) if track.corrections]
    if not tracks:
        return None
    segment_s = job.input("segments").settings(MelConfig, "cut").segment_s
    return corrected_classes(
        job.read(ref, "segments", ["track_id", "start_s"]), segment_s, tracks, job.classes
    )


def _sound(ref: PartRef, job: Job, model: TrackModel | None) -> Floats | None:
    if model is None:
        return None
    segments = job.read(ref, "segments", _SOUND)
    return track_sound(segments, job.sound(ref, segments))
