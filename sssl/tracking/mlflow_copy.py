"""Records of runs on an MLflow server. What else imports mlflow: the model that MLflow loads
(sssl/tracking/pyfunc.py), and the models that it has registered (sssl/tracking/registered.py)."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import schemas
from sssl.store.folder import Store
from sssl.tracking.database import artifacts_of, path_of, without_empty_folders
from sssl.tracking.record import CARD_TITLE, NOTE, Dataset, LoggedModel, Record, RunRecord

LOGGER = logging.getLogger(__name__)
EXPERIMENT = "sssl"
MODEL = "sssl"
ALIAS = "champion"
"""Of the version that labels."""
_DIGEST_TAG = "sssl.model"
"""Tag of a version, by which it is found again."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # It prints where a run is to be seen with the user and password of the URL that it was given.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By itself MLflow asks a dead server for minutes; a training would wait as long, each time it
    # has something to say.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
"""What MLflow is told as it is loaded, unless the user says otherwise."""
_MODEL_NEEDS = (
    "av",
    "filelock",
    "fsspec",
    "mlflow",
    "msgspec",
    "numpy",
    "pandas",
    "psutil",
    "pyarrow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "soundfile",
    "soxr",
    "torch",
    "torchaudio",
)
"""What the logged model imports, with the modules of ours that it loads."""
# MLflow's limits per request.
_MOST_METRICS = 1000
_MOST_NAMES = 100

Item = TypeVar("Item")


class Untold(Exception):
    """A server that could not be told; the message says why, without what may be secret."""


class Refused(Untold):
    """A server that answers, and will go on to refuse until somebody changes something there."""


