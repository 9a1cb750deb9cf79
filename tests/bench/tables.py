"""What it costs to look up tracks in the tables of a large run, how many files there are, and what
making them costs.

python tests/bench/tables.py [--tracks 20000]

A made-up catalog in parts of 32 tracks. All is CPU time of one thread; of look-ups, the best of
some turns.
"""

import argparse
import sys
import tempfile
import time
from functools import partial

import numpy as np
import pyarrow as pa
from bench import Bar, bar_table, console
from rows import a_ledger_row, a_song

from schemas import Label, Ledger, Score, Song, arrow_schema, to_arrow
from sssl.audio.mel import MelConfig
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.sql import connect

TRACKS_A_PART, SEGMENTS_A_TRACK, TURNS = 32, 80, 5
CUT = MelConfig()


def cpu_s(work):
    """The least CPU time of some turns."""
    times = []
    for _ in range(TURNS):
        began_s = time.process_time()
        work()
        times.append(time.process_time() - began_s)
    return min(times)


def commit(store, table, round, content):
    """Write a table by parts, as stages do, and make it for readers; return it and the CPU seconds
    of both."""
    began_s = time.process_time()
    files = {part: store.write_part(table, f"bench{round}", part, rows) for part, rows in content}
    written_s = time.process_time()
    plan = Manifest(table, f"bench{round}", "bench", round, {}, (), files, {})
    made = store.commit(store.compact(plan))
    return made, written_s - began_s, time.process_time() - written_s


def by_segment(table, round, track_ids):
    """Rows of scores or labels of some tracks."""
    random, rows = (
        np.random.default_rng([round, int(track_ids[0], 16)]),
        len(track_ids) * SEGMENTS_A_TRACK,
    )
    reals = random.dirichlet([1] * 4, rows).astype(np.float32)
    columns = {
        "track_id": np.repeat(track_ids, SEGMENTS_A_TRACK),
        "segment_index": np.tile(np.arange(SEGMENTS_A_TRACK, dtype=np.int32), len(track_ids)),
        "round": np.full(rows, round, np.int32),
        **dict.fromkeys(("loss", "consistency", "clean_probability", "weight"), reals[:, 0]),
        **dict.fromkeys(
            ("probabilities", "target"),
            pa.FixedSizeListArray.from_arrays(reals.reshape(-1), 4).cast(pa.list_(pa.float32())),
        ),
        **dict.fromkeys(
            ("inherited_label", "label"), np.array(["Q1", "Q2", "Q3", "Q4"])[reals.argmax(axis=1)]
        ),
        **dict.fromkeys(("partition", "model_id", "reason"), ["confident"] * rows),
    }
    schema = arrow_schema(table)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def published(folder, tracks):
    """Commit the tables of a run of two rounds on a catalog; return store, snapshot, ids, and CPU
    seconds by work."""
    store = Store.open(folder, create=True)
    ids = [
        f"{number * 2654435761 % 2**32:08x}" for number in range(tracks)
    ]  # in an order of their own
    parts = [ids[start : start + TRACKS_A_PART] for start in range(0, tracks, TRACKS_A_PART)]
    snapshot, cost = Snapshot(), {"parts": 0.0, "readers": 0.0}
    content = {
        ("ledger", None): lambda own: to_arrow(
            Ledger, [a_ledger_row(track_id=track_id) for track_id in own]
        ),
        **{("scores", round): partial(by_segment, Score, round) for round in (0, 1)},
        **{("labels", round): partial(by_segment, Label, round) for round in (0, 1)},
        ("songs", None): lambda own: to_arrow(
            Song,
            [a_song(track_id=track_id, label=f"Q{1 + int(track_id, 16) % 4}") for track_id in own],
        ),
    }
    for (table, round), rows in content.items():
        made, parts_s, readers_s = commit(
            store, table, round, ((n, rows(own)) for n, own in enumerate(parts))
        )
        snapshot = snapshot.add(made)
        cost["parts"] += parts_s
        cost["readers"] += readers_s
    return store, snapshot, ids, cost


def looking_up(store, snapshot, ids):
    """Return the CPU seconds to find one track's scores of all rounds, and to count songs by
    label."""
    connection = connect(store, snapshot)
    connection.execute("set threads = 1")
    some = iter(ids[7::97])

    def one_track():
        found = connection.execute(
            "select * from scores where track_id = ?", [next(some)]
        ).fetchall()
        assert len(found) == 2 * SEGMENTS_A_TRACK

    def by_label():
        found = connection.sql("select label, count(*) from songs group by label").fetchall()
        assert sum(count for _, count in found) == len(ids)

    return cpu_s(one_track), cpu_s(by_label)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--tracks", type=int, default=20_000, help="of 80 segments; default %(default)s"
    )
    args = parser.parse_args(argv)
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as folder:
        store, snapshot, ids, cost = published(f"{folder}/out", args.tracks)
        track_s, label_s = looking_up(store, snapshot, ids)
    files = sum(len(manifest.for_readers) for manifest in snapshot.manifests)
    hours = args.tracks * SEGMENTS_A_TRACK * CUT.segment_s / 3600
    console.print(
        f"{args.tracks:,} tracks: parts of ledger, songs, and two rounds of scores and labels took"
        f" {cost['parts']:.1f} CPU s to make, files for readers {cost['readers']:.1f} more"
    )
    console.print(
        bar_table(
            [
                Bar("one track's scores", "", track_s, 0.05, unit=" s"),
                Bar("songs by label", "", label_s, 0.02, unit=" s"),
                Bar("files for readers", "", files, 60),
                Bar(
                    "files for readers, CPU an hour of audio",
                    "",
                    cost["readers"] / hours,
                    0.23,
                    unit=" s",
                ),
            ]
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
