"""Members side by side, on the CPU: all but the recording of a step is as on a GPU."""

from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch

from sssl.audio.mel import MelConfig
from sssl.errors import DeviceError
from sssl.model import train as training_module
from sssl.model import trainer as trainer_module
from sssl.model.ensemble import Model, ModelSpec, dump
from sssl.model.settings import TrainConfig
from sssl.model.together import Together
from sssl.model.train import _member, train_member, train_share, train_together
from sssl.model.trainer import Progress, Trainer, Training, newest_share
from sssl.runtime.distributed import ALONE

SPEC = ModelSpec("cnn", ("Q1", "Q2", "Q3", "Q4"), MelConfig(), 2)
CONFIG = TrainConfig(warmup_epochs=2, epochs=1, batch_size=16)
BOTH = (0, 1)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def training(finished_copy, request):
    """A training in a folder of its own."""
    snapshot = finished_copy.latest()
    return Training(
        finished_copy, snapshot.get("catalog"), snapshot.features, snapshot.get("labels", 1),
        SPEC, CONFIG,
        round=0, folder=f"test/{request.node.name}", start=None, device="cpu",
    )  # fmt: skip


def epochs_of(training):
    return [
        training.store.read_json(f"{training.folder}/member{member}.json")["epochs"]
        for member in BOTH
    ]


def weights_of(training):
    return [weights_of_member(training, member) for member in BOTH]


def weights_of_member(training, member):
    """The weights of a member, without how many batches its norms have seen, of which nothing
    depends."""
    return {
        name: w
        for name, w in _member(training, member).state_dict().items()
        if w.is_floating_point()
    }


def without_chance(monkeypatch):
    monkeypatch.setattr(trainer_module, "view", lambda log_mel, config, shift=None: log_mel)
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)


@pytest.mark.parametrize("round", [0, 1])
def test_side_by_side_members_become_what_they_become_alone_but_for_chance(
    training, monkeypatch, round
):
    without_chance(monkeypatch)
    config = replace(CONFIG, mixup_alpha=0.0, lambda_consistency=0.5, epochs=2)
    training = replace(training, config=config)
    start = None
    if round:
        train_together(training, BOTH)
        members = [_member(training, member) for member in BOTH]
        data = dump(Model(SPEC, members))
        start = training.store.write_file(f"{training.folder}/start.safetensors", data, 2)
    alone, together = (
        replace(training, round=round, start=start, folder=f"{training.folder}-{n}") for n in "ab"
    )
    for member in BOTH:
        train_member(alone, member)
    train_together(together, BOTH)
    for ours, theirs in zip(weights_of(together), weights_of(alone), strict=True):
        # Both round differently, and each step carries that on; most of all to running statistics,
        # which are of activations (0.027 apart at most when this was written).
        for name, ours_of in ours.items():
            atol = 5e-2 if name.endswith(("running_mean", "running_var")) else 5e-3
            torch.testing.assert_close(ours_of, theirs[name], atol=atol, rtol=5e-3)
    for ours, theirs in zip(epochs_of(together), epochs_of(alone), strict=True):
        assert [done[2:4] for done in ours] == [
            [pytest.approx(loss, rel=1e-3), n] for *_, loss, n, _, _ in theirs
        ]


def test_a_stopped_training_goes_on_where_each_member_was(training, monkeypatch):
    without_chance(monkeypatch)
    training = replace(training, config=replace(CONFIG, mixup_alpha=0.0))
    whole = replace(training, folder=f"{training.folder}-whole")
    train_together(whole, BOTH)
    write, written = training_module._write_checkpoint, []

    def stop_between_members(*args):
        if len(written) == 3:
            raise KeyboardInterrupt
        write(*args)
        written.append(args)

    monkeypatch.setattr(training_module, "_write_checkpoint", stop_between_members)
    with pytest.raises(KeyboardInterrupt):
        train_together(training, BOTH)
    monkeypatch.setattr(training_module, "_write_checkpoint", write)
    assert [len(done) for done in epochs_of(training)] == [2, 1]
    train_together(training, BOTH)
    assert [len(done) for done in epochs_of(training)] == [2, 2]
    for ours, theirs in zip(weights_of(training), weights_of(whole), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_checkpoint_of_one_device_goes_on_on_the_other(training, monkeypatch):
    """Alone is as on a CPU, together as on a GPU."""
    without_chance(monkeypatch)
    config = replace(CONFIG, mixup_alpha=0.0, warmup_epochs=3)
    whole = replace(training, config=config, folder=f"{training.folder}-whole")
    train_member(whole, 0)
    mixed = replace(training, config=config)
    turns = iter([train_member, lambda t, k: train_together(t, [k]), train_member])
    write = training_module._write_checkpoint

    def stop(*args):
        write(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(training_module, "_write_checkpoint", stop)
    for turn in turns:
        with pytest.raises(KeyboardInterrupt):
            turn(mixed, 0)
    torch.testing.assert_close(
        _member(mixed, 0).state_dict(), _member(whole, 0).state_dict(), atol=1e-3, rtol=1e-3
    )


def test_each_member_has_the_rows_of_its_own_epochs(training):
    corpus = training.corpus()
    trainers = [Trainer(training, member, corpus) for member in BOTH]
    seen = {member: [] for member in BOTH}
    for trainer in trainers:
        loss = trainer.loss

        def spy(batch, ramp, drawn, loss=loss, trainer=trainer):
            seen[trainer.member].append(batch)
            return loss(batch, ramp, drawn)

        trainer.loss = spy
    together = Together(trainers, corpus, "cpu")
    done = [Progress()] * len(trainers)
    segments = [p.segments for p in together.run_window(trainers, 0, done)]
    for trainer in trainers:
        batches = list(corpus.epoch(trainer.member, CONFIG.batch_size, CONFIG.bag, trainer.seed(0)))
        for ours, theirs in zip(seen[trainer.member], batches, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert segments[trainer.member] == sum(len(batch.weight) for batch in batches)


def test_random_first_weights_are_soon_forgotten():
    assert newest_share(0.99, 0) == 0.9
    assert newest_share(0.99, 10_000) == pytest.approx(0.01)


def test_a_card_without_memory_for_training_is_an_error_in_a_sentence(training, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def submit(self, *_):
            done = Future()
            done.set_exception(
                torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.\nmore")
            )
            return done

        def close(self):
            pass

    monkeypatch.setattr(training_module, "IsolatedPool", Full)
    with pytest.raises(
        DeviceError, match=r"cpu has not enough free memory to train on: CUDA out of memory.*MiB\.$"
    ):
        train_share(training, 1, ALONE, lambda: None)
