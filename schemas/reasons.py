"""Stable codes that say why a track has no segments, or fewer than it should."""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Status(StrEnum):
    """What became of a track."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a track is not simply ok: a stable code, what it means and what to do about it."""

    code: str
    status: Status
    retryable: bool
    meaning: str
    remedy: str


PART_FAILED = "part-failed"
"""For all tracks of a part that killed its workers, since nobody knows which of them did."""

_REASONS = [
    Reason(
        "missing",
        Status.FAILED,
        True,
        "No file at the URI.",
        "Correct the URI or deliver the file; the next run notices.",
    ),
    Reason(
        "denied",
        Status.FAILED,
        True,
        "The storage denies read access to the file.",
        "Grant read access, then rerun with `--retry retryable`.",
    ),
    Reason(
        "unreachable",
        Status.FAILED,
        True,
        "The storage could not be reached.",
        "Check the host in the URI, the network and any proxy, then rerun with `--retry"
        " retryable`.",
    ),
    Reason(
        "unavailable",
        Status.FAILED,
        True,
        "The storage failed or did not answer, even after retries.",
        "Rerun later with `--retry retryable`.",
    ),
    Reason(
        "unsupported-uri",
        Status.FAILED,
        True,
        "No installed file system can read this kind of URI.",
        "Install the one that fsspec needs for it (`s3fs` for s3://), or correct the URI.",
    ),
    Reason("empty-file", Status.FAILED, False, "The file has no bytes.", "Deliver the file again."),
    Reason(
        "not-audio",
        Status.FAILED,
        False,
        "No decoder finds an audio stream, or the URI is not that of a file (but of a folder, a"
        " pipe or a device).",
        "Check what was uploaded.",
    ),
    Reason(
        "unread-container",
        Status.FAILED,
        False,
        "The file has audio, but in a container that is not supported; the detail names it.",
        "Transcode the file, for instance to FLAC.",
    ),
    Reason(
        "corrupt",
        Status.FAILED,
        False,
        "There is an audio stream, but nothing usable could be decoded from it.",
        "Deliver the file again.",
    ),
    Reason(
        "damaged",
        Status.PARTIAL,
        False,
        "Some packets could not be decoded and were left out.",
        "Listen to the track; deliver the file again if the gap matters.",
    ),
    Reason(
        "truncated",
        Status.PARTIAL,
        False,
        "The file has less audio than the catalog or the container declares.",
        "Deliver the file again.",
    ),
    Reason(
        "too-short",
        Status.FAILED,
        False,
        "The track is shorter than one segment.",
        "Leave it out, or use shorter segments.",
    ),
    Reason(
        "too-long",
        Status.PARTIAL,
        False,
        "The track is longer than the limit; what comes after the limit was left out.",
        "Raise the limit, or split a mix into tracks.",
    ),
    Reason(
        "silent",
        Status.FAILED,
        False,
        "No segment is louder than the silence threshold.",
        "Check the master, or lower the threshold for very quiet music.",
    ),
    Reason(
        "non-finite",
        Status.PARTIAL,
        False,
        "Some samples are NaN, infinite or huge (2^32 or more); the segments with them were left"
        " out.",
        "Export the file again.",
    ),
    Reason(
        "clipped",
        Status.PARTIAL,
        False,
        "Many samples lie at or beyond full scale: the waveform was cut off.",
        "Deliver a cleaner master, or leave such tracks out with `--reject clipped`.",
    ),
    Reason(
        "dc-offset",
        Status.PARTIAL,
        False,
        "The waveform's mean is far from zero.",
        "Remove the offset from the master, or leave such tracks out with `--reject dc-offset`.",
    ),
    Reason(
        "decoder-killed",
        Status.FAILED,
        True,
        "The decoder's process was killed, most likely because the machine ran out of memory.",
        "Rerun with `--retry retryable` and fewer `--processes`, or on a machine with more memory.",
    ),
    Reason(
        "decoder-crash",
        Status.FAILED,
        False,
        "The decoder crashed.",
        "Report the file, and transcode it.",
    ),
    Reason(
        "decoder-error",
        Status.FAILED,
        False,
        "The decoder raised an error that it should not raise.",
        "Report the file, and transcode it.",
    ),
    Reason(
        "decoder-timeout",
        Status.FAILED,
        True,
        "Decoding took longer than the time limit.",
        "Raise `timeout_s` and rerun with `--retry retryable`, or transcode the file.",
    ),
    Reason(
        "decoder-memory",
        Status.FAILED,
        True,
        "Decoding needed more memory than the limit.",
        "Raise `memory_mb` and rerun with `--retry retryable`, or transcode the file.",
    ),
    Reason(
        PART_FAILED,
        Status.FAILED,
        True,
        "Three workers died while they worked on the track's part, because of this track or of"
        " another one in the part.",
        "Look at the workers' logs for the part and at their memory, then rerun with `--retry"
        " reason=part-failed`. Scores and embeddings are tried again with the next delivery.",
    ),
]

REASONS: dict[str, Reason] = {reason.code: reason for reason in _REASONS}
