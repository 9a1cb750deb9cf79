"""What an output folder asks of the place where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol

from fsspec import AbstractFileSystem


class Medium(Protocol):
    """Files by their paths in a folder, parts of a path separated by slashes.

    A medium is a small frozen dataclass: it travels to workers, and the same place is the same key
    of a cache. What is not there raises FileNotFoundError, whatever else goes wrong some OSError.
    """

    def __hash__(self) -> int:
        """A hash of the place."""

    @property
    def root(self) -> str:
        """The folder as its user knows it, a path or a URL; `root/path` is what other programs read
        a file by."""

    @property
    def poll_s(self) -> float:
        """How often to look for what others have written, where a look may cost money."""

    def read(self, path: str) -> bytes:
        """Read a whole file."""

    def open(self, path: str) -> BinaryIO:
        """Open a file to read pieces of it."""

    def put(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file so that readers see all of it or nothing, also if we are killed; a durable
        one also if the power fails."""

    def settle(self) -> None:
        """Wait until all that was written so far is durable."""

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Write a durable file unless there is one; say whether what is there now is ours."""

    def exists(self, path: str) -> bool:
        """Whether there is a file of this path."""

    @property
    def checks_content(self) -> bool:
        """Whether it compares digests by itself as it writes and reads, and files only ever appear
        whole."""

    def list(self, folder: str) -> Sequence[str]:
        """List the paths of all files below a folder in their order, none if there is no such
        folder."""

    def walk(self, folder: str) -> Iterator[Sequence[str]]:
        """Yield the paths of the files right in a folder, in their order, then those of each folder
        below it: only one folder's at a time are in memory. What was yielded may be deleted."""

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Return the bytes of all files below a folder by their paths, none if there is no such
        folder."""

    def written_at(self, folder: str) -> datetime | None:
        """Return when a file below a folder was last written, None if there is none."""

    def delete(self, path: str) -> None:
        """Delete a file; that it is gone, maybe by a request that was sent again, is what we
        want."""

    def delete_many(self, paths: Sequence[str]) -> None:
        """Delete files likewise, in as few requests as it has for that, many at once."""

    def forget(self) -> int:
        """Delete for good what the medium keeps of files that were deleted or overwritten; return
        how many versions there were."""

    def undeletable_days(self) -> float:
        """For how many days it keeps what is deleted, whatever anybody does."""

    def hold(self, on_wait: Callable[[str], None]) -> AbstractContextManager[str]:
        """Hold the folder until the block ends, or this process does; yields the pointer that the
        holder writes to.

        `on_wait` is told why it takes time, if it does.

        Raises:
            StoreError: another command holds it.
        """

    def file_systems(self, folders: Iterable[str]) -> Sequence[AbstractFileSystem]:
        """Return the file systems that a reader needs for our URLs, none where these are paths.

        They may keep a listing of each of `folders`, which are committed and never change.
        """

    def database(self, name: str) -> str:
        """Return the URL of an SQLite database in the folder.

        Raises:
            UnsupportedOperation: none can be there.
        """

    def link(self, path: str) -> str | None:
        """Return the way from a page in the folder to a file of this machine, None where the page
        lies elsewhere."""


def names(medium: Medium, folder: str) -> list[str]:
    """List the names of the files right in a folder, without what is being written at the
    moment."""
    found = (path.removeprefix(f"{folder}/") for path in medium.list(folder))
    return [name for name in found if "/" not in name and not name.startswith(".")]
