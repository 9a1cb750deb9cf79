"""A catalog of millions without any audio, and what a run that saw it would have left behind.

python simulated.py catalog PATH TRACKS
python simulated.py output CATALOG OUTPUT
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

CLASSES = ("Q1", "Q2", "Q3", "Q4")
AT_ONCE = 1_000_000


def write_catalog(path, tracks):
    """Write a CSV or Parquet catalog: five tracks an artist, a label on every tenth, ids and paths
    as long as usual."""
    schema = pa.schema([(name, pa.string()) for name in ("track_id", "uri", "label", "group_id")])
    writer = (
        csv.CSVWriter(path, schema) if path.endswith(".csv") else pq.ParquetWriter(path, schema)
    )
    with writer:
        for start in range(0, tracks, AT_ONCE):
            writer.write_table(make(start, min(start + AT_ONCE, tracks), schema))


def make(start, end, schema):
    rows = range(start, end)
    columns = (
        [f"track{row:09d}" for row in rows],
        [f"/nowhere/artist{row // 5:08d}/track{row:09d}.mp3" for row in rows],
        [None if row % 10 else CLASSES[row // 10 % 4] for row in rows],
        [f"artist{row // 5:08d}" for row in rows],
    )
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)


def write_output(catalog, output):
    """Commit the tables of a segment stage that decoded the whole catalog, as far as a plan looks
    at them: their manifests, and the files of the catalog itself."""
    from pipelines.stages.settings import Settings
    from sssl.catalog.assign import Dealt, deal
    from sssl.catalog.read import commit_catalog, read_tracks
    from sssl.store.folder import Store
    from sssl.store.manifest import Manifest, PartFile, Snapshot

    settings, store = Settings(), Store.open(output, create=True)
    tracks = deal(read_tracks(catalog, None, settings.deal), settings.deal, Dealt())
    made = commit_catalog(store, tracks, settings.deal)
    snapshot = Snapshot((made,))
    for table in ("segments", "features", "ledger"):
        parts = range(made.summary["parts"])
        files = {
            part: PartFile(f"{table}/simulated/part-{part:05d}.parquet", 32, 4096, f"{part:064x}")
            for part in parts
        }
        manifest = Manifest(
            table, "simulated", "segment", None, settings.of_rows(), (made.ref,), files, {}
        )
        snapshot = snapshot.add(store.commit(manifest))
    store.publish(snapshot)


if __name__ == "__main__":
    if sys.argv[1] == "catalog":
        write_catalog(sys.argv[2], int(sys.argv[3]))
    else:
        write_output(*sys.argv[2:])
