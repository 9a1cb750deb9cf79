"""Scoring on a GPU: the stage beside a careful loop over the same files."""

import contextlib
import queue
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from anew import forget
from gpu_material import MEL, PART, SEGMENTS_A_TRACK, TRACKS_A_PART, commit_model, log_mels, make
from gpu_results import BARS

from pipelines.stages import score
from pipelines.stages.context import Context
from pipelines.terminal.console import silenced
from sssl.model.ensemble import load
from sssl.model.folded import folded
from sssl.model.networks import in_db
from sssl.model.settings import ScoreConfig
from sssl.model.streaming.scorer import TYPES, StreamScorer
from sssl.store.tensors import tensors


def loop(files, model, readers, batch, members):
    """Score as carefully as a single script can: reader threads, pinned buffers, large batches,
    half precision."""
    networks = [member.cuda().eval() for member in model.members[:members]]
    names, full, free = queue.Queue(), queue.Queue(8), queue.Queue()
    stored = tensors(pq.read_table(files[0]), "log_mel").dtype
    for file in files:
        names.put(file)
    for _ in range(readers + 4):
        free.put(torch.empty(PART, *MEL.shape, dtype=TYPES[stored.name], pin_memory=True))

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
                posterior = sum(network(in_db(x)).float().softmax(1) for network in networks)
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
        ("halves", True, parts // 2),
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
        x = torch.randint(90, 160, (batch, *MEL.shape), dtype=torch.uint8, device="cuda")
        plain = load(data, "cuda").members[0]
        quick = folded(load(data).members[0]).cuda().eval()
        speeds = {"plain": on_card(plain, x), "folded": on_card(quick, x)}
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                quick(in_db(x)).softmax(1)
        speeds["folded, graph"] = timed_on_card(graph.replay, batch)
        results.tell(f"on the card, batch {batch}, segments/s", speeds)


def on_card(network, x):
    def forward():
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            network(in_db(x)).softmax(1)

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
