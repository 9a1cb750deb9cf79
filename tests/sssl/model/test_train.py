import contextlib
from dataclasses import replace

import pytest
import torch

from sssl.audio.mel import MelConfig
from sssl.errors import ConfigError, TrainError
from sssl.model import train as training_module
from sssl.model.ensemble import ModelSpec, dump
from sssl.model.examples import Corpus, deal_bags
from sssl.model.settings import TrainConfig, check_trainable
from sssl.model.train import Epoch, stops_early, train, train_member
from sssl.model.trainer import Trainer, Training, start_from

SPEC = ModelSpec("cnn", ("Q1", "Q2", "Q3", "Q4"), MelConfig(), 2)
CONFIG = TrainConfig(warmup_epochs=2, epochs=1, batch_size=16)


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def corpus(finished):
    snapshot = finished.latest()
    return Corpus(
        finished, *(snapshot.get(t) for t in ("catalog", "features")), snapshot.get("labels", 1)
    )


@pytest.fixture
def training(finished_copy, request):
    """A training in a folder of its own."""
    snapshot = finished_copy.latest()
    return Training(
        finished_copy, snapshot.get("catalog"), snapshot.features, snapshot.get("labels", 1),
        SPEC, CONFIG,
        round=0, folder=f"test/{request.node.name}", start=None, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(finished_copy):
    snapshot = finished_copy.latest()
    inputs = [snapshot.get(table) for table in ("catalog", "features")] + [
        snapshot.get("labels", 1)
    ]
    seen = []
    model = train(
        Training(finished_copy, *inputs, SPEC, CONFIG, 0, "test/undisturbed", None, "cpu"),
        2,
        seen.append,
    )
    assert sorted((e.member, e.epoch) for e in seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    return model


def test_an_epoch_has_every_row_that_carries_weight_once(corpus, finished):
    batches = list(corpus.epoch(None, 500, 1, seed=1))
    weighted = finished.read_table(corpus.labels, ["weight"])["weight"].to_numpy() > 0
    assert sum(len(batch.weight) for batch in batches) == corpus.bags(None, 1) == weighted.sum()
    mean = torch.cat([b.log_mel.float().mean((1, 2)) for b in batches]).sort().values
    again = (
        torch.cat([b.log_mel.float().mean((1, 2)) for b in corpus.epoch(None, 500, 1, seed=2)])
        .sort()
        .values
    )
    torch.testing.assert_close(mean, again)


def test_a_bag_is_of_one_track_and_each_row_is_in_one():
    track = torch.tensor([7, 7, 7, 7, 7, 5, 5, 9])
    bags = deal_bags(track, 2, torch.Generator().manual_seed(0))
    assert bags.shape == (5, 2)  # 3 of the first track, one row of which is there twice, 1 and 1
    assert (track[bags[:, 0]] == track[bags[:, 1]]).all()
    assert bags.unique().tolist() == list(range(8))
    assert (bags[:, 0] == bags[:, 1]).sum() == 1  # the track of a single segment
    order = deal_bags(track, 1, torch.Generator().manual_seed(0))
    assert sorted(order.flatten().tolist()) == list(range(8))


def test_confident_and_noisy_segments_of_a_track_share_no_bag(corpus):
    mixed = replace(corpus)
    rows = corpus.load(corpus.parts[0])
    noisy = torch.arange(len(rows.weight)) % 3 == 0
    mixed.load = lambda part: rows._replace(noisy=noisy)
    mixed.parts = corpus.parts[:1]
    batches = list(mixed.epoch(None, 16, 4, seed=1))
    assert sum(len(batch.weight) for batch in batches) == 4 * mixed.bags(None, 4)
    for batch in batches:
        by_bag = batch.noisy.view(-1, 4)
        assert (by_bag == by_bag[:, :1]).all()
    assert any(batch.noisy.any() for batch in batches)


def test_no_rows_make_no_bag():
    """As in a group of parts whose labelled tracks are all of the fold that is left out."""
    assert deal_bags(torch.zeros(0, dtype=torch.int64), 4, torch.Generator()).numel() == 0


def test_an_epoch_of_bags_has_as_many_as_were_counted(corpus):
    batches = list(corpus.epoch(0, 16, 4, seed=1))
    assert sum(len(batch.weight) for batch in batches) == 4 * corpus.bags(0, 4)
    assert all((b.track.view(-1, 4) == b.track.view(-1, 4)[:, :1]).all() for b in batches)


def test_a_member_never_sees_its_fold(corpus):
    for member in range(3):
        folds = torch.cat([batch.fold for batch in corpus.epoch(member, 500, 1, seed=0)])
        assert member not in folds
        assert len(folds) == corpus.bags(member, 1) > 0


def test_parts_that_do_not_fit_into_memory_are_read_again(corpus):
    streamed = replace(corpus, cache_bytes=0)
    for a, b in zip(corpus.epoch(0, 16, 4, seed=3), streamed.epoch(0, 16, 4, seed=3), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_labels_of_other_segments_are_refused(corpus):
    files = dict(corpus.labels.files)
    files[0], files[1] = files[1], files[0]
    with pytest.raises(
        ValueError, match=r"part 0: rows of labels/.* are not aligned with features/"
    ):
        replace(corpus, labels=replace(corpus.labels, files=files)).load(0)


def test_the_seed_decides_the_weights_and_the_number_of_processes_does_not(undisturbed, training):
    assert dump(train(training, 1, lambda _: None)) == dump(undisturbed)
    other = replace(training, config=replace(CONFIG, seed=1), folder=f"{training.folder}-seed")
    assert dump(train(other, 1, lambda _: None)) != dump(undisturbed)


@pytest.mark.parametrize("epochs_done", [1, 2])
def test_a_stopped_training_goes_on_to_the_same_weights(
    epochs_done, undisturbed, training, monkeypatch
):
    torch.set_num_threads(1)  # as a process of the pool has
    finished = []

    def stop_at_checkpoint(*args):
        write_checkpoint(*args)
        finished.append(args)
        if len(finished) == epochs_done:
            raise Stop

    write_checkpoint = training_module._write_checkpoint
    monkeypatch.setattr("sssl.model.train._write_checkpoint", stop_at_checkpoint)
    with pytest.raises(Stop):
        train_member(training, 0)
    seen = []
    assert dump(train(training, 1, seen.append)) == dump(undisturbed)
    assert sorted((e.member, e.epoch) for e in seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("how", ["emptied", "half", "flipped"])
def test_a_checkpoint_that_a_disk_lost_or_changed_counts_as_none(how, undisturbed, training):
    torch.set_num_threads(1)  # as a process of the pool has
    train_member(training, 0)
    store, path = training.store, f"{training.folder}/member0.pt"
    whole = store.read_bytes(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    store.write_bytes(
        path, {"emptied": b"", "half": whole[: len(whole) // 2], "flipped": flipped}[how]
    )
    store.write_bytes(f"{training.folder}/member0.json", b"")
    assert dump(train(training, 1, lambda _: None)) == dump(undisturbed)


def test_a_later_round_starts_from_the_given_model(undisturbed, training):
    start = training.store.write_file(f"{training.folder}/start.safetensors", dump(undisturbed), 2)
    still = replace(CONFIG, learning_rate=1e-12, weight_decay=0.0, ema=0.0)
    model = train(replace(training, config=still, round=1, start=start), 1, lambda _: None)
    for before, after in zip(undisturbed.members, model.members, strict=True):
        torch.testing.assert_close(dict(before.named_parameters()), dict(after.named_parameters()))


def test_averaged_weights_follow_the_network_from_the_start(training):
    """A long average over a short training must not stay at the random first weights."""
    still = replace(CONFIG, ema=0.0, learning_rate=1e-12)
    first = train(replace(training, config=still, folder=f"{training.folder}-1"), 2, lambda _: None)
    last = train(
        replace(training, config=replace(CONFIG, ema=0.0), folder=f"{training.folder}-0"),
        2,
        lambda _: None,
    )
    long = train(replace(training, config=replace(CONFIG, ema=0.99999)), 2, lambda _: None)
    weights = [
        torch.cat([p.flatten() for p in m.members[0].parameters()]) for m in (first, long, last)
    ]
    assert (weights[1] - weights[0]).norm() > 0.3 * (weights[2] - weights[0]).norm()


def test_the_first_round_can_start_from_weights_made_for_other_classes(undisturbed, training):
    moods = replace(SPEC, classes=("happy", "sad"))
    start = training.store.write_file(f"{training.folder}/start.safetensors", dump(undisturbed), 2)
    still = replace(CONFIG, learning_rate=1e-12, weight_decay=0.0, ema=0.0)
    trainer = Trainer(replace(training, config=still, start=start), 1, training.corpus())
    for name, weight in undisturbed.members[1].state_dict().items():
        torch.testing.assert_close(trainer.network.state_dict()[name], weight)
    network = moods.build()
    head = network.head[1].weight.detach().clone()
    start_from(network, undisturbed, moods, member=1)
    torch.testing.assert_close(network.head[1].weight, head)
    first, theirs = (next(m.front_end.parameters()) for m in (network, undisturbed.members[1]))
    torch.testing.assert_close(first, theirs)


def test_a_round_cannot_start_from_a_model_of_other_folds(undisturbed, training):
    start = training.store.write_file(f"{training.folder}/start.safetensors", dump(undisturbed), 2)
    three = replace(training, spec=replace(SPEC, members=3), round=1, start=start)
    with pytest.raises(TrainError, match="round 1 has 3 members, the model it starts from 2"):
        train_member(three, 0)


def test_weights_of_another_front_end_are_refused(undisturbed):
    other = replace(SPEC, architecture="resnet")
    with pytest.raises(
        TrainError, match=r"weights to start from are of cnn on .*, expected resnet on"
    ):
        start_from(other.build(), undisturbed, other, member=0)


def epochs(*left_out_losses):
    return [Epoch(0, epoch, 1.0, 10, 0.0, loss) for epoch, loss in enumerate(left_out_losses)]


def test_patience_ends_a_training_that_gets_no_better():
    assert not stops_early(epochs(1.0, 0.9, 0.95), patience=2)
    assert stops_early(epochs(1.0, 0.9, 0.95, 0.93), patience=2)
    assert not stops_early(epochs(1.0, 0.9, 0.95, 0.93, 0.8), patience=2)
    assert not stops_early(epochs(None, None, None), patience=None)
    assert stops_early(epochs(1.0, 0.9, float("nan"), float("nan")), patience=2)


def test_patience_keeps_the_best_epoch(training):
    """With a rate at which training falls apart, the first epochs are the best."""
    wild = replace(CONFIG, warmup_epochs=6, patience=2, ema=0.0, learning_rate=1.0)
    seen = []
    model = train(replace(training, config=wild), 1, seen.append)
    for k, member in enumerate(model.members):
        losses = [done.left_out_loss for done in seen if done.member == k]
        assert len(losses) == min(6, losses.index(min(losses)) + 3)
        trainer = Trainer(training, k, training.corpus())
        trainer.network.load_state_dict(member.state_dict())
        trainer.averaged.module.load_state_dict(member.state_dict())
        assert trainer.left_out_loss() == pytest.approx(min(losses), rel=1e-4)


def test_a_training_whose_loss_is_no_number_any_more_is_no_model(training):
    lost = replace(CONFIG, learning_rate=1e30)
    with pytest.raises(TrainError, match=r"loss of member \d in epoch \d is (nan|inf)"):
        train(replace(training, config=lost), 1, lambda _: None)


def test_a_training_with_patience_that_was_stopped_keeps_the_same_epoch(training, monkeypatch):
    """Stopped before its best epoch, at it, and after it, where the best weights come from the
    checkpoint."""
    torch.set_num_threads(1)
    wild = replace(CONFIG, warmup_epochs=4, patience=2, ema=0.0, learning_rate=1.0)
    whole = replace(training, config=wild, spec=replace(SPEC, members=2))
    expected = dump(train(whole, 1, lambda _: None))
    write_checkpoint = training_module._write_checkpoint

    def stop(*args):
        write_checkpoint(*args)
        raise Stop

    stopped = replace(whole, folder=f"{whole.folder}-stopped")
    monkeypatch.setattr("sssl.model.train._write_checkpoint", stop)
    for _ in range(3):
        with contextlib.suppress(Stop):
            train_member(stopped, 0)
    monkeypatch.undo()
    assert dump(train(stopped, 1, lambda _: None)) == expected


def test_patience_needs_a_fold_that_is_left_out():
    with pytest.raises(ConfigError, match="--patience 2: expected none with --no-cross-fit"):
        TrainConfig(patience=2, cross_fit=False)


def test_balance_gives_rare_classes_the_weight_of_frequent_ones(training):
    balanced = replace(training, config=replace(CONFIG, class_balance=1.0))
    trainer = Trainer(balanced, 0, training.corpus())
    prior = trainer.corpus.prior()
    assert prior.std() > 0
    torch.testing.assert_close(prior * trainer.class_weight, torch.full_like(prior, 1 / len(prior)))
    torch.testing.assert_close(trainer.prior, prior * trainer.class_weight)
    even = Trainer(training, 0, training.corpus())
    torch.testing.assert_close(even.class_weight, torch.ones_like(prior))


def test_without_a_row_nothing_can_be_trained(training):
    nothing = replace(training, labels=replace(training.labels, files={}))
    with pytest.raises(
        TrainError, match="nothing to train on: 0 segments carry weight for member 0"
    ):
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
