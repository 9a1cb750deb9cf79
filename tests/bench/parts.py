"""What a folder of very many parts costs in requests: a relaunch after a late failure, a takedown.

python tests/bench/parts.py [--parts 3000] [--tracks 100] [--only relaunch]

Storage is in memory and counts its requests. Each takes 30 ms by a clock that nobody waits for:
those of the main thread one after the other, those of pools 32 at a time, and receipts as many as a
run reads. Parts have two tracks; files that nobody may read are the same few bytes.
"""

import argparse
import ctypes
import gc
import hashlib
import io
import os
import re
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rows import a_ledger_row, a_song, a_track

from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import READERS, todo_or_done
from schemas import Catalog, Ledger, Song, arrow_schema, to_arrow
from schemas.records import dump
from schemas.summaries import LedgerSummary, SongsSummary
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog
from sssl.removal.deletion import delete_unpublished
from sssl.removal.takedown import without
from sssl.store.folder import Store
from sssl.store.layout import compacted_path, part_path
from sssl.store.manifest import Compacted, Manifest, PartFile, Receipt, Snapshot, parts_digest
from sssl.store.parquet import compacted_bytes, deal, part_bytes

REQUEST_S, AT_ONCE, LISTED, DELETED = 0.030, 32, 1_000, 100
MAX_RELAUNCH_S, MAX_TAKEDOWN_S = 60, 300
WORKERS = 16
"""Processes of a job on Dataflow that find their parts done at the same time; few."""
UNREAD = b"a file that nobody reads"
CLASSES = ("Q1", "Q2")
console = Console(highlight=False, width=160)


