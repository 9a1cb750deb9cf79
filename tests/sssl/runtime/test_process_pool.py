import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sssl.runtime.process_pool import Failure, IsolatedPool, Limits


def behave(how):
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(60)
    if how == "eat":
        return len(bytearray(1 << 30))
    if how == "raise":
        raise ValueError("a mistake of ours")
    return how


def hang(how, started):
    Path(started).touch()
    if how == "asleep":
        time.sleep(120)
    ctypes.PyDLL(None).sleep(120)  # as in a decoder that never gives another thread a turn


HOLD_A_POOL = """
import sys
from functools import partial
sys.path.insert(0, {tests!r})
from test_process_pool import hang
from sssl.runtime.process_pool import IsolatedPool, Limits
pool = IsolatedPool(2, Limits(timeout_s=None, memory_mb=None), preload="sssl.config")
running = [pool.submit(partial(hang, {how!r}), {folder!r} + number) for number in "12"]
running[0].result()
"""


@pytest.fixture(scope="module")
def pool():
    pool = IsolatedPool(2, Limits(timeout_s=3, memory_mb=256), preload="sssl.audio.cut")
    yield pool
    pool.close()


def test_a_crash_a_hang_and_a_memory_hog_cost_one_item_each(pool):
    results = list(pool.map(behave, ["a", "crash", "b", "hang", "c", "eat", "d"]))
    assert [r for r in results if isinstance(r, str)] == ["a", "b", "c", "d"]
    reasons = [r.reason for r in results if isinstance(r, Failure)]
    assert reasons == ["decoder-crash", "decoder-timeout", "decoder-memory"]


def test_results_come_in_the_order_of_items(pool):
    assert list(pool.map(behave, [str(i) for i in range(50)])) == [str(i) for i in range(50)]


def test_a_mistake_of_the_function_itself_is_raised(pool):
    with pytest.raises(ValueError, match="a mistake of ours"):
        list(pool.map(behave, ["raise"]))


@pytest.mark.parametrize("how", ["asleep", "stuck"])
def test_when_its_owner_is_killed_no_process_of_a_pool_stays(how, tmp_path):
    program = HOLD_A_POOL.format(tests=str(Path(__file__).parent), how=how, folder=f"{tmp_path}/")
    owner = subprocess.Popen([sys.executable, "-c", program])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, at_most_s=90)
    processes = psutil.Process(owner.pid).children(recursive=True)
    assert len(processes) >= 3  # the fork server and the two that hang
    owner.kill()
    owner.wait()
    try:
        wait_until(lambda: not any(process.is_running() for process in processes), at_most_s=20)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def wait_until(holds, at_most_s):
    deadline_s = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
