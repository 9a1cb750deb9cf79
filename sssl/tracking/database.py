"""MLflow's database in an output folder, as a full disk or a power cut may leave it."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import unquote

_SCHEME = "sqlite:///"


def path_of(url: str) -> str | None:
    """Return the path that SQLAlchemy takes a URL for; None if it is not SQLite's."""
    if url.startswith(_SCHEME):
        return unquote(_spelled(url))
    return None


def _spelled(url: str) -> str:
    return url.removeprefix(_SCHEME).partition("?")[0]


@contextmanager
def without_empty_folders(url: str) -> Iterator[None]:
    """Remove the empty folder that MLflow makes by the name with its escapes, for a database whose
    URL has some."""
    folder = os.path.dirname(_spelled(url))
    escaped = url.startswith(_SCHEME) and "%" in folder and not os.path.exists(folder)
    try:
        yield
    finally:
        if escaped:
            with suppress(OSError):
                os.removedirs(folder)


def is_broken(path: str) -> bool:
    """Whether there is a database that SQLite cannot read, or one that lacks what MLflow begins
    with."""
    if not os.path.exists(path):
        return False
    try:
        with closing(sqlite3.connect(path)) as database:
            ((said,),) = database.execute("pragma quick_check(1)").fetchall()
            tables = {
                name
                for (name,) in database.execute(
                    "select name from sqlite_master where type = 'table'"
                )
            }
    except sqlite3.DatabaseError as error:
        # A full disk, missing rights, or somebody who looks at it say nothing about what is in it.
        return error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return said != "ok" or not tables.issuperset(("alembic_version", "experiments", "runs"))


def set_aside(path: str) -> str:
    """Rename a database, so that a new one takes its place; return the new name."""
    free = next(
        f"{path}.broken{n}" for n in itertools.count() if not os.path.exists(f"{path}.broken{n}")
    )
    os.rename(path, free)
    return free
