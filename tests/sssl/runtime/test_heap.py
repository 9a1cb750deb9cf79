"""Freed memory is kept where malloc can be told to, and nothing breaks where it cannot."""

import ctypes
import subprocess
import sys

from sssl.runtime.heap import keep_freed_memory

FAULTS = """
import resource, sys
from sssl.runtime.heap import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def write():
    [bytearray(20 << 20) for _ in range(5)]

for _ in range(3):
    write()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    write()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    """Pages that the system had to lend a process that takes and frees the same ten times."""
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_memory_that_is_freed_is_taken_again():
    assert faults("kept") < faults("given back") / 10


def test_another_malloc_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    keep_freed_memory()
