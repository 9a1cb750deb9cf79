"""What a run has to say to MLflow, kept in the output folder: a server that is away can be told
later.

O/tracking/<key>.json        the run and its rounds: params, metrics, tags, datasets, files, model
O/tracking/<key>/plots/...   files
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.records import later
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Manifest

FOLDER = "tracking"
NOTE = "mlflow.note.content"
"""Tag with what MLflow shows as the description of a run."""
CARD_TITLE = "# Emotion labels of songs"
"""First line of a model card: what begins otherwise, somebody else has written."""
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A table that a run read; `digest` is SHA-256 over the full content, `uri` leads to the
    manifest."""

    name: str
    digest: str
    uri: str
    rows: int


class Measured(NamedTuple):
    """A metric at a step, and when it was measured, in milliseconds."""

    name: str
    step: int
    value: float
    at_ms: int


@dataclass(frozen=True)
class LoggedModel:
    """Where the weights of what labels are, the settings that go with them, and the digest of both.

    Where two models label together, `other_weights` are those of the second.
    """

    weights: str
    settings: dict[str, Any]
    digest: str
    other_weights: tuple[str, ...] = later((), neutral=())
    card: str = later("", neutral="")
    """What people should know of it, as Markdown."""
    since_ms: int = later(0, neutral=0)
    """When it was last published, in milliseconds of Unix time; 0 where that was not noted."""

    @property
    def all_weights(self) -> tuple[str, ...]:
        return (self.weights, *self.other_weights)


@dataclass
class RunRecord:
    """One run of MLflow. A metric has one value per step: what is reported again after a
    restart counts once."""

    name: str
    tags: dict[str, str]
    started_ms: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Measured] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Path in the store by path among the artifacts."""
    status: str = "RUNNING"
    ended_ms: int | None = None

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Note metrics at a step, leaving out those that could not be measured and what is
        known."""
        known = {measured.name: measured for measured in self.metrics if measured.step == step}
        for name, value in metrics.items():
            before = known.get(name)
            if value is None or (before is not None and before.value == float(value)):
                continue
            if before is not None:
                self.metrics.remove(before)
            self.metrics.append(Measured(name, step, float(value), now_ms()))

    def dataset(self, manifest: Manifest, uri: str) -> None:
        """Note a table that was read."""
        found = Dataset(manifest.table, manifest.digest, uri, manifest.rows)
        if found not in self.datasets:
            self.datasets.append(found)

    def finish(self, status: str) -> None:
        self.status = status
        self.ended_ms = now_ms()


@dataclass
class Record:
    """A run of the method: `id` names it on every server, `runs` has the whole and, by their
    numbers, its rounds."""

    key: str
    id: str
    runs: dict[str, RunRecord]
    model: LoggedModel | None = None

    @classmethod
    def open(cls, store: Store, key: str, tags: Mapping[str, str]) -> Record:
        """Read the record of a run that goes on, or begin one, also where the record cannot be
        read."""
        known = store.read_record_if_whole(_path(key), cls)
        folder = store.root.rstrip("/").rpartition("/")[2]
        return known or cls(key, uuid.uuid4().hex, {"": _begun(f"{folder} {key[:6]}", tags)})

    @property
    def whole(self) -> RunRecord:
        return self.runs[""]

    @property
    def labels_since(self) -> tuple[int, int]:
        """When its model was published, and for those of one time, or of none, when it began."""
        published_ms = self.model.since_ms if self.model else 0
        return published_ms, self.whole.started_ms

    def round(self, round: int) -> RunRecord:
        """Return the record of a round, begun if it is new."""
        return self.runs.setdefault(
            str(round), _begun(f"round {round}", {"sssl.round": str(round)})
        )

    def save(self, store: Store) -> None:
        store.write_record(_path(self.key), self)


def read_records(store: Store) -> Iterator[Record]:
    """Read the records of all runs into an output folder; one that cannot be read is left out with
    a warning."""
    for name in store.names(FOLDER):
        if name.endswith(".json"):
            try:
                yield store.read_record(f"{FOLDER}/{name}", Record)
            except StoreError as error:
                LOGGER.warning("%s; it is left out", error)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _path(key: str) -> str:
    return f"{FOLDER}/{key}.json"


def _begun(name: str, tags: Mapping[str, str]) -> RunRecord:
    return RunRecord(name, dict(tags), now_ms())
