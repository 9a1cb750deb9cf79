"""One small paid run on Google Cloud, for who owns the project: `make smoke-gcp PROJECT=...`.

Everything of infra/ has to be applied before. A few synthesized tracks go through the nightly
workflow into a folder and a BigQuery dataset of their own. What came of it is written down: ids of
jobs, machines and disks, the line that names the GPU's driver, rows, and what it cost by a price
file. It takes about an hour and some units of money.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sssl.datasets.synthetic import make_catalog
from sssl.estimate import Prices, read_prices

STAGES = ("segment", "relabel", "train", "score", "judge", "songs")
_HOUR_S = 3600
_MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Smoke:
    """Where a smoke run lies: everything of it in a folder and a dataset of its own."""

    project: str
    region: str
    name: str
    hint: str | None
    """Accelerator of the scoring step, as the workflow's own settings have it."""

    @property
    def bucket(self):
        return f"{self.project}-sssl"

    @property
    def folder(self):
        return f"gs://{self.bucket}/{self.name}"

    @property
    def catalog(self):
        return f"{self.folder}/music/catalog.csv"

    @property
    def output(self):
        return f"{self.folder}/out"

    @property
    def dataset(self):
        return self.name.replace("-", "_")

    def argument(self):
        """Return what the execution takes in the place of the workflow's settings."""
        flags = {stage: {"output": self.output} for stage in STAGES}
        flags["segment"] |= {"catalog": self.catalog, "tracks_per_part": "4"}
        if self.hint is not None:
            flags["score"]["accelerator"] = self.hint
            flags["train"]["accelerator"] = "gpu"
        place = {"output": self.output, "folder": f"{self.name}/out", "rounds": 0}
        return place | {"dataset": f"{self.project}.{self.dataset}"} | flags

    def prepare(self, music):
        """Return the commands that put the music there, and make the dataset."""
        return [
            ["gcloud", "storage", "cp", "--recursive", f"{music}/*", f"{self.folder}/music/"],
            ["bq", f"--location={self.region}", "mk", "--dataset", self._dataset],
        ]

    def run(self):
        return self._gcloud(
            "workflows", "run", "sssl-nightly", f"--data={json.dumps(self.argument())}"
        )

    def jobs(self, started_at):
        later = f"name~^sssl- AND creationTime>={started_at}"
        return self._gcloud("dataflow", "jobs", "list", f"--filter={later}")

    def job(self, job_id):
        return self._gcloud("dataflow", "jobs", "describe", job_id, "--full")

    def metrics(self, job_id, source):
        return self._gcloud("dataflow", "metrics", "list", job_id, f"--source={source}")

    def device(self, job_id):
        """Return the command that finds the line in which a worker names its device."""
        of_job = f'resource.type="dataflow_step" AND resource.labels.job_id="{job_id}"'
        said = f'{of_job} AND jsonPayload.message:"scoring on"'
        where = [f"--project={self.project}", "--freshness=1d", "--limit=1", "--format=json"]
        return ["gcloud", "logging", "read", said, *where]

    def rows(self, table):
        query = f"select count(*) as n from `{self.project}.{self.dataset}.{table}`"
        return ["bq", "query", f"--project_id={self.project}", "--format=json",
                "--nouse_legacy_sql", query]  # fmt: skip

    def clean_up(self):
        return [
            ["gcloud", "storage", "rm", "--recursive", "--all-versions", f"{self.folder}/"],
            ["bq", "rm", "--recursive", "--force", "--dataset", self._dataset],
        ]

    @property
    def _dataset(self):
        return f"{self.project}:{self.dataset}"

    def _gcloud(self, service, *words):
        place = {"workflows": "location", "dataflow": "region"}[service]
        where = [f"--{place}={self.region}", f"--project={self.project}", "--format=json"]
        return ["gcloud", service, *words, *where]


@dataclass
class JobRecord:
    """A job of Dataflow as it was."""

    id: str
    name: str
    state: str
    machine: str
    disk_gb: int
    image: str
    vcpu_h: float
    memory_gib_h: float
    disk_gib_h: float
    gpu_h: float
    counters: dict[str, int]
    device: str | None = None


@dataclass
class Record:
    """What a smoke run came to."""

    project: str
    region: str
    name: str
    at: str
    execution: str
    state: str
    result: str
    took_s: float
    jobs: list[JobRecord] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    cost: float = 0.0
    currency: str = ""

    def wrong(self, tracks, has_gpu):
        """List what is not as it should be."""
        found = []
        if (self.state, self.result) != ("SUCCEEDED", "labelled"):
            found.append(f"the workflow ended as {self.state}: {self.result}")
        if self.rows.get("ledger") != tracks:
            found.append(f"ledger has {self.rows.get('ledger')} rows of {tracks} tracks")
        if not self.rows.get("songs"):
            found.append("songs has no rows")
        found += [
            f"{job.name} is {job.state}" for job in self.jobs if job.state != "JOB_STATE_DONE"
        ]
        scoring = [job for job in self.jobs if "score" in job.name]
        if has_gpu and not any("GPU" in (job.device or "") for job in scoring):
            found.append("no scoring job says that it has a GPU")
        return found


