import os
import signal
import subprocess
import sys

import psutil
import pytest
from processes import assert_end_by_themselves

PROGRAM = """
import os, signal, sys, threading
from multiprocessing import forkserver
from sssl.runtime.fork_server import copy_as_server
from sssl.runtime.process_pool import IsolatedPool, Limits

def has_imported(name):
    return name in sys.modules

def no_more():
    raise BlockingIOError("no more processes")

def main():
    print("said before", end="; ")
    {before}
    copy_as_server("wave")
    {after}
    pool = IsolatedPool(2, Limits(), preload="colorsys")
    try:
        names = ("wave", "colorsys")
        print([pool.submit(has_imported, name).result() for name in names], flush=True)
        {at_the_end}
    except KeyboardInterrupt:
        pass
    finally:
        pool.close()

if __name__ == "__main__":
    main()
"""
OF_COPY, OF_ANOTHER = "said before; [True, False]\n", "said before; [False, True]\n"


@pytest.fixture
def start(tmp_path):
    def start(before="", after="", at_the_end=""):
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(before=before, after=after, at_the_end=at_the_end))
        return subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    return start


def test_no_other_user_can_ask_the_copy_for_a_process(start):
    look = "print(oct(os.stat(forkserver._forkserver._forkserver_address).st_mode & 0o777))"
    said, errors = start(after=look).communicate(timeout=60)
    assert (said, errors) == ("said before; 0o600\n[True, False]\n", "")


def test_where_no_process_can_be_forked_pools_start_their_own_server(start):
    refuse = "os.fork = no_more"
    mask = "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), end='; ')"
    said, errors = start(before=refuse, after=mask).communicate(timeout=60)
    assert (said, errors) == ("said before; set(); [False, True]\n", "")


def test_pools_fork_from_a_copy_of_the_program(start):
    said, errors = start().communicate(timeout=60)
    assert (said, errors) == (OF_COPY, "")


@pytest.mark.parametrize("before", ["threading.Timer(5, str).start()", "import torch"])
def test_a_program_that_may_have_threads_is_not_copied(before, start):
    said, errors = start(before=before).communicate(timeout=60)
    assert (said, errors) == (OF_ANOTHER, "")


def test_in_the_place_of_a_copy_that_was_killed_there_is_another_server(start):
    kill = "os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)"
    until_it_is_dead = "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)"
    said, errors = start(after=f"{kill}; {until_it_is_dead}").communicate(timeout=60)
    assert (said, errors) == (OF_ANOTHER, "")


def test_when_the_program_is_killed_no_process_stays(start):
    owner = start(at_the_end="signal.pause()")
    assert owner.stdout.readline() == OF_COPY
    processes = psutil.Process(owner.pid).children(recursive=True)
    assert len(processes) >= 3  # the copy and the two of the pool
    owner.kill()
    owner.communicate()
    assert_end_by_themselves(processes)


def test_ctrl_c_ends_the_program_and_its_copy_says_nothing(start):
    owner = start(at_the_end="signal.pause()")
    assert owner.stdout.readline() == OF_COPY
    os.killpg(owner.pid, signal.SIGINT)
    said, errors = owner.communicate(timeout=60)
    assert (said, errors, owner.returncode) == ("", "", 0)
