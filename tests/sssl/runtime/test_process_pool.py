import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from processes import assert_end_by_themselves, wait_until

from schemas import REASONS
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits, _Pulse


def behave(how):
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "pid":
        return str(os.getpid())
    if how == "what no pickle holds":
        return threading.Lock()
    if how == "raise what no pickle holds":
        raise TwoArguments("a", "b")
    if how == "dies handing over":
        return DiesWhenPickled()
    if how == "hang":
        time.sleep(60)
    if how == "eat":
        return len(bytearray(1 << 30))
    if how == "raise":
        raise ValueError("a mistake of ours")
    return how


class TwoArguments(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


class DiesWhenPickled:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def hang_once(started):
    if Path(started).exists():
        return "awake"
    Path(started).touch()
    return behave("hang")


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
    assert_end_by_themselves(processes)


def test_a_process_that_dies_between_two_items_is_replaced(pool):
    """All of them at once, as the system does that needs memory."""
    for _ in range(3):
        processes = {int(pid) for pid in pool.map(behave, ["pid"] * 8)}
        for process in processes:
            os.kill(process, signal.SIGKILL)
        assert list(pool.map(behave, ["a", "b", "c"])) == ["a", "b", "c"]


def test_who_was_killed_from_outside_may_be_tried_again(pool):
    (failure,) = pool.map(behave, ["killed"])
    assert failure == Failure("decoder-killed", "its process was killed (signal 9)")
    assert REASONS[failure.reason].retryable


def test_one_that_is_killed_while_it_hands_over_its_result_stops_no_other(pool):
    a, first, b, second, c = pool.map(
        behave, ["a", "dies handing over", "b", "dies handing over", "c"]
    )
    assert (a, b, c) == ("a", "b", "c")
    assert (first.reason, second.reason) == ("decoder-killed", "decoder-killed")


def test_what_cannot_be_handed_over_is_an_error(pool):
    with pytest.raises(Exception, match="pickle"):
        pool.submit(behave, "what no pickle holds").result()
    with pytest.raises(RuntimeError, match="TwoArguments: a and b"):
        pool.submit(behave, "raise what no pickle holds").result()
    assert list(pool.map(behave, ["a"])) == ["a"]


def test_whoever_waits_while_a_pool_is_closed_is_told(tmp_path):
    pool = IsolatedPool(1, Limits(), preload="sssl.config")
    running, waiting = (pool.submit(partial(hang, "asleep"), str(tmp_path / name)) for name in "ab")
    wait_until((tmp_path / "a").exists, at_most_s=60)
    pool.close()
    for future in (running, waiting):
        with pytest.raises(BrokenProcessPool, match="closed"):
            future.result(timeout=10)
    with pytest.raises(BrokenProcessPool, match="closed"):
        pool.submit(hang_once, str(tmp_path / "c"))


class ClosedMeanwhile:
    """A queue whose pool another thread closes just before an item is put."""

    def __init__(self, pool):
        self.pool, self.queue = pool, pool._asked

    def put(self, asked):
        if asked is not None:
            threading.Thread(target=self.pool.close).start()
            time.sleep(1)  # longer than closing takes
        self.queue.put(asked)


def test_whoever_asks_while_a_pool_is_closed_is_told():
    pool = IsolatedPool(1, Limits(), preload="sssl.config")
    pool._asked = ClosedMeanwhile(pool)
    future = pool.submit(partial(time.sleep), 60)
    with pytest.raises(BrokenProcessPool, match="closed"):
        future.result(timeout=10)


def test_processes_that_die_now_and_then_break_no_pool(monkeypatch):
    monkeypatch.setattr("sssl.runtime.process_pool._MOST_IDLE_DEATHS", 1)
    pool = IsolatedPool(1, Limits(), preload="sssl.config")
    for _ in range(3):
        (pid,) = pool.map(behave, ["pid"])
        os.kill(int(pid), signal.SIGKILL)
    assert list(pool.map(behave, ["a"])) == ["a"]
    pool.close()


def test_a_time_limit_that_passed_while_the_machine_slept_is_no_hang(pool, monkeypatch, tmp_path):
    """As whoever wakes up sees it: the clock has moved on, nobody has worked."""
    asked = pool.submit(hang_once, str(tmp_path / "started"))
    wait_until((tmp_path / "started").exists, at_most_s=60)
    monkeypatch.setattr(pool._pulse, "pauses", pool._pulse.pauses + 1)
    assert asked.result() == "awake"


def test_standing_still_is_noticed(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr("sssl.runtime.process_pool._BEAT_S", 0.001)
    monkeypatch.setattr("sssl.runtime.process_pool.time", SimpleNamespace(time=lambda: now_s[0]))
    pulse = _Pulse()
    for _ in range(50):
        now_s[0] += 1.0
        time.sleep(0.002)
    assert pulse.pauses == 0
    now_s[0] += 3600.0
    wait_until(lambda: pulse.pauses == 1, at_most_s=10)
    pulse.stop()


START_A_POOL = """
import sys
sys.path.insert(0, {tests!r})
from test_process_pool import behave
from sssl.runtime.process_pool import IsolatedPool, Limits
print("starting", flush=True)
try:
    pool = IsolatedPool(2, Limits(), preload="sssl.audio.cut")
    try:
        pool.submit(behave, "hang").result()
    finally:
        pool.close()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("after_s", [0.1, 1.0, 5.0])
def test_ctrl_c_while_a_pool_starts_prints_nothing(after_s):
    program = START_A_POOL.format(tests=str(Path(__file__).parent))
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert owner.stdout.readline() == "starting\n"
    time.sleep(after_s)
    os.killpg(owner.pid, signal.SIGINT)
    _, errors = owner.communicate(timeout=60)
    assert errors == ""
