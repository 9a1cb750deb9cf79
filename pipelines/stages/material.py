"""What there is to learn from, in numbers that decide how it is learned. Light to import: whoever
plans foresees it, for a catalog that is not decoded yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.summaries import LedgerSummary
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import CatalogConfig
from sssl.model.settings import TrainConfig, check_trainable
from sssl.store.manifest import Snapshot

ByFold = dict[str, list[int]]
"""Labelled train tracks of each class, by fold."""


@dataclass(frozen=True)
class Material:
    """The classes, the cut of segments, and how many train tracks have a label and segments, and
    how many segments these have."""

    classes: Sequence[str]
    cut: MelConfig
    train_tracks: int
    segments: float

    @classmethod
    def of(cls, snapshot: Snapshot) -> Material:
        """Return what a segmented catalog has."""
        ledger = snapshot.about("segments", LedgerSummary)
        return cls(
            classes=snapshot.catalog.classes,
            cut=snapshot.features.settings(MelConfig, "cut"),
            train_tracks=ledger.labelled_train_tracks,
            segments=ledger.labelled_segments,
        )

    def settled(self, settings: TrainConfig) -> TrainConfig:
        """Return the settings of training as they are for so much."""
        return settings.settled(self.train_tracks, self.segments * self.cut.log_mel_bytes)


def labels_by_fold(tracks: pa.Table, deal: CatalogConfig) -> ByFold:
    """Count the labelled train tracks of a dealt catalog, decoded or not."""
    is_train = pc.equal(tracks["split"], "train")
    learned = tracks.filter(is_train).select(["label", "fold"]).drop_null()
    counts = learned.group_by(["label", "fold"]).aggregate([([], "count_all")])
    by_fold = {name: [0] * deal.folds for name in deal.classes}
    for found in counts.to_pylist():
        by_fold[found["label"]][found["fold"]] = found["count_all"]
    return by_fold


def check_labels(tracks: pa.Table, deal: CatalogConfig, settings: TrainConfig) -> None:
    """Check that a catalog, not decoded yet, has enough labelled tracks of each class.

    Raises:
        TrainError: it has not; the message says which class.
    """
    check_trainable(labels_by_fold(tracks, deal), settings.cross_fit)
