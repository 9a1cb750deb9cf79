"""What the last published run of the segment stage left behind, by part: read by workers, and by
whoever plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.beam.earlier import SEEN_BY_STAGES, Earlier, read_manifest
from schemas import Catalog, Ledger, arrow_schema, to_arrow
from schemas.summaries import CatalogSummary
from sssl.audio.mel import MelConfig, features_of, in_db
from sssl.audio.sound import sound_db
from sssl.catalog.assign import PLACES, CatalogConfig, Dealt
from sssl.catalog.committed import iter_dealt, read_dealt, read_labelled, read_part
from sssl.catalog.lookup import Differing, without_alike
from sssl.catalog.plan import (
    KNOWN,
    OF_LEDGER,
    AgainConfig,
    Cause,
    causes_of,
    count_causes,
    known_tracks,
)
from sssl.store.folder import Store
from sssl.store.layout import SEGMENTED
from sssl.store.manifest import PartFile, Snapshot
from sssl.store.tensors import log_mels

TABLES = SEGMENTED
COMPARED = (*KNOWN, "label", "corrections")
"""Columns of the catalog that a plan compares with what was published."""
DEALT = tuple(dict.fromkeys((*KNOWN, *PLACES)))
"""Columns of the catalog that a run holds a new one against."""
_OF_GROUPS = ("group_id", "split", "fold")
_ALWAYS = {"catalog", "segments", "ledger"}
"""Those that every schema version has: up to version 4 segments had the log-mels in them."""


@dataclass(frozen=True)
class PartBefore:
    """A part as the last run knew it; all of it is empty if there was none."""

    store: Store
    config_changed: bool
    known: pa.Table = field(default_factory=lambda: _nothing_known())
    ledger: dict[str, Ledger] = field(default_factory=dict)
    files: dict[str, PartFile] = field(default_factory=dict)

    def causes(self, tracks: Sequence[Catalog], again: AgainConfig) -> list[Cause]:
        """Decide for each track why it is decoded, if it is."""
        found = causes_of(to_arrow(Catalog, tracks), self.known, self.config_changed, again)
        return [Cause(cause) for cause in found.to_pylist()]

    def holds(self, tracks: Sequence[Catalog]) -> bool:
        """Whether the files hold these tracks and no others, in the tables of today."""
        track_ids = {track.track_id for track in tracks}
        return self.files.keys() == set(TABLES) and set(self.ledger) == track_ids

    def segments(self) -> pa.Table:
        """Read the part's segments. Of those without a sound, as of schema version 1, the log-mels
        tell it."""
        segments = self.store.read_part(self.files["segments"])
        if not segments["sound_db"].null_count:
            return segments
        described = sound_db(in_db(log_mels(self._log_mels())))
        sound = pa.array(list(described), pa.list_(pa.float32()))
        at = segments.schema.get_field_index("sound_db")
        return segments.set_column(at, segments.schema.field(at), sound)

    def features(self, config: MelConfig) -> pa.Table:
        """Read the part's log-mels, which are as the config says."""
        rows = self._log_mels()
        return features_of(rows["track_id"], rows["segment_index"], log_mels(rows), config)

    def _log_mels(self) -> pa.Table:
        file = self.files.get("features", self.files["segments"])
        return self.store.read_part(file, ["track_id", "segment_index", "log_mel"])


