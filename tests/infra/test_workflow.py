"""The nightly workflow, step by step, with fakes for Google's APIs and the tables of a real
output."""

import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import hcl2
import pytest
import yaml
from google.cloud.aiplatform_v1.types import CustomJob
from google.cloud.dataflow_v1beta3.types import (
    FlexTemplateRuntimeEnvironment,
    LaunchFlexTemplateRequest,
)
from workflows import Workflow, WorkflowError

from pipelines.cli import module_of
from pipelines.launch import command_line
from pipelines.templates import TEMPLATES, metadata
from pipelines.terminal.flags import parse, split_beam_args
from sssl.store.folder import Store

INFRA = Path(__file__).parents[2] / "infra"
TEXT = (INFRA / "workflows" / "nightly.yaml").read_text()
OUTPUT = "gs://bucket/out"
SETTINGS = {
    "project": "project-1", "region": "europe-west4", "bucket": "bucket", "folder": "out",
    "output": OUTPUT,
    "templates": "gs://work/templates", "rounds": 3, "again": False, "dataset": "project-1.sssl",
    "workflow": "projects/project-1/locations/europe-west4/workflows/sssl-nightly",
    "environment": {"sdkContainerImage": "cpu", "maxWorkers": 50,
    "ipConfiguration": "WORKER_IP_PRIVATE"},
    "gpu_environment": {"sdkContainerImage": "gpu", "maxWorkers": 8},
    "command_job": "projects/project-1/locations/europe-west4/jobs/sssl-command",
    "trainer_image": "launcher", "trainer_account": "trainer@x", "train_limit": "86400s",
    "trainer_job": {},
    "trainer_machine": {"machineType": "g2-standard-8", "acceleratorType": "NVIDIA_L4",
    "acceleratorCount": 1},
    "mlflow_uri": "sm://projects/1/secrets/mlflow/versions/latest",
    "segment": {"catalog": "gs://bucket/catalog.csv", "output": OUTPUT, "max_error_ratio": "0.2"},
    "relabel": {"output": OUTPUT},
    "shards": {"output": OUTPUT, "direct_running_mode": "multi_processing",
    "direct_num_workers": "4"},
    "train": {"output": OUTPUT, "processes": "4"},
    "judge": {"output": OUTPUT},
    "score": {"output": OUTPUT, "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver:5xx"},
    "songs": {"output": OUTPUT},
}  # fmt: skip


