"""Files in a file system of fsspec's that shows an object only once it is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import UnsupportedOperation
from typing import BinaryIO

from fsspec import AbstractFileSystem

from sssl.urls import file_system

_DELETERS = 32
_TIMES = ("mtime", "LastModified", "created")
"""What file systems call the time of an object's content."""


@dataclass(frozen=True)
class Objects:
    """Objects by the URL of the folder that they are in."""

    root: str

    @property
    def fs(self) -> AbstractFileSystem:
        # Others write to the folder too: a listing that is kept would hide it.
        return file_system(self.root, use_listings_cache=False)[0]

    def read(self, path: str) -> bytes:
        return bytes(self.fs.cat_file(self._at(path)))

    def open(self, path: str) -> BinaryIO:
        return self.fs.open(self._at(path), "rb")

    def put(self, path: str, data: bytes, *, durable: bool = True) -> None:
        del durable  # all are
        # In one request, which can be sent again: an upload in pieces whose last answer gets lost
        # is over, and whether it says so is up to the store.
        self.fs.pipe_file(self._at(path), data, chunksize=len(data) + 1)

    def settle(self) -> None:
        return  # a request that was answered is durable

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; the store decides between two that try."""
        try:
            self.fs.pipe_file(self._at(path), data, mode="create")
        except FileExistsError:
            # A request that was sent again, its answer lost, meets its own object.
            return self.read(path) == data
        return True

    def exists(self, path: str) -> bool:
        return bool(self.fs.exists(self._at(path)))

    @property
    def checks_content(self) -> bool:
        return True

    def list(self, folder: str) -> Sequence[str]:
        return sorted(self.sizes(folder))

    def walk(self, folder: str) -> Iterator[Sequence[str]]:
        within = self.fs._strip_protocol(self.root).rstrip("/") + "/"
        for place, _, names in self.fs.walk(self._at(folder), on_error=_unless_missing):
            yield sorted(f"{place}/{name}".removeprefix(within) for name in names)

    def sizes(self, folder: str) -> Mapping[str, int]:
        within = self.fs._strip_protocol(self.root).rstrip("/") + "/"
        found = self.fs.find(self._at(folder), refresh=True, detail=True)
        return {path.removeprefix(within): int(about["size"]) for path, about in found.items()}

    def written_at(self, folder: str) -> datetime | None:
        found = self.fs.find(self._at(folder), refresh=True, detail=True).values()
        times = [
            about[name]
            for about in found
            for name in _TIMES
            if isinstance(about.get(name), datetime)
        ]
        return max(times, default=None)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._at(path))

    def delete_many(self, paths: Sequence[str]) -> None:
        with ThreadPoolExecutor(_DELETERS) as threads:
            list(threads.map(self.delete, paths))

    def forget(self) -> int:
        return 0  # of versions each store has an idea of its own: see Bucket

    def undeletable_days(self) -> float:
        return 0.0

    def file_systems(self, folders: Iterable[str]) -> Sequence[AbstractFileSystem]:
        # A reader like DuckDB asks for the size and date of each file again and again.
        fs, _ = file_system(self.root, use_listings_cache=True)
        for folder in folders:
            fs.ls(self._at(folder))
        return (fs,)

    def database(self, name: str) -> str:
        raise UnsupportedOperation(f"{self.root} cannot hold the database {name}")

    def link(self, path: str) -> str | None:
        del path  # part of the interface
        return None

    def _at(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}"


def _unless_missing(error: OSError) -> None:
    """Raise what keeps a folder from being listed; one that is not there has no files."""
    if not isinstance(error, FileNotFoundError):
        raise error
