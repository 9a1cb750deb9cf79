"""The tables of an output folder. Times count from the track's start, probabilities are in the
order of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from schemas.columns import FLAG, INT, REAL, REALS, TEXT, column
from schemas.segments import SEGMENT_INDEX, TRACK_ID, Embedding, Feature, Segment
from schemas.songs import MODEL_ID, WITHOUT_NUMBERS, Song

_ROUND = "Round of self-learning; 0 is the warm-up on inherited labels."
_INTERVAL = "confidence interval (bootstrap by group, 95 % unless `interval_level` says otherwise)"


@dataclass(frozen=True)
class Catalog:
    """One row per track: what the user's catalog says, and the track's part, split and fold.
    Written by `segment`."""

    NAME: ClassVar[str] = "catalog"

    track_id: str = column(
        TEXT, "The track's id: unique, chosen by the user.", key=True, example="track001"
    )
    uri: str = column(
        TEXT,
        "Where the audio lies: a local path or any fsspec URL.",
        example="/music/track001.flac",
    )
    label: str | None = column(
        TEXT, "The emotion label of the whole track.", nullable=True, example="Q1"
    )
    split: str | None = column(
        TEXT,
        "`train`, or `test` for held-out tracks; null without a label.",
        nullable=True,
        example="train",
    )
    group_id: str = column(
        TEXT,
        "Artist or album: tracks of a group are in the same split and fold. By default the track's"
        " own id.",
        example="artist01",
    )
    fold: int = column(
        INT,
        "Cross-fitting fold. Member `fold` of a model has never trained on this track and is the"
        " one that scores it.",
        example=2,
    )
    expected_s: float | None = column(
        REAL, "Duration according to the catalog.", unit="s", nullable=True, example=44.0
    )
    locked: bool = column(
        FLAG,
        "Whether a human vouches for the label in every segment, so that none is relabelled.",
        example=False,
    )
    part: int = column(INT, "Part (work unit) that holds the track in every table.", example=0)
    source_fingerprint: str | None = column(
        TEXT,
        "Identity of the file's content according to its storage: the etag, or size and mtime."
        " `missing` if there is no file. Null if the storage has neither: then the file counts as"
        " changed in every run.",
        nullable=True,
        example="size:1048576 mtime:1767225600.0",
    )
    corrections: list[dict[str, object]] | None = column(
        pa.list_(pa.struct([("start_s", REAL), ("end_s", REAL), ("label", TEXT)])),
        "Labels that listeners gave to passages, the newest last. One without a start and an end is"
        " for the whole track: it is the track's `label`, and the track is `locked`. Null without"
        " corrections, or if schema version 6 or earlier wrote the catalog.",
        nullable=True,
        example=[{"start_s": 12.0, "end_s": 15.0, "label": "Q3"}],
    )
    valence: float | None = column(
        REAL,
        "How pleasant listeners found the track: from -1 (unpleasant) to 1 (pleasant), 0 is"
        f" neither. Null where the catalog has no number, {WITHOUT_NUMBERS} wrote the catalog.",
        nullable=True,
        example=0.25,
    )
    arousal: float | None = column(
        REAL,
        "How excited listeners found the track: from -1 (calm) to 1 (excited). Null in the same"
        " cases as `valence`.",
        nullable=True,
        example=0.5,
    )


@dataclass(frozen=True)
class Ledger:
    """One row for every track of the catalog, whatever happened to it. Written by `segment`."""

    NAME: ClassVar[str] = "ledger"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    status: str = column(
        TEXT,
        "`ok`, `partial` (it has segments, but also a defect) or `failed` (no segments).",
        example="partial",
    )
    reason: str | None = column(
        TEXT,
        "Stable code for what went wrong (docs/reasons.md); null if nothing did.",
        nullable=True,
        example="truncated",
    )
    retryable: bool = column(FLAG, "Whether the same file may succeed later.", example=False)
    detail: str | None = column(
        TEXT,
        "What exactly happened, in words.",
        nullable=True,
        example="decoded 29.8 s of 44.0 s",
    )
    expected_s: float | None = column(
        REAL,
        "Duration according to the catalog, or else to the container.",
        unit="s",
        nullable=True,
        example=44.0,
    )
    decoded_s: float = column(
        REAL, "Duration that came out of the decoder.", unit="s", example=29.8
    )
    decoder: str | None = column(
        TEXT, "Decoder that was used, with its version.", nullable=True, example="PyAV 18.0.0"
    )
    codec: str | None = column(TEXT, "Codec of the audio stream.", nullable=True, example="flac")
    sample_rate_hz: int | None = column(
        INT, "Sample rate of the file.", unit="Hz", nullable=True, example=44100
    )
    channels: int | None = column(INT, "Channels of the file.", nullable=True, example=2)
    segments: int = column(INT, "Rows of the track in `segments`.", example=9)
    part: int = column(INT, "Part that holds the track.", example=0)
    source_fingerprint: str | None = column(
        TEXT,
        "Identity of the file's content, as in `catalog`.",
        nullable=True,
        example="size:1048576 mtime:1767225600.0",
    )


@dataclass(frozen=True)
class Score:
    """One row per segment and round: the posterior of the round's model. Written by `score`."""

    NAME: ClassVar[str] = "scores"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    round: int = column(INT, _ROUND, key=True, example=1)
    probabilities: list[float] | None = column(
        REALS,
        "Posterior by class, from the member that did not train on the track; null if it is not"
        " finite.",
        nullable=True,
        example=[0.125, 0.0625, 0.75, 0.0625],
    )
    loss: float | None = column(
        REAL,
        "Negative log posterior of the track's label; null without a label or a posterior.",
        unit="nat",
        nullable=True,
        example=2.0794415,
    )
    reason: str | None = column(
        TEXT,
        "Why there is no posterior: `non-finite` if the model's was not finite, `part-failed` if"
        " three workers died while they scored the track's part.",
        nullable=True,
        example="non-finite",
    )
    model_id: str = column(TEXT, MODEL_ID, example="fa0e13506e75")


