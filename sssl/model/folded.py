"""Networks made faster for scoring, where reading and writing maps takes longer than convolving
them, on a GPU as on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: nn.Module) -> nn.Module:
    """Return a copy for inference: batch norms are folded into the convolutions before them, and
    where a ReLU and a maximum follow, the maximum is taken first. The results are the same but for
    rounding."""
    network = copy.deepcopy(network).eval()
    chains = [module for module in network.modules() if isinstance(module, nn.Sequential)]
    for chain in chains:
        layers = list(_folded_layers(list(chain)))
        del chain[:]
        chain.extend(layers)
    return network


class _BiasReLU(nn.Module):
    """Adds what was left out of a convolution, to a quarter of its maps, and cuts off what is
    negative."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone()[:, None, None])

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu_(maps + self.bias.to(maps.dtype))


def _folded_layers(layers: list[nn.Module]) -> Iterator[nn.Module]:
    while layers:
        match layers:
            case [
                nn.Conv2d() as conv,
                nn.BatchNorm2d() as norm,
                nn.ReLU(),
                nn.MaxPool2d() as pool,
                *layers,
            ]:
                # Maximum and ReLU change places, and so do maximum and bias: max(relu(x + b)) =
                # relu(max(x) + b).
                conv = fuse_conv_bn_eval(conv, norm)
                bias, conv.bias = conv.bias, None
                assert bias is not None
                yield from (conv, pool, _BiasReLU(bias))
            case [nn.Conv2d() as conv, nn.BatchNorm2d() as norm, *layers]:
                yield fuse_conv_bn_eval(conv, norm)
            case [layer, *layers]:
                yield layer
