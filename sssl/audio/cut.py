"""One track to segments: decode, resample, cut, log-mel, and a ledger row that says what became of
it."""

from __future__ import annotations

import io
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import REASONS, Catalog, Ledger, Segment, Status, arrow_schema
from sssl.audio.decode import Decoder
from sssl.audio.features import level_db, log_mel_and_spectra, long_power
from sssl.audio.info import AudioInfo
from sssl.audio.integrity import Evidence, GateConfig, judge
from sssl.audio.mel import MelConfig, as_stored, features_of
from sssl.audio.sound import SOUND_NAMES, describe, sound_db, sound_metadata, sound_width
from sssl.errors import AudioError
from sssl.urls import file_system, is_not_there, leads_nowhere, local_path, scheme_of

# Segments that are described at once: fewer, and calls of NumPy cost as much as what they do.
_BATCH = 16
_LISTS = pa.list_(pa.float32())
_HUGE = 2.0**32  # beyond integers that were never scaled to 1.0; from 1e17 on the power overflows

# What servers answer where a file cannot be had for now.
_ASK_AGAIN = (408, 425, 429)

_Answer = TypeVar("_Answer")


class UnsupportedUri(Exception):
    """A URI that no installed file system reads."""


class _Cut(NamedTuple):
    """Segments of a track: position [N], log-mel [N, mels, frames] as stored, level [N], level by
    mel band [N, mels] and by group of bands [N, K] in dB, and the numbers of SOUND_NAMES if they
    were asked for."""

    segment_index: NDArray[np.int32]
    log_mel: NDArray[Any]
    level_db: NDArray[np.float32]
    band_level_db: NDArray[np.float16]
    sound_db: NDArray[np.float32]
    sound: NDArray[np.float32] | None = None


@dataclass
class CutTrack:
    """What a track became: its ledger row, and its segments if there are any."""

    ledger: Ledger
    segments: _Cut | None = None


def cut_track(
    track: Catalog, mel: MelConfig, gate: GateConfig, sound: int | None = None
) -> CutTrack:
    """Decode and cut one track, and describe its sound if a version of that is given. Whatever is
    wrong with the file becomes a status and a reason, never an exception."""
    info: AudioInfo | None = None
    try:
        with opened_audio(track.uri) as source:
            decoder = Decoder(source, mel.rate_hz, max_s=gate.max_s)
            info = decoder.info
            cut, dropped = _cut(decoder, mel, bool(sound))
    except Exception as error:  # noqa: BLE001
        # What decoders and torch raise has no end; one track must not stop the others.
        return CutTrack(ledger_row(track, Status.FAILED, *why_unusable(error), info))
    found = len(cut.segment_index)
    loudest_db = float(cut.level_db.max(initial=-np.inf))
    expected_s = _expected_s(track, info)
    evidence = Evidence(expected_s, info, mel.segment_s, found, dropped, loudest_db)
    verdict = judge(evidence, gate)
    if not verdict.usable:
        return CutTrack(ledger_row(track, Status.FAILED, verdict.reason, verdict.detail, info))
    status = Status.PARTIAL if verdict.reason else Status.OK
    return CutTrack(ledger_row(track, status, verdict.reason, verdict.detail, info, found), cut)


def why_unusable(error: Exception) -> tuple[str, str]:
    """Return reason and detail of what opening or decoding a track raised.

    Details leave the URI out: it may carry a signature, and the catalog has it.
    """
    match error:
        case AudioError():
            return error.reason, error.detail
        case FileNotFoundError():
            return _why_not_found(error)
        case MemoryError():
            return "decoder-memory", "out of memory while decoding"
        case OSError():
            return _why_not_read(error)
        case UnsupportedUri():
            return "unsupported-uri", str(error)
    reason = "decoder-memory" if "allocate memory" in str(error) else "decoder-error"
    return reason, f"{type(error).__name__} while decoding"


def ledger_row(
    track: Catalog,
    status: Status,
    reason: str | None,
    detail: str | None,
    info: AudioInfo | None = None,
    segments: int = 0,
) -> Ledger:
    """Make the ledger row of a track."""
    return Ledger(
        track_id=track.track_id,
        status=status,
        reason=reason,
        retryable=reason is not None and REASONS[reason].retryable,
        detail=detail,
        expected_s=_expected_s(track, info),
        decoded_s=info.decoded_s if info else 0.0,
        decoder=info.decoder if info else None,
        codec=info.codec if info else None,
        sample_rate_hz=info.sample_rate_hz if info else None,
        channels=info.channels if info else None,
        segments=segments,
        part=track.part,
        source_fingerprint=track.source_fingerprint,
    )


