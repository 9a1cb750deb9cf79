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
    """One row a track with segments: its emotion. Written by `songs`."""

    NAME: ClassVar[str] = "songs"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    label: str = column(
        TEXT,
        "The track's emotion: the most probable one, or the one that a human locked.",
        example="Q1",
    )
    confidence: float = column(
        REAL,
        "Probability of `label`, calibrated if models are cross-fitted; 1 where a human locked it.",
        example=0.875,
    )
    probabilities: list[float] = column(
        REALS, "Probability by class, likewise.", example=[0.875, 0.0625, 0.03125, 0.03125]
    )
    abstained: bool = column(
        FLAG,
        "Whether `confidence` is below the threshold (`summary.threshold` of the manifest), or the"
        " track is `unlike` anything labelled: look before you publish.",
        example=False,
    )
    segments: int = column(INT, "Scored segments behind the label.", example=14)
    timeline: list[dict[str, object]] = column(
        pa.list_(
            pa.struct([("start_s", REAL), ("end_s", REAL), ("label", TEXT), ("confidence", REAL)])
        ),
        "The track's emotions in time order: runs of segments whose smoothed posterior peaks at the"
        " same class. It is smoothed by the mean over a segment and its neighbours,"
        " `--smooth-segments` in all (3 by default), fewer at the track's ends. An entry lasts"
        " until the next segment starts, the last one until the track ends (without"
        " `config.timeline_to_end` in the manifest: until its last segment does). Its confidence is"
        " the smoothed posterior of the class, averaged over the run; unlike the song's it is not"
        " calibrated.",
        example=[{"start_s": 0.0, "end_s": 30.0, "label": "Q1", "confidence": 0.875}],
    )
    round: int = column(
        INT,
        "Round whose scores were used; where its verdict is `undecided`, the mean of its and its"
        " parent's.",
        example=1,
    )
    model_id: str = column(
        TEXT,
        f"{MODEL_ID[:-1]}; of both, with a + between them, where two label.",
        example="fa0e13506e75",
    )
    timeline_label: str | None = column(
        TEXT,
        "Emotion that `timeline` shows for the longest time. It may differ from `label`, which goes"
        " by the sound of the track, too, and by how sure the posteriors are. Null where schema"
        " version 2 or earlier made the song.",
        nullable=True,
        example="Q1",
    )
    familiarity: float | None = column(
        REAL,
        "How much the track sounds like the labelled track that is most like it, from 0 to 1. Null"
        " where the sound does not count, or schema version 3 or earlier made the song.",
        nullable=True,
        example=0.75,
    )
    unlike: bool | None = column(
        FLAG,
        "Whether the track sounds unlike anything labelled (`summary.unlike_below` of the"
        " manifest): whatever its confidence, nobody knows what it is worth, so the track abstains."
        " Null where schema version 3 or earlier made the song.",
        nullable=True,
        example=False,
    )
    label_source: str | None = column(
        TEXT,
        "`human` where the catalog locks the track's label: that is the `label`, its confidence is"
        " 1, and it never abstains; `probabilities` say what the models think all the same. `model`"
        " elsewhere. Null where schema version 6 or earlier made the song.",
        nullable=True,
        example="model",
    )
    valence: float | None = column(
        REAL,
        "How pleasant the track is, from -1 to 1, by a regression on the tracks whose valence the"
        f" catalog has. Null where it has none, {WITHOUT_NUMBERS} made the song.",
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
        REAL, "How excited, from -1 (calm) to 1, likewise.", nullable=True, example=0.5
    )
    arousal_low: float | None = column(
        REAL, "Lower end of its interval.", nullable=True, example=0.25
    )
    arousal_high: float | None = column(
        REAL, "Upper end of its interval.", nullable=True, example=0.75
    )
    valence_arousal_timeline: list[dict[str, object]] | None = column(
        pa.list_(
            pa.struct([("start_s", REAL), ("end_s", REAL), ("valence", REAL), ("arousal", REAL)])
        ),
        "Valence and arousal of each scored segment in time order, by the same regression on the"
        " sound and the posterior of the segment, both averaged with its neighbours as in"
        " `timeline`. They are rougher than the track's, whose interval does not hold for them.",
        nullable=True,
        example=[{"start_s": 0.0, "end_s": 3.0, "valence": 0.25, "arousal": 0.5}],
    )
