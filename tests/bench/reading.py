"""How fast a part of log-mels is read, and how large it is: `features` beside the lists of half
floats of before.

python tests/bench/reading.py

Both are read by turns in one process, by one thread; the best CPU time of each counts.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench import Bar, bar_table, console
from rows import half_floats

from sssl.audio.mel import MelConfig, as_stored, features_of
from sssl.store.folder import Store
from sssl.store.tensors import log_mels

ROWS, TURNS = 2_560, 5
CUT = MelConfig()


def made_up():
    """Log-mels [N, mels, frames] of noise whose level wanders from band to band and from frame to
    frame."""
    random = np.random.default_rng(0)
    slow = random.normal(0, 1, (ROWS, *CUT.shape)).cumsum(axis=1).cumsum(axis=2) / 20
    return (-40 + slow + random.normal(0, 4, slow.shape)).astype(np.float16)


def cpu_s(work):
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def compare(folder):
    """Return the segments a CPU second of `features` and of lists, and the bytes of a segment in
    `features`."""
    log_mel = made_up()
    store = Store.open(folder, create=True)
    features = features_of(
        np.full(ROWS, "t"), np.arange(ROWS, dtype=np.int32), as_stored(log_mel, CUT), CUT
    )
    file = store.write_part("features", "bench", 0, features)
    lists = Path(folder, "lists.parquet")
    pq.write_table(
        pa.table({"log_mel": half_floats(log_mel)}),
        lists,
        row_group_size=256,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
    )
    now, before = [], []
    for _ in range(TURNS):
        now.append(cpu_s(lambda: log_mels(store.read_part(file, ["log_mel"]))))
        before.append(cpu_s(lambda: log_mels(pq.read_table(lists, use_threads=False))))
    return ROWS / min(now), ROWS / min(before), file.bytes / ROWS


def main():
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as folder:
        now, before, segment_bytes = compare(folder)
    console.print(
        f"log-mels: {now:,.0f} segments a CPU second, as lists of half floats {before:,.0f}"
    )
    bars = [
        Bar(
            "reading log-mels, by lists of half floats",
            "",
            now / before,
            6,
            at_most=False,
            unit=" x",
        ),
        Bar("features, bytes a segment", "", segment_bytes, 10_900),
    ]
    console.print(bar_table(bars))


if __name__ == "__main__":
    sys.exit(main())
