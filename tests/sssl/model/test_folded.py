import pytest
import torch
from torch import nn

from sssl.audio.mel import MelConfig
from sssl.model.ensemble import Model, ModelSpec
from sssl.model.folded import folded
from sssl.model.networks import FRONT_ENDS


@pytest.fixture(params=sorted(FRONT_ENDS))
def network(request):
    """A network whose batch norms have seen data, so that there is something to fold."""
    torch.manual_seed(0)
    network = ModelSpec(request.param, ("Q1", "Q2"), MelConfig(), 1).build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(
                module.weight, 0, 1
            )  # also below 0, where a maximum would become a minimum
            nn.init.normal_(module.bias, 0, 1)
    with torch.no_grad():
        network.train()(torch.randn(8, *MelConfig().shape) * 10 - 30)
    return network.eval()


@torch.no_grad()
def test_a_folded_network_gives_the_same_but_for_rounding(network):
    x = torch.randn(4, *MelConfig().shape) * 10 - 30
    torch.testing.assert_close(
        folded(network)(x).softmax(1), network(x).softmax(1), atol=1e-5, rtol=0
    )


def test_no_batch_norm_over_maps_is_left(network):
    def norms(of):
        return sum(isinstance(module, nn.BatchNorm2d) for module in of.modules())

    assert norms(network) > 0
    assert norms(folded(network)) == 0


@torch.no_grad()
def test_the_network_itself_stays_as_it_is(network):
    x = torch.randn(4, *MelConfig().shape) * 10 - 30
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = network(x)
    folded(network)(x)
    after = network.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert torch.equal(network(x), found)


def test_convolutions_stay_in_the_layout_that_is_fast_on_a_cpu(network):
    def weights(of):
        convolutions = [module for module in of.modules() if isinstance(module, nn.Conv2d)]
        # A kernel of one value, or over one map, is the same in either layout.
        return [c.weight for c in convolutions if c.kernel_size != (1, 1) and c.in_channels > 1]

    for of in (network, folded(network)):
        assert weights(of)
        for weight in weights(of):
            assert weight.is_contiguous(memory_format=torch.channels_last)
            assert not weight.is_contiguous()


def test_networks_are_folded_once_per_model(network):
    model = Model(ModelSpec("cnn", ("Q1", "Q2"), MelConfig(), 1), [network])
    assert model.folded_members is model.folded_members
