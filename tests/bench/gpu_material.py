"""Catalogs of log-mels made up, as the segment stage writes them, for measurements on a GPU."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from schemas import SCHEMA_VERSION, Catalog, to_arrow
from schemas.records import dump
from sssl.audio.mel import MelConfig, as_stored, in_db
from sssl.catalog.assign import CatalogConfig, Dealt, deal
from sssl.catalog.committed import commit_catalog, read_part
from sssl.model.ensemble import Model, ModelSpec, model_id
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile, Snapshot
from sssl.store.parquet import part_bytes
from sssl.store.tensors import tensor_column, tensor_metadata

MEL = MelConfig()
TRACKS_A_PART, SEGMENTS_A_TRACK = 32, 80
PART = TRACKS_A_PART * SEGMENTS_A_TRACK
CLASSES = CatalogConfig().classes


def log_mels(rows, seed, classes=None):
    """Synthesize log-mels as they are stored: each class has a spectrum, each track of 80 segments
    one of its own, the rest is noise."""
    random = np.random.default_rng(seed)
    shapes = np.random.default_rng(99).normal(0, 1, (len(CLASSES), MEL.mels, 1))
    tracks = -(-rows // SEGMENTS_A_TRACK)
    classes = random.integers(0, len(CLASSES), tracks) if classes is None else classes
    own = random.normal(0, 3, (tracks, MEL.mels, 1))
    found = np.empty((rows, *MEL.shape), MEL.stored_as)
    for track in range(tracks):
        here = found[track * SEGMENTS_A_TRACK : (track + 1) * SEGMENTS_A_TRACK]
        noise = random.standard_normal((len(here), *MEL.shape), dtype=np.float32) * 6
        level = random.normal(0, 1.2, (len(here), 1, 1))  # how much of the class a segment has
        levels = noise - 30 + own[track] + (0.6 + level) * shapes[classes[track]]
        here[:] = as_stored(levels.astype(np.float16), MEL)
    return found


def features_table(track_ids, log_mel, encoding):
    column, dtype = {
        "binary": lambda: (tensor_column(log_mel), "uint8"),
        "halves": lambda: (tensor_column(_halves(log_mel)), "<f2"),
        "list": lambda: (_lists(_halves(log_mel)), "<f2"),
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


def _halves(values):
    """As folders have them that schema version 8 or earlier began."""
    return in_db(values).astype(np.float16)


COMPRESSION = {"binary lz4": "lz4", "list": "zstd", "halves": "none"}


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
    stored_as = MEL.stored_as if encoding.startswith("binary") else "float16"
    cut = dump(replace(MEL, stored_as=stored_as))
    manifest = Manifest(
        "features", "bench", "segment", None, {"cut": cut}, (catalog.ref,), files, {}
    )
    return store, Snapshot((catalog, store.commit(manifest)))


def track_log_mel(number):
    return log_mels(SEGMENTS_A_TRACK, seed=number, classes=[number % len(CLASSES)])


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
        inherited = [tracks[name].label for name in ids]
        target = np.eye(len(CLASSES), dtype=np.float32)[
            [CLASSES.index(label) for label in inherited]
        ]
        table = pa.table(
            {
                "track_id": ids,
                "label": inherited,
                "inherited_label": inherited,
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


def random_model():
    torch.manual_seed(0)
    spec = ModelSpec("cnn", CLASSES, MEL, 4)
    return Model(spec, [spec.build().eval() for _ in range(4)])
