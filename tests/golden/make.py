"""Write a small output folder of today's schema version: `PYTHONPATH=. python
tests/golden/make.py`.

A folder is written when its version is new and stays as it is from then on: later programs have to
    read it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas import SCHEMA_VERSION, TABLES, Feature, columns, to_arrow
from sssl.audio.mel import MelConfig, features_of
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot

FOLDER = Path(__file__).parent
CUT = MelConfig(mels=2, segment_s=512 / 16000)  # the shape of the example: 2 bands, 2 frames
PARENTS = {
    "catalog": [],
    "ledger": ["catalog"],
    "segments": ["catalog"],
    "features": ["catalog"],
    "labels": ["catalog", "segments"],
    "scores": ["catalog", "features"],
    "rounds": ["labels", "scores"],
    "songs": ["catalog", "segments", "scores"],
}
BY_ROUND = ("labels", "scores", "rounds")


def example_rows(table):
    """The row of all examples, and another track's (or round's) with null wherever a column allows
    it."""
    full = {column.name: column.example for column in columns(table)}
    bare = {column.name: None for column in columns(table) if column.nullable}
    other = {"track_id": "track002"} if "track_id" in full else {"round": 0}
    return [table(**full), table(**{**full, **bare, **other})]


def to_table(table, rows):
    """`to_arrow`, which does not take tensors."""
    if table is not Feature:
        return to_arrow(table, rows)
    log_mel = np.array([row.log_mel for row in rows], CUT.stored_as)
    return features_of(
        [row.track_id for row in rows],
        pa.array([row.segment_index for row in rows], pa.int32()),
        log_mel,
        CUT,
    )


def main():
    target = FOLDER / f"v{SCHEMA_VERSION}"
    store = Store.open(str(target), create=True)
    snapshot, expected = Snapshot(), {}
    for name in PARENTS:
        rows = example_rows(TABLES[name])
        expected[name] = [dataclasses.asdict(row) for row in rows]
        file = store.write_part(name, "golden", 0, to_table(TABLES[name], rows))
        parents = tuple(f"{parent}/golden" for parent in PARENTS[name])
        round = 1 if name in BY_ROUND else None
        summary = (
            {"parts": 1, "classes": ["Q1", "Q2", "Q3", "Q4"], "folds": 3}
            if name == "catalog"
            else {}
        )
        made = store.compact(
            Manifest(name, "golden", "golden", round, {}, parents, {0: file}, summary)
        )
        snapshot = snapshot.add(store.commit(made))
    store.publish(snapshot)
    (target / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main()
