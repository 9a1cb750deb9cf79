"""What malloc does with memory that is freed."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1  # malloc.h of glibc
_M_MMAP_THRESHOLD = -3
_LARGEST_ON_HEAP = 32 << 20  # bytes; all that glibc grants
_KEPT = 512 << 20  # bytes


def keep_freed_memory() -> None:
    """Keep what is freed for what is allocated next, in a process that takes and frees the same
    large pieces again and again, as a step of training does.

    Otherwise glibc gives each piece back to the system, which has to clear it before it lends it
    again: that takes up to a sixth of the time of training on a CPU. Another malloc is left as it
    is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
