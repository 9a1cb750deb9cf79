"""The tables of an output folder. Times count from the track's start, probabilities are in the order of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from schemas.columns import column

_TEXT = pa.string()
_INT = pa.int32()
_REAL = pa.float32()
_FLAG = pa.bool_()
_REALS = pa.list_(pa.float32())

_TRACK_ID = "The track's id, as in the catalog."
_SEGMENT_INDEX = "0-based position of the segment in its track."
_ROUND = "Round of self-learning; 0 is the warm-up on inherited labels."
_MODEL_ID = "Digest of the model's weights."
_INTERVAL = "confidence interval (bootstrap by group, 95 % unless `--interval-level` says otherwise)"


@dataclass(frozen=True)
class Catalog:
    """One row a track: what the user's catalog says, and its part, split and fold. Written by `segment`."""

    NAME: ClassVar[str] = "catalog"

    track_id: str = column(_TEXT, "The track's id: unique, chosen by the user.", key=True)
    uri: str = column(_TEXT, "Where the audio lies: a local path or any fsspec URL.")
    label: str | None = column(_TEXT, "The emotion label of the whole track.", nullable=True)
    split: str | None = column(
        _TEXT, "`train`, or `test` for held-out tracks; null where there is no label.", nullable=True
    )
    group_id: str = column(
        _TEXT, "Tracks of a group (artist, album) share split and fold; the track's own id by default."
    )
    fold: int = column(
        _INT, "Cross-fitting fold: member `fold` of a model never trained on this track and is the one that scores it."
    )
    expected_s: float | None = column(_REAL, "Duration that the catalog promises.", unit="s", nullable=True)
    locked: bool = column(_FLAG, "A human vouches for the label in every segment: never relabelled.")
    part: int = column(_INT, "Part (work unit) that holds the track in every table.")
    source_fingerprint: str | None = column(
        _TEXT, "Identity of the file's content as its storage tells it (etag, or size and mtime).", nullable=True
    )


@dataclass(frozen=True)
class Ledger:
    """One row a catalog track, always: what became of it. Written by `segment`."""

    NAME: ClassVar[str] = "ledger"

    track_id: str = column(_TEXT, _TRACK_ID, key=True)
    status: str = column(_TEXT, "`ok`, `partial` (segments, but with a defect) or `failed` (no segments).")
    reason: str | None = column(
        _TEXT, "Stable code of what went wrong (docs/reasons.md); null where all is well.", nullable=True
    )
    retryable: bool = column(_FLAG, "Whether the same file may succeed later.")
    detail: str | None = column(_TEXT, "What exactly happened, for a person.", nullable=True)
    expected_s: float | None = column(_REAL, "Duration by the catalog, else by the container.", unit="s", nullable=True)
    decoded_s: float = column(_REAL, "Duration that came out of the decoder.", unit="s")
    decoder: str | None = column(_TEXT, "Decoder that was used, with its version.", nullable=True)
    codec: str | None = column(_TEXT, "Codec of the audio stream.", nullable=True)
    sample_rate_hz: int | None = column(_INT, "Sample rate of the file.", unit="Hz", nullable=True)
    channels: int | None = column(_INT, "Channels of the file.", nullable=True)
    segments: int = column(_INT, "Rows of the track in `segments`.")
    part: int = column(_INT, "Part that holds the track.")
    source_fingerprint: str | None = column(_TEXT, "Identity of the file's content, as in `catalog`.", nullable=True)


@dataclass(frozen=True)
class Segment:
    """One row a segment of a usable track: its log-mel spectrogram. Written by `segment`."""

    NAME: ClassVar[str] = "segments"

    track_id: str = column(_TEXT, _TRACK_ID, key=True)
    segment_index: int = column(_INT, _SEGMENT_INDEX, key=True)
    start_s: float = column(_REAL, "Where the segment starts.", unit="s")
    log_mel: object = column(
        None,
        "Log-mel power spectrogram [mels, frames] as float16 tensor; parameters in the file's metadata.",
        unit="dB re full scale",
    )
    level_db: float = column(_REAL, "RMS level of the segment's mono waveform.", unit="dB re full scale")
    band_level_db: object = column(
        None, "Mean of the log-mel over its frames [mels] as float16 tensor.", unit="dB re full scale"
    )


