"""What the scoring stage costs beside a plain torch loop over the same Parquet, on the device that
is there.

python tests/bench/scoring.py [--tracks 256] [--rounds 3] [--threads 1]

The two run by turns in one process, so that a busy minute of the machine hits them alike; the best
turn of each counts.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
import torch
from anew import forget
from rich.console import Console
from rows import a_track

from pipelines.beam.job import Job
from pipelines.stages import score, segment
from pipelines.stages.context import Context
from pipelines.stages.previous import TABLES, PartBefore
from pipelines.stages.settings import Settings
from pipelines.terminal.console import silenced
from schemas import Catalog, Status, to_arrow
from sssl.audio.cut import CutTrack, _Cut, ledger_row
from sssl.audio.mel import as_stored
from sssl.audio.sound import sound_db
from sssl.catalog.assign import CatalogConfig, Dealt, deal
from sssl.catalog.committed import commit_catalog
from sssl.model.ensemble import Model, ModelSpec, dump, load, model_id
from sssl.model.networks import in_db
from sssl.model.settings import ScoreConfig
from sssl.runtime.device import device
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.tensors import log_mels

SEGMENTS_A_TRACK = 80
BAR = {"cpu": 0.95, "cuda": 0.8}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Speed:
    """Segments a second of CPU time and of wall time."""

    cpu: float
    wall: float


def make(root, tracks):
    """Commit segments of noise, 4 min a track, in parts as a large catalog has them, and a model of
    random weights."""
    store, settings = (
        Store.open(root, create=True),
        Settings(deal=CatalogConfig(tracks_per_part=32)),
    )
    rows = [a_track(f"t{i:06d}", label=settings.deal.classes[i % 4]) for i in range(tracks)]
    catalog = commit_catalog(
        store, deal(to_arrow(Catalog, rows), settings.deal, Dealt()), settings.deal
    )
    job = Job.of(store, "segment", TABLES, settings.of_rows(), [catalog])
    receipts = []
    for ref in job.list_parts():
        own = job.tracks(ref)
        cuts = [cut_of(track, settings.cut) for track in own]
        tables = segment.merge(own, cuts, PartBefore(store, False), settings)
        receipts.append(segment.write_part(job, ref.part, own, *tables))
    snapshot = Snapshot((catalog,))
    for manifest in job.commit(receipts):
        snapshot = snapshot.add(manifest)
    return store, snapshot.add(commit_model(store, snapshot, settings))


def cut_of(track, mel):
    log_mel = np.random.default_rng(len(track.track_id)).normal(
        -40, 10, (SEGMENTS_A_TRACK, *mel.shape)
    )
    log_mel = log_mel.astype(np.float16)
    index, level = (
        np.arange(SEGMENTS_A_TRACK, dtype=np.int32),
        np.full(SEGMENTS_A_TRACK, -20, np.float32),
    )
    row = ledger_row(track, Status.OK, None, None, segments=SEGMENTS_A_TRACK)
    cut = _Cut(index, as_stored(log_mel, mel), level, log_mel.mean(axis=2), sound_db(log_mel))
    return CutTrack(replace(row, decoded_s=mel.segment_s * SEGMENTS_A_TRACK), cut)


def commit_model(store, snapshot, settings):
    torch.manual_seed(0)
    spec = ModelSpec("cnn", settings.deal.classes, settings.cut, settings.deal.folds)
    data = dump(Model(spec, [spec.build().eval() for _ in range(spec.members)]))
    file = store.write_file("models/bench/model.safetensors", data, rows=spec.members)
    parents = tuple(sorted(snapshot.get(table).ref for table in ("catalog", "features")))
    return store.commit(
        Manifest(
            "models", "bench", "train", 0, {}, parents, {0: file}, {"model_id": model_id(data)}
        )
    )


def by_loop(store, snapshot, batch, members_of=lambda model: model.members):
    """Score as one would in a notebook: read a file, move it to the device, batch after batch."""
    model = load(store.read_bytes(snapshot.get("models", 0).files[0].path), device())
    members = members_of(model)
    found = []
    with torch.inference_mode():
        for part, file in sorted(snapshot.get("features").files.items()):
            log_mel = log_mels(pq.read_table(store.url(file.path), columns=["log_mel"]))
            member = members[part % len(members)]
            batches = torch.from_numpy(log_mel).split(batch)
            found += [member(in_db(rows.to(device()))).softmax(dim=1).cpu() for rows in batches]
    return len(torch.cat(found))


def by_stage(store, snapshot, settings, threads):
    forget(store, "scores")
    with silenced():
        made = score.run(Context(store, snapshot), 0, settings, score.Placement(threads=threads))
    return made.snapshot.get("scores", 0).rows


def timed(work, *args):
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    segments = work(*args)
    return Speed(
        segments / (time.process_time() - cpu_s), segments / (time.perf_counter() - wall_s)
    )


def best(speeds):
    return Speed(max(speed.cpu for speed in speeds), max(speed.wall for speed in speeds))


def by_folded_loop(store, snapshot, batch):
    """The same, by networks that were made faster as the stage makes them."""
    return by_loop(store, snapshot, batch, lambda model: model.folded_members)


def compare(tracks, rounds, threads, batch):
    """Return the speeds of the loop, of the loop over folded networks, and of the stage."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as root:
        store, snapshot = make(f"{root}/out", tracks)
        settings = ScoreConfig(score_batch=batch)
        loop, folded, stage = [], [], []
        for _ in range(rounds + 1):
            loop.append(timed(by_loop, store, snapshot, batch))
            folded.append(timed(by_folded_loop, store, snapshot, batch))
            stage.append(timed(by_stage, store, snapshot, settings, threads))
    # Whatever comes first pays for what is slow once.
    return [best(turns[1:]) for turns in (loop, folded, stage)]


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tracks", type=int, default=256, help="of 4 min; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; default %(default)s")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of each; default %(default)s"
    )
    parser.add_argument(
        "--batch", type=int, default=ScoreConfig.score_batch, help="segments; default %(default)s"
    )
    args = parser.parse_args(argv)
    loop, folded, stage = compare(args.tracks, args.rounds, args.threads, args.batch)
    name = torch.cuda.get_device_name() if device() == "cuda" else "cpu"
    console.print(
        f"{args.tracks * SEGMENTS_A_TRACK} segments on {name}, segments/s by CPU time, by wall time"
    )
    named = {"plain torch loop": loop, "loop, folded": folded, "sssl score": stage}
    for title, speed in named.items():
        console.print(f"{title:<18}{speed.cpu:8.0f}{speed.wall:8.0f}")
    console.print(f"stage / loop over folded networks, CPU {stage.cpu / folded.cpu:5.2f}")
    for title, ratio in (("CPU", stage.cpu / loop.cpu), ("wall", stage.wall / loop.wall)):
        met = "met" if ratio >= BAR[device()] else "missed"
        console.print(f"stage / loop, {title:<5}{ratio:5.2f}  bar >= {BAR[device()]}  {met}")


if __name__ == "__main__":
    main(sys.argv[1:])