@dataclass
class _Known:
    """What a server has of a run."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: set[str] = field(default_factory=set)
    metrics: dict[tuple[str, int], float] = field(default_factory=dict)
    """The newest value by name and step."""
    datasets: set[tuple[str, str]] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


@dataclass
class _Version:
    """What a server has of a model."""

    digest: str = ""
    number: str = ""
    has_alias: bool = False


class Copy:
    """A record on a server, or in a database; `sent` counts what was not there yet."""

    def __init__(self, store: Store, record: Record, server: str) -> None:
        self.labels = False
        """Whether the record's model is the one that labels."""
        self._store = store
        self._record = record
        self._server = server
        self._client: Any = None
        self._experiment = ""
        self._known: dict[str, _Known] = {}
        self._version = _Version()
        self.sent = 0

    def send(self) -> None:
        """Send what is missing.

        Raises:
            Untold: the server is away, or refuses.
        """
        try:
            with without_empty_folders(self._server):
                self._connect()
                for name, run in self._record.runs.items():
                    self._send_run(name, run)
                self._send_model()
        except Untold:
            raise
        except Exception as error:
            # What comes out of HTTP, databases and MLflow has no end, and none of it may end a
            # training.
            raise Untold(_why(error)) from error

    def _connect(self) -> None:
        if self._client is not None:
            return
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow
        except ModuleNotFoundError as error:
            raise Untold("it is not installed: pip install 'sssl[mlflow]'") from error
        # SQLite's migrations and the model registry are chatty, and none of it is about the user's
        # music.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        client = mlflow.MlflowClient(tracking_uri=self._server)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            raise Refused(
                f"its experiment {name} is deleted: `{restore}`, or name another by"
                " MLFLOW_EXPERIMENT_NAME"
            )
        if found:
            self._experiment = found.experiment_id
        else:
            self._experiment = client.create_experiment(name, self._artifacts())
        self._client = client

    def _artifacts(self) -> str | None:
        """Return where artifacts go: beside a database, which by itself would take the working
        folder."""
        path = path_of(self._server)
        if path:
            return artifacts_of(path)
        return None

    def _send_run(self, name: str, run: RunRecord) -> None:
        if name not in self._known:
            self._known[name] = self._find(name, run) or self._create(name, run)
        known = self._known[name]
        self._send_names(known, run)
        self._send_metrics(known, run)
        self._send_datasets(known, run)
        for path in sorted(run.files.keys() - known.files):
            self._send_file(known, path, run.files[path])
        if known.status != run.status:
            self._send_status(known, run)

    def _tags(self, name: str) -> dict[str, str]:
        """Return the tags that a run is found by."""
        parent = {"mlflow.parentRunId": self._known[""].run_id} if name else {}
        return {"sssl.run": self._record.id, "sssl.round": name, **parent}

    def _find(self, name: str, run: RunRecord) -> _Known | None:
        conditions = [f"tags.`{tag}` = '{value}'" for tag, value in self._tags(name).items()]
        runs = self._client.search_runs([self._experiment], " and ".join(conditions))
        if not runs:
            return None
        found = runs[0]
        run_id = found.info.run_id
        data = found.data
        known = _Known(run_id, found.info.status, dict(data.tags), set(data.params))
        for metric in data.metrics:
            history = self._client.get_metric_history(run_id, metric)
            for measured in sorted(history, key=lambda one: one.timestamp):
                known.metrics[measured.key, measured.step] = measured.value
        inputs = found.inputs.dataset_inputs if found.inputs else []
        for given in inputs:
            dataset = given.dataset
            known.datasets.add((dataset.name, _full_digest(dataset)))
        folders = {os.path.dirname(path) for path in run.files}
        for folder in folders:
            listed = self._client.list_artifacts(run_id, folder)
            known.files |= {file.path for file in listed}
        return known

    def _create(self, name: str, run: RunRecord) -> _Known:
        tags = self._tags(name)
        made = self._client.create_run(self._experiment, run.started_ms, tags, run.name)
        self.sent += 1
        return _Known(made.info.run_id, made.info.status, tags)

    def _send_names(self, known: _Known, run: RunRecord) -> None:
        from mlflow.entities import Param, RunTag

        params = []
        for name, value in run.params.items():
            if name not in known.params:
                params.append(Param(name, value))
        tags = []
        for name, value in run.tags.items():
            there = known.tags.get(name)
            is_kept = name == NOTE and _is_own(there)
            if there != value and not is_kept:
                tags.append(RunTag(name, value))
        for values in _batches(params, _MOST_NAMES):
            self._client.log_batch(known.run_id, params=values)
        for marks in _batches(tags, _MOST_NAMES):
            self._client.log_batch(known.run_id, tags=marks)
        known.params |= run.params.keys()
        known.tags |= run.tags
        self.sent += len(params) + len(tags)

    def _send_metrics(self, known: _Known, run: RunRecord) -> None:
        from mlflow.entities import Metric

        new = [m for m in run.metrics if known.metrics.get((m.name, m.step)) != m.value]
        for some in _batches(new, _MOST_METRICS):
            metrics = [Metric(found.name, found.value, found.at_ms, found.step) for found in some]
            self._client.log_batch(known.run_id, metrics=metrics)
            known.metrics |= {(found.name, found.step): found.value for found in some}
            self.sent += len(some)

    def _send_datasets(self, known: _Known, run: RunRecord) -> None:
        from mlflow.entities import DatasetInput, InputTag

        tags = [InputTag("mlflow.data.context", "training")]
        new = [d for d in run.datasets if (d.name, d.digest) not in known.datasets]
        if new:
            inputs = [DatasetInput(_dataset(dataset), tags) for dataset in new]
            self._client.log_inputs(known.run_id, inputs)
            known.datasets |= {(dataset.name, dataset.digest) for dataset in new}
            self.sent += len(new)

    def _send_file(self, known: _Known, path: str, kept: str) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder, os.path.basename(path))
            file.write_bytes(self._store.read_bytes(kept))
            self._client.log_artifact(known.run_id, str(file), os.path.dirname(path))
        known.files.add(path)
        self.sent += 1

    def _send_status(self, known: _Known, run: RunRecord) -> None:
        if run.ended_ms is None:
            self._client.update_run(known.run_id, run.status)
        else:
            self._client.set_terminated(known.run_id, run.status, run.ended_ms)
        known.status = run.status
        self.sent += 1

    def _send_model(self) -> None:
        """Log the model and register it, unless the same one is registered, and name it where it is
        the one that labels."""
        model = self._record.model
        if model is None:
            return
        if self._version.digest != model.digest:
            number = self._registered(model)
            if number is None:
                return
            self._version = _Version(model.digest, number)
        if self.labels and not self._version.has_alias:
            self._client.set_registered_model_alias(MODEL, ALIAS, self._version.number)
            self._version.has_alias = True

    def _registered(self, model: LoggedModel) -> str | None:
        """Return the number of the model's version, registered now if it is not; None if its
        weights are gone."""
        if not all(map(self._store.exists, model.all_weights)):
            LOGGER.warning(
                "the model of run %s is no longer in %s", self._record.key, self._store.root
            )
            return None
        query = f"name = '{MODEL}' and tags.`{_DIGEST_TAG}` = '{model.digest}'"
        known = self._client.search_model_versions(query)
        if known:
            number = known[0].version
            described = known[0].description
        else:
            with TemporaryDirectory() as folder:
                logged = self._log_model(Path(folder), model)
            number = self._register(logged, model)
            described = None
            self.sent += 1
        if model.card and described != model.card and not _is_own(described):
            self._client.update_model_version(MODEL, number, model.card)
        return str(number)

    def _log_model(self, folder: Path, model: LoggedModel) -> Any:
        from mlflow.entities import LoggedModelOutput

        run_id = self._known[""].run_id
        made = self._client.create_logged_model(
            self._experiment, MODEL, run_id, params=self._record.whole.params
        )
        weights = folder / "weights"
        weights.mkdir()
        for number, path in enumerate(model.all_weights):
            file = weights / f"{number}.safetensors"
            file.write_bytes(self._store.read_bytes(path))
        (folder / "settings").write_text(json.dumps(model.settings))
        _save_model(folder, made, run_id)
        self._client.log_model_artifacts(made.model_id, str(folder / "model"))
        self._client.finalize_logged_model(made.model_id, "READY")
        self._client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
        return made

    def _register(self, logged: Any, model: LoggedModel) -> str:
        """Register a logged model; return its version."""
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

        tags = {
            _DIGEST_TAG: model.digest,
            "sssl.run": self._record.id,
            "songs.model_id": model.settings["model_id"],
        }
        if not self._client.search_registered_models(f"name = '{MODEL}'"):
            self._client.create_registered_model(
                MODEL, description="Emotion labels of songs, by sssl"
            )
        # By its place: MLflow would look its name up on the server that is the process' own.
        made = self._client.create_model_version(
            MODEL, logged.artifact_location, self._known[""].run_id, tags, model_id=logged.model_id
        )
        versions = json.dumps([{"name": MODEL, "version": made.version}])
        self._client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: versions})
        return str(made.version)


