"""MLflow: a parent run for a run of the method, a child for each round.

A run writes what it has to say into its record (sssl/tracking/record.py) and sends what a server
does not have yet. A server that is away is told at the next round, or by `sssl mlflow-sync`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import UnsupportedOperation
from shlex import quote
from typing import Any

from schemas import TABLES
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, digest_of
from sssl.tracking import database
from sssl.tracking.mlflow_copy import Copy, Untold
from sssl.tracking.record import FOLDER, NOTE, LoggedModel, Record, RunRecord, now_ms, read_records
from sssl.urls import without_secrets
from sssl.version import __version__

LOGGER = logging.getLogger(__name__)
_GOES_ON = (
    "MLflow at %s: %s; the run goes on, and `sssl mlflow-sync --output %s` sends later what is"
    " missing there"
)

_REMADE = (
    "%s is broken and was renamed to %s; a new one is made, and `sssl mlflow-sync --output %s`"
    " sends earlier runs"
)


class Tracker:
    """One run of the method in MLflow, found again by its key after a restart.

    Raises:
        StoreError: the output lies on an object store, which cannot hold MLflow's database, and no
            server is given.
    """

    def __init__(self, store: Store, uri: str | None, key: str, params: Mapping[str, Any]) -> None:
        server = server_of(store, uri)
        self._store = store
        self._record = Record.open(
            store, key, {"sssl.key": key, "sssl.output": without_secrets(store.root)}
        )
        self._record.whole.tags |= {"sssl.version": __version__, "mlflow.source.name": "sssl"}
        self._line = _Line(store, self._record, server)
        self._begin(self._record.whole, params)

    @contextmanager
    def round(self, round: int, params: Mapping[str, Any]) -> Iterator[RoundLog]:
        """Log a round as a child run; it is marked failed if the block raises."""
        run = self._record.round(round)
        self._begin(run, params)
        with self._finishing(run):
            yield RoundLog(run, self._line)

    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics of the whole run."""
        RoundLog(self._record.whole, self._line).log(metrics, step)

    def judged(
        self, round: int, metrics: Mapping[str, float | None], tags: Mapping[str, str]
    ) -> None:
        """Log what a round came to, once it is judged."""
        log = RoundLog(self._record.round(round), self._line)
        for name, value in tags.items():
            log.tag(name, value)
        log.log(metrics)

    def read(self, manifest: Manifest, uri: str) -> None:
        """Log what the whole run read."""
        RoundLog(self._record.whole, self._line).read(manifest, uri)

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the whole run."""
        RoundLog(self._record.whole, self._line).tag(name, value)

    def model(self, weights: Sequence[str], settings: Mapping[str, Any], card: str) -> None:
        """Log and register what labels from now on: the paths of its weights in the store, what
        goes with them, and its card, which describes the run, too."""
        first, *others = weights
        self._record.model = LoggedModel(
            first, dict(settings), digest_of(settings), tuple(others), card, now_ms()
        )
        self._line.labels = True
        self._record.whole.tags[NOTE] = card
        self._line.send()

    def files(self, contents: Mapping[str, bytes]) -> None:
        """Log files of the whole run, by their path among its artifacts."""
        for path, data in contents.items():
            kept = f"{FOLDER}/{self._record.key}/{path}"
            self._store.write_bytes(kept, data)
            self._record.whole.files[path] = kept
        self._line.send()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Mark the whole run finished after the block, failed if the block raises."""
        with self._finishing(self._record.whole):
            yield

    def _begin(self, run: RunRecord, params: Mapping[str, Any]) -> None:
        run.params = {name: str(value) for name, value in _flatten(params)} | run.params
        run.status = "RUNNING"
        run.ended_ms = None
        self._line.keep()

    @contextmanager
    def _finishing(self, run: RunRecord) -> Iterator[None]:
        try:
            yield
        except BaseException:
            run.finish("FAILED")
            self._line.keep(again=False)  # who stops a run does not wait for a dead server
            raise
        run.finish("FINISHED")
        self._line.keep()


