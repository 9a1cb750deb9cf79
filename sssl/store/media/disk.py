"""Output folders on a disk of this machine, or on one that is mounted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote

import pyarrow as pa
from filelock import FileLock, Timeout
from fsspec import AbstractFileSystem

from sssl.errors import StoreError
from sssl.store.atomic import replacing
from sssl.store.pointer import LATEST


@dataclass(frozen=True)
class Disk:
    """A folder by its absolute path."""

    root: str
    poll_s: ClassVar[float] = 0.5

    def read(self, path: str) -> bytes:
        with self._naming(path):
            return self._at(path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        with self._naming(path):
            # Arrow's own file: Parquet is read without asking Python for each piece, so that
            # several threads read at once.
            file: BinaryIO = pa.OSFile(str(self._at(path)), "rb")
            return file

    def put(self, path: str, data: bytes, *, durable: bool = True) -> None:
        with (
            self._naming(path),
            replacing(self._at(path), durable=durable, keep_suffix=False) as temporary,
        ):
            temporary.write_bytes(data)

    def settle(self) -> None:
        os.sync()

    def create_if_absent(self, path: str, data: bytes) -> bool:
        # One command at a time writes here. Of two workers that make the same table, both write the
        # same.
        if self.exists(path):
            return False
        self.put(path, data)
        return True

    def exists(self, path: str) -> bool:
        return self._at(path).exists()

    @property
    def checks_content(self) -> bool:
        return False

    def list(self, folder: str) -> Sequence[str]:
        return sorted(chain.from_iterable(self.walk(folder)))

    def walk(self, folder: str) -> Iterator[Sequence[str]]:
        within = len(os.path.join(self.root, ""))
        for place, _, names in os.walk(self._at(folder), onerror=_unless_missing):
            yield sorted(os.path.join(place, name)[within:] for name in names)

    def sizes(self, folder: str) -> Mapping[str, int]:
        return {path: about.st_size for path, about in self._found(folder)}

    def written_at(self, folder: str) -> datetime | None:
        times = [about.st_mtime for _, about in self._found(folder)]
        if times:
            return datetime.fromtimestamp(max(times), UTC)
        return None

    def delete(self, path: str) -> None:
        self._at(path).unlink(missing_ok=True)

    def delete_many(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.delete(path)

    def forget(self) -> int:
        return 0  # what is deleted is gone

    def undeletable_days(self) -> float:
        return 0.0

    @contextmanager
    def hold(self, on_wait: Callable[[str], None]) -> Iterator[str]:
        """Lock the folder; the lock goes with this process, however it ends, so there is nobody to
        wait for."""
        del on_wait  # part of the interface
        lock = FileLock(self._at(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"another sssl command is writing to {self.root}: wait for it, or choose another"
                " --output"
            ) from None
        except (OSError, NotImplementedError) as error:
            said = getattr(error, "strerror", None) or error
            raise StoreError(
                f"{self.root} cannot be locked ({said}), so it cannot be written to: check what you"
                " may do there, or choose an --output on a file system with locks"
            ) from error
        try:
            yield LATEST
        finally:
            lock.release()

    def file_systems(self, folders: Iterable[str]) -> Sequence[AbstractFileSystem]:
        del folders  # part of the interface
        return ()

    def database(self, name: str) -> str:
        return f"sqlite:///{quote(str(self._at(name)))}"

    def link(self, path: str) -> str | None:
        return quote(os.fsencode(os.path.relpath(path, self.root)))

    def _found(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files below a folder; one that was renamed or deleted since it was listed, by
        another command that writes here, is none of them."""
        for path in self.list(folder):
            with suppress(FileNotFoundError):
                yield path, self._at(path).stat()

    def _at(self, path: str) -> Path:
        return Path(self.root, path)

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Have errors of the disk name the file: the system does so when it opens one, not when it
        writes."""
        try:
            yield
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(self._at(path))) from error


def _unless_missing(error: OSError) -> None:
    """Raise what keeps a folder from being listed: passed over, its files would count as not
    there."""
    if not isinstance(error, FileNotFoundError):
        raise error
