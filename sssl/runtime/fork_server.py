"""The server that the processes of pools are forked from, as a copy of a program that has just
begun.

`multiprocessing` starts its server as another Python, which would import torch once more: two
seconds of CPU time, as much as all else that a night of few tracks adds to a run without changes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import arbitrary_address  # type: ignore[attr-defined]
from typing import NoReturn


def copy_as_server(preload: str) -> None:
    """Import a module, then have a copy of this process serve all pools.

    For a program that has just begun and is going to import the module anyway. It should not hold
    a lock or have a file open that has to be closed as it ends: the copy would have them, too.
    Where there are threads, of which the copy would have none but their locks, nothing happens:
    the first pool starts a server that imports what it needs.
    """
    if threading.active_count() > 1 or "torch" in sys.modules:  # torch may have threads of its own
        return
    import_module(preload)
    watched, held = os.pipe()
    address = arbitrary_address("AF_UNIX")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        os.chmod(address, 0o600)  # who may connect may have code run
        listener.listen()
        pid = _copy(listener, watched, held)
    os.close(watched)
    if pid is None:
        os.close(held)
        return
    # The standard library has no way to say that a server is there. These are what it notes of one
    # that it started itself; if this one dies it starts another.
    started = {
        "_forkserver_address": address,
        "_forkserver_alive_fd": held,
        "_forkserver_pid": pid,
    }
    vars(forkserver._forkserver).update(started)


def _copy(listener: socket.socket, watched: int, held: int) -> int | None:
    """Fork a copy that serves; return its process id, None where the system refuses."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what is in its buffer would be written twice
    # Ctrl-C is for the program alone, not for its copy, nor for what that forks.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pid = os.fork()
        if pid == 0:
            os.close(held)
            _serve(listener.detach(), watched)
    except OSError:
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _serve(listener: int, watched: int) -> NoReturn:
    """Fork processes until nobody is left who may ask for one."""
    code = 1
    try:
        forkserver.main(listener, watched, [])
    except SystemExit:
        code = 0
    finally:
        os._exit(code)  # what a program does at its end is not for its copy to do