def segments_table(tracks: list[CutTrack], config: MelConfig, sound: int | None = None) -> pa.Table:
    """Put the segments of a part's tracks into one table, in the order of tracks; `sound` as for
    `cut_track`."""
    schema = arrow_schema(Segment)
    schema = schema.with_metadata({**schema.metadata, **sound_metadata(sound)})
    usable = _usable(tracks)
    if not usable:
        return schema.empty_table()
    cuts = [cut for _, cut in usable]
    index = np.concatenate([cut.segment_index for cut in cuts])
    start_s = index * config.start_distance_s
    band_levels = np.concatenate([cut.band_level_db for cut in cuts])
    described = [cut.sound for cut in cuts if cut.sound is not None]
    columns: dict[str, Any] = {
        "track_id": _track_ids(usable),
        "segment_index": index,
        "start_s": start_s.astype(np.float32),
        "level_db": np.concatenate([cut.level_db for cut in cuts]),
        "band_level_db": _lists(band_levels.astype(np.float32)),
        "sound_db": _lists(np.concatenate([cut.sound_db for cut in cuts])),
    }
    if described:
        columns["sound"] = _lists(np.concatenate(described))
    else:
        columns["sound"] = pa.nulls(len(index), _LISTS)
    return pa.table(columns, schema=schema)


def features_table(tracks: list[CutTrack], config: MelConfig) -> pa.Table:
    """Put the log-mels of a part's tracks into one table, row by row aligned with their
    segments."""
    usable = _usable(tracks)
    cuts = [cut for _, cut in usable]
    # An empty array in front gives the type and the shape where no track has segments.
    index = [np.empty(0, np.int32), *(cut.segment_index for cut in cuts)]
    log_mels = [np.empty((0, *config.shape), config.stored_as), *(cut.log_mel for cut in cuts)]
    track_ids = _track_ids(usable)
    return features_of(track_ids, np.concatenate(index), np.concatenate(log_mels), config)


def _usable(tracks: list[CutTrack]) -> list[tuple[str, _Cut]]:
    """Return the tracks that have segments, and a ledger row that says so."""
    return [
        (track.ledger.track_id, track.segments)
        for track in tracks
        if track.segments and track.ledger.segments
    ]


def _track_ids(usable: list[tuple[str, _Cut]]) -> NDArray[np.str_]:
    """Return the track id of each segment."""
    track_ids = np.array([track_id for track_id, _ in usable], np.str_)
    return np.repeat(track_ids, [len(cut.segment_index) for _, cut in usable])


def _lists(values: NDArray[np.float32]) -> pa.ListArray:
    return pa.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1]).cast(_LISTS)


@contextmanager
def opened_audio(uri: str) -> Iterator[str | BinaryIO]:
    """Give a local path as it is (decoders read it fastest themselves), anything else as a seekable
    stream."""
    path = local_path(uri)
    if path is None:
        with _remote(uri) as file:
            yield file
    else:
        _check_regular(path)
        yield path