@dataclass(frozen=True)
class Label:
    """One row per segment and round: its label, its weight in training, and why. Written by
    `relabel`."""

    NAME: ClassVar[str] = "labels"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    round: int = column(INT, _ROUND, key=True, example=1)
    inherited_label: str | None = column(TEXT, "The track's label.", nullable=True, example="Q1")
    loss: float | None = column(
        REAL,
        "Loss by which the split was made: the calibrated loss of the last accepted round, combined"
        " with a classifier on `segments.sound`, `consistency` and the neighbouring segments.",
        unit="nat",
        nullable=True,
        example=2.25,
    )
    consistency: float | None = column(
        REAL,
        "Log likelihood ratio for the segment sounding like the rest of its track: low where it"
        " does not.",
        unit="nat",
        nullable=True,
        example=-4.5,
    )
    clean_probability: float | None = column(
        REAL,
        "Probability that the inherited label is right: the posterior of the mixture's low-loss"
        " component.",
        nullable=True,
        example=0.125,
    )
    partition: str = column(
        TEXT, "`confident`, `noisy`, `locked` or `unlabelled`.", example="noisy"
    )
    label: str | None = column(
        TEXT, "Most probable class of `target`; null if unlabelled.", nullable=True, example="Q3"
    )
    target: list[float] | None = column(
        REALS,
        "Soft label, by class, that the network learns; null if unlabelled.",
        nullable=True,
        example=[0.0625, 0.0, 0.9375, 0.0],
    )
    weight: float = column(
        REAL, "Weight in training; 0 for held-out, unlabelled and set-aside segments.", example=1.0
    )
    reason: str = column(
        TEXT,
        "Rule that decided: `inherited`, `low-loss`, `high-loss`, `no-split`, `cap`, `locked`,"
        " `corrected` (by a listener, in the corrections), `no-label`, `no-score`.",
        example="high-loss",
    )


