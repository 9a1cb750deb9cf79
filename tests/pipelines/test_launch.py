"""The launcher of a Flex Template starts our commands, and the templates' metadata says with
what."""

import json
import re
import shutil
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud import secretmanager
from google.cloud.dataflow_v1beta3.types import TemplateMetadata
from google.cloud.secretmanager_v1.types import AccessSecretVersionResponse

from pipelines import launch
from pipelines.beam.execute import beam_options
from pipelines.cli import module_of
from pipelines.launch import command_line, flags_of
from pipelines.templates import TEMPLATES, metadata
from sssl.errors import ConfigError
from sssl.store.folder import Store

INFRA = Path(__file__).parents[2] / "infra"


def parameters(stage):
    return {p["name"]: p for p in json.loads(metadata(stage))["parameters"]}


@pytest.mark.parametrize("stage", TEMPLATES)
def test_the_metadata_of_a_template_is_current(stage):
    assert (INFRA / "templates" / f"{stage}.json").read_text() == metadata(stage), "run `make docs`"


def test_there_is_no_metadata_of_anything_else():
    assert {path.stem for path in (INFRA / "templates").iterdir()} == set(TEMPLATES)


@pytest.mark.parametrize("stage", TEMPLATES)
def test_dataflow_knows_every_field_of_the_metadata(stage):
    assert TemplateMetadata.from_json(metadata(stage), ignore_unknown_fields=False).parameters


@pytest.mark.parametrize("stage", TEMPLATES)
def test_a_default_is_what_the_template_would_accept(stage):
    for flag in flags_of(module_of(stage).Config):
        parameter = parameters(stage)[flag.parameter]
        for regex in parameter.get("regexes", []):
            assert not parameter["isOptional"] or re.fullmatch(regex, str(flag.default))


def test_numbers_are_checked_before_a_launch():
    (regex,) = parameters("segment")["max_error_ratio"]["regexes"]
    assert all(re.fullmatch(regex, good) for good in ("3", "0.5", "-60.0", "1e-3"))
    assert not any(re.fullmatch(regex, bad) for bad in ("", "three", "3 s", "--3", "."))


@pytest.mark.parametrize("stage", TEMPLATES)
def test_no_parameter_of_ours_is_an_option_of_beams(stage):
    beams = set(PipelineOptions([]).get_all_options())
    assert not beams & {flag.parameter for flag in flags_of(module_of(stage).Config)}


def test_ours_and_beams_are_told_apart_and_values_become_words():
    args = [
        "--project=p",
        "--classes=happy sad",
        "--force=true",
        "--on_truncated=reject",
        "--no_use_public_ips",
        "--output=o",
    ]
    assert command_line("segment", args) == [
        "segment", "--classes", "happy", "sad", "--force", "--on_truncated=reject", "--output=o",
        "--", "--project=p", "--no_use_public_ips",
    ]  # fmt: skip
    assert command_line("segment", ["--labels=team=mir", "--track_labels=gs://b/l.csv"]) == [
        "segment", "--labels=gs://b/l.csv", "--", "--labels=team=mir",
    ]  # fmt: skip
    assert command_line("relabel", ["--neighbours=false"]) == [
        "relabel",
        "--neighbours=false",
    ]  # with a warning
    assert command_line("score", ["--large-model=True"]) == ["score", "--large-model"]
    assert command_line("judge", ["--max_drop=0.02"]) == ["judge", "--max_drop=0.02"]  # likewise
    with pytest.raises(ConfigError, match="--large-model"):
        command_line("score", ["--large_model=yes"])


def test_workers_run_as_an_account_of_their_own_wherever_the_launcher_puts_its_own():
    args = ["--worker_account=worker@p", "--output=o", "--service_account_email=launcher@p"]
    line = command_line("songs", args)
    assert line[:3] == ["songs", "--output=o", "--"]
    options = beam_options(line[3:])
    assert options.get_all_options()["service_account_email"] == "worker@p"


