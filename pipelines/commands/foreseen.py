"""What a run will have to learn from in a catalog that is neither committed nor decoded yet, and
whether it learns: decided by what decides it in the run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.commands.run_settings import Config
from pipelines.stages.learning import Decision, decide_by
from pipelines.stages.material import Material, labels_by_fold
from pipelines.stages.previous import Previous
from pipelines.stages.standing import TOLD_BY_CATALOG, would_have_changed
from pipelines.stages.weights import initial_weights, named_by_content
from schemas import Catalog, arrow_schema
from schemas.summaries import LedgerSummary
from sssl.catalog.assign import CatalogConfig, deal_sides
from sssl.model.settings import untrainable
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot

_DEALT_IN_FULL = 1_000_000
"""Tracks up to which a catalog is dealt as the run deals it. Of a larger one only labelled tracks
are dealt, to save memory: a new group may then be foreseen in another fold that is as full."""


class ToDeal(NamedTuple):
    """The rows of a catalog that are dealt to foresee what a run deals: all of them, or the
    labelled ones."""

    rows: pa.Table
    in_full: bool

    @classmethod
    def of(cls, tracks: pa.Table) -> ToDeal:
        rows = tracks.select(TOLD_BY_CATALOG)
        in_full = len(tracks) <= _DEALT_IN_FULL
        if not in_full:
            rows = rows.filter(rows["label"].is_valid())
        return cls(rows, in_full)


@dataclass(frozen=True)
class Foreseen:
    """The labelled tracks of a catalog with the columns `TOLD_BY_CATALOG`, and how many train
    tracks the published catalog has."""

    labelled: pa.Table
    train_tracks_before: int

    @classmethod
    def of(cls, to_deal: ToDeal, previous: Previous, config: CatalogConfig) -> Foreseen:
        """Deal a catalog on top of the published one."""
        rows = to_deal.rows
        before = previous.dealt_groups(to_deal.in_full)
        split, fold = deal_sides(rows, config, before)
        columns = {name: rows[name] for name in TOLD_BY_CATALOG}
        columns["split"] = split
        columns["fold"] = pa.array(fold)
        types = [arrow_schema(Catalog).field(name) for name in columns]
        dealt = pa.table(columns).cast(pa.schema(types))
        return cls(dealt.filter(dealt["split"].is_valid()), _train_tracks(before.tracks))

    def refusals(self, config: Config) -> Iterator[str]:
        """Say what a run has against these labels."""
        if config.policy.learn != "never":
            by_fold = labels_by_fold(self.labelled, config.segment.deal)
            yield from untrainable(by_fold, config.method.train.cross_fit)

    def decision(
        self, store: Store, published: Snapshot, config: Config, new_sources: Collection[str]
    ) -> Decision:
        """Decide whether a run learns, given which labelled tracks have another source.

        Raises:
            TrainError: it would have to label, and cannot.
        """

        def count_changed() -> int:
            return would_have_changed(store, published, self.labelled, new_sources)

        train = config.method.train
        named = named_by_content(train, initial_weights(train, 0))
        method = replace(config.method, train=named)
        material = self._material(published, config)
        return decide_by(published, material, count_changed, method, config.policy)

    def _material(self, published: Snapshot, config: Config) -> Material:
        """Return what there will be to learn from if as many new labelled tracks can be decoded as
        have a label."""
        ledger = LedgerSummary()
        if published.of("segments"):
            ledger = published.about("segments", LedgerSummary)
        new = _train_tracks(self.labelled) - self.train_tracks_before
        usable = max(0, ledger.labelled_train_tracks + new)
        segments = usable * ledger.segments_a_track
        deal = config.segment.deal
        return Material(deal.classes, config.segment.cut, usable, segments)


def _train_tracks(tracks: pa.Table) -> int:
    is_train = pc.equal(tracks["split"], "train")
    return int(pc.sum(is_train).as_py() or 0)
