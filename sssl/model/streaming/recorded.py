"""Forward passes recorded for a GPU, where launching a pass takes longer than the pass itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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
