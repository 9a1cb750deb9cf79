import pytest
import torch

from sssl.audio.mel import MelConfig
from sssl.errors import StoreError
from sssl.model.ensemble import Model, ModelSpec, dump, load, model_id
from sssl.model.networks import FRONT_ENDS
from sssl.model.settings import FRONT_END_NAMES


def spec(architecture="cnn", members=2):
    return ModelSpec(architecture, ("Q1", "Q2", "Q3", "Q4"), MelConfig(), members)


def model(seed=0, **kwargs):
    torch.manual_seed(seed)
    made = spec(**kwargs)
    return Model(made, [made.build().eval() for _ in range(made.members)])


def test_every_front_end_that_can_be_asked_for_can_be_built():
    assert tuple(FRONT_ENDS) == FRONT_END_NAMES


@pytest.mark.parametrize("architecture", FRONT_ENDS)
@pytest.mark.parametrize("cut", [MelConfig(), MelConfig(segment_s=5.0, mels=96)])
def test_every_architecture_takes_any_segment(architecture, cut):
    member = ModelSpec(architecture, ("a", "b", "c"), cut, 1).build().eval()
    assert member(torch.randn(2, *cut.shape)).shape == (2, 3)


def test_a_model_survives_its_file():
    before = model()
    after = load(dump(before))
    assert after.spec == before.spec
    x = torch.randn(3, *before.spec.cut.shape)
    for one, other in zip(before.members, after.members, strict=True):
        torch.testing.assert_close(one(x), other(x))


def test_the_same_weights_have_the_same_name():
    assert model_id(dump(model(0))) == model_id(dump(model(0)))
    assert model_id(dump(model(0))) != model_id(dump(model(1)))


@pytest.mark.parametrize("architecture", FRONT_ENDS)
def test_the_layout_that_networks_compute_in_does_not_show_in_the_file(architecture):
    channels_last = model(architecture=architecture)
    contiguous = model(architecture=architecture)
    for member in contiguous.members:
        member.to(memory_format=torch.contiguous_format)
    assert dump(channels_last) == dump(contiguous)


def test_a_foreign_file_is_refused():
    with pytest.raises(StoreError, match="not a model file of this program"):
        load(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")


def test_a_model_file_that_is_damaged_is_a_sentence():
    data = dump(model())
    header = int.from_bytes(data[:8], "little")
    for damaged in (
        data[: len(data) // 2],
        data.replace(b'\\"members\\": 2', b'\\"members\\": 3'),
        data.replace(b'\\"members\\": 2', b'\\"members\\": x'),
        data.replace(b"cnn", b"cmn"),
        data[: 8 + header // 2],
    ):
        assert damaged != data
        with pytest.raises(StoreError, match="model file"):
            load(damaged)
