from dataclasses import replace

import pytest
import torch

import sssl.train
from sssl.data import Corpus
from sssl.features import MelConfig
from sssl.models import ModelSpec, dump
from sssl.train import TrainConfig, TrainError, Training, check_trainable, train, train_member

SPEC = ModelSpec("cnn", ("Q1", "Q2", "Q3", "Q4"), MelConfig(), 2)
CONFIG = TrainConfig(warmup_epochs=2, epochs=1, batch_size=16)


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def corpus(finished):
    snapshot = finished.latest()
    return Corpus(finished, *(snapshot.get(t) for t in ("catalog", "segments")), snapshot.get("labels", 1))


@pytest.fixture
def training(finished, request):
    """A training in a folder of its own."""
    snapshot = finished.latest()
    return Training(
        finished, snapshot.get("catalog"), snapshot.get("segments"), snapshot.get("labels", 1), SPEC, CONFIG,
        round=0, folder=f"test/{request.node.name}", start=None, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(finished):
    snapshot = finished.latest()
    inputs = [snapshot.get(table) for table in ("catalog", "segments")] + [snapshot.get("labels", 1)]
    seen = []
    model = train(Training(finished, *inputs, SPEC, CONFIG, 0, "test/undisturbed", None, "cpu"), 2, seen.append)
    assert sorted((e.member, e.epoch) for e in seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    return model


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


def test_the_seed_decides_the_weights_and_the_number_of_processes_does_not(undisturbed, training):
    assert dump(train(training, 1, lambda _: None)) == dump(undisturbed)
    other = replace(training, config=replace(CONFIG, seed=1), folder=f"{training.folder}-seed")
    assert dump(train(other, 1, lambda _: None)) != dump(undisturbed)


@pytest.mark.parametrize("epochs_done", [1, 2])
def test_a_stopped_training_goes_on_to_the_same_weights(epochs_done, undisturbed, training, monkeypatch):
    torch.set_num_threads(1)  # as a process of the pool has
    finished = []

    def stop_at_checkpoint(*args):
        write_checkpoint(*args)
        finished.append(args)
        if len(finished) == epochs_done:
            raise Stop

    write_checkpoint = sssl.train._write_checkpoint
    monkeypatch.setattr("sssl.train._write_checkpoint", stop_at_checkpoint)
    with pytest.raises(Stop):
        train_member(training, 0)
    seen = []
    assert dump(train(training, 1, seen.append)) == dump(undisturbed)
    assert sorted((e.member, e.epoch) for e in seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_later_round_starts_from_the_given_model(undisturbed, training):
    start = training.store.write_file(f"{training.folder}/start.safetensors", dump(undisturbed), 2).path
    still = replace(CONFIG, learning_rate=1e-12, weight_decay=0.0, ema=0.0)
    model = train(replace(training, config=still, round=1, start=start), 1, lambda _: None)
    for before, after in zip(undisturbed.members, model.members, strict=True):
        torch.testing.assert_close(dict(before.named_parameters()), dict(after.named_parameters()))


def test_averaged_weights_follow_the_network_from_the_start(training):
    """A long average over a short training must not stay at the random first weights."""
    still = replace(CONFIG, ema=0.0, learning_rate=1e-12)
    first = train(replace(training, config=still, folder=f"{training.folder}-1"), 2, lambda _: None)
    last = train(replace(training, config=replace(CONFIG, ema=0.0), folder=f"{training.folder}-0"), 2, lambda _: None)
    long = train(replace(training, config=replace(CONFIG, ema=0.99999)), 2, lambda _: None)
    weights = [torch.cat([p.flatten() for p in m.members[0].parameters()]) for m in (first, long, last)]
    assert (weights[1] - weights[0]).norm() > 0.3 * (weights[2] - weights[0]).norm()


def test_without_a_row_nothing_can_be_trained(training):
    nothing = replace(training, labels=replace(training.labels, files={}))
    with pytest.raises(TrainError, match="nothing to train on: 0 segments carry weight for member 0"):
        train_member(nothing, 0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"Q1": [0, 0], "Q2": [0, 0]}, "no track has a label"),
        ({"Q1": [2, 3], "Q2": [0, 1]}, "class Q2 has a single usable track"),
        ({"Q1": [2, 3], "Q2": [0, 0]}, "class Q2 has no usable track"),
        ({"Q1": [2, 3], "Q2": [5, 0]}, "all 5 usable tracks of class Q2 are in one fold"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(counts, message):
    with pytest.raises(TrainError, match=message):
        check_trainable(counts, cross_fit=True)


def test_a_single_model_may_learn_a_class_of_one_fold():
    check_trainable({"Q1": [2, 3], "Q2": [5, 0]}, cross_fit=False)