class Cloud:
    """Google's APIs as far as the workflow calls them, over the published tables of an output
    folder.

    `events` is what was started, in order. `failures` has the requests (a regex of method and URL)
    that fail, with the codes they fail with; `broken` how many jobs of a stage fail.
    """

    def __init__(self, store, failures=(), broken=None, active=1):
        self._store, self._failures, self._broken = store, dict(failures), Counter(broken or {})
        self._active, self._jobs = active, {}
        self.events, self.slept_s, self.requests, self.keys = [], 0, [], []

    @property
    def calls(self):
        return {"http.get": self.get, "http.post": self.post, "sys.sleep": self.sleep}

    def sleep(self, seconds):
        self.slept_s += seconds

    def get(self, url, auth):
        self._answer_or_fail(f"GET {url}", auth)
        for pattern, answer in {
            r"/executions\?filter=state%3D%22ACTIVE%22$": lambda: {
                "executions": [{}] * self._active
            },
            r"/v1b3/.*/jobs/(?P<job>.*)$": self._dataflow_job,
            r"aiplatform.googleapis.com/v1/(?P<job>.*)$": self._job,
            r"run.googleapis.com/v2/(?P<job>.*)$": self._job,
            r"/b/bucket/o\?fields=items\(name\)&prefix=out%2Flatest%2F$": self._pointers,
            r"/b/bucket/o/(?P<path>[^?]*)\?alt=media$": self._content,
        }.items():
            if found := re.search(pattern, url):
                return {"code": 200, "body": answer(**found.groupdict())}
        raise AssertionError(url)

    def post(self, url, body, auth):
        self._answer_or_fail(f"POST {url}", auth)
        start = {
            "flexTemplates:launch": self._launch,
            "customJobs": self._train,
            ":run": self._command,
        }
        (answer,) = (answer for end, answer in start.items() if url.endswith(end))
        return {"code": 200, "body": json.loads(json.dumps(answer(body)))}

    def _answer_or_fail(self, request, auth):
        assert auth == {"type": "OAuth2"}
        self.requests.append(request)
        for pattern, codes in self._failures.items():
            if codes and re.search(pattern, request):
                raise WorkflowError(
                    {"code": codes.pop(0), "tags": ["HttpError"], "message": request}
                )

    def _launch(self, body):
        asked = LaunchFlexTemplateRequest.from_json(
            json.dumps({"launchParameter": body["launchParameter"]}), ignore_unknown_fields=False
        ).launch_parameter
        stage = re.fullmatch(r"gs://work/templates/(\w+)\.json", asked.container_spec_gcs_path)[1]
        assert re.fullmatch("[a-z][-a-z0-9]*", asked.job_name)
        known = {p["name"]: p for p in json.loads(metadata(stage))["parameters"]}
        assert set(asked.parameters) <= set(known)
        assert {name for name, p in known.items() if not p["isOptional"]} <= set(asked.parameters)
        states = [
            "JOB_STATE_QUEUED",
            "JOB_STATE_RUNNING",
            "JOB_STATE_FAILED" if self._broken[stage] else "JOB_STATE_DONE",
        ]
        self._broken[stage] -= self._broken[stage] > 0
        self._begin("job", stage, dict(asked.parameters), asked.environment.sdk_container_image)
        return {"job": {"id": self._remember(states)}}

    def _train(self, body):
        job = CustomJob.from_json(json.dumps(body), ignore_unknown_fields=False)
        self.keys.append(job.encryption_spec.kms_key_name)
        (pool,) = job.job_spec.worker_pool_specs
        assert list(pool.container_spec.command) == ["as-user", "sssl-launch"]
        environment = {variable.name: variable.value for variable in pool.container_spec.env}
        command = self._commanded(environment["SSSL_STAGE"], pool.container_spec.args)
        self._begin(
            "train",
            command,
            pool.machine_spec.accelerator_type.name,
            environment["MLFLOW_TRACKING_URI"],
        )
        return {
            "name": self._remember(
                ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
            )
        }

    def _command(self, body):
        (override,) = body["overrides"]["containerOverrides"]
        ((_, stage),) = (variable.values() for variable in override["env"])
        self._begin("command", self._commanded(stage, override["args"]))
        failed = self._broken[f"command {stage}"] > 0
        return {
            "name": self._remember(
                [None, {"done": True} | ({"error": {"message": "exit code 3"}} if failed else {})]
            )
        }

    @staticmethod
    def _commanded(stage, args):
        """Return the command that a container would run, if there is such a one."""
        flags, _ = split_beam_args(command_line(stage, args)[1:])
        parse(module_of(stage).Config, flags, stage)
        return " ".join(command_line(stage, args))

    def _begin(self, *event):
        self.events.append(event)

    def _remember(self, states):
        name = f"number-{len(self._jobs)}"
        self._jobs[name] = iter(states)
        return name

    def _dataflow_job(self, job):
        return {"id": job, "currentState": next(self._jobs[job])}

    def _job(self, job):
        state = next(self._jobs[job])
        return {"name": job} | (
            state if isinstance(state, dict) else {"state": state} if state else {}
        )

    def _pointers(self):
        return {
            "items": [
                {"name": f"out/latest/{name}"}
                for name in ("00000007.json", "00000008.held", "00000008.json")
            ]
        }

    def _content(self, path):
        path = unquote(path).removeprefix("out/")
        return self._store.read_bytes("latest.json" if path == "latest/00000008.json" else path)


@pytest.fixture(scope="module")
def output(report_folder):
    """A published output with two accepted rounds and a rejected one."""
    store, snapshot = report_folder
    copy = Store.at("memory://nightly")
    for path in store.find(""):
        copy.write_bytes(path, store.read_bytes(path))
    copy.publish(snapshot)
    return copy


