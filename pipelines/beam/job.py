"""What a worker knows of the stage it works for: where inputs lie, what to write, when a part and a
table are done."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.beam.earlier import SEEN_BY_STAGES, Earlier, read_manifest
from schemas import Catalog
from schemas.records import dump
from schemas.summaries import SUMMARIES, CatalogSummary, Summary, of_today
from sssl.audio.mel import in_db
from sssl.audio.sound import sound_db, sound_of
from sssl.catalog.committed import read_part
from sssl.catalog.counts import write_counts
from sssl.errors import StoreError
from sssl.runtime.cpu_time import CLOCK
from sssl.runtime.reading import READING
from sssl.store.folder import Store
from sssl.store.layout import PARTS, receipt_paths, receipts_folder, tries_folder
from sssl.store.manifest import Manifest, PartFile, Receipt, loaded
from sssl.store.removals import is_removed, taken_down
from sssl.store.tensors import log_mels
from sssl.words import some

_BY_PART = ("ledger", "segments", "features", "embeddings", "scores")
"""Input tables with one file per part. The catalog has one row group per part, a model has no
parts."""


@dataclass(frozen=True)
class PartRef:
    """A part by reference: its number and its file in each input table. Small enough to cross a
    shuffle."""

    part: int
    files: dict[str, PartFile]


class Spent(NamedTuple):
    """What a process spent, and read, since it was last asked: a part's work, and a share of the
    rest."""

    cpu_s: float
    read_bytes: int
    read_s: float

    @classmethod
    def lap(cls) -> Spent:
        """Return that of this process and of those that it started."""
        read = READING.lap()
        return cls(CLOCK.lap(now_and_then=True), read.bytes, round(read.seconds, 6))


@dataclass(frozen=True)
class Job:
    """A stage's run over all parts of a catalog. It travels to workers, so it holds names and no
    rows.

    `planned` are its tables, of one generation; they are written in their order, the last one holds
    the receipts. `inputs` are the manifests' refs by table, or by the name that the stage gives
    them.
    """

    store: Store
    planned: tuple[Manifest, ...]
    inputs: dict[str, str]
    parts: int
    classes: tuple[str, ...]
    earlier: Earlier | None = None

    @classmethod
    def of(
        cls,
        store: Store,
        stage: str,
        tables: tuple[str, ...],
        config: dict[str, Any],
        inputs: Iterable[Manifest],
        round: int | None = None,
        named: Mapping[str, Manifest] | None = None,
    ) -> Job:
        """Set up a job; an input is named after its table, or as given where there may be two of
        that table."""
        by_name = {manifest.table: manifest for manifest in inputs}
        by_name |= dict(named or {})
        parents = by_name.values()
        planned = [Manifest.plan(table, stage, config, parents, round) for table in tables]
        refs = {name: manifest.ref for name, manifest in by_name.items()}
        dealt = by_name["catalog"].about(CatalogSummary)
        return cls(store, tuple(planned), refs, dealt.parts, dealt.classes)

    @property
    def stage(self) -> str:
        return self.planned[-1].stage

    @property
    def round(self) -> int | None:
        return self.planned[-1].round

    @property
    def config(self) -> dict[str, Any]:
        return self.planned[-1].config

    @property
    def tables(self) -> list[str]:
        return [planned.table for planned in self.planned]

    @property
    def receipts(self) -> str:
        """Name of the generation, and its folder, that holds the receipts."""
        return self.planned[-1].ref

    def input(self, table: str) -> Manifest:
        """Read the manifest of an input table."""
        return read_manifest(self.store, self.inputs[table])

    def committed(self) -> list[Manifest] | None:
        """Return the manifests of this very job if it ran before, None while any is missing."""
        found = []
        for planned in self.planned:
            manifest = self.store.committed(planned)
            if manifest is None:
                return None
            found.append(manifest)
        return found

    def list_parts(self) -> Iterator[PartRef]:
        """List all parts but those that are taken over, in the pipeline, so that no job request
        carries them."""
        files = {name: self.input(name).files for name in self._by_part()}
        standing = self.standing()
        for part in range(self.parts):
            if part not in standing:
                own = {name: by_part[part] for name, by_part in files.items()}
                yield PartRef(part, own)

    def standing(self) -> dict[int, Receipt]:
        """Return the receipts of parts that are taken over from an earlier generation, by
        reference."""
        if self.earlier is None:
            return {}
        names = ["catalog", *self._by_part()]
        inputs = {name: ref for name, ref in self.inputs.items() if name in names}
        return self.earlier.standing(self.store, inputs)

    def own_parts(self) -> int:
        """Count the parts that it does not take over, of each of which it writes a receipt."""
        return self.parts - len(self.standing())

    def _by_part(self) -> list[str]:
        return [name for name, ref in self.inputs.items() if ref.partition("/")[0] in _BY_PART]

    def tracks(self, ref: PartRef) -> list[Catalog]:
        """Read the catalog rows of a part."""
        return read_part(self.store, self.input("catalog"), ref.part)

    def read(self, ref: PartRef, table: str, columns: list[str] | None = None) -> pa.Table:
        """Read a part of an input table."""
        return self.store.read_part(ref.files[table], columns)

    def sound(self, ref: PartRef, segments: pa.Table) -> NDArray[np.float64]:
        """Return the sound [N, K] of a part's segments, made of their log-mel where schema version
        1 wrote both."""
        if not segments["sound_db"].null_count:
            return sound_of(segments)
        mels = log_mels(self.read(ref, "segments", ["log_mel"]))
        return sound_db(in_db(mels)).astype(np.float64)

    def receipt(self, part: int) -> Receipt | None:
        """Return the receipt of a part that a run before this one finished."""
        return self.store.receipt(self.receipts, part)

    def receipts_there(self) -> frozenset[int]:
        """List the parts of which there is a receipt, in a request for a thousand of them."""
        folders = {path.rpartition("/")[0] for path in receipt_paths(self.receipts, 0)}
        found = set()
        for folder in folders:
            for name in self.store.names(folder):
                part, _, kind = name.partition(".")
                if kind == "json" and part.isdecimal():
                    found.add(int(part))
        return frozenset(found)

    def earlier_tracks(self, ref: PartRef) -> list[tuple[Any, ...]]:
        """Read what stages saw of a part's tracks when the earlier generation was made."""
        assert self.earlier is not None
        catalog = read_manifest(self.store, self.earlier.inputs["catalog"])
        if ref.part >= catalog.about(CatalogSummary).parts:
            return []
        return [seen_by_stages(track) for track in read_part(self.store, catalog, ref.part)]

    def write(self, part: int, tables: dict[str, pa.Table], summary: Summary) -> Receipt:
        """Write a part of each table, then its receipt: from then on the part is done."""
        files = self.write_files(part, tables)
        return self.finish(part, files, summary)

    def write_files(self, part: int, tables: dict[str, pa.Table]) -> dict[str, PartFile]:
        """Write a part of each table; it is not done yet."""
        files = {}
        for planned in self.planned:
            name = planned.table
            files[name] = self.store.write_part(name, planned.generation, part, tables[name])
        return files

    def finish(
        self, part: int, files: dict[str, PartFile], summary: Summary, spent: Spent | None = None
    ) -> Receipt:
        """Write the receipt of a part whose files are there, maybe since an earlier generation.

        It says what was `spent`, by default by this process.
        """
        costs = (spent or Spent.lap())._asdict()
        receipt = Receipt(part, files, dump(replace(summary, **costs)))
        self.store.write_receipt(self.receipts, receipt)
        return receipt

    def commit(self, receipts: Iterable[Receipt], fitted: Any = None) -> list[Manifest]:
        """Commit the tables once every part has its receipt; a part that came twice counts once.

        Tables whose parts are for stages only get files made for readers, too.

        The manifests say what the parts sum up to, and the record of what was `fitted` to all of
        them. To the CPU time of the parts comes what this process spent since its last receipt.

        Raises:
            StoreError: a part is missing, or a file of one, or tracks were taken down in the
                meantime.
        """
        by_part = self.standing()
        by_part |= {receipt.part: receipt for receipt in receipts}
        self._refuse_missing(by_part)
        self._refuse_taken_down()
        made = []
        for planned in self.planned:
            files = {part: receipt.files[planned.table] for part, receipt in by_part.items()}
            made.append(self.store.compact(replace(planned, files=files)))
        self._refuse_lost(made)
        summary = dump(self._summed_up(by_part))
        if fitted is not None:
            summary |= dump(fitted)
        counts = {part: receipt.counts for part, receipt in by_part.items()}
        write_counts(self.store, self.receipts, counts)
        committed = [self.store.commit(replace(manifest, summary=summary)) for manifest in made]
        for path in self.store.find(tries_folder(self.receipts)):
            self.store.delete(path)
        return committed

    def _summed_up(self, by_part: Mapping[int, Receipt]) -> Summary:
        """Add up the summaries of all parts, and the CPU time since the last of them."""
        kind = SUMMARIES[self.tables[-1]]
        terms = []
        for part in sorted(by_part):
            counts = of_today(by_part[part].counts, self.classes)
            terms.append(loaded(kind, counts, self.receipts))
        terms.append(kind(cpu_s=CLOCK.lap()))
        return functools.reduce(operator.add, terms)

    def _refuse_missing(self, by_part: Mapping[int, Receipt]) -> None:
        missing = sorted(set(range(self.parts)) - set(by_part))
        if missing:
            raise StoreError(
                f"{self.stage}: {len(missing)} of {self.parts} parts are missing, first"
                f" {missing[0]}"
            )

    def _refuse_lost(self, made: Iterable[Manifest]) -> None:
        lost = sorted({path for manifest in made for path in self.store.lost(manifest)})
        if lost:
            raise StoreError(
                f"{self.stage}: files that it wrote were deleted since: {some(lost)}; run it again"
            )

    def _refuse_taken_down(self) -> None:
        """Delete what was written of a catalog from which tracks were taken down since.

        Raises:
            StoreError: such tracks there are.
        """
        removed = taken_down(self.store)
        if not removed or not _has_any_of(self.store, self.inputs["catalog"], removed):
            return
        for planned in self.planned:
            for folder in (planned.ref, f"{PARTS}/{planned.ref}", receipts_folder(planned.ref)):
                for path in self.store.find(folder):
                    self.store.delete(path)
        raise StoreError(
            f"{self.stage}: tracks were taken down while it ran, so its files were deleted: run it"
            " again"
        )


def seen_by_stages(track: Catalog) -> tuple[Any, ...]:
    """Return what of a track's row in the catalog the rows of later tables depend on."""
    values = [getattr(track, name) for name in SEEN_BY_STAGES]
    # Lists as texts, so that the whole can be looked up in a set.
    return tuple(str(value) if isinstance(value, list) else value for value in values)


@lru_cache(maxsize=2)
def _has_any_of(store: Store, catalog: str, removed: frozenset[str]) -> bool:
    """Whether a catalog has any of the tracks that were taken down; looked up once per process."""
    tracks = store.read_table(read_manifest(store, catalog), ["track_id"])
    track_ids = tracks["track_id"].to_pylist()
    return any(is_removed(track_id, removed) for track_id in track_ids)
