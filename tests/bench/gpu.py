"""What a GPU does: scoring from Parquet, training, cards without memory, and whether the numbers
are those of a CPU.

python tests/bench/gpu.py [--parts 480] [--results results.json]

Needs one NVIDIA GPU, `nvidia-ml-py` for the share of time it is busy, and some 16 GB of /dev/shm;
takes about 5 minutes with 16 cores. Everything is synthetic. Each result is printed, and written,
as soon as it is there.
"""

import argparse
import contextlib
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from anew import forget
from rich.console import Console

from pipelines.stages import score
from pipelines.stages.context import Context
from pipelines.terminal.console import silenced
from schemas import SCHEMA_VERSION, Catalog, to_arrow
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import CatalogConfig, Dealt, deal
from sssl.catalog.committed import commit_catalog, read_part
from sssl.model import together
from sssl.model.ensemble import Model, ModelSpec, dump, load, model_id
from sssl.model.folded import folded
from sssl.model.score import posteriors
from sssl.model.settings import ScoreConfig, TrainConfig
from sssl.model.stream import Rows, StreamScorer
from sssl.model.train import train, train_together
from sssl.model.trainer import Training
from sssl.runtime.device import describe
from sssl.runtime.distributed import Ranks
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile, Snapshot
from sssl.store.parquet import part_bytes
from sssl.store.tensors import tensor_column, tensor_metadata, tensors

MEL = MelConfig()
TRACKS_A_PART, SEGMENTS_A_TRACK = 32, 80
PART = TRACKS_A_PART * SEGMENTS_A_TRACK
CLASSES = CatalogConfig().classes
FREE_GB = (2.5, 0.9, 0.6)
BARS = {"one member": 250_000, "mean of four": 80_000, "stage / loop": 0.9, "train": 10}


console = Console(highlight=False)


