from dataclasses import replace

import pytest
import torch

from sssl.cut import CutConfig
from sssl.data import Corpus
from sssl.models import ModelSpec, dump
from sssl.store import Store
from sssl.train import TrainConfig, TrainError, check_trainable, train

SPEC = ModelSpec("cnn", ("Q1", "Q2", "Q3", "Q4"), CutConfig(), 2)
CONFIG = TrainConfig(warmup_epochs=2, epochs=1, batch_size=16)


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def corpus(finished):
    snapshot = finished.latest()
    return Corpus(finished, *(snapshot.get(t) for t in ("catalog", "segments")), snapshot.get("labels", 1))


def run(corpus, store, config=CONFIG, round=0, start=None, stop_after=None):
    seen = []

    def on_epoch(epoch):
        seen.append((epoch.member, epoch.epoch))
        if len(seen) == stop_after:
            raise Stop

    model = train(
        corpus, SPEC, config, round=round, start=start, store=store, checkpoint="models/x/checkpoint.pt",
        on_epoch=on_epoch, device="cpu",
    )  # fmt: skip
    return model, seen


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "o"), create=True)


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    return run(corpus, Store.open(str(tmp_path_factory.mktemp("u") / "o"), create=True))[0]


def test_an_epoch_has_every_row_that_carries_weight_once(corpus, finished):
    batches = list(corpus.epoch(None, 16, seed=1))
    weighted = finished.read_table(corpus.labels, ["weight"])["weight"].to_numpy() > 0
    assert sum(len(batch.weight) for batch in batches) == corpus.rows(None) == weighted.sum()
    mean = torch.cat([b.log_mel.float().mean((1, 2)) for b in batches]).sort().values
    again = torch.cat([b.log_mel.float().mean((1, 2)) for b in corpus.epoch(None, 16, seed=2)]).sort().values
    torch.testing.assert_close(mean, again)


def test_a_member_never_sees_its_fold(corpus):
    for member in range(3):
        folds = torch.cat([batch.fold for batch in corpus.epoch(member, 16, seed=0)])
        assert member not in folds
        assert len(folds) == corpus.rows(member) > 0


def test_parts_that_do_not_fit_into_memory_are_read_again(corpus):
    streamed = replace(corpus, cache_bytes=0)
    for a, b in zip(corpus.epoch(0, 16, seed=3), streamed.epoch(0, 16, seed=3), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_labels_of_other_segments_are_refused(corpus):
    files = dict(corpus.labels.files)
    files[0], files[1] = files[1], files[0]
    with pytest.raises(ValueError, match=r"part 0: rows of labels/.* are not aligned with segments/"):
        replace(corpus, labels=replace(corpus.labels, files=files)).load(0)


def test_the_seed_decides_the_weights(corpus, undisturbed, tmp_path):
    stores = [Store.open(str(tmp_path / name), create=True) for name in "ab"]
    assert dump(run(corpus, stores[0])[0]) == dump(undisturbed)
    assert dump(run(corpus, stores[1], replace(CONFIG, seed=1))[0]) != dump(undisturbed)


@pytest.mark.parametrize("epochs_done", [1, 2, 3])
def test_a_stopped_training_goes_on_to_the_same_weights(epochs_done, corpus, undisturbed, store):
    with pytest.raises(Stop):
        run(corpus, store, stop_after=epochs_done)
    model, seen = run(corpus, store)
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)][epochs_done:]
    assert dump(model) == dump(undisturbed)


def test_a_later_round_starts_from_the_given_model(corpus, undisturbed, store):
    still = replace(CONFIG, learning_rate=1e-12, weight_decay=0.0, ema=0.0)
    model, _ = run(corpus, store, still, round=1, start=undisturbed)
    for before, after in zip(undisturbed.members, model.members, strict=True):
        torch.testing.assert_close(dict(before.named_parameters()), dict(after.named_parameters()))


def test_averaged_weights_follow_the_network_from_the_start(corpus, store):
    """A long average over a short training must not stay at the random first weights."""
    slow = replace(CONFIG, ema=0.9999)
    model, _ = run(corpus, store, slow)
    torch.manual_seed(0)
    first = SPEC.build()
    moved = [(a - b).abs().max() for a, b in zip(model.members[0].parameters(), first.parameters(), strict=True)]
    assert max(moved) > 1e-2


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"Q1": 0, "Q2": 0}, "no track has a label"),
        ({"Q1": 5, "Q2": 1}, "class Q2 has a single usable track"),
        ({"Q1": 5, "Q2": 0}, "class Q2 has no usable track"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(counts, message):
    with pytest.raises(TrainError, match=message):
        check_trainable(counts)
