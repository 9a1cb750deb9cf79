"""Parts that are taken over from an earlier generation: in bulk, by what manifests list, so that no
file of theirs is opened and no receipt of theirs is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.reasons import PART_FAILED
from schemas.summaries import CatalogSummary
from sssl.catalog.committed import PARTS_PER_FILE
from sssl.catalog.counts import read_counts
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile, Receipt

SEEN_BY_STAGES = ("track_id", "label", "split", "fold", "locked", "corrections")
"""What of a track's row in the catalog the rows of later tables depend on."""
_READERS = 32


@dataclass(frozen=True)
class Earlier:
    """An earlier generation of a job's tables, whose parts may be taken over. How it is found:
    pipelines.stages."""

    ref: str
    """The generation that has the receipts."""
    inputs: dict[str, str]
    """Refs of what it was made from, by the names that the job gives its inputs."""
    tables: dict[str, str]
    """Refs of the generations that have the files, by table."""
    seen: tuple[str, ...] = SEEN_BY_STAGES
    """Columns of the catalog that its rows depend on."""

    def standing(self, store: Store, inputs: Mapping[str, str]) -> dict[int, Receipt]:
        """Return the receipts of parts whose files are there, and whose tracks and input files are
        as they were. One that was given up is tried again.

        `inputs` are the refs of tables with one file per part, and that of the catalog.
        """
        tables = {table: read_manifest(store, ref) for table, ref in self.tables.items()}
        lost: set[str] = set()
        common: set[int] | None = None
        for manifest in tables.values():
            lost.update(store.lost(manifest))
            own = set(manifest.files)
            common = own if common is None else common & own
        by_part = []
        for name, ref in inputs.items():
            now = read_manifest(store, ref)
            if now.table != "catalog":
                before = read_manifest(store, self.inputs[name])
                by_part.append((before.files, now.files))
        changed = changed_parts(store, self.inputs["catalog"], inputs["catalog"], self.seen)
        stand: dict[int, dict[str, PartFile]] = {}
        for part in sorted((common or set()) - changed):
            files = {table: manifest.files[part] for table, manifest in tables.items()}
            is_there = lost.isdisjoint(file.path for file in files.values())
            if is_there and all(_is_same(old.get(part), new.get(part)) for old, new in by_part):
                stand[part] = files
        counts = known_counts(store, self.ref, stand)
        receipts = {}
        for part, files in stand.items():
            known = counts.get(part)
            if known is not None and PART_FAILED not in known.get("reasons", {}):
                receipts[part] = Receipt(part, files, known)
        return receipts


@lru_cache(maxsize=32)
def read_manifest(store: Store, ref: str) -> Manifest:
    """Read a committed manifest, once per process: it never changes."""
    return store.named(ref)


@lru_cache(maxsize=8)
def changed_parts(store: Store, before: str, now: str, columns: tuple[str, ...]) -> frozenset[int]:
    """Return the parts that have other tracks in one catalog than in another, or other values in
    some columns.

    Of the catalog's files, each with many parts, only those are read that are not the same.
    """
    old = read_manifest(store, before)
    new = read_manifest(store, now)
    old_parts = old.about(CatalogSummary).parts
    new_parts = new.about(CatalogSummary).parts
    changed = set(range(old_parts, new_parts))
    for number, file in new.files.items():
        known = old.files.get(number)
        if known is None or known.sha256 == file.sha256:
            continue
        first = number * PARTS_PER_FILE
        end = min(first + PARTS_PER_FILE, new_parts, old_parts)
        parts = range(first, end)
        rows_before = _by_part(store, known, parts, columns)
        rows_now = _by_part(store, file, parts, columns)
        for part, old_rows, new_rows in zip(parts, rows_before, rows_now, strict=True):
            if not old_rows.equals(new_rows):
                changed.add(part)
    return frozenset(changed)


def _by_part(
    store: Store, file: PartFile, parts: range, columns: tuple[str, ...]
) -> list[pa.Table]:
    """Return some columns of a file of the catalog, which is sorted by part, for each of some
    parts."""
    rows = store.read_part(file, [*columns, "part"]).combine_chunks()
    numbers = np.arange(parts.start, parts.stop + 1)
    starts = np.searchsorted(rows["part"].to_numpy(), numbers)
    own = rows.select(columns)
    return [own.slice(start, end - start) for start, end in pairwise(starts)]


def _is_same(before: PartFile | None, now: PartFile | None) -> bool:
    return before is not None and now is not None and before.sha256 == now.sha256


def known_counts(store: Store, ref: str, parts: Mapping[int, object]) -> dict[int, dict[str, Any]]:
    """Return what was counted in some parts of a generation.

    Where that is in no file of its own, as in generations of an earlier version, the receipts tell
    it; of one that a takedown left without a file there are none.
    """
    counts = read_counts(store, ref)
    if counts is not None:
        return {part: counts[part] for part in parts if part in counts}
    with ThreadPoolExecutor(_READERS) as threads:
        receipts = threads.map(lambda part: store.receipt(ref, part), parts)
        return {receipt.part: receipt.counts for receipt in receipts if receipt is not None}