@dataclass(frozen=True)
class Score:
    """One row a segment and round: the posterior of the round's model. Written by `score`."""

    NAME: ClassVar[str] = "scores"

    track_id: str = column(_TEXT, _TRACK_ID, key=True)
    segment_index: int = column(_INT, _SEGMENT_INDEX, key=True)
    round: int = column(_INT, _ROUND, key=True)
    probabilities: list[float] | None = column(
        _REALS,
        "Posterior by class, from the member that did not train on the track; null where it is not finite.",
        nullable=True,
    )
    loss: float | None = column(
        _REAL,
        "Negative log posterior of the track's label; null without label or posterior.",
        unit="nat",
        nullable=True,
    )
    reason: str | None = column(_TEXT, "`non-finite` where the model gave no usable posterior.", nullable=True)
    model_id: str = column(_TEXT, _MODEL_ID)


@dataclass(frozen=True)
class Label:
    """One row a segment and round: the label that the round's training reads, and why. Written by `relabel`."""

    NAME: ClassVar[str] = "labels"

    track_id: str = column(_TEXT, _TRACK_ID, key=True)
    segment_index: int = column(_INT, _SEGMENT_INDEX, key=True)
    round: int = column(_INT, _ROUND, key=True)
    inherited_label: str | None = column(_TEXT, "The track's label.", nullable=True)
    loss: float | None = column(
        _REAL,
        "Loss the split was made on: that of the last accepted round, moved by `consistency` and by neighbours.",
        unit="nat",
        nullable=True,
    )
    consistency: float | None = column(
        _REAL,
        "Log likelihood ratio that the segment sounds like the rest of its track; low where it does not belong.",
        unit="nat",
        nullable=True,
    )
    clean_probability: float | None = column(
        _REAL, "Posterior of the mixture's low-loss component: how likely the inherited label is right.", nullable=True
    )
    partition: str = column(_TEXT, "`confident`, `noisy`, `locked` or `unlabelled`.")
    label: str | None = column(_TEXT, "Most probable class of `target`; null where unlabelled.", nullable=True)
    target: list[float] | None = column(
        _REALS, "Soft label by class that training learns; null where unlabelled.", nullable=True
    )
    weight: float = column(_REAL, "Weight in training; 0 for held-out, unlabelled and set-aside segments.")
    reason: str = column(
        _TEXT,
        "Rule that decided: `inherited`, `low-loss`, `high-loss`, `no-split`, `cap`, `locked`, `no-label`, `no-score`.",
    )


