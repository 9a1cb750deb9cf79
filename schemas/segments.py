"""The tables that `segment` and `embed` make of audio: one row per segment, in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schemas.columns import INT, REAL, REALS, TEXT, column

TRACK_ID = "The track's id, as in the catalog."
SEGMENT_INDEX = "0-based position of the segment in its track."


@dataclass(frozen=True)
class Segment:
    """One row a segment of a usable track: where it lies and how it sounds. Written by
    `segment`."""

    NAME: ClassVar[str] = "segments"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    start_s: float = column(REAL, "Where the segment starts.", unit="s", example=12.0)
    level_db: float = column(
        REAL, "RMS level of the segment's mono waveform.", unit="dB re full scale", example=-18.5
    )
    band_level_db: list[float] = column(
        REALS,
        "Mean of the log-mel over its frames, by mel band; the reals of half precision.",
        unit="dB re full scale",
        example=[-29.75, -39.5],
    )
    sound_db: list[float] | None = column(
        REALS,
        "Sound by group of neighbouring mel bands, at most 16: their mean levels, then their"
        " standard deviations over the frames, then their mean steps from frame to frame; null"
        " where schema version 1 wrote the segment, whose log-mel then tells it.",
        unit="dB",
        nullable=True,
        example=[-29.75, -39.5, 1.75, 1.0, 3.5, 1.75],
    )
    sound: list[float] | None = column(
        REALS,
        "Timbre, tonality, rhythm, dynamics and texture as numbers; docs/sound.md defines them, and"
        " the file's metadata names them in their order (`sssl.sound`). Null where the folder is"
        " from before there was this column, or was made with `--sound-version 0`.",
        nullable=True,
        example=[0.25, -1.5],
    )


@dataclass(frozen=True)
class Feature:
    """One row a segment, in the order of `segments`: its log-mel spectrogram. Written by
    `segment`."""

    NAME: ClassVar[str] = "features"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    log_mel: bytes = column(
        None,
        "Log-mel power spectrogram [mels, frames] of half-precision reals, little-endian, row by"
        " row. Type, shape and the parameters of the transform are JSON in the file's metadata, as"
        " `sssl.log_mel`.",
        unit="dB re full scale",
        example=[[-31.5, -28.0], [-40.25, -38.5]],
    )


@dataclass(frozen=True)
class Embedding:
    """One row a segment, in the order of `segments`: what a pretrained network makes of its
    samples. Written by `embed`, where there is a front-end (docs/embeddings.md)."""

    NAME: ClassVar[str] = "embeddings"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    embedding: bytes | None = column(
        None,
        "Embedding [D] of half-precision reals, little-endian; null where there is a `reason`."
        " Type, shape and the front-end are JSON in the file's metadata, as `sssl.embedding`.",
        nullable=True,
        example=[0.25, -1.5],
    )
    reason: str | None = column(
        TEXT,
        "Why there is no embedding: `non-finite` where the network gave none, or the code of what"
        " is wrong with the file by now (docs/reasons.md).",
        nullable=True,
        example="missing",
    )
