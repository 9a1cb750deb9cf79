"""The paid smoke run, without paying: the commands that it sends, and what it makes of answers.

The answers are written after Google's messages, whose types say that the fields have these names.
"""

import csv
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import smoke_gcp
from google.cloud.dataflow_v1beta3.types import Job, JobMetrics
from smoke_gcp import STAGES, Record, Smoke, by_name, cost, job_record, main, run

from pipelines.cli import module_of
from pipelines.launch import command_line
from pipelines.terminal.flags import parse, split_beam_args
from sssl.estimate import read_prices

REPOSITORY = Path(__file__).parents[2]
HINT = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver:5xx"
SMOKE = Smoke("project-1", "europe-west4", "smoke-20261127-100000", HINT)
DRIVER = "scoring on 1 GPU (NVIDIA L4), driver 535.183, CUDA 12.8"


def described(job_id, stage):
    pool = {
        "machineType": "n2-standard-4",
        "diskSizeGb": 50,
        "sdkHarnessContainerImages": [{"containerImage": "registry/cpu-worker@sha256:0123"}],
    }
    return {
        "id": job_id,
        "name": f"sssl-{stage}-1",
        "currentState": "JOB_STATE_DONE",
        "environment": {"workerPools": [pool]},
    }


def metric(name, scalar, step=None, **context):
    about = {"origin": "user" if step else "dataflow/v1b3", "name": name}
    return {"name": about | {"context": context | ({"step": step} if step else {})},
            "scalar": scalar}  # fmt: skip


SERVICE = [
    metric("TotalVcpuTime", 7200),
    metric("TotalVcpuTime", 9000, tentative="true"),
    metric("TotalMemoryUsage", 3600 * 1024 * 16),
    metric("TotalPdUsage", 3600 * 50),
    metric("TotalGpuTime", 1800),
]
USER = [metric("parts", 5, "Count"), metric("parts", 2, "Count2"), metric("segments", 240, "Count")]


class Google:
    """Answers commands, and keeps them."""

    def __init__(self, **changes):
        self.commands, self.done = [], []
        self.answers = {
            "ledger": 28, "songs": 24, "state": "SUCCEEDED", "result": '"labelled"', "lines": [
                {"jsonPayload": {"message": DRIVER}}
            ],
        } | changes  # fmt: skip

    def do(self, command):
        self.done.append(command)

    def ask(self, command):
        self.commands.append(command)
        jobs = {"job-1": "segment", "job-2": "score"}
        match command[:4]:
            case ["gcloud", "workflows", "run", "sssl-nightly"]:
                return {
                    "name": "projects/1/locations/l/workflows/sssl-nightly/executions/execution-1",
                    "state": self.answers["state"],
                    "result": self.answers["result"],
                    "startTime": "2026-11-27T10:00:00Z",
                    "endTime": "2026-11-27T10:48:30Z",
                }
            case ["gcloud", "dataflow", "jobs", "list"]:
                return [{"id": job_id} for job_id in jobs]
            case ["gcloud", "dataflow", "jobs", "describe"]:
                return described(command[4], jobs[command[4]])
            case ["gcloud", "dataflow", "metrics", "list"]:
                return SERVICE if "--source=service" in command else USER
            case ["gcloud", "logging", "read", said]:
                return self.answers["lines"] if "job-2" in said else []
            case ["bq", "query", *_]:
                table = command[-1].rpartition(".")[2].strip("`")
                return [{"n": str(self.answers[table])}]
        raise AssertionError(command)


@pytest.fixture(scope="module")
def ran():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke_gcp, "write_music", lambda *_: 28)
        return run_with(Google())


def run_with(google):
    record, wrong = run(SMOKE, read_prices(None), 24, google.ask, google.do)
    return google, record, wrong


