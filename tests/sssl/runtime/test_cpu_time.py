import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from sssl.runtime.cpu_time import CpuClock, tree_cpu_s

SPEND = "import time\nwhile time.process_time() < {}: pass"
ORPHAN = SPEND.format(0.5) + "\ntime.sleep(60)"


def spend(seconds):
    start_s = time.process_time()
    while time.process_time() - start_s < seconds:
        pass


@pytest.fixture
def clock():
    clock = CpuClock()
    clock.lap()
    return clock


def test_the_first_lap_has_what_the_process_spent_before():
    spent_s = time.process_time()
    assert CpuClock().lap() >= spent_s * 0.9


def test_sleep_is_not_cpu_time(clock):
    time.sleep(0.3)
    assert clock.lap() < 0.2


def test_what_a_child_spends_counts_while_it_runs_and_when_it_has_ended(clock):
    child = subprocess.Popen([sys.executable, "-c",
    SPEND.format(0.5) + "\nprint(flush=True)\ninput()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    child.stdout.readline()
    running_s = clock.lap()
    child.communicate(b"\n")
    assert running_s >= 0.45
    assert running_s + clock.lap() < 1.5


def test_laps_of_several_threads_add_up_to_what_was_spent(clock):
    start_s = tree_cpu_s()
    with ThreadPoolExecutor(8) as threads:
        laps = list(threads.map(lambda _: clock.lap(), range(400)))
    assert sum(laps) == pytest.approx(tree_cpu_s() - start_s, rel=0.2)


def test_what_leaves_the_tree_of_processes_makes_no_lap_negative(clock):
    orphaned = f"subprocess.Popen([sys.executable, '-c', {ORPHAN!r}], stdout=subprocess.DEVNULL)"
    program = f"import subprocess, sys\nprint({orphaned}.pid)\ninput()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    orphan = psutil.Process(int(child.stdout.readline()))
    while sum(orphan.cpu_times()[:2]) < 0.3:
        time.sleep(0.05)
    clock.lap()
    child.communicate("\n")
    try:
        assert clock.lap() >= 0
    finally:
        orphan.kill()


def test_who_only_looks_now_and_then_loses_nothing(clock):
    start_s = tree_cpu_s()
    laps = [clock.lap(now_and_then=True) for _ in range(200)]
    spend(0.2)
    laps.append(clock.lap())
    assert laps.count(0.0) > 100  # looking each time would take most of the time
    assert sum(laps) == pytest.approx(tree_cpu_s() - start_s, rel=0.2)
