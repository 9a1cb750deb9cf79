"""Training by several processes, as torchrun starts them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TRAINING

from sssl.runtime.distributed import Ranks
from sssl.store.folder import Store

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nproc-per-node=2",
    "--master-addr=127.0.0.1",
]
TRAIN = ["-m", "pipelines.cli", "train", "--round=0", *TRAINING]
# Gloo looks for a network interface by the host's name, which need not have one.
ENV = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(("members", "count"), [(4, 2), (3, 2), (1, 4), (4, 1)])
def test_each_member_falls_to_one_process(members, count):
    shares = [Ranks(rank, count).share(members) for rank in range(count)]
    assert sorted(member for share in shares for member in share) == list(range(members))


def test_two_processes_make_the_model_of_one_and_go_on_from_its_checkpoints(finished, tmp_path):
    model = finished.latest().get("models", 0)
    root = shutil.copytree(finished.root, tmp_path / "out")
    folder = root / "models" / model.generation
    for name in ("model.safetensors", "member1.pt", "member1.json"):  # a lost model is made again
        (folder / name).unlink()
    kept = (folder / "member0.pt").stat().st_mtime_ns
    done = subprocess.run(
        [*TORCHRUN, *TRAIN, f"--output={root}"],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == os.EX_OK, done.stderr
    again = Store.open(str(root)).latest().get("models", 0)
    assert (again.ref, again.digest) == (model.ref, model.digest)
    assert (folder / "member0.pt").stat().st_mtime_ns == kept
    assert (folder / "member1.pt").exists()


def test_what_the_first_process_refuses_ends_them_all(tmp_path):
    Store.open(str(tmp_path / "out"), create=True)
    command = [*TORCHRUN, *TRAIN, f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode != os.EX_OK
    assert "table catalog is not committed yet" in done.stderr
    assert not Path(tmp_path, "out", "models").exists()