def test_a_launcher_s_arguments_run_a_stage(catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("SSSL_STAGE", "segment")
    output = str(tmp_path / "out")
    args = [
        f"--catalog={catalog}",
        f"--output={output}",
        "--tracks_per_part=6",
        "--force=false",
        "--runner=FnApiRunner",
    ]
    assert launch.main([*args, "--classes=Q4 Q3 Q2 Q1"]) == 0
    assert Store.open(output).latest().get("catalog").summary["classes"] == ["Q4", "Q3", "Q2", "Q1"]


def test_an_argument_that_nobody_knows_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSSL_STAGE", "songs")
    with pytest.raises(SystemExit, match="2"):
        launch.main([f"--output={tmp_path}", "--abstain_bellow=0.5"])
    assert "--abstain_bellow" in capsys.readouterr().err


def test_an_option_that_a_later_launcher_adds_is_passed_on_with_a_warning(caplog):
    given = ["--template_location=gs://b/job", "--option_of_tomorrow=1"]
    options = beam_options(given)
    assert options.get_all_options()["template_location"] == "gs://b/job"
    assert "Beam does not know --option_of_tomorrow=1" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        beam_options(given[1:])


def test_secrets_come_from_their_manager(monkeypatch):
    name = "projects/p/secrets/s/versions/latest"

    class Client:
        def access_secret_version(self, name):
            return AccessSecretVersionResponse(payload={"data": f"value of {name}".encode()})

    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", Client)
    environment = {"MLFLOW_TRACKING_URI": f"sm://{name}", "HOME": "/root"}
    launch.reveal(environment)
    assert environment == {"MLFLOW_TRACKING_URI": f"value of {name}", "HOME": "/root"}


@pytest.fixture
def template(cloud):
    """Arguments that a launcher gives beside the parameters, and where it expects the job."""
    bucket = cloud.make_bucket()
    job = f"{bucket}/staging/template_launches/1/job_object"
    args = [
        "--runner=DataflowRunner", "--project=project-1", "--region=europe-west4",
        "--job_name=sssl", "--no_auth",
        f"--temp_location={bucket}/tmp", f"--staging_location={bucket}/staging",
        f"--template_location={job}",
        "--sdk_container_image=europe-docker.pkg.dev/p/sssl/worker:1",
    ]  # fmt: skip
    return args, Store.at(bucket), job.removeprefix(f"{bucket}/")


def steps_of(bucket):
    (path,) = (path for path in bucket.find("staging") if path.endswith("pipeline.pb"))
    graph = beam_runner_api_pb2.Pipeline.FromString(bucket.read_bytes(path))
    (root,) = graph.root_transform_ids
    top = graph.components.transforms[root].subtransforms
    return {graph.components.transforms[name].unique_name for name in top}


def test_a_launcher_gets_a_job_and_the_same_command_publishes_what_it_made(
    finished, template, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SSSL_STAGE", "songs")
    copy = Store.at(str(shutil.copytree(finished.root, tmp_path / "out")))
    args, bucket, job = template
    parameters = [f"--output={copy.root}", "--abstain_below=0.9"]
    assert launch.main([*parameters, *args]) == 0
    assert "job built; once it has run, `sssl publish` publishes" in " ".join(
        capsys.readouterr().err.split()
    )
    assert bucket.exists(job)
    assert {"ListParts", "CommitParts"} <= steps_of(bucket)
    assert copy.latest() == finished.latest()
    # In the place of Dataflow; it commits, and a second look finds that.
    assert launch.main([*parameters, "--runner=FnApiRunner"]) == 0
    assert copy.latest().get("songs").config["abstain_below"] == 0.9


def test_a_launcher_gets_a_job_also_when_there_is_nothing_to_do(
    finished_copy, template, monkeypatch
):
    monkeypatch.setenv("SSSL_STAGE", "songs")
    args, bucket, job = template
    before = finished_copy.latest()
    assert launch.main([f"--output={finished_copy.root}", *args]) == 0
    assert bucket.exists(job)
    assert steps_of(bucket) == {"Create"}
    assert finished_copy.latest() == before
