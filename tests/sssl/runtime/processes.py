"""Waiting for processes in tests."""

import contextlib
import time

import psutil


def wait_until(holds, at_most_s):
    deadline_s = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def assert_end_by_themselves(processes, at_most_s=20):
    """Wait until processes have ended; end what has not."""
    try:
        wait_until(lambda: not any(one.is_running() for one in processes), at_most_s)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