@dataclass(frozen=True)
class Previous:
    """The tables of the last run, by their refs: small enough to travel to workers. Without any
    there was no run."""

    store: Store
    refs: dict[str, str]
    config_changed: bool

    @classmethod
    def of(cls, store: Store, published: Snapshot, config: dict[str, Any]) -> Previous:
        """Find the tables in what is published; `config` is what decides the rows of this run."""
        found = {
            table: published.of(table)[0] for table in ("catalog", *TABLES) if published.of(table)
        }
        if not found.keys() >= _ALWAYS or not store.is_there(found["catalog"]):
            return cls(store, {}, False)
        before = found["ledger"].config
        changed = any(before.get(name) != value for name, value in config.items())
        return cls(store, {table: manifest.ref for table, manifest in found.items()}, changed)

    def part(self, part: int) -> PartBefore:
        """Read what is known of a part's tracks."""
        if not self.refs:
            return PartBefore(self.store, self.config_changed)
        tables = {table: read_manifest(self.store, ref) for table, ref in self.refs.items()}
        catalog = tables.pop("catalog")
        if part >= catalog.about(CatalogSummary).parts:
            return PartBefore(self.store, self.config_changed)
        files = {table: manifest.files[part] for table, manifest in tables.items()}
        if not all(self.store.exists(file.path) for file in files.values()):
            return PartBefore(self.store, self.config_changed)  # lost, so nothing is known of it
        ledger = self.store.read_part(files["ledger"])
        known = known_tracks(to_arrow(Catalog, read_part(self.store, catalog, part)), ledger)
        return PartBefore(self.store, self.config_changed, known, ledger_rows(ledger), files)

    def earlier(self, causes: Mapping[Cause, int], again: AgainConfig) -> Earlier | None:
        """Return the tables as those that parts without any new or changed track are taken over
        from; None where each part has to be looked into, as any track may be decoded again.
        `causes` are those of all tracks."""
        if self.config_changed or again.force or again.asks_ledger or causes.get(Cause.UNKNOWN):
            return None
        if not self.refs.keys() >= {"catalog", *TABLES}:
            return None  # of an earlier version, or there was no run
        inputs = {"catalog": self.refs["catalog"]}
        tables = {table: self.refs[table] for table in TABLES}
        return Earlier(
            self.refs["ledger"], inputs, tables, tuple(dict.fromkeys((*KNOWN, *SEEN_BY_STAGES)))
        )

    def dealt(self) -> Dealt:
        """Read the catalog as it was dealt: what its tracks are known by, and their places."""
        if self.refs:
            catalog = read_manifest(self.store, self.refs["catalog"])
            return read_dealt(self.store, catalog, DEALT)
        return Dealt()

    def dealt_groups(self, in_full: bool) -> Dealt:
        """Read how groups were dealt, of all tracks or of the labelled ones."""
        if not self.refs:
            return Dealt()
        catalog = read_manifest(self.store, self.refs["catalog"])
        if in_full:
            return read_dealt(self.store, catalog, _OF_GROUPS)
        labelled = read_labelled(self.store, catalog, _OF_GROUPS)
        return Dealt(labelled, catalog.settings(CatalogConfig))

    def differing(self, tracks: pa.Table, again: AgainConfig) -> Differing:
        """Return what of a catalog with its fingerprints, and of that of before, is not alike in
        `COMPARED`; all of both where it matters what became of a track."""
        if not self.refs:
            nothing = arrow_schema(Catalog).empty_table().select(COMPARED)
            return Differing(tracks, nothing, 0)
        catalog = read_manifest(self.store, self.refs["catalog"])
        before = iter_dealt(self.store, catalog, COMPARED)
        if again.asks_ledger:
            return Differing(tracks, pa.concat_tables(before), 0)
        return without_alike(tracks, before, COMPARED)

    def cause_of_alike(self, again: AgainConfig) -> Cause:
        """Return why a known track whose source did not change is decoded, if it is."""
        if self.config_changed:
            return Cause.CONFIG
        return Cause.FORCED if again.force else Cause.UNCHANGED

    def causes(self, tracks: pa.Table, dealt: Dealt, again: AgainConfig) -> Counter[Cause]:
        """Count the tracks of a catalog by why they will be decoded."""
        known = self._known(dealt, again)
        return count_causes(tracks, known, self.config_changed, again)

    def cause_of_each(
        self, tracks: pa.Table, dealt: Dealt, again: AgainConfig
    ) -> pa.DictionaryArray:
        """Return why each track [N] of a catalog will be decoded."""
        known = self._known(dealt, again)
        return causes_of(tracks, known, self.config_changed, again)

    def _known(self, dealt: Dealt, again: AgainConfig) -> pa.Table:
        if not self.refs:
            return _nothing_known()
        # The ledger has one file per part: a catalog of millions is planned without it if that is
        # possible.
        asked = again.asks_ledger and read_manifest(self.store, self.refs["ledger"])
        ledger = self.store.read_table(asked, list(OF_LEDGER)) if asked else None
        return known_tracks(dealt.tracks, ledger)


def _nothing_known() -> pa.Table:
    return known_tracks(arrow_schema(Catalog).empty_table(), arrow_schema(Ledger).empty_table())


def ledger_rows(table: pa.Table) -> dict[str, Ledger]:
    """Return the rows of a ledger by track id."""
    return {record["track_id"]: Ledger(**record) for record in table.to_pylist()}


def of_tracks(rows: pa.Table, track_ids: Iterable[str]) -> pa.Table:
    """Return the rows of some tracks."""
    return rows.filter(pc.is_in(rows["track_id"], pa.array(track_ids, pa.string())))