def execute(cloud, **overrides):
    settings = {"SETTINGS": json.dumps(SETTINGS)}
    return Workflow(TEXT, cloud.calls, settings).run(input={"again": True} | overrides)


def stages(cloud):
    """Return what ran, without what only published."""
    return [event[1].split()[0] for event in cloud.events if not event[1].startswith("publish ")]


def rounds_of(cloud):
    return [event[2]["round"] for event in cloud.events if event[:2] == ("job", "score")]


def test_stages_run_in_the_order_of_sssl_run_until_a_round_is_rejected(output):
    cloud = Cloud(output)
    accepted = [m.summary["accepted"] for m in output.latest().of("rounds")]
    assert accepted == [True, True, False]
    assert execute(cloud, rounds=7) == "labelled"
    one_round = ["relabel", "shards", "train", "score", "judge"]
    assert stages(cloud) == ["segment", *one_round * 3, "songs", "report", "bigquery"]
    assert rounds_of(cloud) == ["0", "1", "2"]


def test_no_more_rounds_run_than_are_asked_for(output):
    cloud = Cloud(output)
    assert execute(cloud, rounds=1) == "labelled"
    assert rounds_of(cloud) == ["0", "1"]


def test_each_job_is_published_by_a_command_that_can_neither_decode_nor_score(output):
    cloud = Cloud(output)
    execute(cloud, rounds=0)
    launched = [number for number, event in enumerate(cloud.events) if event[0] == "job"]
    assert len(launched) == 4
    for number in launched:
        assert cloud.events[number + 1] == ("command", f"publish --output={OUTPUT}")


def test_a_job_that_failed_is_given_up_before_it_is_launched_again(output):
    cloud = Cloud(output, broken={"segment": 1})
    execute(cloud, again=False)
    assert [event[:2] for event in cloud.events[:4]] == [
        ("job", "segment"),
        ("command", f"publish --output={OUTPUT} --abandon"),
        ("job", "segment"),
        ("command", f"publish --output={OUTPUT}"),
    ]


def test_only_scoring_and_training_have_gpus(output):
    cloud = Cloud(output)
    execute(cloud, rounds=0)
    images = {event[1]: event[3] for event in cloud.events if event[0] == "job"}
    assert images == {"segment": "cpu", "relabel": "cpu", "score": "gpu", "songs": "cpu"}
    (train,) = (event for event in cloud.events if event[0] == "train")
    command = "train --output=gs://bucket/out --processes=4 --round=0"
    assert train == ("train", command, "NVIDIA_L4", SETTINGS["mlflow_uri"])


def test_what_does_not_fit_into_memory_is_copied_before_a_gpu_waits_for_it(output):
    cloud = Cloud(output)
    execute(cloud, rounds=0)
    place = next(n for n, event in enumerate(cloud.events) if event[0] == "train")
    beam = "-- --direct_running_mode=multi_processing --direct_num_workers=4"
    expected = ("command", f"shards --output={OUTPUT} --round=0 {beam}")
    assert cloud.events[place - 1] == expected


def test_training_is_encrypted_with_the_key_that_there_is(output):
    with_key, without = Cloud(output), Cloud(output)
    execute(with_key, rounds=0, trainer_job={"encryptionSpec": {"kmsKeyName": "a-key"}})
    execute(without, rounds=0)
    assert (with_key.keys, without.keys) == (["a-key"], [""])


def test_if_the_songs_still_stand_only_what_may_have_failed_behind_them_runs(output):
    cloud = Cloud(output)
    assert execute(cloud, again=False) == "nothing new"
    assert stages(cloud) == ["segment", "report", "bigquery"]


def test_an_execution_leaves_the_work_to_one_that_is_there(output):
    cloud = Cloud(output, active=2)
    assert execute(cloud) == "another execution is at it"
    assert cloud.events == []


def test_requests_are_sent_again_and_change_nothing(output):
    flaky = Cloud(
        output, {"GET .*/jobs/": [503, 429, 502], "POST .*launch": [503], "GET .*alt=media": [504]}
    )
    steady = Cloud(output)
    assert execute(flaky, rounds=0) == execute(steady, rounds=0)
    assert flaky.events == steady.events
    assert len(flaky.requests) == len(steady.requests) + 5