def test_it_records_jobs_machines_disks_device_rows_and_cost(ran):
    _, record, wrong = ran
    assert wrong == []
    assert (record.execution, record.took_s) == ("execution-1", 48.5 * 60)
    assert [(job.id, job.name) for job in record.jobs] == [
        ("job-1", "sssl-segment-1"), ("job-2", "sssl-score-1"),
    ]  # fmt: skip
    first, score = record.jobs
    assert (first.machine, first.disk_gb, first.device) == ("n2-standard-4", 50, None)
    assert first.image.endswith("@sha256:0123")
    assert score.device == DRIVER
    assert first.counters == {"parts": 7, "segments": 240}
    assert (first.vcpu_h, first.memory_gib_h, first.disk_gib_h, first.gpu_h) == (2, 16, 50, 0.5)
    assert record.rows == {"ledger": 28, "songs": 24}
    prices = read_prices(None)
    assert record.cost == pytest.approx(2 * (2 * prices.vcpu_hour + 0.5 * prices.gpu_hour))
    assert json.loads(json.dumps(asdict(record)))["currency"] == prices.currency


def test_google_knows_the_fields_that_are_read():
    assert Job.from_json(json.dumps(described("job-1", "segment")), ignore_unknown_fields=False)
    metrics = {"metrics": SERVICE + USER}
    assert JobMetrics.from_json(json.dumps(metrics), ignore_unknown_fields=False)


def test_nothing_of_it_lies_where_the_nights_lie(ran):
    google, _, _ = ran
    (data,) = (word for word in google.commands[0] if word.startswith("--data="))
    argument = json.loads(data.removeprefix("--data="))
    place = "gs://project-1-sssl/smoke-20261127-100000/"
    assert {argument[stage]["output"] for stage in STAGES} == {f"{place}out", argument["output"]}
    assert argument["segment"]["catalog"].startswith(place)
    assert (argument["folder"], argument["dataset"]) == (
        "smoke-20261127-100000/out", "project-1.smoke_20261127_100000",
    )  # fmt: skip
    upload, dataset = google.done
    assert upload[-1] == f"{place}music/"
    assert dataset[-1] == "project-1:smoke_20261127_100000"
    for command in SMOKE.clean_up():
        assert "smoke" in command[-1]


def test_every_stage_takes_the_flags_that_it_is_given():
    argument = SMOKE.argument()
    for stage in STAGES:
        flags = argument[stage] | ({} if stage in ("segment", "songs") else {"round": "0"})
        line = command_line(stage, [f"--{name}={value}" for name, value in flags.items()])
        given, beam = split_beam_args(line[1:])
        assert beam == []
        assert parse(module_of(stage).Config, given, stage).output == SMOKE.output


def test_what_is_wrong_is_said(monkeypatch):
    monkeypatch.setattr(smoke_gcp, "write_music", lambda *_: 28)

    def wrong(**changes):
        return run_with(Google(**changes))[2]

    assert wrong(ledger=27) == ["ledger has 27 rows of 28 tracks"]
    assert wrong(songs=0) == ["songs has no rows"]
    assert wrong(lines=[]) == ["no scoring job says that it has a GPU"]
    assert wrong(state="FAILED", result='"x"') == ["the workflow ended as FAILED: x"]


def test_the_catalog_names_the_tracks_where_they_are_put(tmp_path):
    count = smoke_gcp.write_music(tmp_path, 8, SMOKE)
    with (tmp_path / "catalog.csv").open(newline="") as file:
        uris = [row["uri"] for row in csv.DictReader(file)]
    assert count == len(uris) > 8  # and broken files
    names = {path.name for path in (tmp_path / "audio").iterdir()}
    prefix = f"{SMOKE.folder}/music/audio/"
    assert all(uri.startswith(prefix) for uri in uris)
    assert names <= {uri.removeprefix(prefix) for uri in uris}


def test_a_failed_job_is_recorded_too():
    about = described("job-1", "score") | {"currentState": "JOB_STATE_FAILED"}
    job = job_record(about, [], [], [])
    assert (job.vcpu_h, job.counters, job.device) == (0, {}, None)
    record = Record("p", "r", "n", "t", "e", "SUCCEEDED", "labelled", 1, [job], {"songs": 1})
    assert "sssl-score-1 is JOB_STATE_FAILED" in record.wrong(None, has_gpu=False)
    assert cost([job], read_prices(None)) == 0
    assert by_name([]) == {}


def test_make_asks_for_the_project_before_anything_is_paid():
    made = subprocess.run(
        ["make", "smoke-gcp"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert made.returncode != 0
    assert "PROJECT=" in made.stderr


def test_its_help_says_that_it_costs(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "paid" in capsys.readouterr().out
