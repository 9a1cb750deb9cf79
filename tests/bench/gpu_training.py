"""Training on a GPU, beside two cores of the same machine."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gpu_material import (
    CLASSES,
    MEL,
    SEGMENTS_A_TRACK,
    commit_labels,
    make,
    track_log_mel,
)

from sssl.model import together
from sssl.model.ensemble import ModelSpec, dump
from sssl.model.score import posteriors
from sssl.model.settings import ScoreConfig, TrainConfig
from sssl.model.train import train, train_together
from sssl.model.trainer import Training
from sssl.runtime.distributed import Ranks


def training_set(root, tracks):
    """Commit so many tracks of 80 segments, learnable but not easily."""

    def of(own):
        return np.concatenate([track_log_mel(int(track.track_id[1:])) for track in own])

    store, snapshot = make(root, tracks, "binary", True, of)
    return store, snapshot.add(commit_labels(store, snapshot))


def train_on(device, store, snapshot, config, folder, processes=1):
    """Train a model; return it, the seconds it took from the call on, and the epochs as they were
    reported."""
    catalog, features, labels = (
        snapshot.get("catalog"),
        snapshot.get("features"),
        snapshot.get("labels", 0),
    )
    spec = ModelSpec("cnn", CLASSES, MEL, 4)
    training = Training(
        store, catalog, features, labels, spec, config, 0, f"models/{folder}", None, device
    )
    began_s, epochs = time.perf_counter(), []
    model = train(training, processes, epochs.append, OnDevice(device))
    return model, time.perf_counter() - began_s, epochs


@dataclass(frozen=True)
class OnDevice(Ranks):
    """A single process that trains on the given device, also where there is a better one."""

    name: str = "cpu"

    def __init__(self, name):
        super().__init__()
        object.__setattr__(self, "name", name)

    def device(self):
        return self.name


def quality(model, tracks=60, first=1_000_000):
    """Return cross-entropy and accuracy on segments of new tracks, by the mean of all members, on
    the CPU."""
    found = np.concatenate(
        [
            posteriors(
                model, track_log_mel(first + n), np.full(SEGMENTS_A_TRACK, -1), ScoreConfig(), 4
            )
            for n in range(tracks)
        ]
    )
    truth = np.repeat([(first + n) % len(CLASSES) for n in range(tracks)], SEGMENTS_A_TRACK)
    loss = -np.log(found[np.arange(len(truth)), truth].clip(1e-6)).mean()
    return {
        "loss": round(float(loss), 4),
        "accuracy": round(float((found.argmax(1) == truth).mean()), 4),
    }


def measure_quality(results, root, device, seeds, processes, **settings):
    """Train small models with some seeds, so that devices can be compared within the spread of the
    seeds."""
    store, snapshot = training_set(f"{root}/quality", 40)
    for seed in seeds:
        config = TrainConfig(seed=seed, **settings)
        model, took_s, _ = train_on(
            device, store, snapshot, config, f"q{device[:3]}{seed}{len(settings)}", processes
        )
        results.tell(
            f"quality of 3,200 segments, {device}, seed {seed} {settings or ''}",
            quality(model) | {"s": took_s},
        )


def cpu_epoch_s(root):
    """Return the seconds that an epoch of four members takes on two cores."""
    store, snapshot = training_set(f"{root}/cpu", 250)
    _, _, epochs = train_on(
        "cpu", store, snapshot, TrainConfig(warmup_epochs=1), "cpu", processes=2
    )
    return sum(epoch.cpu_s for epoch in epochs) / 2


def measure_training(results, root):
    """Train on 20,000 segments, two cores of this machine at the same time."""
    command = [sys.executable, Path(__file__).with_name("gpu.py"), "--cpu-epoch"]
    two_cores = sorted(os.sched_getaffinity(0))[-2:]
    beside = subprocess.Popen(
        command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, two_cores)
    )
    store, snapshot = training_set(f"{root}/train", 250)
    model, took_s, epochs = train_on("cuda", store, snapshot, TrainConfig(), "gpu")
    results.tell("train 20,000 segments, 12 epochs, 4 members, on the GPU, s", took_s)
    results.tell(
        "quality of it",
        quality(model) | {"train loss": float(np.mean([e.loss for e in epochs[-4:]]))},
    )
    measure_quality(results, root, "cuda", range(3), 1)
    return dump(model), beside


def measure_variants(results, root):
    """Train on the same segments in larger batches, and with steps that are not recorded."""
    store, snapshot = training_set(f"{root}/train", 250)
    with results.trying("larger batches"):
        config = TrainConfig(batch_size=128, learning_rate=4e-3)
        larger, took_s, _ = train_on("cuda", store, snapshot, config, "gpu128")
        results.tell("train with batches of 128 at twice the rate, s", took_s)
        results.tell("quality of batches of 128", quality(larger))
    with results.trying("launches"):
        measure_launches(results, store, snapshot)


def measure_launches(results, store, snapshot):
    """Time two epochs whose steps are launched piece by piece, and two whose steps are recorded."""
    spec = ModelSpec("cnn", CLASSES, MEL, 4)
    inputs = (snapshot.get("catalog"), snapshot.get("features"), snapshot.get("labels", 0))
    eager_steps = together._EAGER_STEPS
    for name, steps in (("piece by piece", 10**9), ("recorded", eager_steps)):
        together._EAGER_STEPS = steps
        config = TrainConfig(warmup_epochs=2)
        training = Training(store, *inputs, spec, config, 0, f"models/{steps}", None, "cuda")
        began_s = time.perf_counter()
        train_together(training, range(4))
        results.tell(f"two epochs, steps {name}, s", time.perf_counter() - began_s)
    together._EAGER_STEPS = eager_steps
