"""What a listener hears: a track's own file where browsers play it, else what our decoder makes of
it."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sssl.errors import AudioError
from sssl.report.audio import TYPES
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.urls import file_system, suffix_of

_RATE_HZ = 32_000
"""Of what is decoded: nobody tells an emotion by what is above 16 kHz."""
_MOST_S = 2 * 3600.0
"""How much of a track is decoded: its WAV file has 460 MB then."""


@dataclass(frozen=True)
class Sound:
    """A file to send in pieces, which whoever sends it closes."""

    file: BinaryIO
    bytes: int
    type: str


class Listening:
    """Opens audio; what has to be decoded lies in a temporary folder until it is closed.

    Decoding runs in a process of its own, as a damaged file may take its process down.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sssl-review-")
        self._lock = threading.Lock()
        self._pool: IsolatedPool | None = None
        self._decoded: dict[str, Future[Path | Failure]] = {}
        self._made = 0

    def original(self, uri: str) -> Sound:
        """Open a track's own file.

        Raises:
            OSError, ValueError, ImportError: it cannot be opened.
            AudioError: browsers do not play it, or it is no file of a known length.
        """
        kind = TYPES.get(suffix_of(uri).lower())
        if kind is None:
            raise AudioError("not-audio", "browsers do not play files of that kind")
        fs, path = file_system(uri)
        about = fs.info(path)
        if (
            about.get("type") != "file" or about.get("size") is None
        ):  # a pipe would have us wait for ever
            raise AudioError("not-audio", "no regular file, or one of unknown length")
        return Sound(fs.open(path, "rb"), int(about["size"]), kind)

    def decoded(self, uri: str) -> Sound:
        """Open a track as a WAV file of one channel; it is decoded whole the first time.

        Raises:
            AudioError: it cannot be decoded.
            OSError: it cannot be opened.
        """
        decoding = self._decoding(uri)
        try:
            made = decoding.result()
        except Exception:
            self._drop(uri, decoding)  # a storage that gave no answer may give one the next time
            raise
        # What took the decoder down would do so again, maybe after minutes.
        if isinstance(made, Failure):
            raise AudioError(made.reason, made.detail)
        return Sound(made.open("rb"), made.stat().st_size, "audio/wav")

    def forget(self, uri: str) -> None:
        """Delete what was decoded of a track, or is being decoded, as soon as it is there."""
        with self._lock:
            decoding = self._decoded.pop(uri, None)
        if decoding is not None:
            decoding.add_done_callback(_delete)

    def close(self) -> None:
        """End the decoder and delete what it made."""
        if self._pool is not None:
            self._pool.close()
        with suppress(OSError):
            self._folder.cleanup()

    def _drop(self, uri: str, decoding: Future[Path | Failure]) -> None:
        """Have a track decoded anew by who asks for it next."""
        with self._lock:
            if self._decoded.get(uri) is decoding:
                del self._decoded[uri]

    def _decoding(self, uri: str) -> Future[Path | Failure]:
        with self._lock:
            if uri not in self._decoded:
                if self._pool is None:
                    self._pool = IsolatedPool(1, Limits(), preload="sssl.audio.cut")
                self._made += 1
                path = Path(self._folder.name, f"{self._made}.wav")
                self._decoded[uri] = self._pool.submit(partial(_decode, path=path), uri)
            return self._decoded[uri]


def _delete(decoding: Future[Path | Failure]) -> None:
    """Delete what decoding has made, if anything."""
    if decoding.exception() is None and isinstance(made := decoding.result(), Path):
        made.unlink(missing_ok=True)


def _decode(uri: str, path: Path) -> Path:
    """Decode a track to a WAV file and return its path."""
    import soundfile  # here, like what is below: most reviews decode nothing

    from sssl.audio.cut import opened_audio, why_unusable
    from sssl.audio.decode import Decoder

    writing: dict[str, Any] = {
        "samplerate": _RATE_HZ,
        "channels": 1,
        "subtype": "PCM_16",
        "format": "WAV",
    }
    try:
        with opened_audio(uri) as source, soundfile.SoundFile(path, "w", **writing) as file:
            for block in Decoder(source, _RATE_HZ, max_s=_MOST_S).blocks():
                file.write(block)
    except Exception as error:
        path.unlink(missing_ok=True)
        raise AudioError(*why_unusable(error)) from error
    return path
