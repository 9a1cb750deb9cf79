import os
import signal
import time

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
