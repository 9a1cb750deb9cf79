"""Training over several processes and machines, as torchrun starts them: the first runs the
command, the others train the members that fall to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

_PATIENCE = timedelta(days=30)
"""How long the others wait for the first: longer than any stage takes. If one dies torchrun ends
them all."""


@dataclass(frozen=True)
class Ranks:
    """The place of a process among those that train: `rank` of `count`, on its machine `here` of
    `count_here`."""

    rank: int = 0
    count: int = 1
    here: int = 0
    count_here: int = 1

    def share(self, members: int) -> range:
        """Return the members that this process trains."""
        return range(self.rank, members, self.count)

    def device(self) -> str:
        """Return the device of this process: on a machine with GPUs each has one of its own, as far
        as they go."""
        if torch.cuda.is_available():
            return f"cuda:{self.here % torch.cuda.device_count()}"
        return "cpu"

    def tell(self, what: Any) -> None:
        """Tell the others what to train; None: there is nothing more to come."""
        if self.count > 1:
            distributed.broadcast_object_list([what], src=0)

    def told(self) -> Any:
        """Wait for what the first one tells."""
        what = [None]
        distributed.broadcast_object_list(what, src=0)
        return what[0]

    def wait(self) -> None:
        """Wait until all have come so far."""
        if self.count > 1:
            distributed.barrier()


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did, until the block ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    # Gloo also where there are GPUs: what is exchanged are a few names, no gradients.
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    here = int(os.environ["LOCAL_RANK"])
    count_here = int(os.environ["LOCAL_WORLD_SIZE"])
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size(), here, count_here)
    try:
        yield ranks
        if ranks.rank == 0:
            ranks.tell(None)
    finally:
        distributed.destroy_process_group()
