"""Workers get along without the rights that Terraform keeps from them."""

from pathlib import Path

import apache_beam as beam
import hcl2
import pytest

from pipelines.cli import main
from pipelines.stages import songs
from sssl.errors import StoreError
from sssl.store.folder import Store

IDENTITIES = Path(__file__).parents[2] / "infra/terraform/identities.tf"


@pytest.fixture
def kept_from_workers():
    """What the condition of the workers' right leaves out, in an output folder `out`."""
    (names,) = (
        found["not_for_workers"]
        for found in hcl2.loads(IDENTITIES.read_text())["locals"]
        if "not_for_workers" in found
    )
    return [f"out/{name.strip(chr(34))}" for name in names]


@pytest.fixture
def output(cloud, report_folder):
    folder, snapshot = report_folder
    store = Store.at(f"{cloud.make_bucket()}/out")
    for path in folder.find(""):
        store.write_bytes(path, folder.read_bytes(path))
    store.publish(snapshot)
    return store


def launched(output, monkeypatch):
    """Return a job as a launcher would build it, with rights of its own, and its pipeline."""
    found = []

    def keep(job, build, beam_args):
        found.append((job, build))
        raise StoreError("kept")

    with monkeypatch.context() as patch:
        patch.setattr(songs, "run_job", keep)
        assert main(["songs", "--output", output.root, "--abstain-below", "0.9"]) == 1
    return found[0]


def test_a_job_commits_its_tables_without_the_right_to_pointers(
    cloud, output, kept_from_workers, monkeypatch
):
    assert {"out/latest", "out/takedown.json"} <= set(kept_from_workers)
    job, build = launched(output, monkeypatch)
    with cloud.refusing(*kept_from_workers):
        pipeline = beam.Pipeline(runner="FnApiRunner")
        build(pipeline)
        pipeline.run().wait_until_finish()
        with pytest.raises(OSError, match="Forbidden"):
            output.publish(output.latest())
    (made,) = job.committed()
    assert made.config["abstain_below"] == 0.9
    assert output.latest().get("songs").ref != made.ref  # that is for `sssl publish`