@dataclass(frozen=True)
class Round:
    """One row per round: what was split and learned, and whether it was accepted. Written by
    `judge`."""

    NAME: ClassVar[str] = "rounds"

    round: int = column(INT, _ROUND, key=True, example=1)
    accepted: bool = column(
        FLAG,
        "Whether the round's model alone labels from then on: `verdict` is `accepted`.",
        example=True,
    )
    reason: str = column(
        TEXT,
        "Why the verdict is what it is, in numbers.",
        example=(
            "its log loss fell: -0.052 ± 0.021 nats per track, accuracy +3.1 ± 2.4 points (57"
            " tracks of 14 groups)"
        ),
    )
    parent_round: int | None = column(
        INT, "Accepted round whose scores were split; null for round 0.", nullable=True, example=0
    )
    model_id: str = column(TEXT, MODEL_ID, example="fa0e13506e75")
    components: int | None = column(
        INT, "Components of the loss mixture: 1 means nothing to split.", nullable=True, example=2
    )
    mixture_class: list[str] = column(
        pa.list_(TEXT),
        "Class of each fitted mixture, `*` for all classes. The lists of the next five columns are"
        " in this order.",
        example=["*", "Q1"],
    )
    confident_mean: list[float] = column(
        REALS, "Mean loss of the confident component, by mixture.", unit="nat", example=[0.25, 0.5]
    )
    confident_std: list[float] = column(
        REALS,
        "Standard deviation of the confident component, by mixture; of the wider Gaussian if it has"
        " two.",
        unit="nat",
        example=[0.25, 0.25],
    )
    noisy_mean: list[float] = column(
        REALS, "Mean loss of the noisy component, by mixture.", unit="nat", example=[2.5, 2.75]
    )
    noisy_std: list[float] = column(
        REALS,
        "Standard deviation of the noisy component, by mixture.",
        unit="nat",
        example=[1.0, 0.75],
    )
    noisy_share: list[float] = column(
        REALS, "Weight of the noisy component, by mixture.", example=[0.25, 0.125]
    )
    confident: int = column(pa.int64(), "Segments of train tracks that are confident.", example=512)
    noisy: int = column(pa.int64(), "Segments of train tracks that are noisy.", example=128)
    locked: int = column(pa.int64(), "Segments whose label is locked.", example=0)
    unlabelled: int = column(pa.int64(), "Segments of tracks without a label.", example=48)
    relabelled: int = column(
        pa.int64(),
        "Segments of train tracks whose label differs from the inherited one.",
        example=96,
    )
    heldout_tracks: int = column(
        INT, "Held-out tracks from which the held-out metrics are computed.", example=11
    )
    heldout_accuracy: float | None = column(
        REAL,
        "Share of held-out tracks whose mean posterior peaks at their label. The published labels"
        " (`songs.label`) come from the song classifier, so their accuracy may be higher or lower.",
        nullable=True,
        example=0.8181818,
    )
    heldout_macro_f1: float | None = column(
        REAL, "Mean F1 over classes on held-out tracks.", nullable=True, example=0.80
    )
    heldout_loss: float | None = column(
        REAL,
        "Mean over held-out tracks of the negative log of the mean posterior at the label.",
        unit="nat",
        nullable=True,
        example=0.625,
    )
    heldout_groups: int | None = column(
        INT,
        "Groups of held-out tracks from which the following changes are computed; these are for"
        " information and decide nothing. Null if there are none.",
        nullable=True,
        example=9,
    )
    heldout_accuracy_change: float | None = column(
        REAL,
        "`heldout_accuracy` minus the parent round's, on the same tracks; a track without a"
        " posterior counts as wrong.",
        nullable=True,
        example=0.0909091,
    )
    heldout_accuracy_change_low: float | None = column(
        REAL,
        f"Lower end of its {_INTERVAL}; null with fewer than six groups.",
        nullable=True,
        example=-0.05,
    )
    heldout_accuracy_change_high: float | None = column(
        REAL, "Upper end of that interval.", nullable=True, example=0.25
    )
    heldout_loss_change: float | None = column(
        REAL,
        "`heldout_loss` minus the parent round's, on the same tracks: below 0 is better.",
        unit="nat",
        nullable=True,
        example=-0.125,
    )
    heldout_loss_change_low: float | None = column(
        REAL, f"Lower end of its {_INTERVAL}.", unit="nat", nullable=True, example=-0.25
    )
    heldout_loss_change_high: float | None = column(
        REAL, "Upper end of that interval.", unit="nat", nullable=True, example=-0.03125
    )
    train_accuracy: float | None = column(
        REAL,
        "Share of train tracks whose mean posterior peaks at their label, each scored by the member"
        " that did not train on it (cross-fitted).",
        nullable=True,
        example=0.75,
    )
    train_macro_f1: float | None = column(
        REAL, "Mean F1 over classes on train tracks, cross-fitted.", nullable=True, example=0.74
    )
    verdict: str | None = column(
        TEXT,
        "`accepted`: the round's model labels from then on. `kept`: its parent's does. `undecided`:"
        " both do, by the mean of their posteriors. Null if schema version 2 or earlier judged the"
        " round.",
        nullable=True,
        example="accepted",
    )
    judged_tracks: int | None = column(
        INT,
        "Labelled tracks on which the verdict is based: held-out ones and, if models are"
        " cross-fitted, train tracks, each scored by the member that left it out. Null if nothing"
        " was compared.",
        nullable=True,
        example=57,
    )
    judged_groups: int | None = column(
        INT, "Groups of these tracks; each counts once.", nullable=True, example=14
    )
    log_loss_change: float | None = column(
        REAL,
        "Log loss of these tracks minus the parent round's: below 0 is better. It is a mean over"
        " group means; each track's is that of its mean posterior, at the temperature that is most"
        " likely for the model, and its change is clipped at 2 nats.",
        unit="nat",
        nullable=True,
        example=-0.052,
    )
    log_loss_change_error: float | None = column(
        REAL,
        "Standard error of `log_loss_change`, by jackknife over groups.",
        unit="nat",
        nullable=True,
        example=0.021,
    )
    log_loss_change_z: float | None = column(
        REAL,
        "`log_loss_change` in standard errors: below -`decisive_z` (1 by default) the round is"
        " accepted, above it the parent is kept.",
        nullable=True,
        example=-2.476,
    )
    accuracy_change: float | None = column(
        REAL,
        "Share of these tracks whose mean posterior peaks at their label, minus the parent round's;"
        " also a mean over groups. From 60 tracks on, a fall by more than two standard errors keeps"
        " the parent.",
        nullable=True,
        example=0.031,
    )
    accuracy_change_error: float | None = column(
        REAL, "Standard error of `accuracy_change`.", nullable=True, example=0.024
    )


TABLES: dict[str, type] = {
    table.NAME: table
    for table in (Catalog, Ledger, Segment, Feature, Embedding, Score, Label, Round, Song)
}

OPTIONAL = ("embeddings",)
"""Tables that a folder has only where they were asked for."""