def job_record(about, service_metrics, user_metrics, lines):
    """Read what Dataflow answers of a job: its description, its metrics, a line of its log."""
    (pool,) = about["environment"]["workerPools"]
    images = [image["containerImage"] for image in pool.get("sdkHarnessContainerImages", [])]
    used = by_name(service_metrics)
    return JobRecord(
        id=about["id"],
        name=about["name"],
        state=about["currentState"],
        machine=pool.get("machineType", ""),
        disk_gb=int(pool.get("diskSizeGb", 0)),
        image=images[0] if images else "",
        vcpu_h=used.get("TotalVcpuTime", 0.0) / _HOUR_S,
        memory_gib_h=used.get("TotalMemoryUsage", 0.0) / _MIB_PER_GIB / _HOUR_S,
        disk_gib_h=used.get("TotalPdUsage", 0.0) / _HOUR_S,
        gpu_h=used.get("TotalGpuTime", 0.0) / _HOUR_S,
        counters={name: int(value) for name, value in by_name(user_metrics).items()},
        device=lines[0]["jsonPayload"]["message"] if lines else None,
    )


def by_name(metrics):
    """Return the committed values of metrics by name, those of all steps added up."""
    found = {}
    for metric in metrics:
        context = metric["name"].get("context", {})
        if "scalar" in metric and "tentative" not in context:
            name = metric["name"]["name"]
            found[name] = found.get(name, 0) + float(metric["scalar"])
    return found


def cost(jobs, prices: Prices):
    """Return what the jobs cost; training, commands and storage come on top."""
    of = {
        "vcpu_h": prices.vcpu_hour,
        "memory_gib_h": prices.memory_gib_hour,
        "disk_gib_h": prices.disk_gib_hour,
        "gpu_h": prices.gpu_hour,
    }
    return sum(price * getattr(job, name) for job in jobs for name, price in of.items())


def run(smoke, prices, tracks, ask, do):
    """Run it all, and return the record; `ask` returns what a command prints, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        count = write_music(Path(folder), tracks, smoke)
        for command in smoke.prepare(folder):
            do(command)
    started = datetime.now(UTC)
    execution = ask(smoke.run())
    record = Record(
        project=smoke.project,
        region=smoke.region,
        name=smoke.name,
        at=started.isoformat(timespec="seconds"),
        execution=execution["name"].rpartition("/")[2],
        state=execution["state"],
        result=json.loads(execution.get("result", '""')) or execution.get("error", {}),
        took_s=_seconds_between(execution["startTime"], execution["endTime"]),
    )
    for listed in ask(smoke.jobs(record.at)):
        job_id = listed["id"]
        metrics = [ask(smoke.metrics(job_id, source)) for source in ("service", "user")]
        record.jobs.append(job_record(ask(smoke.job(job_id)), *metrics, ask(smoke.device(job_id))))
    record.rows = {table: int(ask(smoke.rows(table))[0]["n"]) for table in ("ledger", "songs")}
    record.cost, record.currency = cost(record.jobs, prices), prices.currency
    return record, record.wrong(count, smoke.hint is not None)


def write_music(folder, tracks, smoke):
    """Write the tracks, and the catalog with the URIs that they will have; return how many."""
    made = make_catalog(folder, tracks, 0, lambda done, total: None)
    catalog = Path(made.catalog)
    with catalog.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["uri"] = f"{smoke.folder}/music/{Path(row['uri']).relative_to(folder)}"
    with catalog.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def _seconds_between(start, end):
    first, last = (datetime.fromisoformat(time) for time in (start, end))
    return (last - first).total_seconds()


def _do(command):
    subprocess.run(command, check=True)


def _ask(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("project")
    parser.add_argument("--region", default="europe-west4")
    parser.add_argument("--tracks", type=int, default=24)
    parser.add_argument(
        "--hint",
        default="type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver:5xx",
        help="accelerator of the scoring step; empty: none",
    )
    parser.add_argument("--prices", help="price file, as `sssl estimate` takes it")
    parser.add_argument("--keep", action="store_true", help="keep folder and dataset")
    args = parser.parse_args(argv)
    name = f"smoke-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    smoke = Smoke(args.project, args.region, name, args.hint or None)
    record, wrong = run(smoke, read_prices(args.prices), args.tracks, _ask, _do)
    Path(f"{name}.json").write_text(json.dumps(asdict(record) | {"wrong": wrong}, indent=2) + "\n")
    sys.stdout.write(f"{name}.json: {record.cost:.2f} {record.currency} for Dataflow\n")
    sys.stdout.writelines(f"wrong: {what}\n" for what in wrong)
    if not args.keep:
        for command in smoke.clean_up():
            _do(command)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