class Results:
    """What was measured, on the screen and in a file that is whole after each line."""

    def __init__(self, path):
        self._path, self._found, self._began = path, {}, time.perf_counter()

    def tell(self, name, value):
        self._found[name] = value
        console.print(
            f"{time.perf_counter() - self._began:6.1f} s  {name}: {json.dumps(value)}",
            soft_wrap=True,
        )
        if self._path:
            Path(self._path).write_text(json.dumps(self._found, indent=1))

    def of(self, name):
        return self._found[name]

    @contextlib.contextmanager
    def trying(self, name):
        """Go on with the next measurement where one fails."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            self.tell(f"{name} failed", f"{type(error).__name__}: {error}"[:500])


# Material


def log_mels(rows, seed, classes=None):
    """Synthesize log-mels: each class has a spectrum, each track of 80 segments one of its own, the
    rest is noise."""
    random = np.random.default_rng(seed)
    shapes = np.random.default_rng(99).normal(0, 1, (len(CLASSES), MEL.mels, 1))
    tracks = -(-rows // SEGMENTS_A_TRACK)
    classes = random.integers(0, len(CLASSES), tracks) if classes is None else classes
    own = random.normal(0, 3, (tracks, MEL.mels, 1))
    found = np.empty((rows, *MEL.shape), np.float16)
    for track in range(tracks):
        here = found[track * SEGMENTS_A_TRACK : (track + 1) * SEGMENTS_A_TRACK]
        noise = random.standard_normal((len(here), *MEL.shape), dtype=np.float32) * 6
        level = random.normal(0, 1.2, (len(here), 1, 1))  # how much of the class a segment has
        here[:] = noise - 30 + own[track] + (0.6 + level) * shapes[classes[track]]
    return found


def features_table(track_ids, log_mel, encoding):
    column, dtype = {
        "binary": lambda: (tensor_column(log_mel), "<f2"),
        "list": lambda: (_lists(log_mel), "<f2"),
        "8-bit": lambda: (tensor_column(_eight_bits(log_mel)), "|u1"),
    }[encoding]()
    index = np.tile(np.arange(SEGMENTS_A_TRACK, dtype=np.int32), len(track_ids) // SEGMENTS_A_TRACK)
    metadata = {"sssl.table": "features", "sssl.schema_version": str(SCHEMA_VERSION)}
    metadata |= tensor_metadata("log_mel", dtype, MEL.shape)
    fields = [pa.field("track_id", pa.string()), pa.field("segment_index", pa.int32())]
    fields.append(pa.field("log_mel", column.type))
    return pa.table(
        [pa.array(track_ids), pa.array(index), column], schema=pa.schema(fields, metadata=metadata)
    )


def _lists(values):
    flat = pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), MEL.shape[0] * MEL.shape[1]
    )
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float16(), MEL.shape), flat)


def _eight_bits(values):
    return ((values.astype(np.float32) + 90) * 2).round().clip(0, 255).astype(np.uint8)


COMPRESSION = {"binary lz4": "lz4", "list": "zstd", "8-bit": "none"}


def make(root, tracks, encoding, labelled, log_mel_of):
    """Commit a catalog of tracks, all to train on if they are labelled, and their segments;
    `log_mel_of` makes those of a part from its tracks."""
    store = Store.open(root, create=True)
    config = CatalogConfig(tracks_per_part=TRACKS_A_PART, test_share=0.0)
    split = "train" if labelled else None
    rows = [
        Catalog(
            f"t{n:07d}",
            "/nowhere",
            class_of(n) if labelled else None,
            split,
            f"t{n:07d}",
            0,
            None,
            False,
            0,
            None,
            None,
            None,
            None,
        )
        for n in range(tracks)
    ]
    catalog = commit_catalog(store, deal(to_arrow(Catalog, rows), config, Dealt()), config)
    Path(root, "features/bench").mkdir(parents=True, exist_ok=True)

    def write(part):
        own = read_part(store, catalog, part)
        path = f"features/bench/part-{part:05d}.parquet"
        ids = np.repeat([track.track_id for track in own], SEGMENTS_A_TRACK)
        table = features_table(ids, log_mel_of(own), encoding.split()[0])
        if encoding == "binary":
            Path(root, path).write_bytes(part_bytes(table))  # as the segment stage writes it
        else:
            pq.write_table(
                table,
                f"{root}/{path}",
                compression=COMPRESSION[encoding],
                use_dictionary=["track_id"],
                row_group_size=PART,
            )
        return part, PartFile(path, len(ids), Path(root, path).stat().st_size, "0" * 64)

    with ThreadPoolExecutor(8) as threads:
        files = dict(threads.map(write, range(catalog.summary["parts"])))
    manifest = Manifest(
        "features", "bench", "segment", None, {"cut": asdict(MEL)}, (catalog.ref,), files, {}
    )
    return store, Snapshot((catalog, store.commit(manifest)))


def class_of(number):
    return CLASSES[number % len(CLASSES)]


def commit_labels(store, snapshot):
    """Commit labels as relabel writes them in round 0: each segment has its track's."""
    files = {}
    for part, file in snapshot.get("features").files.items():
        tracks = {
            track.track_id: track for track in read_part(store, snapshot.get("catalog"), part)
        }
        ids = store.read_part(file, ["track_id"])["track_id"].to_pylist()
        target = np.eye(len(CLASSES), dtype=np.float32)[
            [CLASSES.index(tracks[name].label) for name in ids]
        ]
        table = pa.table(
            {
                "track_id": ids,
                "target": pa.array(list(target), pa.list_(pa.float32())),
                "weight": np.ones(len(ids), np.float32),
                "partition": ["confident"] * len(ids),
            }
        )
        files[part] = store.write_part("labels", "bench", part, table)
    refs = tuple(manifest.ref for manifest in snapshot.manifests)
    return store.commit(Manifest("labels", "bench", "relabel", 0, {}, refs, files, {}))


def commit_model(store, snapshot, data):
    file = store.write_file("models/bench/model.safetensors", data, rows=4)
    refs = tuple(sorted(manifest.ref for manifest in snapshot.manifests))
    return store.commit(
        Manifest("models", "bench", "train", 0, {}, refs, {0: file}, {"model_id": model_id(data)})
    )


# Training


def training_set(root, tracks):
    """Commit so many tracks of 80 segments, learnable but not easily."""

    def of(own):
        return np.concatenate([track_log_mel(int(track.track_id[1:])) for track in own])

    store, snapshot = make(root, tracks, "binary", True, of)
    return store, snapshot.add(commit_labels(store, snapshot))


def track_log_mel(number):
    return log_mels(SEGMENTS_A_TRACK, seed=number, classes=[number % len(CLASSES)])


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
    command = [sys.executable, __file__, "--cpu-epoch"]
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
    with results.trying("larger batches"):
        config = TrainConfig(batch_size=128, learning_rate=4e-3)
        larger, took_s, _ = train_on("cuda", store, snapshot, config, "gpu128")
        results.tell("train with batches of 128 at twice the rate, s", took_s)
        results.tell("quality of batches of 128", quality(larger))
    with results.trying("launches"):
        measure_launches(results, store, snapshot)
    measure_quality(results, root, "cuda", range(3), 1)
    return dump(model), beside


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


