"""MLflow as its users find it: a server over HTTP, one that dies, and the model that it hands
out."""

import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from conftest import write_catalog
from mlflow.pyfunc.scoring_server import predictions_to_json
from mlflow_server import free_port, mlflow_server

import sssl
from pipelines.cli import main
from sssl.store.folder import Store
from sssl.tracking.tracker import Tracker, sync

TINY = [
    "--tracks-per-part", "4", "--folds", "3", "--warmup-epochs", "2", "--epochs", "1",
    "--rounds", "1",
    "--min-separation", "None", "--min-agreement", "None", "--batch-size", "8", "--accept-all",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """A tiny `sssl run` against the server, and a song of its catalog."""
    folder = tmp_path_factory.mktemp("tracked")
    catalog, output = (
        write_catalog(folder / "music", tracks_per_class=4, seconds=6.0),
        folder / "out",
    )
    assert (
        main(["run", "--catalog", catalog, "--output", str(output), "--mlflow-uri", server, *TINY])
        == 0
    )
    return SimpleNamespace(
        store=Store.open(str(output)), song=str(folder / "music" / "audio" / "new.wav")
    )


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "o"), create=True)


@contextlib.contextmanager
def current(uri):
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # and out of the environment


def runs_of(uri, store):
    """The runs of an output folder on a server, as their user would compare them."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("sssl")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    ids = {
        json.loads(store.read_bytes(f"tracking/{name}"))["id"]
        for name in store.names("tracking")
        if "." in name
    }
    mine = [run for run in found if run.data.tags.get("sssl.run") in ids]
    histories = {
        (run.info.run_name, name): [(m.step, m.value, m.timestamp) for m in history]
        for run in mine
        for name in run.data.metrics
        for history in [client.get_metric_history(run.info.run_id, name)]
    }
    return {run.info.run_name: run for run in mine}, histories, len(mine)


def test_a_run_and_its_rounds_are_on_the_server(server, run):
    runs, histories, count = runs_of(server, run.store)
    assert count == len(runs) == 3
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert [step for step, _, _ in histories["round 0", "member0_train_loss"]] == [0, 1]
    (whole,) = [name for name in runs if not name.startswith("round ")]
    assert [step for step, _, _ in histories[whole, "heldout_accuracy_mean_posterior"]] == [0, 1]
    assert runs[whole].data.params["method.train.batch_size"] == "8"


def test_datasets_are_named_by_their_full_content_and_their_manifest(server, run):
    runs, _, _ = runs_of(server, run.store)
    found = {given.dataset.name: given.dataset for given in runs["round 1"].inputs.dataset_inputs}
    for manifest in [
        m for m in run.store.latest().manifests if m.table in found and m.round in (None, 1)
    ]:
        dataset = found[manifest.table]
        source = mlflow.data.get_source(dataset)
        assert (
            run.store.url(f"{manifest.ref}/_manifest.json") == json.loads(source.to_json())["uri"]
        )
        assert json.loads(dataset.profile) == {"rows": manifest.rows, "sha256": manifest.digest}
        assert manifest.digest.startswith(dataset.digest)
    assert found.keys() == {"catalog", "features", "labels"}


def test_plots_that_show_no_single_track_are_artifacts(server, run):
    client = mlflow.MlflowClient(tracking_uri=server)
    runs, _, _ = runs_of(server, run.store)
    (whole,) = [found for name, found in runs.items() if not name.startswith("round ")]
    listed = {file.path for file in client.list_artifacts(whole.info.run_id, "plots")}
    assert {
        "plots/accuracy_by_round.svg",
        "plots/song_confidence.svg",
        "plots/losses_round_1.svg",
    } <= listed
    with current(server):
        text = mlflow.artifacts.load_text(f"runs:/{whole.info.run_id}/plots/accuracy_by_round.svg")
    assert text.startswith("<svg xmlns=")
    assert "var(--" not in text


def test_the_registered_model_labels_a_path_as_the_output_does(server, run):
    with current(server):
        model = mlflow.pyfunc.load_model("models:/sssl/1")
    expected = sssl.label(run.store.root, run.song)
    found = model.predict(pd.DataFrame({"path": [run.song, "gone.mp3"]}))
    answer = json.loads(
        predictions_json(found), parse_constant=pytest.fail
    )  # NaN, which only Python reads
    assert [row["label"] for row in answer["predictions"]] == [expected.label, None]
    assert found.columns.tolist() == [spec.name for spec in model.metadata.signature.outputs.inputs]
    assert found["label"][0] == expected.label
    assert found["confidence"][0] == expected.confidence
    assert found["timeline"][0] == expected.timeline
    assert found["reason"].tolist()[1] == "missing"
    assert pd.isna(found["label"][1])
    assert model.predict({"path": [run.song, run.song]})["label"].tolist() == [expected.label] * 2


def test_the_model_of_a_run_has_what_a_client_shows_of_it(server, run):
    runs, _, _ = runs_of(server, run.store)
    (whole,) = [found for name, found in runs.items() if not name.startswith("round ")]
    client = mlflow.MlflowClient(tracking_uri=server)
    (version,) = client.search_model_versions("name = 'sssl'")
    assert client.get_model_version_by_alias("sssl", "champion").version == version.version
    assert (
        version.tags["songs.model_id"]
        == run.store.read_table(run.store.latest().get("songs"))["model_id"][0].as_py()
    )
    assert version.run_id == whole.info.run_id
    (output,) = whole.outputs.model_outputs
    assert output.model_id in version.source
    with current(server):
        info = mlflow.models.get_model_info(f"models:/{output.model_id}")
    assert info.signature.inputs.input_names() == ["path"]
    assert info.saved_input_example_info is not None


def predictions_json(found):
    """What `mlflow models serve` answers."""
    answer = io.StringIO()
    predictions_to_json(found, answer)
    return answer.getvalue()


ALONE = """
import ast, pathlib, sys
from importlib.metadata import packages_distributions
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict([{"path": sys.argv[2]}])["label"][0])
packages = ("sssl", "schemas")
ours = {name: m.__file__ for name, m in sys.modules.items() if name.split(".")[0] in packages}
assert all(path.startswith(sys.argv[1]) for path in ours.values()), ours
assert "pipelines" not in sys.modules
imported = {
    name.split(".")[0]
    for path in ours.values()
    for node in ast.walk(ast.parse(pathlib.Path(path).read_text()))
    for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else
                 [node.module] if isinstance(node, ast.ImportFrom) else [])
}
loaded = {name for name in imported if name in sys.modules and name not in sys.stdlib_module_names}
needed = {packages_distributions()[name][0].lower() for name in loaded - {"sssl", "schemas"}}
requirements = pathlib.Path(sys.argv[1], "requirements.txt").read_text()
given = {line.split("==")[0] for line in requirements.split()}
assert needed <= given, needed - given
"""


def test_the_logged_model_needs_none_of_our_checkout(server, run, tmp_path):
    with current(server):
        mlflow.artifacts.download_artifacts("models:/sssl/1", dst_path=str(tmp_path / "model"))
    process = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "model"), run.song],
        cwd=tmp_path, env={"PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout.split() == [sssl.label(run.store.root, run.song).label], process.stderr


def test_a_sync_after_a_run_that_was_heard_has_nothing_to_send(server, run, capfd):
    before = runs_of(server, run.store)[1:]
    assert main(["mlflow-sync", "--output", run.store.root, "--mlflow-uri", server]) == 0
    assert "nothing to send" in capfd.readouterr().err
    assert runs_of(server, run.store)[1:] == before


def test_a_folder_that_nothing_was_trained_in_has_no_run_to_send(tmp_path, capsys):
    Store.open(str(tmp_path), create=True)
    assert (
        main(["mlflow-sync", "--output", str(tmp_path), "--mlflow-uri", "http://127.0.0.1:9"]) == 0
    )
    assert (
        f"no training run is recorded in {tmp_path}/tracking: nothing to send"
        in capsys.readouterr().err
    )


def test_a_run_is_copied_to_another_server_once(server, run, tmp_path):
    with mlflow_server(tmp_path / "other") as other:
        for sent in (True, False):
            assert (sync(run.store, other) > 0) == sent
        assert runs_of(other, run.store)[1:] == runs_of(server, run.store)[1:]
        with current(other):
            model = mlflow.pyfunc.load_model("models:/sssl/1")
            assert model.predict([{"path": run.song}])["reason"].isna().all()
        assert [
            version.version for version in mlflow.MlflowClient(other).search_model_versions()
        ] == ["1"]


def test_a_dead_server_kills_no_training_and_is_told_later(run, tmp_path, impatient, caplog, capfd):
    output, port = str(shutil.copytree(run.store.root, tmp_path / "out")), free_port()
    shutil.rmtree(f"{output}/tracking")
    dead = f"http://someone:PASSWORD1@127.0.0.1:{port}"
    flags = ["--output", output, "--round", "0", "--warmup-epochs", "1", "--batch-size", "8"]
    assert main(["train", *flags, "--mlflow-uri", dead]) == 0
    assert (
        f"MLflow at http://127.0.0.1:{port}: ConnectionRefusedError; the run goes on" in caplog.text
    )
    assert main(["mlflow-sync", "--output", output, "--mlflow-uri", dead]) == 1
    store = Store.open(output)
    with mlflow_server(tmp_path / "server", port) as url:
        for _ in range(2):
            assert main(["mlflow-sync", "--output", output, "--mlflow-uri", dead]) == 0  # no longer
            runs, histories, count = runs_of(url, store)
            assert count == 2
            assert [step for step, _, _ in histories["round 0", "member1_train_loss"]] == [0]
            assert {run.info.status for run in runs.values()} == {"FINISHED"}
    secret = subprocess.run(
        ["grep", "-rl", "PASSWORD1", output, tmp_path / "server"], capture_output=True, check=False
    )
    assert not secret.stdout
    assert "PASSWORD1" not in caplog.text + "".join(capfd.readouterr())


def test_a_server_that_dies_amid_a_round_gets_the_rest_at_the_next(
    store, tmp_path, impatient, caplog
):
    port = free_port()
    with mlflow_server(tmp_path / "server", port) as url:
        tracker = Tracker(store, url, "key", {"a": 1})
        with tracker.round(0, {"b": 2}) as log:
            log.log({"loss": 0.5}, step=0)
    with tracker.round(1, {"b": 2}) as log:
        for step in range(20):
            log.log({"loss": 0.1 * step}, step=step)
    assert (
        caplog.text.count("the run goes on") == 2
    )  # when the round begins and when it ends, not 20 times
    with mlflow_server(tmp_path / "server", port) as url, tracker.whole():
        tracker.log({"done": 1.0})
    with mlflow_server(tmp_path / "server", port) as url:
        runs, histories, count = runs_of(url, store)
        assert count == 3
        assert [step for step, _, _ in histories["round 1", "loss"]] == list(range(20))
        assert [step for step, _, _ in histories["round 0", "loss"]] == [0]
        assert sync(store, url) == 0


def test_a_server_that_never_answers_costs_seconds(store, impatient, caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        tracker = Tracker(store, f"http://127.0.0.1:{silent.getsockname()[1]}", "key", {})
        for step in range(50):
            tracker.log({"loss": 1.0}, step)
        assert time.monotonic() - start < 30
    assert "the run goes on" in caplog.text


def test_two_outputs_are_two_runs_though_their_names_and_catalogs_are_the_same(tmp_path, server):
    stores = [Store.open(str(tmp_path / name / "out"), create=True) for name in "ab"]
    for store in stores:
        Tracker(store, server, "the same key", {})
    runs = [runs_of(server, store)[0].popitem()[1] for store in stores]
    assert len({run.info.run_id for run in runs}) == 2
