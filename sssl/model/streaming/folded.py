"""Networks made faster for scoring on a GPU, where reading and writing maps takes longer than
convolving them, and launching a pass longer than the pass itself."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence

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


_RECORDING = threading.Lock()
"""A process records one pass at a time, whatever the number of its GPUs."""


class Recorded:
    """A forward pass over batches of one size, recorded as a CUDA graph.

    Replaying it is one call. Launched piece by piece a pass is some thirty, each of which lets go
    of the interpreter's lock and then waits for it, while other threads read and write parts.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], batch: Tensor) -> None:
        """Record what `forward` does to a batch [B, ...] on the current GPU, where it has run
        before: what libraries set up at their first call cannot be recorded.

        Raises:
            RuntimeError: the pass cannot be recorded, or there is no memory for a second one.
        """
        self._batch = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        computing = torch.cuda.current_stream()
        recording = torch.cuda.Stream()
        recording.wait_stream(computing)
        # Other threads allocate pinned memory meanwhile, which is none of the pass.
        record = torch.cuda.graph(self._graph, stream=recording, capture_error_mode="thread_local")
        try:
            with _RECORDING, record:
                self._found = forward(self._batch)
        finally:
            # A recording that cannot be ended leaves its stream as the current one.
            torch.cuda.set_stream(computing)
        computing.wait_stream(recording)

    def __call__(self, pieces: Sequence[Tensor]) -> Tensor:
        """Return what comes of a batch that is given in pieces, valid until the next call."""
        torch.cat(list(pieces), out=self._batch)
        self._graph.replay()
        return self._found
