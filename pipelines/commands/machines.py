"""What a run is estimated for: the machines of its workers, where that is not this one."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sssl.config import require
from sssl.estimate import Draws, StageTime
from sssl.runtime.device import device
from sssl.runtime.machine import cores

_ON_GPU = ("train", "score")
ON_ALL_MACHINES = ("segment", "relabel", "score", "songs")


@dataclass(frozen=True)
class Machines:
    """What the run's workers are, where that is not this machine."""

    worker_vcpus: int | None = None
    """vCPUs of a worker, each as fast as a core here; default: the cores of this machine."""
    worker_memory_gib: float = 0.0
    """Memory of a worker in GiB, for price files that ask for it."""
    worker_disk_gib: float = 0.0
    """Disk of a worker in GiB, likewise."""
    start_s: float = 0.0
    """Seconds that a job's workers take to start, before they do anything: on Dataflow some 180, on
    GPUs 420."""
    gpu_scores_per_s: float | None = None
    """Segments that a GPU scores in a second: predicts for GPUs from a machine without one."""
    gpu_trains_per_s: float | None = None
    """Segments that a GPU trains on in a second, likewise."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            is_sound = value is None or value > 0 or (each.default == 0 and value == 0)
            require(is_sound, each.name, value, "a positive number")

    @property
    def vcpus(self) -> int:
        return self.worker_vcpus or cores()

    @property
    def gpu_per_s(self) -> dict[str, float]:
        """Segments that a GPU does in a second, by stage."""
        rates = {"score": self.gpu_scores_per_s, "train": self.gpu_trains_per_s}
        return {stage: rate for stage, rate in rates.items() if rate is not None}


def on_machines(
    machines: Machines,
    workers: int,
    stage: str,
    wall_s: Draws,
    cpu_s: Draws,
    runs: float,
    units: Draws,
) -> StageTime:
    """Say what a stage takes on the run's workers, given what it takes on this machine."""
    gpu_per_s = machines.gpu_per_s.get(stage)
    gpus = int(device() == "cuda" and stage in _ON_GPU)
    if gpu_per_s is not None:
        gpus = 1
        wall_s = units / gpu_per_s
        cpu_s = wall_s * machines.vcpus  # at most
    elif stage in (*ON_ALL_MACHINES, "train"):
        wall_s = wall_s * cores() / machines.vcpus
    return StageTime(
        wall_s=wall_s,
        cpu_s=cpu_s,
        cores=machines.vcpus,
        gpus=gpus,
        workers=workers if stage in ON_ALL_MACHINES else 1,
        start_s=runs * machines.start_s,
        memory_gib=machines.worker_memory_gib,
        disk_gib=machines.worker_disk_gib,
    )
