"""Labelled rows in shards: each once, shuffled the same way at every run, and read in windows."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipelines.stages.context import Context
from pipelines.stages.shards import make_shards
from schemas.summaries import LedgerSummary
from sssl.audio.mel import MelConfig
from sssl.errors import StoreError
from sssl.model import train as training_module
from sssl.model.ensemble import ModelSpec
from sssl.model.examples import Corpus
from sssl.model.settings import TrainConfig
from sssl.model.shards import make
from sssl.model.shards.make import Labelled, Sharding, layers_of, shard_table
from sssl.model.shards.read import Shards
from sssl.model.train import _member, train_member, train_together
from sssl.model.trainer import Sharded, Training

CUT = MelConfig(mels=4, segment_s=2 * 512 / 16000)  # log-mels of 4 bands and 3 frames
SPEC = ModelSpec("cnn", ("Q1", "Q2", "Q3", "Q4"), MelConfig(), 2)
CONFIG = TrainConfig(
    warmup_epochs=2,
    epochs=1,
    batch_size=16,
    bag=1,
    shards="always",
    track_segments=None,
    thin_from=None,
)


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def small_pieces():
    """So small that the rows of a few tracks make several shards and windows."""
    before, make.PIECE_BYTES = make.PIECE_BYTES, 1 << 17
    yield
    make.PIECE_BYTES = before


@pytest.fixture(scope="module")
def sharded(finished_copy, small_pieces):
    two = replace(CONFIG, track_segments=2)  # of five
    return Sharded(*make_shards(Context(finished_copy, finished_copy.latest()), 1, two))


@pytest.fixture(scope="module")
def corpus(finished_copy):
    snapshot = finished_copy.latest()
    tables = snapshot.get("catalog"), snapshot.features, snapshot.get("labels", 1)
    return Corpus(finished_copy, *tables)


@pytest.fixture
def training(finished_copy, sharded, request):
    snapshot = finished_copy.latest()
    tables = snapshot.get("catalog"), snapshot.features, snapshot.get("labels", 1)
    bare = [replace(table, files={}) for table in tables]
    return Training(
        finished_copy, *bare, SPEC, CONFIG, round=0, folder=f"test/{request.node.name}",
        start=None, device="cpu", sharded=sharded,
    )  # fmt: skip


def shards_of(store, sharded, all_layers=True, **others):
    return Shards(store, *sharded, SPEC.classes, all_layers, seed=7, shuffled=2, **others)


def rows_of(batches):
    """What identifies rows, and what is taught of them, in the order of their log-mels."""
    columns = [
        torch.cat([b.log_mel.float().mean((1, 2)) for b in batches])[:, None],
        torch.cat([b.target for b in batches]),
        torch.cat([b.weight for b in batches])[:, None],
        torch.cat([b.fold for b in batches])[:, None],
    ]
    rows = torch.cat(columns, dim=1)
    return rows[torch.argsort(rows[:, 0])]


def epoch_of(shards, member=None, epoch=0, bag=1):
    for number in range(shards.windows(epoch)):
        yield from shards.window(epoch, number).epoch(member, 16, bag, seed=number)


def test_an_epoch_of_shards_has_the_rows_of_an_epoch_of_parts(finished_copy, sharded, corpus):
    shards = shards_of(finished_copy, sharded)
    assert shards.windows(0) > 1
    for member in (None, 0):
        ours = list(epoch_of(shards, member))
        theirs = list(corpus.epoch(member, 500, 1, seed=0))
        count = sum(len(b.weight) for b in theirs)
        assert shards.bags(member, 1) == count
        assert count - sum(len(b.weight) for b in ours) <= shards.windows(0)  # batches of one row
        kept = {tuple(row) for row in rows_of(theirs).tolist()}
        assert {tuple(row) for row in rows_of(ours).tolist()} <= kept
    torch.testing.assert_close(shards.prior(), corpus.prior())


def test_an_epoch_of_one_layer_takes_a_few_segments_of_each_track_and_the_next_others(
    finished_copy, sharded
):
    shards = shards_of(finished_copy, sharded, all_layers=False)
    layers = sharded.shards.settings(Sharding).layers
    assert layers > 1
    seen = []
    for epoch in range(layers):
        rows = list(epoch_of(shards, epoch=epoch))
        seen += [tuple(row) for row in rows_of(rows).tolist()]
        assert max(Counter(torch.cat([b.track for b in rows]).tolist()).values()) <= 2 * 2
    assert len(set(seen)) == len(seen)
    assert shards.bags(None, 1) < shards_of(finished_copy, sharded).bags(None, 1)


def test_the_order_follows_from_the_seed(finished_copy, sharded):
    one, other = (shards_of(finished_copy, sharded) for _ in range(2))
    for a, b in zip(epoch_of(one, 0), epoch_of(other, 0), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert one._pieces(0) != one._pieces(1)


def test_bags_are_of_one_track_and_counted(finished_copy, corpus):
    bags = replace(CONFIG, bag=4)
    sharded = Sharded(*make_shards(Context(finished_copy, finished_copy.latest()), 1, bags))
    shards = shards_of(finished_copy, sharded)
    batches = list(epoch_of(shards, bag=4))
    assert sum(len(b.weight) for b in batches) == 4 * shards.bags(None, 4)
    assert all((b.track.view(-1, 4) == b.track.view(-1, 4)[:, :1]).all() for b in batches)


@pytest.fixture
def in_windows(monkeypatch):
    """An epoch has several windows."""
    corpus = Training.corpus
    monkeypatch.setattr(Training, "corpus", lambda self: replace(corpus(self), shuffled=2))


def test_a_member_that_was_stopped_within_an_epoch_goes_on_to_the_same_weights(
    training, monkeypatch, in_windows
):
    undisturbed = replace(training, folder="test/undisturbed-shards")
    train_member(undisturbed, 0)
    monkeypatch.setattr(training_module, "_CHECKPOINT_S", 0.0)
    written = []

    def stop(*args):
        write(*args)
        written.append(args)
        if len(written) == 2:
            raise Stop

    write = training_module._write_checkpoint
    monkeypatch.setattr(training_module, "_write_checkpoint", stop)
    with pytest.raises(Stop):
        train_member(training, 0)
    assert written[-1][2]["progress"][0] == 2  # windows
    assert written[-1][2]["history"] == []
    monkeypatch.setattr(training_module, "_write_checkpoint", write)
    train_member(training, 0)
    ours, theirs = (_member(one, 0).state_dict() for one in (training, undisturbed))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    histories = [
        training.store.read_json(f"{one.folder}/member0.json")["epochs"]
        for one in (training, undisturbed)
    ]
    assert [done[:4] for done in histories[0]] == [done[:4] for done in histories[1]]


def test_members_side_by_side_share_what_is_read(training, monkeypatch, in_windows):
    pieces = []
    read = Shards._read
    monkeypatch.setattr(Shards, "_read", lambda self, *at: pieces.append(at) or read(self, *at))
    train_together(training, (0, 1))
    shards = training.corpus()
    assert sorted(pieces) == [(e, n) for e in range(2) for n in range(shards.windows(e))]
    alone = replace(training, folder="test/alone")
    for member in (0, 1):
        train_member(alone, member)
    histories = [
        training.store.read_json(f"{one.folder}/member{member}.json")["epochs"]
        for one in (training, alone)
        for member in (0, 1)
    ]
    assert [h[0][3] for h in histories[:2]] == [h[0][3] for h in histories[2:]]  # segments


def test_a_training_that_is_done_reads_no_rows(training, monkeypatch):
    train_member(training, 0)
    monkeypatch.setattr(Training, "corpus", lambda _: pytest.fail("rows were asked for"))
    train_member(training, 0)


def test_a_damaged_shard_is_a_sentence(finished_copy, sharded):
    file = sharded.shards.files[0]
    data = finished_copy.read_bytes(file.path)
    finished_copy.write_bytes(file.path, data[:100])
    try:
        with pytest.raises(StoreError, match="is damaged"):
            shards_of(finished_copy, sharded)._piece(0, 0)
    finally:
        finished_copy.write_bytes(file.path, data)


def test_layers_are_alike_and_a_track_has_chunks_of_its_segments_in_them():
    tracks = [f"t{n}" for n in range(200) for _ in range(20)]
    chance = np.random.default_rng(0).integers(0, 1 << 60, len(tracks)).astype(np.uint64)
    layer = layers_of(pa.array(tracks), chance, Sharding(parts=1, layers=4, chunk=8))
    by_track = [Counter(layer[start : start + 20].tolist()) for start in range(0, len(tracks), 20)]
    assert all(sorted(count.values()) == [4, 8, 8] for count in by_track)
    sizes = np.bincount(layer)
    assert len(sizes) == 4
    assert sizes.max() / sizes.min() < 1.3


def test_shards_are_of_a_size_that_a_window_of_them_fits_into_memory(monkeypatch):
    monkeypatch.setattr(make, "PIECE_BYTES", 16 << 20)
    ledger = LedgerSummary(
        tracks=10_000_000, segments=800_000_000, trainable={"Q1": {0: 500_000, 1: 500_000}}
    )
    sharding = Sharding.of(ledger, parts=312_500, row_bytes=12_500, chunk=8)
    assert sharding == Sharding(parts=32, layers=8, chunk=8)
    piece = 1_000_000 / 312_500 * 32 * 80 / 8 * 12_500
    assert piece <= 16 << 20
    assert math.isclose(piece, 12.8e6)
    grown = replace(ledger, tracks=10_100_000, segments=808_000_000)
    assert Sharding.of(grown, 315_625, 12_500, 8) == sharding


def test_a_shard_without_a_row_is_a_shard():
    nothing = Labelled(
        np.empty(0, np.int64), pa.array([], pa.string()), pa.array([], pa.int32()),
        np.empty((0, *CUT.shape), np.float16),
    )  # fmt: skip
    for parts in ({}, {3: nothing}):
        assert len(shard_table(parts, Sharding(1, 2, 8), CUT)) == 0
