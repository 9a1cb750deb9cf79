"""The table of songs: the emotion of each track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from schemas.columns import FLAG, INT, REAL, REALS, TEXT, column
from schemas.segments import TRACK_ID

MODEL_ID = "Digest of the model's weights."
WITHOUT_NUMBERS = "with `--task classes`, or where schema version 7 or earlier"
_LEVEL_OF_NUMBERS = (
    "interval that holds the number that listeners would give for nine of ten tracks"
    " (`summary.numbers` of the manifest has the share of held-out tracks)"
)

NUMBER_COLUMNS = (
    "valence",
    "valence_low",
    "valence_high",
    "arousal",
    "arousal_low",
    "arousal_high",
)
"""Columns of a song that have a number only with `--task valence-arousal`."""


@dataclass(frozen=True)
class Song:
    """One row per track that has scored segments: its emotion. Written by `songs`."""

    NAME: ClassVar[str] = "songs"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    label: str = column(
        TEXT,
        "The track's emotion: the most probable one, or the one that a human locked.",
        example="Q1",
    )
    confidence: float = column(
        REAL,
        "Probability of `label`, calibrated if models are cross-fitted; 1 if a human locked the"
        " label.",
        example=0.875,
    )
    probabilities: list[float] = column(
        REALS,
        "Probability by class, calibrated if models are cross-fitted.",
        example=[0.875, 0.0625, 0.03125, 0.03125],
    )
    abstained: bool = column(
        FLAG,
        "Whether `confidence` is below the threshold (`summary.threshold` of the manifest), or the"
        " track is `unlike` anything labelled: look before you publish.",
        example=False,
    )
    segments: int = column(INT, "Scored segments from which the label is computed.", example=14)
    timeline: list[dict[str, object]] = column(
        pa.list_(
            pa.struct([("start_s", REAL), ("end_s", REAL), ("label", TEXT), ("confidence", REAL)])
        ),
        "The track's emotions in time order. An entry is a run of segments whose smoothed posterior"
        " peaks at the same class. Smoothing takes the mean over a segment and its neighbours,"
        " `--smooth-segments` in all (3 by default), fewer at the track's ends. An entry lasts"
        " until the next segment starts, the last entry until the track ends (without"
        " `config.timeline_to_end` in the manifest: until the track's last segment ends). Its"
        " confidence is the smoothed posterior of its class, averaged over the run; unlike the"
        " song's confidence it is not calibrated. Posteriors are those of `scores`, mixed with"
        " those of the classifier on `segments.sound` where the last split went by one.",
        example=[{"start_s": 0.0, "end_s": 30.0, "label": "Q1", "confidence": 0.875}],
    )
    round: int = column(
        INT,
        "Round whose scores were used; if its verdict is `undecided`, they were averaged with its"
        " parent's.",
        example=1,
    )
    model_id: str = column(
        TEXT,
        f"{MODEL_ID[:-1]}; if two models label, both digests, joined by +.",
        example="fa0e13506e75",
    )
    timeline_label: str | None = column(
        TEXT,
        "Emotion that `timeline` shows for the longest time. It may differ from `label`, which also"
        " depends on the sound of the track and on how sure the posteriors are. Null if schema"
        " version 2 or earlier made the song.",
        nullable=True,
        example="Q1",
    )
    familiarity: float | None = column(
        REAL,
        "How much the track sounds like the labelled track that it resembles most, from 0 to 1."
        " Null if the label does not depend on the sound, or if schema version 3 or earlier made"
        " the song.",
        nullable=True,
        example=0.75,
    )
    unlike: bool | None = column(
        FLAG,
        "Whether the track sounds unlike every labelled track: `familiarity` is below"
        " `summary.unlike_below` of the manifest. Its confidence then means little, so the track"
        " abstains. Null if schema version 3 or earlier made the song.",
        nullable=True,
        example=False,
    )
    label_source: str | None = column(
        TEXT,
        "`human` if the catalog locks the track's label: then `label` is that one, its confidence"
        " is 1, and the track never abstains; `probabilities` still say what the models predict."
        " Otherwise `model`. Null if schema version 6 or earlier made the song.",
        nullable=True,
        example="model",
    )
    valence: float | None = column(
        REAL,
        "How pleasant the track is, from -1 (unpleasant) to 1 (pleasant), by a regression on the"
        " tracks whose valence is in the catalog. Null if the catalog has too few of them,"
        f" {WITHOUT_NUMBERS} made the song.",
        nullable=True,
        example=0.25,
    )
    valence_low: float | None = column(
        REAL, f"Lower end of the {_LEVEL_OF_NUMBERS}.", nullable=True, example=-0.125
    )
    valence_high: float | None = column(
        REAL, "Upper end of that interval.", nullable=True, example=0.625
    )
    arousal: float | None = column(
        REAL,
        "How excited the track is, from -1 (calm) to 1 (excited), by the same method.",
        nullable=True,
        example=0.5,
    )
    arousal_low: float | None = column(
        REAL, f"Lower end of the {_LEVEL_OF_NUMBERS}.", nullable=True, example=0.25
    )
    arousal_high: float | None = column(
        REAL, "Upper end of that interval.", nullable=True, example=0.75
    )
    valence_arousal_timeline: list[dict[str, object]] | None = column(
        pa.list_(
            pa.struct([("start_s", REAL), ("end_s", REAL), ("valence", REAL), ("arousal", REAL)])
        ),
        "Valence and arousal of each scored segment in time order, by the same regression, applied"
        " to the sound and the posterior of the segment, both averaged with its neighbours as in"
        " `timeline`. They are rougher than the track's, and the track's intervals do not hold for"
        " them.",
        nullable=True,
        example=[{"start_s": 0.0, "end_s": 3.0, "valence": 0.25, "arousal": 0.5}],
    )