class RoundLog:
    """Where a round's numbers go."""

    def __init__(self, run: RunRecord, line: _Line) -> None:
        self._run = run
        self._line = line

    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics at a step, leaving out those that could not be measured."""
        self._run.log(metrics, step)
        self._line.send()

    def tag(self, name: str, value: str) -> None:
        self._run.tags[name] = without_secrets(value)
        self._line.send()

    def read(self, manifest: Manifest, uri: str) -> None:
        """Log what is read, a table or a model, with the URI of its manifest."""
        self._run.tags[f"sssl.input.{manifest.table}"] = f"{manifest.ref} sha256:{manifest.digest}"
        if manifest.table in TABLES:
            self._run.dataset(manifest, without_secrets(uri))
        self._line.send()


class Untracked:
    """Stands in for a tracker, and for the log of a round, where nothing is to be logged."""

    @contextmanager
    def round(self, round: int, params: Mapping[str, Any]) -> Iterator[Untracked]:
        del round, params  # part of the interface
        yield self

    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None: ...

    def tag(self, name: str, value: str) -> None: ...

    def read(self, manifest: Manifest, uri: str) -> None: ...


class _Line:
    """The way from a record to a server; what nobody answers to stays in the record, and the run
    goes on."""

    def __init__(self, store: Store, record: Record, server: str) -> None:
        self._store = store
        self._record = record
        self._server = server
        self._copy: Copy | None = None
        self._dead = False
        self.labels = False
        """Whether the record's model is published, which one of before need not be."""

    def keep(self, *, again: bool = True) -> None:
        """Write the record, then send it, `again` also to a server that did not answer before."""
        self._record.save(self._store)
        self._dead = self._dead and not again
        self.send()

    def send(self) -> None:
        """Send what the server does not have yet, unless it did not answer since the record was
        last written."""
        if self._dead:
            return
        try:
            self._copy = self._copy or Copy(self._store, self._record, self._server)
            self._copy.labels = self.labels
            self._copy.send()
        except Untold as error:
            # What of an unanswered request arrived is looked up when there is an answer again.
            self._dead = True
            self._copy = None
            LOGGER.warning(_GOES_ON, without_secrets(self._server), error, quote(self._store.root))


def sync(store: Store, uri: str | None) -> int:
    """Send what a server does not have yet of the runs into an output folder; return how many
    things those were.

    Raises:
        Untold: the server is away, or refuses.
    """
    server = server_of(store, uri)
    sent = 0
    records = sorted(read_records(store), key=lambda record: record.labels_since)
    with_model = [record for record in records if record.model is not None]
    labelling = with_model[-1] if with_model else None
    for record in records:
        copy = Copy(store, record, server)
        copy.labels = record is labelling
        copy.send()
        sent += copy.sent
    return sent


def server_of(store: Store, uri: str | None) -> str:
    """Return the tracking server to use: as given, else MLFLOW_TRACKING_URI, else a database in the
    output folder.

    Raises:
        StoreError: there is no server, and the output folder is not on this machine.
    """
    try:
        return uri or os.environ.get("MLFLOW_TRACKING_URI") or _own_database(store)
    except UnsupportedOperation:
        raise StoreError(
            f"{store.root} cannot hold MLflow's database: give --mlflow-uri (or"
            " MLFLOW_TRACKING_URI) a server, or a database on this machine,"
            " sqlite:////path/mlflow.db"
        ) from None


def _own_database(store: Store) -> str:
    """Return the URL of the database in the output folder, a new one in the place of one that is
    broken: all that it held of our runs is in their records."""
    url = store.medium.database("mlflow.db")
    path = database.path_of(url)
    if path and database.is_broken(path):
        LOGGER.warning(_REMADE, path, database.set_aside(path), quote(store.root))
    elif path and os.path.exists(path):
        try:
            database.find_artifacts(path)
        except sqlite3.Error as error:  # somebody else writes it, or the disk is read-only
            LOGGER.warning("%s: %s; artifacts are looked for where they were", path, error)
    return url


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _harmless(value)


def _harmless(value: Any) -> Any:
    """Return a value without what may be secret in URLs, its own or those of a list."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, list | tuple):
        return [_harmless(one) for one in value]
    return value
