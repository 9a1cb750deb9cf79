"""Errors of the storage as sentences: what failed, at which path, and what to do about it."""

from __future__ import annotations

import errno
import os
import sys
from typing import IO

_SPACE = "free some space"
_RIGHTS = "check what you may do there"
_DISK = "check the disk, and what lies on it with `sssl verify`"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
}
READER_GONE = 141
"""Exit code where whoever read the output has stopped reading, as of a program that SIGPIPE
ended."""


def sentence(error: OSError) -> str:
    """Say what the storage refused; what Beam raised anew has its text only."""
    if error.errno is None:
        return f"{error}; the same command goes on from here"
    place = f"{error.filename}: " if error.filename else ""
    advice = _ADVICE.get(error.errno)
    then = "the same command goes on from here"
    return f"{place}{error.strerror}; {advice + ', then ' if advice else ''}{then}"


def storage_error(error: BaseException) -> OSError | None:
    """Return the error of the storage behind another one; DuckDB has its own kind."""
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None and isinstance(error, duckdb.IOException):
        return OSError(str(error))
    if isinstance(error, OSError):
        return error
    return None


def leave_output(output: IO[str] | None = None) -> int:
    """Write nothing more to an output that nobody reads, by default the standard output; return
    the exit code."""
    # Python flushes it at the end, which would fail once more, with a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), (output or sys.stdout).fileno())
    return READER_GONE
