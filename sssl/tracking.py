"""MLflow: a parent run for a run of the method, a child for each round. The only file that imports mlflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sssl.store import Store, StoreError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
EXPERIMENT = "sssl"


class Tracker:
    """One run of the method in MLflow, found again by its key after a restart.

    Raises:
        StoreError: the output lies on an object store, which cannot hold MLflow's database, and no server is given.
    """

    def __init__(self, store: Store, uri: str | None, key: str, params: Mapping[str, Any]) -> None:
        import mlflow

        # SQLite's migrations and the model registry are chatty, and none of it is about the user's music.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        server = server_of(store, uri)
        self._client = mlflow.MlflowClient(tracking_uri=server or f"sqlite:///{store.local_path}/mlflow.db")
        found = self._client.get_experiment_by_name(EXPERIMENT)
        artifacts = None if server else f"{store.root}/mlflow"
        self._experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT, artifacts)
        self._parent = self._run({"sssl.key": key, "sssl.output": without_secrets(store.root)}, f"run {key}")
        self._log_params(self._parent, params)

    @contextmanager
    def round(self, round: int, params: Mapping[str, Any]) -> Iterator[RoundLog]:
        """Log a round as a child run; it is marked failed if the block raises."""
        tags = {"mlflow.parentRunId": self._parent, "sssl.round": str(round)}
        run_id = self._run(tags, f"round {round}")
        self._log_params(run_id, params)
        try:
            yield RoundLog(self._client, run_id)
        except BaseException:
            self._client.set_terminated(run_id, "FAILED")
            raise
        self._client.set_terminated(run_id, "FINISHED")

    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics of the whole run."""
        RoundLog(self._client, self._parent).log(metrics, step)

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the whole run."""
        RoundLog(self._client, self._parent).tag(name, value)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Mark the whole run finished after the block, failed if the block raises."""
        try:
            yield
        except BaseException:
            self._client.set_terminated(self._parent, "FAILED")
            raise
        self._client.set_terminated(self._parent, "FINISHED")

    def _run(self, tags: dict[str, str], name: str) -> str:
        query = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items() if tag != "sssl.output")
        for run in self._client.search_runs([self._experiment], query):
            self._client.update_run(run.info.run_id, "RUNNING")
            return str(run.info.run_id)
        return str(self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        known = self._client.get_run(run_id).data.params
        for name, value in _flatten(params):
            if name not in known:
                self._client.log_param(run_id, name, value)


class RoundLog:
    """Where a round's numbers go."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics at a step, leaving out those that could not be measured."""
        for name, value in metrics.items():
            if value is not None:
                self._client.log_metric(self._run_id, name, float(value), step=step)

    def tag(self, name: str, value: str) -> None:
        self._client.set_tag(self._run_id, name, value)


class Untracked:
    """Stands in for a tracker, and for the log of a round, where nothing is to be logged."""

    @contextmanager
    def round(self, round: int, params: Mapping[str, Any]) -> Iterator[Untracked]:
        del round, params  # part of the interface
        yield self

    def log(self, metrics: Mapping[str, float | None], step: int = 0) -> None: ...

    def tag(self, name: str, value: str) -> None: ...


def server_of(store: Store, uri: str | None) -> str | None:
    """Return the tracking server to use, by default MLFLOW_TRACKING_URI; None: a database in the output folder.

    Raises:
        StoreError: there is no server, and the output folder is not on this machine.
    """
    server = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if server is None and store.local_path is None:
        raise StoreError(
            f"{store.root} cannot hold MLflow's database: give --mlflow-uri (or MLFLOW_TRACKING_URI) a server, "
            "or a database on this machine, sqlite:////path/mlflow.db"
        )
    return server


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", without_secrets(value) if isinstance(value, str) else value


def without_secrets(url: str) -> str:
    """Leave out of a URL what may be secret: user and password, and the query, where signatures are."""
    return "::".join(map(_without_secrets, url.split("::")))


def _without_secrets(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