def test_a_launch_whose_answer_got_lost_is_not_sent_again(output):
    with pytest.raises(WorkflowError, match="502"):
        execute(Cloud(output, {"POST .*launch": [502]}))


def test_what_is_refused_is_not_sent_again(output):
    cloud = Cloud(output, {"POST .*launch": [403]})
    with pytest.raises(WorkflowError, match="403"):
        execute(cloud)
    assert cloud.events == []


def test_a_job_that_fails_is_started_again_twice(output):
    cloud = Cloud(output, broken={"segment": 2})
    assert execute(cloud, again=False) == "nothing new"
    assert stages(cloud) == ["segment"] * 3 + ["report", "bigquery"]
    assert cloud.slept_s == 60 + 300 + 3 * 3 * 60 + 10 * 20


def test_a_job_that_keeps_failing_ends_the_execution(output):
    cloud = Cloud(output, broken={"relabel": 3})
    with pytest.raises(WorkflowError, match=r"relabel number-.* ended as JOB_STATE_FAILED"):
        execute(cloud)
    assert stages(cloud) == ["segment", "relabel", "relabel", "relabel"]


def test_a_command_that_fails_ends_the_execution(output):
    cloud = Cloud(output, broken={"command publish": 1})
    with pytest.raises(WorkflowError, match="publish failed - exit code 3"):
        execute(cloud)
    assert stages(cloud) == ["segment"]


def test_a_round_without_a_verdict_ends_the_execution(output):
    with pytest.raises(WorkflowError, match="no published verdict on round 3"):
        Workflow(TEXT, Cloud(output).calls).subworkflow(
            "was_accepted", {"settings": SETTINGS, "round": 3}
        )


def test_an_execution_ends_with_what_is_published_in_bigquery(output):
    cloud = Cloud(output)
    execute(cloud, rounds=0)
    last = f"bigquery --output={OUTPUT} --dataset=project-1.sssl --location=europe-west4"
    assert cloud.events[-1] == ("command", last)


def test_terraform_gives_every_setting_that_the_workflow_reads():
    text = (INFRA / "terraform" / "workflow.tf").read_text()
    (settings,) = (local["settings"] for local in hcl2.loads(text)["locals"])
    read = set(re.findall(r"settings\.(\w+)", TEXT))
    assert set(settings) == read == set(SETTINGS)


def test_dataflow_knows_every_field_of_the_workers_that_terraform_describes():
    text = (INFRA / "terraform" / "workflow.tf").read_text()
    for name in ("environment", "gpu_environment"):
        (block,) = re.findall(rf"^  {name} += .*?^  }}", text, re.MULTILINE | re.DOTALL)
        fields = re.findall(r"^    (\w+) += ", block, re.MULTILINE)
        assert len(fields) >= 4
        snake = {re.sub("([A-Z])", r"_\1", field).lower() for field in fields}
        assert snake <= set(FlexTemplateRuntimeEnvironment.meta.fields)


def test_every_pipeline_and_no_other_stage_is_launched_as_a_template():
    launched = {
        step["args"]["stage"]
        for step in steps(yaml.safe_load(TEXT))
        if step.get("call") == "run_pipeline"
    }
    assert launched == set(TEMPLATES)


def steps(value):
    """List all dictionaries within a value."""
    if isinstance(value, dict):
        yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from steps(inner)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("parallel: {branches: []}", "unknown: {'parallel'}"),
        ('return: "${a ** 2}"', "Pow"),
        ('return: "a ${a}"', "an expression inside a text"),
        ("call: nobody.knows", "nobody.knows"),
    ],
)
def test_the_interpreter_refuses_what_it_does_not_know(step, message):
    text = f"main: {{params: [a], steps: [{{one: {{{step}}}}}]}}"
    with pytest.raises((AssertionError, KeyError, NotImplementedError), match=re.escape(message)):
        Workflow(text, {}).run(a=1)