@dataclass(frozen=True)
class Round:
    """One row a round: what was split and learned, and whether it was accepted. Written by `judge`."""

    NAME: ClassVar[str] = "rounds"

    round: int = column(_INT, _ROUND, key=True)
    accepted: bool = column(_FLAG, "Whether the round's labels and model stand.")
    reason: str = column(_TEXT, "Why it was accepted or rejected.")
    parent_round: int | None = column(_INT, "Accepted round whose scores were split; null for round 0.", nullable=True)
    model_id: str = column(_TEXT, _MODEL_ID)
    components: int | None = column(_INT, "Components of the loss mixture: 1 means nothing to split.", nullable=True)
    mixture_class: list[str] = column(
        pa.list_(_TEXT), "Class of each fitted mixture, `*` for all classes; order of the next four columns."
    )
    confident_mean: list[float] = column(_REALS, "Mean loss of the confident component, by mixture.", unit="nat")
    confident_std: list[float] = column(
        _REALS, "Standard deviation of the confident component, by mixture.", unit="nat"
    )
    noisy_mean: list[float] = column(_REALS, "Mean loss of the noisy component, by mixture.", unit="nat")
    noisy_std: list[float] = column(_REALS, "Standard deviation of the noisy component, by mixture.", unit="nat")
    noisy_share: list[float] = column(_REALS, "Weight of the noisy component, by mixture.")
    confident: int = column(pa.int64(), "Segments of train tracks that are confident.")
    noisy: int = column(pa.int64(), "Segments of train tracks that are noisy.")
    locked: int = column(pa.int64(), "Segments whose label is locked.")
    unlabelled: int = column(pa.int64(), "Segments of tracks without a label.")
    relabelled: int = column(pa.int64(), "Segments of train tracks whose label differs from the inherited one.")
    heldout_tracks: int = column(_INT, "Held-out tracks behind the held-out metrics.")
    heldout_accuracy: float | None = column(
        _REAL, "Share of held-out tracks whose mean posterior peaks at their label.", nullable=True
    )
    heldout_macro_f1: float | None = column(_REAL, "Mean F1 over classes on held-out tracks.", nullable=True)
    heldout_loss: float | None = column(
        _REAL, "Mean negative log of the mean posterior at the label, held-out tracks.", unit="nat", nullable=True
    )
    heldout_groups: int | None = column(
        _INT, "Groups of held-out tracks behind the comparison with the parent round; null without one.", nullable=True
    )
    heldout_accuracy_change: float | None = column(
        _REAL,
        "Held-out accuracy less the parent round's, on the same tracks; one without a posterior counts as wrong.",
        nullable=True,
    )
    heldout_accuracy_change_low: float | None = column(
        _REAL, f"Lower end of its {_INTERVAL}; null with fewer than six groups.", nullable=True
    )
    heldout_accuracy_change_high: float | None = column(_REAL, "Upper end of that interval.", nullable=True)
    heldout_loss_change: float | None = column(
        _REAL,
        "Held-out loss less the parent round's, on the same tracks: below 0 is better.",
        unit="nat",
        nullable=True,
    )
    heldout_loss_change_low: float | None = column(_REAL, f"Lower end of its {_INTERVAL}.", unit="nat", nullable=True)
    heldout_loss_change_high: float | None = column(_REAL, "Upper end of that interval.", unit="nat", nullable=True)
    train_accuracy: float | None = column(
        _REAL,
        "The same share on train tracks, each scored by a member that did not train on it (cross-fitted).",
        nullable=True,
    )
    train_macro_f1: float | None = column(_REAL, "Mean F1 over classes on train tracks, cross-fitted.", nullable=True)


@dataclass(frozen=True)
class Song:
    """One row a track with segments: its emotion. Written by `songs`."""

    NAME: ClassVar[str] = "songs"

    track_id: str = column(_TEXT, _TRACK_ID, key=True)
    label: str = column(_TEXT, "Most probable emotion of the track.")
    confidence: float = column(_REAL, "Probability of `label`; calibrated if models are cross-fitted.")
    probabilities: list[float] = column(_REALS, "Probability by class, likewise.")
    abstained: bool = column(
        _FLAG,
        "Whether `confidence` is below the threshold (`summary.threshold` of the manifest): look before you publish.",
    )
    segments: int = column(_INT, "Scored segments behind the label.")
    timeline: list[dict[str, object]] = column(
        pa.list_(pa.struct([("start_s", _REAL), ("end_s", _REAL), ("label", _TEXT), ("confidence", _REAL)])),
        "The track's emotions in time order: runs of segments whose smoothed posterior peaks at the same class. It is "
        "smoothed by the mean over a segment and its neighbours, `--smooth-segments` in all (3 by default), fewer at "
        "the track's ends. An entry lasts until the next segment starts. Its confidence is the smoothed posterior of "
        "the class, averaged over the run; unlike the song's it is not calibrated.",
    )
    round: int = column(_INT, "Accepted round whose scores were used.")
    model_id: str = column(_TEXT, _MODEL_ID)


TABLES: dict[str, type] = {table.NAME: table for table in (Catalog, Ledger, Segment, Score, Label, Round, Song)}
