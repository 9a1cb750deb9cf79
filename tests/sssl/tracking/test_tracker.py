import ast
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from pipelines.cli import main
from pipelines.commands.all_stages import state_metrics
from sssl.errors import StoreError
from sssl.songs.labeller import Recipe
from sssl.store.folder import Store
from sssl.store.rounds import read_rounds
from sssl.store.sql import connect
from sssl.tracking import database
from sssl.tracking.card import model_card
from sssl.tracking.mlflow_copy import _MODEL_NEEDS, Untold
from sssl.tracking.tracker import Tracker, server_of, sync
from sssl.version import __version__


@pytest.fixture(scope="module")
def runs(finished):
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{finished.root}/mlflow.db")
    experiment = client.get_experiment_by_name("sssl")
    return client, client.search_runs([experiment.experiment_id])


def test_a_run_is_a_parent_with_a_child_a_round(runs, finished):
    _, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [
        run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    ]
    assert sorted(run.data.tags["sssl.round"] for run in children) == ["0", "1", "2"]
    assert {run.info.status for run in found} == {"FINISHED"}


def test_metrics_come_by_epoch_and_by_round(runs, finished):
    client, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    history = client.get_metric_history(parent.info.run_id, "heldout_accuracy_mean_posterior")
    expected = {row.round: row.heldout_accuracy for row in read_rounds(finished, finished.latest())}
    assert {m.step: m.value for m in history} == pytest.approx(expected)
    (first,) = [run for run in found if run.data.tags.get("sssl.round") == "0"]
    assert [
        m.step for m in client.get_metric_history(first.info.run_id, "member0_train_loss")
    ] == list(range(8))


def test_params_are_the_config_and_inputs_are_named_by_digest(runs, finished):
    _, found = runs
    (first,) = [run for run in found if run.data.tags.get("sssl.round") == "0"]
    assert first.data.params["batch_size"] == "8"
    labels = finished.latest().get("labels", 0)
    assert first.data.tags["sssl.input.labels"] == f"{labels.ref} sha256:{labels.digest}"
    assert (
        first.data.tags["sssl.model_id"] == finished.latest().get("models", 0).summary["model_id"]
    )


def test_the_report_is_named_not_copied(runs, finished):
    """A takedown cannot reach into a tracking server; the plots there show no single track."""
    client, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.tags["sssl.report"] == finished.url("report.html")
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["plots"]


def interrupted_round(tracker):
    with tracker.round(0, {"c": 3}) as log:
        log.log({"loss": 0.5, "absent": None})
        raise KeyboardInterrupt


def test_a_restart_goes_on_in_the_same_run(tmp_path):
    store = Store.open(str(tmp_path / "o"), create=True)
    for _ in range(2):
        tracker = Tracker(store, None, "key", {"a": 1, "nested": {"b": 2}})
        with pytest.raises(KeyboardInterrupt):
            interrupted_round(tracker)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store.root}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("sssl").experiment_id])
    assert sorted(run.info.status for run in found) == ["FAILED", "RUNNING"]
    (parent,) = [run for run in found if run.info.status == "RUNNING"]
    assert parent.data.params == {"a": "1", "nested.b": "2"}


def test_artifacts_lie_beside_a_database_and_not_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tracker = Tracker(
        Store.open(str(tmp_path / "o"), create=True), f"sqlite:///{tmp_path}/a.db", "key", {}
    )
    tracker.files({"plots/a.svg": b"<svg/>"})
    assert [path.read_text() for path in (tmp_path / "mlflow").rglob("a.svg")] == ["<svg/>"]
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("name", ["q?x", "p%41 #1 [2024] 50% a&b;c'd"])
def test_the_database_lies_in_its_folder_whatever_that_is_called(name, tmp_path):
    store = Store.open(str(tmp_path / name / "o"), create=True)
    Tracker(store, None, "key", {"a": 1}).files({"plots/a.svg": b"<svg/>"})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["o"]
    database = tmp_path / name / "o" / "mlflow.db"
    assert sqlite3.connect(database).execute("select key, value from params").fetchall() == [
        ("a", "1")
    ]
    assert [path.read_text() for path in (database.parent / "mlflow").rglob("a.svg")] == ["<svg/>"]
    assert sync(store, None) == 0


