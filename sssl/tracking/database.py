"""MLflow's database in an output folder, as a full disk or a power cut may leave it."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from sssl.urls import local_path

_SCHEME = "sqlite:///"
_ARTIFACTS = "mlflow"
_TABLES = "select name from sqlite_master where type = 'table'"
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps the places of artifacts, by table and column."""


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
            tables = {name for (name,) in database.execute(_TABLES)}
    except sqlite3.DatabaseError as error:
        # A full disk, missing rights, or somebody who looks at it say nothing about what is in it.
        return error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return said != "ok" or not tables.issuperset(("alembic_version", "experiments", "runs"))


def artifacts_of(path: str) -> str:
    """Return the URI of the folder beside a database that holds its artifacts."""
    return Path(path).absolute().with_name(_ARTIFACTS).as_uri()


def find_artifacts(path: str) -> None:
    """Name artifacts where they are, for a database that was copied or moved together with them:
    MLflow keeps the whole path of each, and would look, and write, where they were."""
    now = artifacts_of(path)
    with closing(sqlite3.connect(path)) as database, database:
        known = {name for (name,) in database.execute(_TABLES)}
        if "experiments" not in known:
            return
        experiments = database.execute(
            "select artifact_location, group_concat(run_uuid) from experiments"
            " join runs using (experiment_id) group by artifact_location"
        ).fetchall()
        for before, runs in experiments:
            if before in (None, now) or not _were_copied(before, now, runs.split(",")):
                continue
            for table, column in _PLACES:
                if table in known:
                    database.execute(
                        f"update {table} set {column} = ? || substr({column}, ?)"
                        f" where {column} = ? or substr({column}, 1, ?) = ?",
                        (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )


def _were_copied(before: str, now: str, runs: Sequence[str]) -> bool:
    """Whether the artifacts of runs were copied or moved from a folder to another: some are there,
    and none is in the first alone. Else they are somebody's who keeps them elsewhere, perhaps on a
    disk that is not mounted."""
    folder, here = local_path(before), local_path(now)
    if folder is None or here is None or os.path.basename(folder) != _ARTIFACTS:
        return False
    found = {run for run in runs if os.path.exists(os.path.join(here, run))}
    left = {run for run in runs if os.path.exists(os.path.join(folder, run))}
    return bool(found) and left <= found


def set_aside(path: str) -> str:
    """Rename a database, so that a new one takes its place; return the new name."""
    free = next(
        f"{path}.broken{n}" for n in itertools.count() if not os.path.exists(f"{path}.broken{n}")
    )
    os.rename(path, free)
    return free
