"""Local files written so that readers see all of them or nothing, also if we are killed, or the
power fails."""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_OURS = ".sssl-"
_LOCK_S = 30.0
"""How long to wait for somebody else who changes the same file; it takes milliseconds."""


@contextmanager
def replacing(path: Path, *, durable: bool = True, keep_suffix: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place, and its mode, after the block,
    unless that raises.

    What is not `durable` is still whole or not there after a kill, but may be empty after a power
    failure. Its suffix tells a writer which format to write; without it no pattern for files of
    that format finds what a kill leaves.
    """
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that nobody takes what a kill leaves behind for music.
    temporary = path.with_name(
        f".{path.stem}{_OURS}{uuid.uuid4().hex}{path.suffix if keep_suffix else ''}"
    )
    try:
        yield temporary
        if path.exists():
            shutil.copymode(path, temporary)
        if durable:
            _to_disk(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _to_disk(path.parent)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Change a file while nobody else does who asks for it by this: no other thread, no other
    process of this machine.

    Raises:
        OSError: somebody else does not let go of it.
    """
    path = path.resolve()  # one lock for all links to a file
    # An object of its own, which holds off the other threads of this process, too.
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S):
        yield


def remove_leftovers(path: Path) -> None:
    """Remove what a killed `replacing` left beside `path`; only where nobody else writes to it
    now."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}{_OURS}*"):
        leftover.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Whether a file is what a killed `replacing` left, by its name."""
    return name.startswith(".") and _OURS in name


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
