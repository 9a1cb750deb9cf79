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
"""Of tracks whose part ended its workers, whichever of its tracks it was."""

_REASONS = [
    Reason(
        "missing",
        Status.FAILED,
        True,
        "No file at the URI.",
        "Correct the URI or deliver the file; a rerun notices.",
    ),
    Reason(
        "denied",
        Status.FAILED,
        True,
        "The storage refused to let us read the file.",
        "Grant read access, then `--retry retryable`.",
    ),
    Reason(
        "unreachable",
        Status.FAILED,
        True,
        "No connection to the storage came about.",
        "Check the host in the URI, the network and any proxy, then `--retry retryable`.",
    ),
    Reason(
        "unavailable",
        Status.FAILED,
        True,
        "The storage failed, or did not answer after retries.",
        "Rerun later with `--retry retryable`.",
    ),
    Reason(
        "unsupported-uri",
        Status.FAILED,
        True,
        "No installed file system reads this kind of URI.",
        "Install the one that fsspec names for it (`s3fs` for s3://), or correct the URI.",
    ),
    Reason("empty-file", Status.FAILED, False, "The file has no bytes.", "Deliver the file again."),
    Reason(
        "not-audio",
        Status.FAILED,
        False,
        "No decoder finds an audio stream, or it is no file (a folder, a pipe, a device).",
        "Check what was uploaded.",
    ),
    Reason(
        "unread-container",
        Status.FAILED,
        False,
        "There is audio in it, in a container that is not read; the detail names it.",
        "Transcode it, to FLAC for instance.",
    ),
    Reason(
        "corrupt",
        Status.FAILED,
        False,
        "An audio stream was found but nothing usable came out of it.",
        "Deliver the file again.",
    ),
    Reason(
        "damaged",
        Status.PARTIAL,
        False,
        "Some packets could not be decoded and were left out.",
        "Listen to it; deliver it again if the gap matters.",
    ),
    Reason(
        "truncated",
        Status.PARTIAL,
        False,
        "Less audio came out than the catalog or the container declares.",
        "Deliver the file again.",
    ),
    Reason(
        "too-short",
        Status.FAILED,
        False,
        "Shorter than one segment.",
        "Leave it out, or use shorter segments.",
    ),
    Reason(
        "too-long",
        Status.PARTIAL,
        False,
        "Longer than the limit; the rest was left out.",
        "Raise the limit, or split the mix into tracks.",
    ),
    Reason(
        "silent",
        Status.FAILED,
        False,
        "No segment is louder than the silence threshold.",
        "Check the master; lower the threshold for very quiet music.",
    ),
    Reason(
        "non-finite",
        Status.PARTIAL,
        False,
        "Samples were NaN, infinite or huge (2^32 or more); their segments were left out.",
        "Export the file again.",
    ),
    Reason(
        "clipped",
        Status.PARTIAL,
        False,
        "Many samples lie at or beyond full scale: the waveform was cut off.",
        "Deliver a cleaner master; `--reject clipped` leaves such tracks out.",
    ),
    Reason(
        "dc-offset",
        Status.PARTIAL,
        False,
        "The waveform's mean is far from zero.",
        "Remove the offset in the master; `--reject dc-offset` leaves such tracks out.",
    ),
    Reason(
        "decoder-killed",
        Status.FAILED,
        True,
        "The decoder's process was killed, most likely because the machine ran out of memory.",
        "`--retry retryable`, with fewer `--processes` or on a machine with more memory.",
    ),
    Reason(
        "decoder-crash",
        Status.FAILED,
        False,
        "The decoder killed its process.",
        "Report the file; transcode it.",
    ),
    Reason(
        "decoder-error",
        Status.FAILED,
        False,
        "The decoder failed in a way that it should not.",
        "Report the file; transcode it.",
    ),
    Reason(
        "decoder-timeout",
        Status.FAILED,
        True,
        "Decoding took longer than its time limit.",
        "Raise `timeout_s` with `--retry retryable`, or transcode the file.",
    ),
    Reason(
        "decoder-memory",
        Status.FAILED,
        True,
        "Decoding needed more memory than its limit.",
        "Raise `memory_mb` with `--retry retryable`, or transcode the file.",
    ),
    Reason(
        PART_FAILED,
        Status.FAILED,
        True,
        "Three workers ended while they worked on the track's part, because of this track or of"
        " another one there.",
        "Look at the workers' logs for the part and at their memory; then `--retry"
        " reason=part-failed`. Scores and embeddings are tried again with the next delivery.",
    ),
]

REASONS: dict[str, Reason] = {reason.code: reason for reason in _REASONS}
