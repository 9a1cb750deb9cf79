"""What `sssl sql` shows beside the tables: segments that look wrong, generations, and their
files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import pyarrow as pa

from schemas.columns import INT, REAL, TEXT, column
from schemas.segments import SEGMENT_INDEX, TRACK_ID

_LARGE = pa.int64()
_TABLE = "Name of the table."
_ROUND = "Round of self-learning; null for tables that have none."
_GENERATION = "Name of the generation: a digest of what made it."

ACCEPTED_VIEWS = {
    "accepted_labels": "labels of the last accepted round: what its model was trained on",
    "accepted_scores": (
        "what songs are made from: scores of the last accepted round, or the mean of its and those"
        " of the round after it, where that one's verdict is undecided"
    ),
}
"""Views with the columns of the table in their name, and what they show."""


@dataclass(frozen=True)
class Suspect:
    """One row per segment of a train track whose label looks wrong: the segments that the last
    split called noisy, whether or not the model trained after it was accepted."""

    NAME: ClassVar[str] = "suspects"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    start_s: float = column(REAL, "Where the segment starts.", unit="s", example=12.0)
    end_s: float = column(REAL, "Where it ends.", unit="s", example=15.0)
    inherited_label: str = column(TEXT, "The track's label, which looks wrong here.", example="Q1")
    evidence: float = column(
        pa.float64(),
        "Log odds that the label is wrong, according to model, sound and neighbours (with"
        " `--preset paper` to the model alone); 0 means as likely as not. Computed from"
        " `labels.loss` as ln(exp(loss) - 1).",
        unit="nat",
        example=2.25,
    )
    clean_probability: float = column(
        REAL, "Probability that the label is right after all, by the split.", example=0.125
    )
    model_label: str = column(
        TEXT,
        "Most probable class according to the model whose scores were split.",
        example="Q3",
    )
    model_probability: float | None = column(
        REAL, "Posterior of `model_label`.", nullable=True, example=0.75
    )
    round: int = column(INT, "Round of the split.", example=1)


@dataclass(frozen=True)
class ManifestRow:
    """One row per published generation: what it consists of, what made it and from what. Read from
    its `_manifest.json`."""

    NAME: ClassVar[str] = "manifests"

    table_name: str = column(TEXT, _TABLE, key=True, example="labels")
    round: int | None = column(INT, _ROUND, nullable=True, key=True, example=1)
    generation: str = column(TEXT, _GENERATION, example="106ab09c1840")
    rows: int = column(_LARGE, "Rows in all files.", example=907)
    files: int = column(_LARGE, "Number of files that readers get.", example=15)
    bytes: int = column(
        _LARGE,
        "Size of all files, including those of parts, which only stages read.",
        unit="bytes",
        example=140000,
    )
    digest: str = column(
        TEXT,
        "Digest of the content: SHA-256 over the SHA-256 of each part's file.",
        example="e1225b3ce62d9f0a",
    )
    stage: str = column(TEXT, "Stage that made it.", example="relabel")
    model_id: str | None = column(
        TEXT,
        "Digest of the weights, in rows of `models`; null elsewhere.",
        nullable=True,
        example="fb234640fd6d",
    )
    folder: str = column(TEXT, "Where its files lie.", example="out/labels/106ab09c1840")
    created_at: datetime = column(
        pa.timestamp("us", "UTC"),
        "When its rows were made, in UTC; a takedown does not change it.",
        example="2026-11-21T20:15:00+00:00",
    )
    cpu_s: float | None = column(
        pa.float64(),
        "CPU time of the processes that made it, without the start of the program. Tables that were"
        " made together share the number. If tracks were reused, it is that of the last run. Null"
        " if it was not measured.",
        unit="s",
        nullable=True,
        example=1.3,
    )
    parents: list[str] = column(
        pa.list_(TEXT),
        "What it was made from, as `table/generation`.",
        example=["catalog/c31f24b13b57"],
    )
    config: str = column(TEXT, "Settings of the stage as JSON.", example='{"tau": 0.5}')
    code_version: str = column(TEXT, "Version of the program.", example="0.1.0")
    schema_version: int = column(INT, "Schema version of its files.", example=1)


@dataclass(frozen=True)
class FileRow:
    """One row per file of a published generation."""

    NAME: ClassVar[str] = "files"

    table_name: str = column(TEXT, _TABLE, example="labels")
    round: int | None = column(INT, _ROUND, nullable=True, example=1)
    generation: str = column(TEXT, _GENERATION, example="106ab09c1840")
    part: int = column(
        INT,
        "First part that the file holds; for the catalog, number of the file.",
        example=0,
    )
    last_part: int = column(INT, "Last part that the file holds.", example=14)
    path: str = column(
        TEXT, "Path of the file.", key=True, example="out/labels/106ab09c1840/labels-00000.parquet"
    )
    rows: int = column(_LARGE, "Rows in the file.", example=60)
    bytes: int = column(_LARGE, "Size of the file.", unit="bytes", example=9400)
    sha256: str = column(TEXT, "SHA-256 of the content.", example="9ad914d41199c2bb")


@dataclass(frozen=True)
class SongChange:
    """One row per song whose label differs from that in the publication before; no rows if there
    was no publication before."""

    NAME: ClassVar[str] = "song_changes"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    label_before: str = column(TEXT, "Its label before.", example="Q1")
    label: str = column(TEXT, "Its label now.", example="Q3")
    confidence_before: float = column(REAL, "Confidence of `label_before`.", example=0.5)
    confidence: float = column(REAL, "Confidence of `label`.", example=0.75)
    model_before: str = column(TEXT, "Model that labelled it before.", example="fb234640fd6d")
    model_id: str = column(TEXT, "Model that labels it now.", example="0c1db53a0e4b")


@dataclass(frozen=True)
class SongLabel:
    """One row per song: its label beside that of the catalog, in columns with different names."""

    NAME: ClassVar[str] = "song_labels"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    group_id: str = column(TEXT, "The track's artist or album, as in the catalog.", example="a01")
    split: str | None = column(
        TEXT, "The track's split; null without a label.", nullable=True, example="test"
    )
    catalog_label: str | None = column(
        TEXT, "Label in the catalog; null where it has none.", nullable=True, example="Q1"
    )
    song_label: str = column(TEXT, "Label of the song, as in `songs.label`.", example="Q3")
    agrees: bool | None = column(
        pa.bool_(),
        "Whether `song_label` is `catalog_label`; null without the latter.",
        nullable=True,
        example=False,
    )
    confidence: float = column(REAL, "Confidence of `song_label`.", example=0.75)
    abstained: bool = column(pa.bool_(), "Whether the song abstains, as in `songs`.", example=False)


@dataclass(frozen=True)
class ClassRow:
    """One row per class, in the order of all lists that have a number per class."""

    NAME: ClassVar[str] = "classes"

    position: int = column(
        INT, "Place in `probabilities` and `target`, from 1 as in SQL.", key=True, example=1
    )
    name: str = column(TEXT, "Name of the class, as in labels.", example="Q1")
    valence: float | None = column(
        REAL,
        "From unpleasant (-1) to pleasant (1) in Russell's plane: 1 for Q1, Q4 and positive. Null"
        " for classes whose place in the plane is not known.",
        nullable=True,
        example=1.0,
    )
    arousal: float | None = column(
        REAL,
        "From calm (-1) to excited (1) in the same plane: 1 for Q1, Q2 and high.",
        nullable=True,
        example=1.0,
    )


PLACES: dict[str, tuple[float | None, float | None]] = {
    "Q1": (1.0, 1.0),
    "Q2": (-1.0, 1.0),
    "Q3": (-1.0, -1.0),
    "Q4": (1.0, -1.0),
    "positive": (1.0, None),
    "negative": (-1.0, None),
    "high": (None, 1.0),
    "low": (None, -1.0),
}
"""Valence and arousal of the classes whose place in Russell's plane is known."""


