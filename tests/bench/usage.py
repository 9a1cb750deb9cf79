"""What a command costs, with all the processes it starts.

python usage.py COMMAND [ARG ...]
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class CommandFailed(Exception):
    """A measured command ended with an error; the message has the end of its output."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user and system), wall seconds, and the peak memory of the largest process."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(command, env):
    """Run a command to its end, and to that of every process it leaves behind: a fork server
    outlives its starter.

    A process of our own stands between: what is waited for there is the command's, and the kernel
    counts the memory of whoever starts a program as the program's, so that has to be small.

    Raises:
        CommandFailed: the command ended with another code than 0.
    """
    with tempfile.TemporaryFile() as log:
        starter = [sys.executable, "-I", "-S", __file__]
        done = subprocess.run(
            [*starter, *command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        if done.returncode:
            log.seek(0)
            tail = log.read()[-4000:].decode(errors="replace")
            raise CommandFailed(f"{' '.join(command)} ended with code {done.returncode}:\n{tail}")
    return Usage(**json.loads(done.stdout))


def _run(command):
    # Orphans become ours, so that the kernel hands us their times when they end.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started_s = time.monotonic()
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
    )
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - started_s
    usages = [usage, *_reap_orphans()]
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    peak_mb = max(usage.ru_maxrss for usage in usages) * 1024 / 1e6
    return os.waitstatus_to_exitcode(status), Usage(cpu_s, wall_s, peak_mb)


def _reap_orphans():
    while True:
        try:
            yield os.wait4(-1, 0)[2]
        except ChildProcessError:
            return


if __name__ == "__main__":
    code, usage = _run(sys.argv[1:])
    print(json.dumps(asdict(usage)))  # noqa: T201
    sys.exit(code)
