"""What a run has to say to MLflow, kept in the output folder: a server that is away can be told later.

O/tracking/<key>.json        the run and its rounds: params, metrics, tags, datasets, files, model
O/tracking/<key>/plots/...   files
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sssl.store.folder import Manifest, Store

FOLDER = "tracking"


@dataclass(frozen=True)
class Dataset:
    """A table that a run read; `digest` is SHA-256 over the full content, `uri` leads to the manifest."""

    name: str
    digest: str
    uri: str
    rows: int


@dataclass
class RunRecord:
    """One run of MLflow. Metrics are by name and step, so that what is reported again after a restart counts once."""

    name: str
    tags: dict[str, str]
    started_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    """Value and time in milliseconds."""
    datasets: list[Dataset] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Path in the store by path among the artifacts."""
    status: str = "RUNNING"
    ended_ms: int | None = None

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Note metrics at a step, leaving out those that could not be measured and what is known."""
        for name, value in metrics.items():
            if value is not None and self.metrics.get((name, step), (None,))[0] != float(value):
                self.metrics[name, step] = (float(value), now_ms())

    def dataset(self, manifest: Manifest, uri: str) -> None:
        """Note a table that was read."""
        found = Dataset(manifest.table, manifest.digest, uri, manifest.rows)
        if found not in self.datasets:
            self.datasets.append(found)

    def finish(self, status: str) -> None:
        self.status, self.ended_ms = status, now_ms()


@dataclass
class Record:
    """A run of the method: `id` names it on every server, `runs` has the whole and, by their numbers, its rounds."""

    key: str
    id: str
    runs: dict[str, RunRecord]
    model: dict[str, Any] | None = None
    """Where the weights are, the settings that go with them, and the digest of both."""

    @classmethod
    def open(cls, store: Store, key: str, tags: Mapping[str, str]) -> Record:
        """Read the record of a run that goes on, or begin one."""
        known = store.read_json_if_any(_path(key))
        return _of_json(known) if known else cls(key, uuid.uuid4().hex, {"": _begun(f"run {key}", tags)})

    @property
    def whole(self) -> RunRecord:
        return self.runs[""]

    def round(self, round: int) -> RunRecord:
        """Return the record of a round, begun if it is new."""
        return self.runs.setdefault(str(round), _begun(f"round {round}", {"sssl.round": str(round)}))

    def save(self, store: Store) -> None:
        store.write_json(_path(self.key), _to_json(self))


def read_records(store: Store) -> Iterator[Record]:
    """Read the records of all runs into an output folder."""
    for name in store.names(FOLDER):
        if name.endswith(".json"):
            yield _of_json(store.read_json(f"{FOLDER}/{name}"))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _path(key: str) -> str:
    return f"{FOLDER}/{key}.json"


def _begun(name: str, tags: Mapping[str, str]) -> RunRecord:
    return RunRecord(name, dict(tags), now_ms())


def _to_json(record: Record) -> dict[str, Any]:
    runs = {
        name: asdict(run) | {"metrics": [[*at, *measured] for at, measured in run.metrics.items()]}
        for name, run in record.runs.items()
    }
    return {"key": record.key, "id": record.id, "model": record.model, "runs": runs}


def _of_json(value: dict[str, Any]) -> Record:
    return Record(**(value | {"runs": {name: _run_of_json(run) for name, run in value["runs"].items()}}))


def _run_of_json(value: dict[str, Any]) -> RunRecord:
    metrics = {(name, step): (measured, at_ms) for name, step, measured, at_ms in value["metrics"]}
    return RunRecord(**(value | {"metrics": metrics, "datasets": [Dataset(**found) for found in value["datasets"]]}))