@dataclass(eq=False)
class Counting:
    """A bucket in memory that counts requests by what they ask for."""

    root: str = "counting://bucket"
    poll_s: float = 5.0
    checks_content: bool = True
    folders: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    bytes: int = 0
    most_bytes: int = 0
    requests: Counter = field(default_factory=Counter)
    one_by_one: int = 0
    at_once: int = 0
    pool: int = AT_ONCE

    def ask(self, what, requests=1, *, many=False):
        self.requests[what] += requests
        if many or threading.current_thread() is not threading.main_thread():
            self.at_once += requests
        else:
            self.one_by_one += requests

    def took_s(self):
        return (self.one_by_one + self.at_once / self.pool) * REQUEST_S

    def begin(self):
        self.requests.clear()
        self.one_by_one = self.at_once = 0

    def read(self, path):
        self.ask("read")
        folder, name = os.path.split(path)
        if name not in self.folders.get(folder, ()):
            raise FileNotFoundError(path)
        return self.folders[folder][name]

    def open(self, path):
        return io.BytesIO(self.read(path))

    def put(self, path, data, *, durable=True):
        self.ask("write")
        self.keep(path, data)

    def keep(self, path, data):
        self.drop(path)
        folder, name = os.path.split(path)
        self.folders[folder][name] = data
        self.bytes += len(data) * (data is not UNREAD)
        self.most_bytes = max(self.most_bytes, self.bytes)

    def drop(self, path):
        folder, name = os.path.split(path)
        data = self.folders.get(folder, {}).pop(name, UNREAD)
        self.bytes -= len(data) * (data is not UNREAD)

    def create_if_absent(self, path, data):
        if self.exists(path):
            return self.read(path) == data
        self.put(path, data)
        return True

    def settle(self):
        return

    def exists(self, path):
        self.ask("look up")
        folder, name = os.path.split(path)
        return name in self.folders.get(folder, ())

    def below(self, folder):
        return sorted(f for f in self.folders if not folder or f"{f}/".startswith(f"{folder}/"))

    def sizes(self, folder):
        found = {
            os.path.join(place, name): len(data)
            for place in self.below(folder)
            for name, data in self.folders[place].items()
        }
        self.ask("list", 1 + len(found) // LISTED)
        return found

    def list(self, folder):
        return sorted(self.sizes(folder))

    def walk(self, folder):
        for place in self.below(folder):
            found = sorted(os.path.join(place, name) for name in self.folders[place])
            self.ask("list", 1 + len(found) // LISTED)
            yield found

    def delete(self, path):
        self.ask("delete")
        self.drop(path)

    def delete_many(self, paths):
        self.ask("delete", -(-len(paths) // DELETED), many=True)
        for path in paths:
            self.drop(path)


def make(parts, gone):
    """Return a folder with two tracks a part, published; the files of parts that have one of the
    tracks `gone` are real."""
    store = Store(Counting())
    ids = [f"t{number:08d}" for number in range(2 * parts)]
    rows = [
        a_track(name, part=number // 2, label=None, source_fingerprint="etag:1")
        for number, name in enumerate(ids)
    ]
    catalog = commit_catalog(store, to_arrow(Catalog, rows), CatalogConfig(classes=CLASSES))
    made = [catalog]
    real = {number // 2 for number, name in enumerate(ids) if name in gone}
    counts = {"tracks": len(ids), "segments": 2 * len(ids)}
    summaries = {
        "segments": LedgerSummary(**counts),
        "features": LedgerSummary(**counts),
        "ledger": LedgerSummary(**counts),
        "songs": SongsSummary(tracks=len(ids), classes=CLASSES),
    }
    for table, summary in summaries.items():
        files, compacted = table_of(store, table, ids, real)
        parents = (made[-1].ref,)
        plan = Manifest(
            table,
            "simulated000",
            table,
            None,
            {},
            parents,
            files,
            dump(summary),
            compacted=compacted,
        )
        made.append(store.commit(plan))
    snapshot = Snapshot(tuple(made))
    store.publish(snapshot)
    return store, snapshot


def table_of(store, table, ids, real):
    """Put the files and receipts of a table there; return its files, and those for readers."""
    kind, row = {"ledger": (Ledger, a_ledger_row), "songs": (Song, a_song)}.get(
        table, (None, lambda name: {"track_id": name})
    )

    def of_part(part):
        own = [row(name) for name in ids[2 * part : 2 * part + 2]]
        return part_bytes(pa.Table.from_pylist(own) if kind is None else to_arrow(kind, own))

    files = {}
    size = len(of_part(0))  # decides how many parts a file for readers has
    for part in range(len(ids) // 2):
        data = of_part(part) if part in real else UNREAD
        path = part_path(table, "simulated000", part)
        store.medium.keep(path, data)
        store.medium.keep(f"_receipts/{table}/simulated000/{part:05d}.json", UNREAD)
        files[part] = PartFile(path, 2, size, hashlib.sha256(b"%d" % part + data).hexdigest())
    if kind is None:
        return files, ()
    example = to_arrow(kind, [row(ids[0])])
    compacted = []
    for number, group in enumerate(deal(files)):
        names = pa.array(ids[2 * min(group) : 2 * max(group) + 2])
        zeros = pa.array([0] * len(names))
        rows = example.take(zeros).set_column(0, arrow_schema(kind).field(0), names)
        data = compacted_bytes(table, [rows])
        file = store.write_file(compacted_path(f"{table}/simulated000", number), data, len(rows))
        compacted.append(
            Compacted(
                file.path, file.rows, file.bytes, file.sha256, min(group), max(group),
                parts_digest(group),
            )
        )  # fmt: skip
    return files, tuple(compacted)


def relaunch(store, parts):
    """Find out which parts of a job are done, where a hundredth is not."""
    planned = Manifest("songs", "half000done0", "songs", None, {}, (), {}, {})
    job = Job(store, (planned,), {}, parts, CLASSES)
    done = range(parts // 100, parts)
    for part in done:
        path = f"_parts/{planned.ref}/part-{part:05d}.parquet"
        receipt = Receipt(part, {"songs": PartFile(path, 2, len(UNREAD), "0" * 64)})
        store.write_receipt(planned.ref, receipt)
    store.medium.begin()
    store.medium.pool = READERS
    started = time.process_time()
    there = job.receipts_there()
    listed_s = store.medium.took_s()
    refs = [PartRef(part, {}) for part in range(parts)]
    found = list(todo_or_done([ref for ref in refs if ref.part in there], job))
    assert len(found) == len(there) == len(done)
    all_s = store.medium.took_s()
    spread_s = listed_s + (all_s - listed_s) / WORKERS
    tell("relaunch, in one process", store, all_s, MAX_RELAUNCH_S, started)
    tell(f"relaunch, in {WORKERS} processes", store, spread_s, MAX_RELAUNCH_S, started)


def takedown(store, snapshot, gone):
    medium = store.medium
    medium.begin()
    medium.most_bytes = medium.bytes
    held = medium.bytes
    before_mb = begin_peak()
    started = time.process_time()
    store.publish(without(store, snapshot, gone))
    tell("tables without the tracks", store, medium.took_s(), None, started)
    stored_mb = (medium.most_bytes - held) / 1e6
    console.print(f"takedown: {peak_mb() - before_mb:.0f} MB, {stored_mb:.0f} of them storage")
    before_mb = begin_peak()
    delete_unpublished(store)
    tell("takedown", store, medium.took_s(), MAX_TAKEDOWN_S, started)
    console.print(f"deleting: {peak_mb() - before_mb:.0f} MB")


def begin_peak():
    """Return the memory of this process, the peak of which begins anew."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6


def tell(what, store, seconds, bar_s, started):
    asked = ", ".join(f"{count} {name}" for name, count in sorted(store.medium.requests.items()))
    met = "" if bar_s is None else "[green]met[/]" if seconds <= bar_s else "[red]missed[/]"
    console.print(
        f"{what}: {seconds:.1f} s of requests ({asked}), {time.process_time() - started:.1f} CPU s"
        f" {met}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=3_000, help="default %(default)s")
    parser.add_argument(
        "--tracks", type=int, default=100, help="that are taken down; default %(default)s"
    )
    parser.add_argument("--only", choices=["relaunch"], help="measure nothing else")
    args = parser.parse_args()
    if args.only:
        relaunch(Store(Counting()), args.parts)
        return
    step = 2 * args.parts // args.tracks
    gone = {f"t{number:08d}" for number in range(0, 2 * args.parts, step)}
    store, snapshot = make(args.parts, gone)
    takedown(store, snapshot, gone)
    relaunch(store, args.parts)


if __name__ == "__main__":
    main()
