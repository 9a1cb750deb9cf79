"""The tables that `segment` and `embed` make of audio: one row per segment, in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schemas.columns import INT, REAL, REALS, TEXT, column

TRACK_ID = "The track's id, as in the catalog."
SEGMENT_INDEX = "0-based position of the segment in its track."


@dataclass(frozen=True)
class Segment:
    """One row per segment of a usable track: where it starts and how it sounds. Written by
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
        "Mean of the log-mel over the segment's frames, by mel band; the values have half"
        " precision.",
        unit="dB re full scale",
        example=[-29.75, -39.5],
    )
    sound_db: list[float] | None = column(
        REALS,
        "Sound by group of neighbouring mel bands, at most 16 groups: first their mean levels, then"
        " their standard deviations over the frames, then their mean absolute steps from frame to"
        " frame. Null if schema version 1 wrote the segment; it can then be computed from the"
        " log-mel.",
        unit="dB",
        nullable=True,
        example=[-29.75, -39.5, 1.75, 1.0, 3.5, 1.75],
    )
    sound: list[float] | None = column(
        REALS,
        "Timbre, tonality, rhythm, dynamics and texture as numbers. docs/sound.md defines them; the"
        " file's metadata lists their names in order (`sssl.sound`). Null if the folder is older"
        " than this column or was made with `--sound-version 0`.",
        nullable=True,
        example=[0.25, -1.5],
    )


@dataclass(frozen=True)
class Feature:
    """One row per segment, in the order of `segments`: its log-mel spectrogram. Written by
    `segment`."""

    NAME: ClassVar[str] = "features"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    log_mel: bytes = column(
        None,
        "Log-mel power spectrogram [mels, frames], a byte per value, one mel band after the other:"
        " `offset` + `scale` * byte, -100 + 9/16 * byte, is the level in dB re full scale. The"
        " file's metadata has type, shape, scale, offset and the parameters of the transform as"
        " JSON under `sssl.log_mel`. A folder that schema version 8 or earlier began has,"
        " until its cut changes, levels in dB in little-endian half precision, without scale and"
        " offset.",
        example=[[122, 128], [106, 109]],
    )


@dataclass(frozen=True)
class Embedding:
    """One row per segment, in the order of `segments`: its embedding by a pretrained network.
    Written by `embed`, if there is a front-end (docs/embeddings.md)."""

    NAME: ClassVar[str] = "embeddings"

    track_id: str = column(TEXT, TRACK_ID, key=True, example="track001")
    segment_index: int = column(INT, SEGMENT_INDEX, key=True, example=4)
    embedding: bytes | None = column(
        None,
        "Embedding [D] in little-endian half precision; null if there is a `reason`. The file's"
        " metadata has type, shape and the front-end as JSON under `sssl.embedding`.",
        nullable=True,
        example=[0.25, -1.5],
    )
    reason: str | None = column(
        TEXT,
        "Why there is no embedding: `non-finite` if the network's was not finite, otherwise the"
        " code for what has since gone wrong with the file (docs/reasons.md).",
        nullable=True,
        example="missing",
    )