def _why(error: BaseException) -> str:
    """Say what is behind an error; a message with a URL in it may have a password in it."""
    if "://" not in str(error):
        return str(error)
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return type(error).__name__


def _is_own(description: str | None) -> bool:
    """Whether somebody described a run or a model in their own words: these stay."""
    return bool(description) and not str(description).startswith(CARD_TITLE)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _dataset(dataset: Dataset) -> Any:
    from mlflow.entities import Dataset as Entity

    scheme = dataset.uri.partition("://")[0] if "://" in dataset.uri else "local"
    source = json.dumps({"uri": dataset.uri})
    # MLflow's own digest is of the first rows, ours of all; it has room for 36 characters.
    short_digest = dataset.digest[:36]
    profile = json.dumps({"rows": dataset.rows, "sha256": dataset.digest})
    return Entity(dataset.name, short_digest, scheme, source, profile=profile)


def _full_digest(entity: Any) -> str:
    return str(json.loads(entity.profile)["sha256"])


def _save_model(folder: Path, logged: Any, run_id: str) -> None:
    """Save the model into `model` of a folder, which has its `weights` and `settings`."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model

    here = Path(__file__).parent
    ours = [here.parent, Path(schemas.__file__).parent]
    mlflow.pyfunc.save_model(
        folder / "model",
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        python_model=here / "pyfunc.py",
        artifacts={name: str(folder / name) for name in ("weights", "settings")},
        # Our own packages are on no index; what else it needs is named, for MLflow would find out
        # by running it.
        code_paths=[str(folder) for folder in ours],
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _MODEL_NEEDS],
        signature=_signature(),
        input_example=pd.DataFrame({"path": ["song.mp3"]}),
    )
    for cache in (folder / "model").rglob("__pycache__"):
        shutil.rmtree(cache)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    names = {"start_s": "double", "end_s": "double", "label": "string", "confidence": "double"}
    entry = Object([Property(name, DataType[kind]) for name, kind in names.items()])
    shown = {"label": DataType.string, "confidence": DataType.double, "abstained": DataType.boolean}
    outputs = [
        ColSpec(kind, name, required=False)
        for name, kind in (shown | {"timeline": Array(entry)}).items()
    ]
    outputs += [ColSpec(DataType.string, "reason", required=False)]
    path = ColSpec(DataType.string, "path")
    return ModelSignature(Schema([path]), Schema([path, *outputs]))
