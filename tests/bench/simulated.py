"""A catalog of millions without any audio, and what a run that saw it would have left behind.

python simulated.py catalog PATH TRACKS
python simulated.py inventory PATH TRACKS
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
        [f"gs://nowhere/{name_of(row)}" for row in rows],
        [None if row % 10 else CLASSES[row // 10 % 4] for row in rows],
        [f"artist{row // 5:08d}" for row in rows],
    )
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)


def name_of(row):
    return f"artist{row // 5:08d}/track{row:09d}.mp3"


def etag_of(row):
    return f"CJ{row:012d}="


def write_inventory(path, tracks):
    """Write the inventory of the bucket that has the catalog's files."""
    schema = pa.schema([(name, pa.string()) for name in ("bucket", "name", "etag")])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, tracks, AT_ONCE):
            rows = range(start, min(start + AT_ONCE, tracks))
            columns = (["nowhere"] * len(rows), map(name_of, rows), map(etag_of, rows))
            writer.write_table(pa.table([list(column) for column in columns], schema=schema))


def write_output(catalog, output):
    """Commit the tables of a segment stage that decoded the whole catalog, as far as a plan looks
    at them: their manifests, and the files of the catalog itself."""
    from pipelines.stages.settings import Settings
    from sssl.catalog.assign import Dealt, deal
    from sssl.catalog.committed import commit_catalog
    from sssl.catalog.read import read_tracks
    from sssl.store.folder import Store
    from sssl.store.manifest import Manifest, PartFile, Snapshot

    store = Store.open(output, create=True)
    settings = Settings().in_folder(store, Snapshot())
    tracks = read_tracks(catalog, None, settings.deal)
    rows = [int(track_id.removeprefix("track")) for track_id in tracks["track_id"].to_pylist()]
    fingerprints = pa.array([f"etag:{etag_of(row)}" for row in rows], pa.string())
    at = tracks.schema.get_field_index("source_fingerprint")
    tracks = tracks.set_column(at, tracks.schema.field(at), fingerprints)
    tracks = deal(tracks, settings.deal, Dealt())
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
    if sys.argv[1] == "output":
        write_output(*sys.argv[2:])
    else:
        write = {"catalog": write_catalog, "inventory": write_inventory}[sys.argv[1]]
        write(sys.argv[2], int(sys.argv[3]))
