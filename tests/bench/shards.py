"""A million labelled tracks of ten million: how soon training begins, in how much memory, and how
fast rows come.

python tests/bench/shards.py [--tracks 1000000] [--windows 12]

Manifests are those of so large a catalog. Their files are the same few over and over, of random
log-mels, so the operating system has them at hand: what is measured is what we do with them, beside
a loop that only reads the same files. Storage and network are not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import psutil
import pyarrow as pa
import torch
from rich.console import Console

from schemas.records import dump
from schemas.summaries import ExamplesSummary, LedgerSummary
from sssl.audio.mel import MelConfig, as_stored
from sssl.model.ensemble import ModelSpec
from sssl.model.settings import TrainConfig
from sssl.model.shards.make import (
    Labelled,
    Sharding,
    examples_table,
    shard_table,
    summarize_examples,
)
from sssl.model.shards.read import read_layer
from sssl.model.trainer import Progress, Sharded, Trainer, Training
from sssl.store.folder import Store
from sssl.store.manifest import Manifest

CLASSES = ("Q1", "Q2", "Q3", "Q4")
SEGMENTS_A_TRACK, TRACKS_A_PART, LABELLED_SHARE, FOLDS = 80, 32, 0.1, 4
DISTINCT = 4
"""Files that stand for all of them."""
MAX_START_S, MAX_START_MB = 120, 4000
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--tracks", type=int, default=1_000_000, help="labelled tracks")
    parser.add_argument("--windows", type=int, default=12, help="windows that are read")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as folder:
        store = Store.open(folder, create=True)
        write(store, args.tracks)
        start(store)
        read(store, args.windows)


def write(store: Store, tracks: int) -> None:
    """Write some shards, and manifests that name them as often as so many labelled tracks need."""
    cut = MelConfig()
    rows_a_part = round(TRACKS_A_PART * LABELLED_SHARE * SEGMENTS_A_TRACK)
    parts = round(tracks / LABELLED_SHARE / TRACKS_A_PART)
    ledger = LedgerSummary(
        tracks=round(tracks / LABELLED_SHARE),
        segments=round(tracks / LABELLED_SHARE) * SEGMENTS_A_TRACK,
        trainable={"Q1": {0: tracks}},
    )
    sharding = Sharding.of(ledger, parts, cut.log_mel_bytes, chunk=8)
    files: dict[str, list] = {"shards": [], "examples": []}
    total = ExamplesSummary()
    for number in range(DISTINCT):
        shard = shard_of(number, sharding, rows_a_part, cut)
        taught = taught_of(shard)
        total += summarize_examples(taught, CLASSES, bag=1)
        for table, rows in (("shards", shard), ("examples", taught)):
            files[table].append(store.write_part(table, "bench", number, rows))
    count = sharding.shards(parts)
    times = count / DISTINCT
    bags = {
        layer: {fold: round(n * times) for fold, n in by_fold.items()}
        for layer, by_fold in total.bags.items()
    }
    summaries = {
        "shards": {},
        "examples": dump(replace(total, segments=round(total.segments * times), bags=bags)),
    }
    for table, own in files.items():
        config = dump(sharding) if table == "shards" else {"bag": 1}
        named = {shard: own[shard % DISTINCT] for shard in range(count)}
        planned = Manifest(table, "bench", table, None, config, (), named, summaries[table])
        store.commit(planned)
    size = sum(file.bytes for file in files["shards"]) * times / 1e12
    console.print(
        f"{tracks} labelled tracks: {count} shards of {sharding.parts} parts and {sharding.layers}"
        f" layers, {size:.2f} TB"
    )


def shard_of(number: int, sharding: Sharding, rows_a_part: int, cut: MelConfig) -> pa.Table:
    chance = np.random.default_rng(number)
    labelled = {}
    for part in range(number * sharding.parts, (number + 1) * sharding.parts):
        ids = [f"t{part}-{row // SEGMENTS_A_TRACK}" for row in range(rows_a_part)]
        log_mel = chance.standard_normal((rows_a_part, *cut.shape), np.float32)
        index = pa.array(np.arange(rows_a_part) % SEGMENTS_A_TRACK, pa.int32())
        rows = np.arange(rows_a_part)
        labelled[part] = Labelled(rows, pa.array(ids), index, as_stored(log_mel, cut))
    return shard_table(labelled, sharding, cut)


def taught_of(shard: pa.Table) -> pa.Table:
    """Teach a class by the id of the track."""
    labels = {}
    for part in np.unique(shard["part"].to_numpy()).tolist():
        own = shard.filter(pa.compute.equal(shard["part"], part)).sort_by("row")
        ids = own["track_id"].to_pylist()
        names = [CLASSES[hash_of(one) % len(CLASSES)] for one in ids]
        target = np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(name) for name in names]]
        labels[part] = pa.table(
            {
                "track_id": ids,
                "inherited_label": names,
                "partition": ["confident"] * len(ids),
                "label": names,
                "target": pa.array(list(target), pa.list_(pa.float32())),
                "weight": pa.array(np.ones(len(ids), np.float32)),
            }
        )
    folds = {one: hash_of(one) % FOLDS for one in set(shard["track_id"].to_pylist())}
    return examples_table(shard, labels, folds, CLASSES)


def hash_of(text: str) -> int:
    return sum(text.encode())


def training_on(store: Store) -> Training:
    made = Sharded(*(store.named(f"{table}/bench") for table in ("shards", "examples")))
    spec = ModelSpec("cnn", CLASSES, MelConfig(), FOLDS)
    config = TrainConfig(shards="always", track_segments=8, bag=1, mixup_alpha=0.0)
    nothing = replace(made.shards, files={})
    tables = (nothing, nothing, nothing)
    return Training(store, *tables, spec, config, 0, "models/bench", None, "cpu", made)


def start(store: Store) -> None:
    """Say how long it takes, in how much memory, from nothing to the first step."""
    began = time.monotonic()
    training = training_on(store)
    trainer = Trainer(training, 0, training.corpus())
    steps = []

    def first(*args: object) -> torch.Tensor:
        steps.append(time.monotonic() - began)
        raise StopIteration

    trainer.loss = first  # type: ignore[assignment, method-assign]
    with suppress(StopIteration):
        trainer.run_window(0, Progress())
    peak_mb = psutil.Process().memory_info().rss / 1e6
    met = steps[0] <= MAX_START_S and peak_mb <= MAX_START_MB
    console.print(
        f"first step after {steps[0]:.1f} s, in {peak_mb:.0f} MB:"
        f" {'[green]met[/]' if met else '[red]missed[/]'}; {trainer.steps} steps an epoch"
    )


def read(store: Store, windows: int) -> None:
    """Say how many rows come a second: in batches, in windows, and of a loop that only reads."""
    training = training_on(store)
    shards = training.corpus()
    taken = shards._pieces(0)[: windows * shards.shuffled]

    def loop() -> int:
        return sum(
            len(read_layer(store, shards.shards.files[shard], layer, ["log_mel"]))
            for shard, layer in taken
        )

    def in_windows() -> int:
        return sum(len(shards.window(0, n).rows.weight) for n in range(windows))

    def in_batches() -> int:
        return sum(
            len(batch.weight)
            for n in range(windows)
            for batch in shards.window(1, n).epoch(0, 32, 1, seed=n)
        )

    row_bytes = MelConfig().log_mel_bytes
    for name, rows in (("only reads", loop), ("windows", in_windows), ("batches", in_batches)):
        began, cpu = time.monotonic(), time.process_time()
        count = rows()
        wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        megabytes, cpu_us = count * row_bytes / 1e6, 1e6 * cpu_s / count
        console.print(
            f"{name:<11} {count} rows, {count / wall_s:8.0f} a second,"
            f" {megabytes / wall_s:6.0f} MB/s, {cpu_us:5.1f} CPU us a row"
        )
    peak_mb = psutil.Process().memory_info().rss / 1e6
    console.print(f"memory after that: {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