# Scoring


def loop(files, model, readers, batch, members):
    """Score as carefully as a single script can: reader threads, pinned buffers, large batches,
    half precision."""
    networks = [member.cuda().eval() for member in model.members[:members]]
    names, full, free = queue.Queue(), queue.Queue(8), queue.Queue()
    for file in files:
        names.put(file)
    for _ in range(readers + 4):
        free.put(torch.empty(PART, *MEL.shape, dtype=torch.float16, pin_memory=True))

    def read():
        try:
            while True:
                rows = tensors(pq.read_table(names.get_nowait(), use_threads=False), "log_mel")
                buffer = free.get()
                buffer.numpy()[: len(rows)] = rows
                full.put((buffer, len(rows)))
        except queue.Empty:
            pass
        finally:
            full.put(None)

    threads = [threading.Thread(target=read) for _ in range(readers)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    found, waiting, done = [], [], 0
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        while done < readers:
            taken = full.get()
            if taken is None:
                done += 1
                continue
            buffer, rows = taken
            there = buffer.cuda(non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            waiting.append((copied, buffer))
            for x in there[:rows].split(batch):
                posterior = sum(network(x.float()).float().softmax(1) for network in networks)
                found.append(posterior / len(networks))
            while len(waiting) > readers + 2 or (waiting and waiting[0][0].query()):
                waiting[0][0].synchronize()
                free.put(waiting.pop(0)[1])
    rows = len(torch.cat(found).cpu())
    return rows / (time.perf_counter() - began_s)


def reading(files, readers):
    """Return the segments a second that threads read, and do nothing with."""
    began_s = time.perf_counter()
    with ThreadPoolExecutor(readers) as threads:
        rows = sum(
            threads.map(
                lambda file: len(tensors(pq.read_table(file, use_threads=False), "log_mel")), files
            )
        )
    return rows / (time.perf_counter() - began_s)


def stage(store, snapshot):
    """Run the scoring stage; return segments a second, scoring alone and with all that a command
    does before, and the CPU milliseconds that reading and writing a part take in their threads."""
    forget(store, "scores")
    spent_s = {"score": [], "_read": [], "_write": []}
    with (
        spying(StreamScorer, "score", time.perf_counter, spent_s),
        spying(score.PartScorer, "_read", time.thread_time, spent_s),
        spying(score.PartScorer, "_write", time.thread_time, spent_s),
        silenced(),
    ):
        began_s = time.perf_counter()
        made = score.run(Context(store, snapshot, ()), 0, ScoreConfig()).snapshot
        whole_s = time.perf_counter() - began_s
    rows = made.get("scores", 0).rows
    steps = {
        name.strip("_"): round(1e3 * float(np.mean(spent_s[name])), 2)
        for name in ("_read", "_write")
    }
    return rows / sum(spent_s["score"]), rows / whole_s, steps


@contextlib.contextmanager
def spying(of, name, clock, spent_s):
    """Note what calls of a method take."""
    method = getattr(of, name)

    def timed(*args):
        began_s = clock()
        found = method(*args)
        spent_s[name].append(clock() - began_s)
        return found

    setattr(of, name, timed)
    try:
        yield
    finally:
        setattr(of, name, method)


class Busy:
    """Samples the share of time that the GPU computes while a block runs."""

    def __enter__(self):
        self._samples, self._stop = [], threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self):
        while not self._stop.wait(0.05):
            self._samples.append(torch.cuda.utilization())

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    @property
    def share(self):
        inner = self._samples[2:-2] or self._samples or [0]
        return round(float(np.mean(inner)) / 100, 3)


def measure_scoring(results, root, data, parts):
    model = load(data)
    base = log_mels(2 * PART, seed=5)
    speeds = {}
    for encoding, labelled, count in (
        ("binary", True, parts),
        ("binary", False, parts // 2),
        ("binary lz4", True, parts // 2),
        ("list", True, min(parts, 16)),
    ):
        with results.trying(f"{encoding}, labelled {labelled}"):
            here = f"{root}/{encoding.replace(' ', '-')}-{labelled}"

            def of(own):
                start = int(own[0].track_id[1:]) % PART
                return base[start : start + len(own) * SEGMENTS_A_TRACK]

            store, snapshot = make(here, count * TRACKS_A_PART, encoding, labelled, of)
            snapshot = snapshot.add(commit_model(store, snapshot, data))
            files = [
                store.url(file.path) for _, file in sorted(snapshot.get("features").files.items())
            ]
            what = f"{encoding}, {'one member' if labelled else 'mean of four'}"
            a_segment = (
                sum(Path(file).stat().st_size for file in files) / snapshot.get("features").rows
            )
            results.tell(f"{encoding}: bytes a segment", round(a_segment))
            some = files[:8] if encoding == "list" else files[:96]
            results.tell(
                f"{encoding}: reading, by threads", {n: round(reading(some, n)) for n in (1, 4, 8)}
            )
            loop(files[:16], model, 4, 2048, 1 if labelled else 4)
            with Busy() as busy:
                by_readers = {
                    n: round(loop(files, model, n, 2048, 1 if labelled else 4)) for n in (4, 8)
                }
            results.tell(f"{what}: loop, by readers", by_readers)
            results.tell(f"{what}: loop, share of time the card is busy", busy.share)
            stage(store, snapshot)
            with Busy() as busy:
                alone, whole, steps = stage(store, snapshot)
            results.tell(
                f"{what}: stage",
                {
                    "scoring": round(alone),
                    "with all of Beam": round(whole),
                    "of the loop": round(alone / max(by_readers.values()), 3),
                    "share of time the card is busy": busy.share,
                    "a part's CPU ms": steps,
                },
            )
            speeds[what] = alone
            shutil.rmtree(here)
    for what, bar in (("one member", BARS["one member"]), ("mean of four", BARS["mean of four"])):
        best = max((speed for name, speed in speeds.items() if name.endswith(what)), default=0)
        results.tell(f"bar {what}", {"segments/s": round(best), "bar": bar, "met": best >= bar})


def measure_on_card(results, data):
    """Measure what lies on the card already: networks as they are, folded, and folded as a CUDA
    graph."""
    for batch in (512, 2048, 8192):
        x = torch.randn(batch, *MEL.shape, device="cuda").half() * 10 - 30
        plain = load(data, "cuda").members[0]
        quick = folded(load(data).members[0]).cuda().eval()
        speeds = {"plain": on_card(plain, x), "folded": on_card(quick, x)}
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                quick(x.float()).softmax(1)
        speeds["folded, graph"] = timed_on_card(graph.replay, batch)
        results.tell(f"on the card, batch {batch}, segments/s", speeds)


def on_card(network, x):
    def forward():
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            network(x.float()).softmax(1)

    return timed_on_card(forward, len(x))


def timed_on_card(forward, rows, times=40):
    for _ in range(5):
        forward()
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    for _ in range(times):
        forward()
    torch.cuda.synchronize()
    return round(times * rows / (time.perf_counter() - began_s))


# Numbers, and cards without memory


def score_in_memory(data, parts, **settings):
    scorer = StreamScorer(load(data), ["cuda:0"], **settings)
    return np.concatenate(
        scorer.score(range(len(parts)), parts.__getitem__, lambda _, __, found: found)
    )


def parts_in_memory(count):
    random = np.random.default_rng(3)
    found = []
    for number in range(count):
        tracks = [track_log_mel(2_000_000 + number * 8 + n) for n in range(8)]
        folds = np.repeat(random.integers(-1, 4, 8), SEGMENTS_A_TRACK)
        found.append(Rows(np.concatenate(tracks), folds, None))
    return found


def measure_numbers(results, data):
    parts = parts_in_memory(64)  # 512 tracks
    reference = np.concatenate(
        [posteriors(load(data), p.log_mel, p.folds, ScoreConfig(), 4) for p in parts[:8]]
    )
    single = score_in_memory(data, parts, dtype=torch.float32)
    half = score_in_memory(data, parts)
    tracks = [
        found.reshape(-1, SEGMENTS_A_TRACK, len(CLASSES)).mean(axis=1).argmax(axis=1)
        for found in (single, half)
    ]
    again = score_in_memory(data, parts[::-1])
    back = np.concatenate(np.split(again, len(parts))[::-1])
    results.tell(
        "numbers",
        {
            "single precision against the CPU, largest": float(
                np.abs(single[: len(reference)] - reference).max()
            ),
            "half precision against single, largest": float(np.abs(half - single).max()),
            "tracks of 512 that peak elsewhere": int((tracks[0] != tracks[1]).sum()),
            "the same bytes in another order of parts": bool(np.array_equal(half, back)),
        },
    )
    return half


HOG = """
import sys, time, torch
torch.cuda.init()
held = []
for size in (1 << 28, 1 << 24, 1 << 20):
    while torch.cuda.mem_get_info()[0] - size > float(sys.argv[1]) * 2**30:
        held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
print(torch.cuda.mem_get_info()[0] / 2**30, flush=True)
time.sleep(600)
"""


def measure_full_cards(results, root, data, expected):
    """Score where another process holds all memory but some."""
    model, found = Path(root, "model"), Path(root, "found.npy")
    model.write_bytes(data)
    for free_gb in FREE_GB:
        with results.trying(f"{free_gb} GB free"):
            hog = subprocess.Popen(
                [sys.executable, "-c", HOG, str(free_gb)], stdout=subprocess.PIPE, text=True
            )
            left_gb = float(hog.stdout.readline())
            command = [sys.executable, __file__, "--score-some", str(model), str(found)]
            began_s = time.perf_counter()
            try:
                made = subprocess.run(
                    command, capture_output=True, text=True, timeout=90, check=False
                )
            finally:
                hog.kill()
                hog.wait()
            said = [
                line for line in made.stderr.splitlines() if "is full" in line or "Error" in line
            ]
            worst = float(np.abs(np.load(found) - expected).max()) if made.returncode == 0 else None
            results.tell(
                f"a card with {left_gb:.2f} GB free",
                {
                    "exit": made.returncode,
                    "s, start included": round(time.perf_counter() - began_s, 1),
                    "largest difference": worst,
                    "halved": len(said),
                    "last said": said[-1][:300] if said else "",
                },
            )
            found.unlink(missing_ok=True)


def score_some(model, found):
    logging.basicConfig(level=logging.WARNING)
    np.save(found, score_in_memory(Path(model).read_bytes(), parts_in_memory(64)))


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--parts", type=int, default=480, help="of 2,560 segments to score; default %(default)s"
    )
    parser.add_argument("--results", help="file to write them to, too")
    parser.add_argument(
        "--folder", default="/dev/shm" if Path("/dev/shm").is_dir() else None, help="for material"
    )
    parser.add_argument("--only", nargs="*", default=["train", "score", "card", "numbers", "full"])
    parser.add_argument(
        "--quality-cpu",
        type=int,
        default=0,
        help="only train small models with so many seeds, on a CPU",
    )
    parser.add_argument(
        "--model", type=Path, help="file that keeps what was trained, for a run that does not train"
    )
    parser.add_argument("--cpu-epoch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--score-some", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sssl-gpu-", dir=args.folder) as root:
        results = Results(args.results)
        if args.score_some:
            score_some(*args.score_some)
        elif args.cpu_epoch:
            sys.stdout.write(f"{cpu_epoch_s(root)}\n")
        elif args.quality_cpu:
            measure_quality(results, root, "cpu", range(args.quality_cpu), 2)
        else:
            measure(results, root, args.only, args.parts, args.model)


def measure(results, root, only, parts, kept):
    results.tell("device", describe())
    data, beside = dump(random_model()), None
    if kept and kept.exists():
        data = kept.read_bytes()
    if "train" in only:
        with results.trying("train"):
            data, beside = measure_training(results, root)
            if kept:
                kept.write_bytes(data)
    if "card" in only:
        with results.trying("on the card"):
            measure_on_card(results, data)
    expected = None
    if "numbers" in only:
        with results.trying("numbers"):
            expected = measure_numbers(results, data)
    if "full" in only and expected is not None:
        measure_full_cards(results, root, data, expected)
    if "score" in only:
        measure_scoring(results, root, data, parts)
    if beside is not None:
        with results.trying("two cores"):
            an_epoch_s = float(beside.communicate()[0])
            gpu_s = results.of("train 20,000 segments, 12 epochs, 4 members, on the GPU, s")
            cpu_s = an_epoch_s * TrainConfig().warmup_epochs
            results.tell("train 20,000 segments on two cores, s, from one epoch", cpu_s)
            results.tell("bar train", {"times": round(cpu_s / gpu_s, 1), "bar": BARS["train"]})


def random_model():
    torch.manual_seed(0)
    spec = ModelSpec("cnn", CLASSES, MEL, 4)
    return Model(spec, [spec.build().eval() for _ in range(4)])


if __name__ == "__main__":
    main(sys.argv[1:])
