"""Shards read in a shuffled order, a window of some pieces at a time: the next one while this one
is learned from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.summaries import ExamplesSummary
from sssl.model.examples import Examples, batches_of, without_fold
from sssl.model.shards.make import Sharding
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile
from sssl.store.tensors import log_mels

_OF_EXAMPLES = ["target", "weight", "noisy", "fold", "track"]
_READERS = 8


@dataclass(frozen=True)
class Window:
    """Rows that are shuffled together, and are all there is of an epoch for a while."""

    rows: Examples

    def epoch(self, member: int | None, batch_size: int, bag: int, seed: int) -> Iterator[Examples]:
        """Yield the batches of the window, without tracks of fold `member`, as those of a corpus
        are."""
        generator = torch.Generator().manual_seed(seed)
        return batches_of(without_fold(self.rows, member), batch_size, bag, generator)

    def numbered(self) -> tuple[Examples, Window]:
        """Return all rows, and a window that has their numbers in the place of their log-mels."""
        numbers = torch.arange(len(self.rows.weight))
        return self.rows, Window(self.rows._replace(log_mel=numbers))


@dataclass
class Shards:
    """The trainable rows of shards, as a corpus has those of parts.

    An epoch reads pieces, each a layer of a shard, in an order given by the seed, whoever reads:
    members that train side by side share what is read. `shuffled` pieces are shuffled together. So
    many are in memory, and as many of what comes next, however many shards there are.
    """

    store: Store
    shards: Manifest
    examples: Manifest
    classes: Sequence[str]
    all_layers: bool
    """Whether an epoch has all rows, rather than those of one layer."""
    seed: int
    # Not a setting: it decides the order of rows, and so the model.
    shuffled: int = 16
    _coming: dict[tuple[int, int], Future[Examples]] = field(default_factory=dict)

    def windows(self, epoch: int) -> int:
        """Count the windows of an epoch."""
        return math.ceil(len(self._pieces(epoch)) / self.shuffled)

    def window(self, epoch: int, number: int) -> Window:
        """Return a window of an epoch, and begin to read the next one."""
        # No more than one ahead: memory must not grow with the catalog.
        rows = self._begin(epoch, number).result()
        del self._coming[epoch, number]
        if number + 1 < self.windows(epoch):
            self._begin(epoch, number + 1)
        return Window(rows)

    def bags(self, member: int | None, bag: int) -> int:
        """Count the bags of an epoch, the largest if they differ: the manifest has them."""
        del bag  # they were counted with it
        by_layer = []
        for by_fold in self._summary.bags.values():
            own = [count for fold, count in by_fold.items() if fold != member]
            by_layer.append(sum(own))
        # The schedule must have room for an epoch of the largest layer.
        return sum(by_layer) if self.all_layers else max(by_layer, default=0)

    @property
    def groups(self) -> int:
        """Groups of rows of an epoch that are shuffled together."""
        return self.windows(0)

    def fold(self, member: int, batch_size: int) -> Iterator[Examples]:
        """Yield the rows of fold `member` in batches: those of the first layer of each shard."""
        for shard in sorted(self.shards.files):
            # Always the same rows, whatever an epoch read, so that epochs can be compared.
            rows = self._piece(shard, 0)
            left_out = torch.nonzero(rows.fold == member).squeeze(1)
            for own in left_out.split(batch_size):
                yield rows.take(own)

    def prior(self) -> Tensor:
        """Return the share of each class [C] among the weighted soft labels."""
        mass = torch.tensor([self._summary.mass.get(name, 0.0) for name in self.classes])
        # As in `Corpus.prior`: not by zero where nothing carries weight.
        return mass / mass.sum().clamp(min=1e-8)

    @cached_property
    def _summary(self) -> ExamplesSummary:
        return self.examples.about(ExamplesSummary)

    @cached_property
    def _layers(self) -> int:
        return self.shards.settings(Sharding).layers

    @cached_property
    def _ahead(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_READERS)

    def _pieces(self, epoch: int) -> list[tuple[int, int]]:
        """List the pieces of an epoch, as shard and layer, in the order in which they are read."""
        layers = list(range(self._layers))
        if not self.all_layers:
            # The next epoch takes the next layer: other segments of the same tracks.
            layers = [(self.seed + epoch) % self._layers]
        pieces = [(shard, layer) for shard in sorted(self.shards.files) for layer in layers]
        # The same for all members: those that train side by side share what is read.
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(len(pieces), generator=generator)
        return [pieces[number] for number in order]

    def _begin(self, epoch: int, number: int) -> Future[Examples]:
        if (epoch, number) not in self._coming:
            self._coming[epoch, number] = self._ahead.submit(self._read, epoch, number)
        return self._coming[epoch, number]

    def _read(self, epoch: int, number: int) -> Examples:
        start = number * self.shuffled
        pieces = self._pieces(epoch)[start : start + self.shuffled]
        loaded = list(self._readers.map(lambda piece: self._load(*piece), pieces))
        return _together(loaded)

    def _piece(self, shard: int, layer: int) -> Examples:
        """Read those rows of a layer of a shard that carry weight."""
        return _together([self._load(shard, layer)])

    def _load(self, shard: int, layer: int) -> _Piece:
        features = read_layer(self.store, self.shards.files[shard], layer, ["log_mel"])
        taught = read_layer(self.store, self.examples.files[shard], layer, _OF_EXAMPLES)
        used = np.flatnonzero(taught["weight"].to_numpy() > 0)
        rows = taught.take(pa.array(used)).combine_chunks()
        target = rows["target"].combine_chunks().flatten().to_numpy()
        return _Piece(
            log_mels(features),
            used,
            torch.from_numpy(target.reshape(len(used), len(self.classes)).copy()),
            torch.from_numpy(rows["weight"].to_numpy().copy()),
            torch.tensor(rows["noisy"].to_pylist(), dtype=torch.bool),
            torch.from_numpy(rows["fold"].to_numpy().astype(np.int64)),
            torch.from_numpy(rows["track"].to_numpy().copy()),
        )


class _Piece(NamedTuple):
    """A layer of a shard as it was read: log-mels of all of its rows, which of them are used [N],
    and what is taught of these, as `Examples` have it."""

    log_mel: NDArray[Any]
    used: NDArray[np.int64]
    target: Tensor
    weight: Tensor
    noisy: Tensor
    fold: Tensor
    track: Tensor


def _together(pieces: Sequence[_Piece]) -> Examples:
    """Put pieces together; their log-mels are copied once."""
    count = sum(len(piece.used) for piece in pieces)
    shape = pieces[0].log_mel.shape[1:]
    log_mel = np.empty((count, *shape), pieces[0].log_mel.dtype)
    start = 0
    for piece in pieces:
        end = start + len(piece.used)
        # In the default mode NumPy would take the rows into a buffer first: copied twice, windows
        # came at half the speed (docs/log/2026-11-27-a-million-labelled-tracks.md).
        np.take(piece.log_mel, piece.used, axis=0, out=log_mel[start:end], mode="clip")
        start = end
    taught_of_pieces = [piece[2:] for piece in pieces]
    taught = [torch.cat(columns) for columns in zip(*taught_of_pieces, strict=True)]
    return Examples(torch.from_numpy(log_mel), *taught)


def read_layer(store: Store, file: PartFile, layer: int, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a layer, of a file whose rows are sorted by `layer`, its first column:
    the row groups that have it, and no others.

    Raises:
        StoreError: the file is not there, or damaged.
    """
    try:
        with store.open_file(file.path) as source:
            # Buffered ahead: the columns of a group come in few requests, not one by one.
            parquet = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
            numbers = range(parquet.num_row_groups)
            groups = [n for n in numbers if _has(parquet.metadata.row_group(n), layer)]
            rows = parquet.read_row_groups(groups, columns=["layer", *columns])
    except (FileNotFoundError, pa.ArrowException):
        store.read_file(file)  # says what is wrong with it
        raise
    # A row group may also hold rows of the layer before or after.
    start, end = np.searchsorted(rows["layer"].to_numpy(), [layer, layer + 1])
    return rows.slice(start, end - start)


def _has(group: pq.RowGroupMetaData, layer: int) -> bool:
    if not group.num_rows:
        return False
    statistics = group.column(0).statistics
    return bool(statistics.min <= layer <= statistics.max)
