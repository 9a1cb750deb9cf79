"""The way parts go on GPUs, on the CPU: all but streams and pinned memory is the same."""

import threading

import numpy as np
import pytest
import torch

from sssl.audio.mel import MelConfig, in_db, in_steps
from sssl.errors import DeviceError
from sssl.model.ensemble import Model, ModelSpec
from sssl.model.score import posteriors
from sssl.model.settings import ScoreConfig
from sssl.model.streaming import device
from sssl.model.streaming.scorer import Rows, StreamScorer

SPEC = ModelSpec("cnn", ("Q1", "Q2"), MelConfig(), 2)
SIZES = (7, 0, 40, 1, 23, 16)
"""Rows of the parts."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(SPEC, [SPEC.build().eval() for _ in range(2)])


@pytest.fixture(scope="module")
def parts():
    """Parts of rows of all folds, and of the fold that all members score."""
    random = np.random.default_rng(0)
    return [
        Rows(
            random.normal(-30, 10, (rows, *SPEC.cut.shape)).astype(np.float16),
            random.integers(-1, 4, rows),
            number,
        )
        for number, rows in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def expected(model, parts):
    return [posteriors(model, part.log_mel, part.folds, ScoreConfig(), 1) for part in parts]


def test_parts_of_bytes_get_the_scores_of_the_same_levels_in_half_precision(model, parts):
    steps = [part._replace(log_mel=in_steps(part.log_mel)) for part in parts]
    levels = [part._replace(log_mel=in_db(part.log_mel).astype(np.float16)) for part in steps]
    for by_bytes, by_halves in zip(score(model, steps), score(model, levels), strict=True):
        np.testing.assert_array_equal(by_bytes, by_halves)


def score(model, parts, **settings):
    """Score parts by their numbers; check that each is written once, with what it carries."""
    written = []

    def write(number, about, found):
        assert about == number
        written.append(number)
        return found

    scorer = StreamScorer(
        **{"model": model, "devices": ["cpu"], "batch": 16, "readers": 3, **settings}
    )
    found = scorer.score(range(len(parts)), parts.__getitem__, write)
    assert sorted(written) == list(range(len(parts)))
    return found


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_batches_across_parts_and_members_give_each_row_its_members_posterior(
    model, parts, expected
):
    assert_close(score(model, parts), expected)


def test_views_average_rotations(model, parts):
    expected = [
        posteriors(model, part.log_mel, part.folds, ScoreConfig(views=2), 1) for part in parts
    ]
    assert_close(score(model, parts, views=2), expected)


@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_any_size_of_a_batch_will_do(model, parts, expected, batch):
    assert_close(score(model, parts, batch=batch), expected)


def test_a_row_has_the_same_bytes_whoever_shares_its_batch(model, parts):
    together = score(model, parts)
    for number, part in enumerate(parts):
        alone = score(model, [part._replace(about=0)])
        np.testing.assert_array_equal(alone[0], together[number])


def test_several_devices_share_the_parts(model, parts, expected):
    assert_close(score(model, parts * 1, devices=["cpu", "cpu", "cpu"]), expected)


def test_half_precision_gives_about_the_same(model, parts, expected):
    half = score(model, parts, dtype=torch.bfloat16)
    for one, other in zip(half, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)
    assert not np.array_equal(half[2], expected[2])


class Fussy(torch.nn.Module):
    """Fails as told: on segments that hold the mark, or on batches of more segments than there is
    room for."""

    def __init__(self, member, mark=None, room=None, says=None):
        super().__init__()
        self.member, self.mark, self.room, self.says, self.batches = member, mark, room, says, []

    def forward(self, x):
        self.batches.append(len(x))
        if self.mark is not None and (x[:, 0, 0] == self.mark).any():
            raise RuntimeError("segment with the mark")
        if self.room is not None and len(x) > self.room:
            raise self.says
        return self.member(x)


def fussy(model, **faults):
    return Model(model.spec, [Fussy(member, **faults) for member in model.members])


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("says", FULL, ids=lambda error: str(error)[-30:])
def test_a_batch_that_does_not_fit_is_halved_for_good_and_every_row_is_scored(
    model, parts, expected, says
):
    tight = fussy(model, room=5, says=says)
    assert_close(score(tight, parts), expected)
    sizes = [size for member in tight.members for size in member.batches]
    assert sorted({size for size in sizes if size > 5}) == [8, 16]
    assert len([size for size in sizes if size > 5]) == 2
    assert {size for size in sizes if size <= 5} == {4}


def test_a_full_device_is_waited_for(model, parts, expected, monkeypatch):
    tight = fussy(model, room=0, says=FULL[0])
    waits = []

    def others_leave(seconds):
        waits.append(seconds)
        for member in tight.members:
            member.room = 3 if len(waits) > 1 else 0

    monkeypatch.setattr(device.time, "sleep", others_leave)
    assert_close(score(tight, parts), expected)
    assert waits == [1.0, 2.0]


def test_a_device_that_stays_full_is_an_error_in_a_sentence(model, parts, monkeypatch):
    monkeypatch.setattr(device.time, "sleep", lambda seconds: None)
    with pytest.raises(
        DeviceError,
        match="cpu has no memory for a single segment, also after 31 s: CUDA out of memory",
    ):
        score(fussy(model, room=0, says=FULL[0]), parts)


def test_pinned_memory_that_cannot_be_had_is_done_without(monkeypatch):
    empty = torch.empty

    def without_pinned(*args, pin_memory=False, **kwargs):
        if pin_memory:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return empty(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", without_pinned)
    assert device.staging((2, 3), pinned=True, dtype=torch.uint8).shape == (2, 3)


def test_a_segment_that_the_model_fails_on_costs_one_row(model, parts, expected):
    parts = [part._replace(log_mel=part.log_mel.copy()) for part in parts]
    parts[2].log_mel[11, 0, 0] = 7
    found = score(fussy(model, mark=7), parts)
    assert np.flatnonzero(np.isnan(found[2]).any(axis=1)).tolist() == [11]
    found[2][11] = expected[2][11]
    assert_close(found, expected)


def test_a_model_that_fails_on_every_segment_is_no_row_but_an_error(model, parts):
    marked = [part._replace(log_mel=np.full_like(part.log_mel, 7)) for part in parts]
    with pytest.raises(RuntimeError, match="segment with the mark"):
        score(fussy(model, mark=7), marked)


def test_what_cannot_be_read_is_an_error_and_what_is_done_is_written(model, parts):
    written = []

    def read(number):
        if number == 5:
            raise OSError("the disk is gone")
        return parts[number]

    scorer = StreamScorer(model, ["cpu"], batch=4, readers=1)
    with pytest.raises(OSError, match="the disk is gone"):
        scorer.score(range(6), read, lambda number, *_: written.append(number))
    assert set(written) <= set(range(5))


def test_parts_are_read_in_several_threads_ahead_of_what_is_scored(model, parts):
    readers, meet = set(), threading.Barrier(3)

    def read(number):
        readers.add(threading.get_ident())
        if number < 3:
            meet.wait(timeout=20)  # three are read at the same time, or none
        return parts[number]

    StreamScorer(model, ["cpu"], batch=16, readers=3).score(
        range(len(parts)), read, lambda *_: None
    )
    assert len(readers) == 3


class Replayed:
    """Stands in for a CUDA graph: what it is called with goes through the pass it was made of."""

    def __init__(self, forward, batch):
        self.forward, self.batch = forward, batch.clone()
        self.calls = 0

    def __call__(self, pieces):
        self.calls += 1
        torch.cat(list(pieces), out=self.batch)
        return self.forward(self.batch)


class Full(Replayed):
    """Stands in for one whose memory was given to others."""

    def __call__(self, pieces):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def record_with(monkeypatch):
    """Let devices record their passes, as on GPUs, by what a test gives; return what is
    recorded."""
    begin, made = device.Device.__init__, []

    def begin_recording(self, *args):
        begin(self, *args)
        self._can_record = True

    def start(kind):
        monkeypatch.setattr(device.Device, "__init__", begin_recording)
        monkeypatch.setattr(device, "Recorded", lambda *args: made.append(kind(*args)) or made[-1])
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        return made

    return start


def test_passes_after_the_second_of_a_member_are_recorded_ones(model, parts, expected, record_with):
    made = record_with(Replayed)
    assert_close(score(model, parts, batch=4), expected)
    assert [len(each.batch) for each in made] == [4, 4, 4]  # each member, and both together
    assert all(each.calls > 0 for each in made)


def test_what_cannot_be_recorded_goes_on_piece_by_piece(
    model, parts, expected, record_with, caplog
):
    tries = []

    def refuse(forward, batch):
        tries.append(len(batch))
        raise RuntimeError("operation not permitted when stream is capturing")

    record_with(refuse)
    assert_close(score(model, parts, batch=4), expected)
    assert tries == [4]
    assert "launched piece by piece" in caplog.text


def test_recordings_are_dropped_before_the_batch_is_halved(
    model, parts, expected, record_with, caplog
):
    made = record_with(Full)
    watched = fussy(model)
    assert_close(score(watched, parts, batch=4), expected)
    assert made
    assert "launching passes piece by piece" in caplog.text
    assert {size for member in watched.members for size in member.batches} == {4}
