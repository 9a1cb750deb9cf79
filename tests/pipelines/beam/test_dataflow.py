"""Jobs as they would go to Dataflow, built by our commands without any network."""

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.common_urns import environments, resource_hints
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.dataflow.internal import apiclient

from pipelines.beam.execute import beam_options, run_job
from pipelines.beam.job import Job
from pipelines.cli import main
from pipelines.errors import HandedOver
from pipelines.stages import score
from sssl.model.score import ScoreConfig
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile

IMAGE, ACCOUNT = "europe-docker.pkg.dev/p/sssl/worker-gpu:1", "worker@p.iam.gserviceaccount.com"
SUBNET = "https://www.googleapis.com/compute/v1/projects/p/regions/europe-west4/subnetworks/sssl"
L4 = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver:5xx"
JOBS = Path(__file__).parent / "jobs"
TERRAFORM = Path(__file__).parents[3] / "infra/terraform/workflow.tf"
TO_DATAFLOW = [
    "--runner=DataflowRunner", "--project=p", "--region=europe-west4", "--temp_location=gs://b/tmp",
    f"--sdk_container_image={IMAGE}", "--sdk_location=container",
    f"--service_account_email={ACCOUNT}",
    "--no_use_public_ips", f"--subnetwork={SUBNET}", "--disk_size_gb=50", "--max_num_workers=200",
    "--machine_type=n2-standard-4", "--experiments=no_use_multiple_sdk_containers",
    "--number_of_worker_harness_threads=2",
    "--dataflow_service_options=enable_preflight_validation=false", "--label=team=mir",
]  # fmt: skip


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that Beam built, described in full, as they are right before they are sent."""
    built = []
    # Looks into the bucket, to warn of its soft deletion.
    monkeypatch.setattr(
        "apache_beam.options.pipeline_options.GoogleCloudOptions.validate",
        lambda self, validator: [],
    )
    run_pipeline = dataflow_runner.DataflowRunner.run_pipeline

    def keep(self, *args, **kwargs):
        result = run_pipeline(self, *args, **kwargs)
        self.job.proto.environment = apiclient.Environment(
            packages=[],
            options=self.job.options,
            environment_version="8",
            proto_pipeline_staged_url="gs://b/tmp/pipeline.pb",
            proto_pipeline=self.job.proto_pipeline,
        ).proto
        built.append(self.job)
        return result

    monkeypatch.setattr(dataflow_runner.DataflowRunner, "run_pipeline", keep)
    return built


@pytest.fixture
def output(finished, tmp_path):
    """A finished output of which the scores of round 0, and what was made from them, are gone."""
    folder = str(shutil.copytree(finished.root, tmp_path / "out"))
    store = Store.open(folder)
    store.publish(store.latest().without("scores").without("songs"))
    for table in ("scores", "songs"):
        for within in ("", "_parts/", "_receipts/"):
            shutil.rmtree(f"{folder}/{within}{table}")
    return folder


def dry_run(*command):
    return main([*command, "--", *TO_DATAFLOW, "--dry_run=True"])


def role_of(artifact):
    """Return the name that a file is staged under."""
    return beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(
        artifact.role_payload
    ).staged_name


def hints_by_step(job):
    """Return the accelerator that each step of our pipeline asks for."""
    components = job.proto_pipeline.components
    asked = {
        name: environment.resource_hints.get(resource_hints.ACCELERATOR.urn, b"").decode()
        for name, environment in components.environments.items()
    }
    return {
        t.unique_name: asked[t.environment_id]
        for t in components.transforms.values()
        if t.environment_id
    }


def test_only_the_scoring_step_asks_for_an_accelerator(output, jobs):
    assert dry_run("score", "--output", output, "--round", "0", "--accelerator", L4) == 0
    (job,) = jobs
    asking = {step for step, hint in hints_by_step(job).items() if hint}
    assert asking == {step for step in hints_by_step(job) if step.startswith("RunInference")}
    assert any(step.endswith("BeamML_RunInference") for step in asking)
    assert set(hints_by_step(job).values()) == {"", L4}


def test_no_step_asks_for_an_accelerator_by_itself(output, jobs):
    assert dry_run("score", "--output", output, "--round", "0") == 0
    assert set(hints_by_step(jobs[0]).values()) == {""}


def test_a_worker_without_the_gpu_that_was_asked_for_does_not_score_on_its_cpu(output, capfd):
    assert main(["score", "--output", output, "--round", "0", "--accelerator", L4]) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert f"--accelerator {L4}: torch" in said
    assert "finds no GPU" in said


def test_options_behind_the_dashes_reach_the_job(output, jobs):
    assert dry_run("score", "--output", output, "--round", "0", "--accelerator", L4) == 0
    environment = jobs[0].proto.environment
    (pool,) = environment.worker_pools
    assert environment.service_account_email == ACCOUNT
    assert environment.service_options == ["enable_preflight_validation=false"]
    assert "no_use_multiple_sdk_containers" in environment.experiments
    assert "use_multiple_sdk_containers" not in environment.experiments
    assert pool.ip_configuration.name == "WORKER_IP_PRIVATE"
    assert (pool.subnetwork, pool.machine_type, pool.disk_size_gb) == (SUBNET, "n2-standard-4", 50)
    assert pool.num_threads_per_worker == 2
    assert pool.autoscaling_settings.max_num_workers == 200
    assert {image.container_image for image in pool.sdk_harness_container_images} == {IMAGE}
    assert jobs[0].proto.labels == {"team": "mir"}


def test_the_code_is_in_the_image_and_nothing_is_staged(output, jobs):
    assert dry_run("score", "--output", output, "--round", "0") == 0
    for environment in jobs[0].proto_pipeline.components.environments.values():
        assert environment.urn == environments.DOCKER.urn
        assert [role_of(artifact) for artifact in environment.dependencies] == [
            "submission_environment_dependencies.txt"
        ]


def described(job):
    """Return what of a job decides where its steps run, as JSON."""
    (pool,) = job.proto.environment.worker_pools
    components = job.proto_pipeline.components
    inner = {
        name for transform in components.transforms.values() for name in transform.subtransforms
    }
    names = {components.transforms[name].unique_name for name in inner}
    top = {name.partition("/")[0] for name in names if name}
    hints = hints_by_step(job)
    value = {
        "type": job.proto.type_.name,
        "machine": pool.machine_type,
        "disk_gb": pool.disk_size_gb,
        "threads_per_process": pool.num_threads_per_worker,
        "most_workers": pool.autoscaling_settings.max_num_workers,
        "steps": {
            name: " ".join({hint for step, hint in hints.items() if step.partition("/")[0] == name})
            for name in sorted(top)
        },
        "shuffles": sorted(
            t.unique_name
            for t in components.transforms.values()
            if t.spec.urn.endswith("group_by_key:v1")
        ),
    }
    return json.dumps(value, indent=2) + "\n"


@pytest.mark.parametrize(
    "command",
    [
        ("segment", "--catalog", "{catalog}", "--output", "{new}"),
        ("relabel", "--round", "1", "--tau", "0.9", "--output", "{output}"),
        (
            "score",
            "--round",
            "0",
            "--score-batch",
            "16",
            "--accelerator",
            L4,
            "--output",
            "{output}",
        ),
        ("songs", "--output", "{finished}", "--abstain-below", "0.2"),
    ],
    ids=lambda command: command[0],
)
def test_each_pipeline_becomes_the_batch_job_that_is_written_down(
    command, finished, catalog, tmp_path, jobs
):
    copy = str(shutil.copytree(finished.root, tmp_path / "copy"))
    places = {"catalog": catalog, "new": str(tmp_path / "new"), "output": copy, "finished": copy}
    before = Store.at(copy).latest()
    assert dry_run(*(word.format(**places) for word in command)) == 0
    golden = JOBS / f"{command[0]}.json"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(described(jobs[0]))
    assert described(jobs[0]) == golden.read_text(), "WRITE_GOLDEN=1 writes it anew"
    assert Store.at(copy).latest() == before


def test_beam_knows_every_option_that_terraform_adds_to_a_job():
    text = TERRAFORM.read_text()
    added = re.findall(
        r'"((?:sdk|disk|number|dataflow)_\w+=[^"]+)"', re.sub(r"\$\{[^}]+\}", "50", text)
    )
    assert {option.partition("=")[0] for option in added} == {
        "sdk_location", "disk_size_gb", "number_of_worker_harness_threads",
        "dataflow_service_options",
    }  # fmt: skip
    beam_options([f"--{option}" for option in added])


@pytest.mark.parametrize(
    "hint",
    ["nvidia-l4", "type:nvidia-l4", "type:;count:1", "type:a;count:1;machine_type", L4 + ";x:1"],
)
def test_an_accelerator_that_dataflow_would_not_understand_is_refused_before_workers_start(
    hint, output, capfd
):
    with pytest.raises(SystemExit, match="2"):
        main(["score", "--output", output, "--round", "0", "--accelerator", hint])
    assert "expected what Dataflow's hints have" in " ".join(capfd.readouterr().err.split())


def test_a_catalog_of_millions_is_not_in_the_request(tmp_path, jobs):
    rows, per_part = 5_000_000, 32
    parts = rows // per_part
    store = Store.open(str(tmp_path / "out"), create=True)
    catalog = Manifest(
        "catalog",
        "c" * 12,
        "segment",
        None,
        {},
        (),
        {},
        {"parts": parts, "classes": ["Q1", "Q2", "Q3", "Q4"]},
    )
    files = {
        part: PartFile(f"segments/{'s' * 12}/part-{part:05d}.parquet", 320, 4 << 20, "0" * 64)
        for part in range(parts)
    }
    segments = Manifest(
        "segments", "s" * 12, "segment", None, {"cut": {}}, (catalog.ref,), files, {}
    )
    model = replace(
        catalog, table="models", generation="m" * 12, round=0, summary={"model_id": "m"}
    )
    inputs = [store.commit(manifest) for manifest in (catalog, segments, model)]
    settings, placement = ScoreConfig(), score.Placement(accelerator=L4)
    job = Job.of(store, "score", ("scores",), asdict(settings), inputs, 0)
    with pytest.raises(HandedOver, match="not sent"):
        run_job(
            job,
            lambda root: score.build(root, job, settings, placement, 1),
            [*TO_DATAFLOW, "--dry_run=True"],
        )
    request, graph = len(jobs[0].json()), jobs[0].proto_pipeline.ByteSize()
    assert request < 1_000_000
    assert graph < 1_000_000
    assert len(str(job)) < 2_000
    assert sum(1 for _ in job.list_parts()) == parts
