"""Training examples: segments zipped with labels, part by part, row by row; no join and no shuffle
on disk."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.summaries import CatalogSummary
from sssl.catalog.committed import read_part
from sssl.catalog.counts import Counts, read_counts
from sssl.model.shards.make import OF_LABELS, catalog_numbers
from sssl.store.folder import Store
from sssl.store.manifest import Manifest
from sssl.store.tensors import log_mels

_LEAST_MASS = 1e-8  # of weighted labels, for quotients where there is none


class Examples(NamedTuple):
    """Rows to train on: stored log-mel [N, mels, frames], soft label [N, C], weight [N], noisy
    [N], fold [N] and a number for the track [N]."""

    log_mel: Tensor
    target: Tensor
    weight: Tensor
    noisy: Tensor
    fold: Tensor
    track: Tensor

    def take(self, rows: Tensor) -> Examples:
        """Return some rows [M], in their order."""
        columns = [column[rows] for column in self]
        return Examples(*columns)

    def to(self, device: str) -> Examples:
        """Return the rows on a device."""
        # Pinned memory is copied while the host goes on.
        columns = [column.to(device, non_blocking=True) for column in self]
        return Examples(*columns)


@dataclass
class Corpus:
    """The trainable rows of a committed generation of features and labels.

    Parts are read whole and kept while they fit into `cache_bytes`; an epoch shuffles within
    `shuffle_parts` parts at a time, since random rows of Parquet cost 20 times as much as row
    groups in order.
    """

    store: Store
    catalog: Manifest
    features: Manifest
    labels: Manifest
    shuffle_parts: int = 16
    cache_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        # A catalog of millions with some hundreds of labelled tracks must not be read whole for
        # them.
        counts = read_counts(self.store, self.labels.ref) or {}
        parts = [part for part in sorted(self.labels.files) if _may_carry(counts.get(part))]
        self.parts = [part for part in parts if self._carries_weight(part)]
        self._cache: OrderedDict[int, Examples] = OrderedDict()
        self._cached_bytes = 0

    def epoch(self, member: int | None, batch_size: int, bag: int, seed: int) -> Iterator[Examples]:
        """Yield the batches of one epoch in an order given by the seed, without tracks of fold
        `member`: bags of `bag` segments of a track, confident or noisy ones, one after the other.

        A last batch of a single row is dropped: batch normalisation cannot train on it.
        """
        # A generator of its own: what else is random must not change the order.
        generator = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(self.parts), generator=generator)
        order = [self.parts[number] for number in shuffled]
        for start in range(0, len(order), self.shuffle_parts):
            together = order[start : start + self.shuffle_parts]
            loaded = [without_fold(self.load(part), member) for part in together]
            yield from batches_of(_concatenated(loaded), batch_size, bag, generator)

    @property
    def groups(self) -> int:
        """Groups of rows of an epoch that are shuffled together."""
        return math.ceil(len(self.parts) / self.shuffle_parts)

    def windows(self, epoch: int) -> int:
        """Count the windows of an epoch: here an epoch has a single one, with all rows."""
        del epoch
        return 1

    def window(self, epoch: int, number: int) -> Corpus:
        """Return a window of an epoch."""
        del epoch, number
        return self

    def fold(self, member: int, batch_size: int) -> Iterator[Examples]:
        """Yield the rows of fold `member` in batches, in the order of parts."""
        for part in self.parts:
            examples = self.load(part)
            own = torch.nonzero(examples.fold == member).squeeze(1)
            for rows in own.split(batch_size):
                yield examples.take(rows)

    def bags(self, member: int | None, bag: int) -> int:
        """Count the bags of an epoch: its rows, if a bag has one segment."""
        bags = 0
        for part in self.parts:
            rows = without_fold(self.load(part), member)
            segments = segments_a_track(_alike(rows))
            of_tracks = torch.ceil(segments / bag)
            bags += int(of_tracks.sum())
        return bags

    def prior(self) -> Tensor:
        """Return the share of each class [C] among the weighted soft labels."""
        masses = []
        for part in self.parts:
            rows = self.load(part)
            weighted = rows.target * rows.weight[:, None]
            masses.append(weighted.sum(dim=0))
        mass = torch.stack(masses).sum(dim=0)
        # Not by zero where nothing carries weight: whoever trains then refuses for that reason.
        return mass / mass.sum().clamp(min=_LEAST_MASS)

    def load(self, part: int) -> Examples:
        """Read the rows of a part that carry weight."""
        if part in self._cache:
            return self._cache[part]
        examples = self._read(part)
        size = examples.log_mel.nbytes
        if self._cached_bytes + size <= self.cache_bytes:
            self._cache[part] = examples
            self._cached_bytes += size
        return examples

    def numbered(self) -> tuple[Examples, Corpus]:
        """Return all rows, and a corpus that has their numbers in the place of their log-mels: for
        whoever keeps the rows on a device and only wants to know which of them make a batch."""
        loaded = [self.load(part) for part in self.parts]
        rows = _concatenated(loaded)
        lengths = [len(examples.weight) for examples in loaded]
        numbers = torch.arange(len(rows.weight)).split(lengths)
        numbered = copy.copy(self)
        # All parts are in its cache, so it never reads.
        numbered._cache = OrderedDict()
        for part, examples, own in zip(self.parts, loaded, numbers, strict=True):
            numbered._cache[part] = examples._replace(log_mel=own)
        return rows, numbered

    def _carries_weight(self, part: int) -> bool:
        labels = self.store.read_part(self.labels.files[part], ["weight"])
        weight = labels["weight"].to_numpy()
        return bool((weight > 0).any())

    def _read(self, part: int) -> Examples:
        labels = self.store.read_part(self.labels.files[part], list(OF_LABELS))
        features = self.store.read_part(self.features.files[part], ["track_id", "log_mel"])
        if not features["track_id"].equals(labels["track_id"]):
            raise ValueError(
                f"part {part}: rows of {self.labels.ref} are not aligned with {self.features.ref}"
            )
        fold_of = {}
        for track in read_part(self.store, self.catalog, part):
            fold_of[track.track_id] = track.fold
        weight = labels["weight"].to_numpy()
        used = np.flatnonzero(weight > 0)
        labels = labels.take(used)
        names = self.catalog.about(CatalogSummary).classes
        target = torch.tensor(labels["target"].to_pylist(), dtype=torch.float32)
        noisy = [name == "noisy" for name in labels["partition"].to_pylist()]
        fold = [fold_of[track_id] for track_id in labels["track_id"].to_pylist()]
        return Examples(
            log_mel=torch.from_numpy(log_mels(features)[used]),
            target=target.reshape(-1, len(names)),  # two dimensions without a row, too
            weight=torch.from_numpy(weight[used].copy()),
            noisy=torch.tensor(noisy, dtype=torch.bool),
            fold=torch.tensor(fold, dtype=torch.int64),
            track=torch.from_numpy(catalog_numbers(labels, part, names)),
        )


def _may_carry(counts: Counts | None) -> bool:
    """Whether rows of a part may carry weight, by what was counted in it, if that is known."""
    if counts is None:
        return True
    labelled = ("confident", "noisy", "locked")
    return any(counts.get(name, 1) for name in labelled)


def batches_of(
    rows: Examples, batch_size: int, bag: int, generator: torch.Generator
) -> Iterator[Examples]:
    """Deal rows into bags and yield them in batches; a last one of a single row is dropped."""
    bags = deal_bags(_alike(rows), bag, generator)
    for own in bags.split(batch_size // bag):
        # Batch normalisation cannot train on a single row.
        if own.numel() > 1:
            yield rows.take(own.flatten())


def deal_bags(track: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Deal rows [N] into bags of `size` rows of the same track [G, size], in random order.

    What is left of a track is filled up with other rows of it, so that each row is in a bag.
    """
    rows = torch.randperm(len(track), generator=generator)
    if size == 1 or not len(track):
        return rows.view(len(track), size)
    # Stable, so that the rows of a track stay in random order.
    by_track = torch.argsort(track[rows], stable=True)
    of_tracks = rows[by_track].split(segments_a_track(track).tolist())
    filled = []
    for own in of_tracks:
        wanted = math.ceil(len(own) / size) * size
        round_and_round = torch.arange(wanted) % len(own)
        filled.append(own[round_and_round].view(-1, size))
    bags = torch.cat(filled)
    order = torch.randperm(len(bags), generator=generator)
    return bags[order]


def segments_a_track(track: Tensor) -> Tensor:
    """Count the rows [T] of each track, in the order of their numbers [N]."""
    _, counts = torch.unique(track, return_counts=True)
    return counts


def _concatenated(parts: Sequence[Examples]) -> Examples:
    """Return the rows of parts one after the other."""
    columns = [torch.cat(of_parts) for of_parts in zip(*parts, strict=True)]
    return Examples(*columns)


def _alike(rows: Examples) -> Tensor:
    """Number what may share a bag [N]: a confident segment must not learn what the model thinks of
    a noisy one."""
    return rows.track * 2 + rows.noisy


def without_fold(examples: Examples, member: int | None) -> Examples:
    """Leave out the rows of fold `member`; None leaves out nothing."""
    if member is None:
        return examples
    others = torch.nonzero(examples.fold != member).squeeze(1)
    return examples.take(others)