def _check_regular(path: str) -> None:
    """Check that a path leads to a file; a pipe or a device would let a decoder wait for ever.

    Raises:
        AudioError: it leads to something else.
        OSError: missing or denied; the system says that more reliably than any decoder.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # of a name that no file can have
        raise FileNotFoundError(path) from None
    except OSError as error:
        if leads_nowhere(error):
            raise FileNotFoundError(path) from None
        raise
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise AudioError("not-audio", f"{kind}, no regular file")


@contextmanager
def _remote(uri: str) -> Iterator[BinaryIO]:
    try:
        with _only_os_errors(but=(ImportError, ValueError)):
            fs, path = file_system(uri)
    except (ImportError, ValueError) as error:
        raise UnsupportedUri(_why_unsupported(uri, error)) from error
    with _only_os_errors():
        stream = fs.open(path, "rb")
    with ExitStack() as resources:
        resources.callback(stream.close)

        def copy() -> BinaryIO:
            file = resources.enter_context(TemporaryFile())
            fs.get_file(path, file)
            return file

        yield cast(BinaryIO, _Remote(stream, copy))


class _Remote:
    """A file elsewhere, whose failures are OSErrors whatever its client raises: no decoder's error,
    and no damage.

    Decoders seek. A server may not serve ranges of a file, or not say how long it is, which
    fsspec's HTTP tells by a ValueError at the first read or seek that needs it. Then the whole file
    is copied, from front to back.
    """

    def __init__(self, stream: BinaryIO, copy: Callable[[], BinaryIO]) -> None:
        self._stream = stream
        self._copy = copy
        self._is_copy = False

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        return self._ask(lambda stream: stream.read(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._ask(lambda stream: stream.seek(offset, whence))

    def _ask(self, question: Callable[[BinaryIO], _Answer]) -> _Answer:
        with _only_os_errors():
            position = self._stream.tell()
            try:
                return question(self._stream)
            except ValueError:
                if self._is_copy:
                    raise
            self._stream = self._copy()
            self._is_copy = True
            self._stream.seek(position)
            return question(self._stream)


def _why_unsupported(uri: str, error: ImportError | ValueError) -> str:
    """Say why no file system reads a URI, without the URI."""
    scheme = scheme_of(uri)
    if isinstance(error, ImportError) or scheme not in fsspec.available_protocols():
        return f"{scheme}:// needs a file system of fsspec that is not installed"
    return "a URL that cannot be asked for"


@contextmanager
def _only_os_errors(but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, (OSError, MemoryError, *but)):
            raise
        raise OSError(f"{type(error).__name__} of the storage client") from error


def _why_not_found(error: FileNotFoundError) -> tuple[str, str]:
    """Return reason and detail: fsspec's HTTP calls whatever goes wrong a file that is not
    there."""
    cause = error.__cause__
    if is_not_there(error):
        return "missing", "no file at the URI"
    status = getattr(cause, "status", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in _ASK_AGAIN:
        return "denied", f"the server answered {status}"
    if isinstance(cause, ValueError):
        return "unsupported-uri", "a URL that cannot be asked for"
    if _is_unreachable(cause):
        return "unreachable", f"{type(cause).__name__} while opening"
    return "unavailable", f"{type(cause).__name__} while opening"


def _why_not_read(error: OSError) -> tuple[str, str]:
    """Return reason and detail. Google's storage says 401 to who is nobody, and gcsfs has no class
    for a 403."""
    if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):
        return "denied", "not allowed to read the URI"
    cause = error.__cause__ or error
    if getattr(cause, "code", None) == 401:
        return "denied", "the storage answered 401: no credentials, or not the right ones"
    if _is_unreachable(cause):
        return "unreachable", f"{type(cause).__name__} while opening"
    said = os.strerror(error.errno) if error.errno else type(cause).__name__
    return "unavailable", f"{said} while reading"


def _is_unreachable(cause: BaseException | None) -> bool:
    """Whether no connection came about; aiohttp's own classes for it are not loaded where nothing
    is remote."""
    refused = isinstance(cause, (ConnectionRefusedError, socket.gaierror))
    return refused or "Connector" in type(cause).__name__


def _cut(decoder: Decoder, config: MelConfig, describes: bool) -> tuple[_Cut, int]:
    """Cut a stream into finite segments and count those that are not; the tail shorter than a
    segment is dropped."""
    # In one block that grows: small arrays kept between large temporary ones would fragment the
    # heap.
    mels = io.BytesIO()
    # The empty arrays give type and shape to a file without a usable segment.
    indices = [np.empty(0, np.int32)]
    levels = [np.empty(0, np.float32)]
    band_levels = [np.empty((0, config.mels), np.float16)]
    bands_db = [np.empty((0, sound_width(config.mels)), np.float32)]
    sound = [np.empty((0, len(SOUND_NAMES)), np.float32)]
    seen = 0
    for first, segments in _batches(decoder.blocks(), config):
        seen = first + len(segments)
        peak = np.abs(segments).max(axis=1)
        finite = np.flatnonzero(peak < _HUGE)  # no NaN passes either
        if not len(finite):
            continue
        index = first + finite
        indices.append(index.astype(np.int32))
        usable = segments[finite]
        tensors, spectra = log_mel_and_spectra(usable, config)
        mels.write(as_stored(tensors, config).tobytes())
        levels.append(level_db(usable))
        band_level = tensors.mean(axis=2, dtype=np.float32)
        band_levels.append(band_level.astype(np.float16))
        bands_db.append(sound_db(tensors))
        if describes:
            sound.append(describe(spectra, long_power))
    segment_index = np.concatenate(indices)
    kept = len(segment_index)
    log_mels = np.frombuffer(mels.getbuffer(), config.stored_as)
    cut = _Cut(
        segment_index,
        log_mels.reshape(kept, *config.shape),
        np.concatenate(levels),
        np.concatenate(band_levels),
        np.concatenate(bands_db),
        np.concatenate(sound) if describes else None,
    )
    return cut, seen - kept


def _batches(
    blocks: Iterator[NDArray[np.float32]], config: MelConfig
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (index of the first segment, segments [n, T]) with n <= _BATCH from a stream of blocks.

    The segments are views into one buffer: they hold until the next ones are asked for. Arrays of
    many sizes, allocated between what is kept, would fragment the heap by 100 MB per hour of audio.
    """
    length = config.segment_samples
    hop = config.hop_samples
    buffer = np.empty((_BATCH - 1) * hop + max(length, hop), np.float32)
    first = filled = 0
    for block in blocks:
        while len(block):
            taken = block[: len(buffer) - filled]
            buffer[filled : filled + len(taken)] = taken
            filled = filled + len(taken)
            block = block[len(taken) :]
            if filled == len(buffer):
                yield first, _windows(buffer, length, hop)
                filled -= _BATCH * hop
                buffer[:filled] = buffer[_BATCH * hop :]
                first += _BATCH
    if filled >= length:
        yield first, _windows(buffer[:filled], length, hop)


def _windows(wave: NDArray[np.float32], length: int, hop: int) -> NDArray[np.float32]:
    return np.lib.stride_tricks.sliding_window_view(wave, length)[::hop]


def _expected_s(track: Catalog, info: AudioInfo | None) -> float | None:
    """Return the longer of what the catalog and the container promise, None if neither does."""
    promised = (track.expected_s, info.declared_s if info else None)
    return max((seconds for seconds in promised if seconds is not None), default=None)
