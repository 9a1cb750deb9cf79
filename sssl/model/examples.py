"""Training examples: segments zipped with labels, part by part, row by row; no join and no shuffle
on disk."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.summaries import CatalogSummary
from sssl.arrays import track_numbers
from sssl.catalog.committed import read_part
from sssl.catalog.counts import Counts, read_counts
from sssl.model.shards.make import OF_LABELS, corrected_to
from sssl.store.folder import Store
from sssl.store.manifest import Manifest
from sssl.store.tensors import log_mels


class Examples(NamedTuple):
    """Rows to train on: log-mel float16 [N, mels, frames], soft label [N, C], weight [N], noisy
    [N], fold [N] and a number for the track [N]."""

    log_mel: Tensor
    target: Tensor
    weight: Tensor
    noisy: Tensor
    fold: Tensor
    track: Tensor

    def take(self, rows: Tensor) -> Examples:
        return Examples(*(column[rows] for column in self))

    def to(self, device: str) -> Examples:
        return Examples(*(column.to(device, non_blocking=True) for column in self))


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
        generator = torch.Generator().manual_seed(seed)
        order = [self.parts[i] for i in torch.randperm(len(self.parts), generator=generator)]
        for start in range(0, len(order), self.shuffle_parts):
            loaded = [
                without_fold(self.load(part), member)
                for part in order[start : start + self.shuffle_parts]
            ]
            rows = Examples(*(torch.cat(columns) for columns in zip(*loaded, strict=True)))
            yield from batches_of(rows, batch_size, bag, generator)

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
            for rows in torch.nonzero(examples.fold == member).squeeze(1).split(batch_size):
                yield examples.take(rows)

    def bags(self, member: int | None, bag: int) -> int:
        """Count the bags of an epoch; with one segment a bag its rows."""
        loaded = (without_fold(self.load(part), member) for part in self.parts)
        return sum(int((-(-segments_a_track(_alike(rows)) // bag)).sum()) for rows in loaded)

    def prior(self) -> Tensor:
        """Return the share of each class [C] among the weighted soft labels."""
        mass = torch.stack(
            [(e.target * e.weight[:, None]).sum(dim=0) for e in map(self.load, self.parts)]
        ).sum(dim=0)
        return mass / mass.sum().clamp(min=1e-8)

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
        parts = {part: self.load(part) for part in self.parts}
        rows = Examples(*(torch.cat(columns) for columns in zip(*parts.values(), strict=True)))
        numbers = torch.arange(len(rows.weight)).split(
            [len(examples.weight) for examples in parts.values()]
        )
        numbered = copy.copy(self)
        numbered._cache = OrderedDict(
            (part, examples._replace(log_mel=own))
            for (part, examples), own in zip(parts.items(), numbers, strict=True)
        )
        return rows, numbered

    def _carries_weight(self, part: int) -> bool:
        weight = self.store.read_part(self.labels.files[part], ["weight"])["weight"]
        return bool((weight.to_numpy() > 0).any())

    def _read(self, part: int) -> Examples:
        labels = self.store.read_part(self.labels.files[part], list(OF_LABELS))
        features = self.store.read_part(self.features.files[part], ["track_id", "log_mel"])
        if not features["track_id"].equals(labels["track_id"]):
            raise ValueError(
                f"part {part}: rows of {self.labels.ref} are not aligned with {self.features.ref}"
            )
        folds = {track.track_id: track.fold for track in read_part(self.store, self.catalog, part)}
        weight = labels["weight"].to_numpy()
        used = np.flatnonzero(weight > 0)
        labels = labels.take(used)
        names = self.catalog.about(CatalogSummary).classes
        return Examples(
            log_mel=torch.from_numpy(log_mels(features)[used]),
            target=torch.tensor(labels["target"].to_pylist(), dtype=torch.float32).reshape(
                -1, len(names)
            ),
            weight=torch.from_numpy(weight[used].copy()),
            noisy=torch.tensor(
                [name == "noisy" for name in labels["partition"].to_pylist()], dtype=torch.bool
            ),
            fold=torch.tensor(
                [folds[track_id] for track_id in labels["track_id"].to_pylist()], dtype=torch.int64
            ),
            track=torch.from_numpy(track_numbers(labels) + (corrected_to(labels, names) << 24))
            + (part << 32),
        )


def _may_carry(counts: Counts | None) -> bool:
    """Whether rows of a part may carry weight, by what was counted in it, if that is known."""
    labelled = ("confident", "noisy", "locked")
    return counts is None or any(counts.get(name, 1) for name in labelled)


def batches_of(
    rows: Examples, batch_size: int, bag: int, generator: torch.Generator
) -> Iterator[Examples]:
    """Deal rows into bags and yield them in batches; a last one of a single row is dropped."""
    for bags in deal_bags(_alike(rows), bag, generator).split(batch_size // bag):
        if bags.numel() > 1:
            yield rows.take(bags.flatten())


def deal_bags(track: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Deal rows [N] into bags of `size` rows of the same track [G, size], in random order.

    What is left of a track is filled up with other rows of it, so that each row is in a bag.
    """
    rows = torch.randperm(len(track), generator=generator)
    if size == 1 or not len(track):
        return rows.view(len(track), size)
    rows = rows[torch.argsort(track[rows], stable=True)]
    of_tracks = rows.split(segments_a_track(track).tolist())
    bags = torch.cat(
        [
            own[torch.arange(-(-len(own) // size) * size) % len(own)].view(-1, size)
            for own in of_tracks
        ]
    )
    return bags[torch.randperm(len(bags), generator=generator)]


def segments_a_track(track: Tensor) -> Tensor:
    """Count the rows [T] of each track, in the order of their numbers [N]."""
    return torch.unique(track, return_counts=True)[1]


def _alike(rows: Examples) -> Tensor:
    """Number what may share a bag [N]: a confident segment must not learn what the model thinks of
    a noisy one."""
    return rows.track * 2 + rows.noisy


def without_fold(examples: Examples, member: int | None) -> Examples:
    """Leave out the rows of fold `member`; None leaves out nothing."""
    return (
        examples
        if member is None
        else examples.take(torch.nonzero(examples.fold != member).squeeze(1))
    )