def test_the_advice_to_send_later_can_be_pasted_into_a_shell(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = Store.open(str(tmp_path / "my music"), create=True)
    Tracker(store, "http://127.0.0.1:9", "key", {"a": 1})
    assert f"--output '{store.root}'" in caplog.text


def test_a_remote_output_needs_a_server():
    with pytest.raises(StoreError, match="cannot hold MLflow's database: give --mlflow-uri"):
        Tracker(Store.at("gs://bucket/o"), None, "key", {})


@pytest.mark.parametrize("how", ["emptied", "half", "not a database"])
def test_a_database_that_a_full_disk_broke_is_made_again(how, tmp_path):
    store = Store.open(str(tmp_path / "o"), create=True)
    Tracker(store, None, "key", {"a": 1})
    path = tmp_path / "o" / "mlflow.db"
    whole = path.read_bytes()
    path.write_bytes(
        {"emptied": b"", "half": whole[: len(whole) // 2], "not a database": b"no" * 5000}[how]
    )
    # In a process of its own: MLflow does not look again at a database that it has opened once.
    command = [sys.executable, "-m", "pipelines.cli", "mlflow-sync", "--output", store.root]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stderr for _ in range(2)
    )
    assert f"{path} is broken and was renamed to {path}.broken0" in first
    assert sqlite3.connect(path).execute("select key, value from params").fetchall() == [("a", "1")]
    assert "broken" not in second
    assert "nothing to send" in second


def test_a_deleted_experiment_is_said_with_what_to_do(tmp_path, capsys):
    store = Store.open(str(tmp_path / "o"), create=True)
    Tracker(store, None, "key", {"a": 1})
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store.root}/mlflow.db")
    number = client.get_experiment_by_name("sssl").experiment_id
    client.delete_experiment(number)
    assert main(["mlflow-sync", "--output", store.root]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(
        f"its experiment sssl is deleted: `mlflow experiments restore --experiment-id {number}`, "
        "or name another by MLFLOW_EXPERIMENT_NAME"
    )


def test_without_mlflow_a_run_goes_on_and_its_record_is_sent_once_mlflow_is_there(tmp_path, caplog):
    store = Store.open(str(tmp_path / "o"), create=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)
        with Tracker(store, None, "key", {"a": 1}).round(0, {}) as log:
            log.log({"loss": 0.5})
        assert "it is not installed: pip install 'sssl[mlflow]'; the run goes on" in caplog.text
        with pytest.raises(Untold, match="it is not installed"):
            sync(store, None)
    assert sync(store, None) > 0


def test_the_logged_model_names_every_package_that_it_imports():
    code = (
        "import sys, sssl.tracking.pyfunc; print(*(m.__file__ for n, m in sys.modules.items() if"
        " n.split('.')[0] in"
    )
    listed = subprocess.run(
        [sys.executable, "-c", f"{code} ('sssl', 'schemas')))"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set()
    for path in listed.stdout.split():
        with open(path) as file:
            for node in ast.parse(file.read()).body:
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.split(".")[0])
    needed = imported - sys.stdlib_module_names - {"sssl", "schemas"}
    assert needed == {name.replace("scikit-learn", "sklearn") for name in _MODEL_NEEDS}


def test_the_last_step_of_a_run_is_what_labels(runs, finished):
    """Published labels, then the mean posterior of what is in use; a round's own numbers are in its
    run."""
    client, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    snapshot = finished.latest()
    connection = connect(finished, snapshot)
    ((published,),) = connection.sql(
        "select avg((s.label = c.label)::int) from songs s join catalog c using (track_id) where"
        " split = 'test'"
    ).fetchall()
    assert parent.data.metrics["heldout_accuracy_published_label"] == pytest.approx(published)
    last = read_rounds(finished, snapshot)[-1]
    steps = {m.step: m.value for m in client.get_metric_history(parent.info.run_id, "suspects")}
    assert steps[last.round] == connection.sql("select count(*) from suspects").fetchall()[0][0]
    assert {run.data.tags["sssl.verdict"] for run in found if run is not parent} == {"accepted"}
    (child,) = [run for run in found if run.data.tags.get("sssl.round") == str(last.round)]
    assert child.data.metrics["heldout_accuracy_mean_posterior"] == pytest.approx(
        last.heldout_accuracy
    )
    assert child.data.tags["sssl.reason"] == last.reason
    assert "look wrong" in parent.data.tags["sssl.findings"]


def test_a_run_has_the_datasets_that_its_rounds_read(runs):
    _, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    names = [given.dataset.name for given in parent.inputs.dataset_inputs]
    assert sorted(names) == ["catalog", "labels", "labels", "labels", "segments"]


def test_a_rejected_round_leaves_the_numbers_of_what_is_in_use(report_folder):
    store, snapshot = report_folder
    row = read_rounds(store, snapshot)[-1]
    assert not row.accepted
    state = state_metrics(store, snapshot)
    (accepted,) = [row for row in read_rounds(store, snapshot) if row.round == 1]
    assert state["heldout_accuracy_mean_posterior"] == pytest.approx(accepted.heldout_accuracy)
    assert row.heldout_accuracy != accepted.heldout_accuracy


def test_the_registered_version_and_the_run_have_the_card_of_the_model(runs, finished):
    client, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    version = client.get_model_version_by_alias("sssl", "champion")
    assert version.description == parent.data.tags["mlflow.note.content"]
    assert version.description == model_card(finished, finished.latest())
    said = ("learned from", "published label, held out", "calibration error", "Limits", "Licence")
    assert all(text in version.description for text in said)
    assert parent.data.tags["sssl.version"] == __version__
    assert parent.info.run_name.startswith(Path(finished.root).name)


def test_metrics_say_how_many_abstain_and_how_far_confidence_is_off(runs):
    _, found = runs
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    metrics = parent.data.metrics
    share = metrics["tracks_abstained"] / metrics["tracks_labelled"]
    assert metrics["tracks_abstained_share"] == share
    assert 0 <= metrics["calibration_error"] <= 1


def test_artifacts_are_found_in_a_folder_that_was_copied(finished, tmp_path):
    """And none is written into the folder that it was copied from."""
    copied = Path(shutil.copytree(finished.root, tmp_path / "copy"))
    store = Store.open(str(copied))
    server = server_of(store, None)
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("sssl")
    runs = client.search_runs([experiment.experiment_id])
    version = client.get_model_version_by_alias("sssl", "champion")
    places = [
        experiment.artifact_location,
        version.source,
        *(run.info.artifact_uri for run in runs),
    ]
    assert all(place.startswith((copied / "mlflow").as_uri()) for place in places)
    assert mlflow.pyfunc.load_model(version.source, suppress_warnings=True)
    sync(store, None)
    shutil.rmtree(copied / "mlflow")
    assert server_of(store, None) == server  # what is where it should be stays


def test_artifacts_that_somebody_keeps_elsewhere_are_looked_for_there(finished, tmp_path):
    """As are all of a database that was copied without them."""
    path = tmp_path / "mlflow.db"
    shutil.copy(f"{finished.root}/mlflow.db", path)
    (tmp_path / "mlflow").mkdir()
    place = "select artifact_location from experiments where name = 'sssl'"
    before = sqlite3.connect(path).execute(place).fetchall()
    database.find_artifacts(str(path))
    assert sqlite3.connect(path).execute(place).fetchall() == before
    with sqlite3.connect(path) as changed:  # a disk that is not mounted now
        changed.execute("update experiments set artifact_location = 'file:///nas/mlflow'")
    database.find_artifacts(str(path))
    assert set(sqlite3.connect(path).execute(place).fetchall()) == {("file:///nas/mlflow",)}
    with sqlite3.connect(path) as changed:
        changed.execute("update experiments set artifact_location = 'gs://team/mlflow'")
    database.find_artifacts(str(path))
    assert sqlite3.connect(path).execute(place).fetchall() == [("gs://team/mlflow",)]


def test_no_secret_in_a_list_is_a_param(tmp_path):
    store = Store.open(str(tmp_path / "o"), create=True)
    given = {"allow_uri": ["https://user:pass@host/music?signature=s"], "n": (1, 2)}
    Tracker(store, None, "key", given)
    kept = (tmp_path / "o" / "tracking" / "key.json").read_text()
    assert "host/music" in kept
    assert "pass" not in kept
    assert "signature=s" not in kept


def test_what_somebody_wrote_of_a_run_and_a_model_stays(finished, tmp_path):
    copied = Path(shutil.copytree(finished.root, tmp_path / "copy"))
    store = Store.open(str(copied))
    client = mlflow.MlflowClient(server_of(store, None))
    version = client.get_model_version_by_alias("sssl", "champion")
    client.update_model_version("sssl", version.version, "approved, ticket 12")
    client.set_tag(version.run_id, "mlflow.note.content", "a note")
    sync(store, None)
    assert client.get_model_version("sssl", version.version).description == "approved, ticket 12"
    assert client.get_run(version.run_id).data.tags["mlflow.note.content"] == "a note"


def test_a_metric_that_is_measured_otherwise_later_is_sent_again(tmp_path):
    store = Store.open(str(tmp_path / "o"), create=True)
    for value in (0.5, 0.75, 0.75):
        Tracker(store, None, "key", {}).log({"precision": value})
    client = mlflow.MlflowClient(server_of(store, None))
    (run,) = client.search_runs([client.get_experiment_by_name("sssl").experiment_id])
    assert run.data.metrics["precision"] == 0.75
    assert len(client.get_metric_history(run.info.run_id, "precision")) == 2


def test_the_champion_is_the_model_that_was_published_last(finished, tmp_path):
    """Not that of the run that began last, and none before its songs are published."""
    store = Store.open(str(shutil.copytree(finished.root, tmp_path / "copy")))
    client = mlflow.MlflowClient(server_of(store, None))
    recipe = Recipe.of(store, store.latest())

    def publish(key):
        tracker = Tracker(store, None, key, {})
        before = client.get_model_version_by_alias("sssl", "champion").version
        with tracker.whole():
            tracker.model(recipe.weights, recipe.settings | {"key": key}, "")
        return before, client.get_model_version_by_alias("sssl", "champion").version

    _, first = publish("a")
    _, second = publish("b")
    assert first != second
    assert publish("a") == (second, first)
    client.set_registered_model_alias("sssl", "champion", second)
    sync(store, None)
    assert client.get_model_version_by_alias("sssl", "champion").version == first
