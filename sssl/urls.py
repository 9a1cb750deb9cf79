"""Files by URL: what we ask fsspec for, with the options that we need.

Options, and no variables of the environment or settings of fsspec, which are the whole process's and not ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import fsspec

_GOOGLE = ("gs", "gcs")


def file_system(url: str, **options: Any) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system that a URL or a path is of, and the path in it.

    Raises:
        ValueError: no file system is known by that name.
        ImportError: it needs a package that is not installed.
    """
    if url.partition("://")[0] not in _GOOGLE:
        fs, path = fsspec.core.url_to_fs(url, **options)
        return fs, path
    from sssl.google_storage import GoogleStorage  # here: it loads a client that most never need

    return GoogleStorage(**options), GoogleStorage._strip_protocol(url)


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """Open a file to read it.

    Raises:
        OSError: it cannot be read.
        ValueError, ImportError: as `file_system` does.
    """
    fs, path = file_system(url)
    with fs.open(path, "rb") as file:
        yield file