@dataclass(frozen=True)
class SongProbability:
    """One row per song and class."""

    NAME: ClassVar[str] = "song_probabilities"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    class_name: str = column(TEXT, "Name of the class.", key=True, example="Q1")
    probability: float = column(
        REAL,
        "Probability that the song is of the class, as in `songs.probabilities`.",
        example=0.75,
    )


@dataclass(frozen=True)
class SegmentProbability:
    """One row per scored segment and class, from the scores that songs are made from."""

    NAME: ClassVar[str] = "segment_probabilities"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    start_s: float = column(REAL, "Where the segment starts.", unit="s", example=12.0)
    end_s: float = column(REAL, "Where it ends.", unit="s", example=15.0)
    class_name: str = column(TEXT, "Name of the class.", key=True, example="Q1")
    probability: float = column(
        REAL, "Posterior of the model in use, or the mean of both if two are.", example=0.75
    )


@dataclass(frozen=True)
class ModelRow:
    """One row per published model. If two models are in use, `songs.model_id` joins their ids with
    +."""

    NAME: ClassVar[str] = "models"

    model_id: str = column(TEXT, "Digest of the weights.", key=True, example="fb234640fd6d")
    round: int = column(INT, "Round that trained or reused it.", key=True, example=1)
    generation: str = column(TEXT, _GENERATION, example="106ab09c1840")
    architecture: str | None = column(
        TEXT, "Network, as in `model` of the settings.", nullable=True, example="cnn"
    )
    verdict: str | None = column(
        TEXT,
        "Verdict on its round, as in `rounds`; null before it was judged.",
        nullable=True,
        example="accepted",
    )
    bytes: int = column(_LARGE, "Size of the weights.", unit="bytes", example=1600000)
    created_at: datetime = column(
        pa.timestamp("us", "UTC"), "When it was made, in UTC.", example="2026-11-21T20:15:00+00:00"
    )
    code_version: str = column(TEXT, "Version of the program.", example="0.1.0")


@dataclass(frozen=True)
class PublicationRow:
    """One row per generation that is published or was published before."""

    NAME: ClassVar[str] = "publications"

    publication: str = column(
        TEXT,
        "`now`, or `before` for the last publication with other songs.",
        key=True,
        example="now",
    )
    table_name: str = column(TEXT, _TABLE, key=True, example="songs")
    generation: str = column(TEXT, _GENERATION, key=True, example="106ab09c1840")
    round: int | None = column(INT, _ROUND, nullable=True, example=1)
    rows: int = column(_LARGE, "Rows in all files.", example=57)
    created_at: datetime = column(
        pa.timestamp("us", "UTC"),
        "When its rows were made, in UTC.",
        example="2026-11-21T20:15:00+00:00",
    )


@dataclass(frozen=True)
class TakedownRow:
    """One row per track that was taken down and has been left out since."""

    NAME: ClassVar[str] = "takedowns"

    track_id_sha256: str = column(
        TEXT,
        "SHA-256 of the track's id, which is all that is kept. To look a track up, compare it with"
        " `sha256('track001')` in a query.",
        key=True,
        example="9ad914d41199c2bb",
    )


VIEWS: dict[str, type] = {
    view.NAME: view
    for view in (
        SongLabel,
        SongProbability,
        SegmentProbability,
        ClassRow,
        Suspect,
        SongChange,
        ModelRow,
        PublicationRow,
        TakedownRow,
        ManifestRow,
        FileRow,
    )
}
"""By name."""

SEGMENT_END = "Where the segment ends. [s]"
"""What the view `segments` has beside the columns of its files: `end_s`."""
