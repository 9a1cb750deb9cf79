import pytest
import torch
from torch import nn

from sssl.audio.mel import MelConfig
from sssl.model.ensemble import ModelSpec
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


def test_no_batch_norm_over_maps_is_left_and_the_network_itself_keeps_its(network):
    def norms(of):
        return sum(isinstance(module, nn.BatchNorm2d) for module in of.modules())

    before = norms(network)
    assert before > 0
    assert norms(folded(network)) == 0
    assert norms(network) == before
