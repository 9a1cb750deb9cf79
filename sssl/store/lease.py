"""One writer at a time on an object store, which has no locks, no renames and no processes that it sees die.

Each command that writes opens an epoch, `latest/00000008.json`: an object that is created only if it is not there, so
one of two gets it. It starts as a copy of the epoch before, and readers follow the highest. Only the command that
opened an epoch writes to it: one that was taken for dead, and was not, can publish no more.

While it runs, the command renews `latest/00000008.held`, and marks it released at the end. Who finds it renewed is
refused; who sees it unchanged for PATIENCE_S opens the next epoch. No clocks are compared, and nothing is asked of the
store but create-if-absent.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sssl.errors import StoreError
from sssl.store.folder import EPOCHS, LATEST, Store, json_bytes

BEAT_S = 5.0
"""A holder gives a sign of life this often."""
PATIENCE_S = 60.0
"""Without a sign for so long, requests and their retries included, a holder counts as dead."""
_RELEASED = "released"


@contextmanager
def held(store: Store, on_wait: Callable[[str], None]) -> Iterator[Store]:
    """Hold an output folder on an object store; yield it with the pointer to publish to.

    `on_wait` is told who may still hold it, if we have to wait for a sign of life.

    Raises:
        StoreError: another command holds it.
    """
    mine = _open_epoch(store, on_wait)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(store, mine, done), daemon=True)
    heart.start()
    try:
        yield replace(store, pointer=mine)
    finally:
        done.set()
        heart.join()
        _give_sign(store, mine, _RELEASED)


def _open_epoch(store: Store, on_wait: Callable[[str], None]) -> str:
    before = store.newest_pointer()
    _wait_until_free(store, before, on_wait)
    number = 0 if before == LATEST else _number(before)
    mine = f"{EPOCHS}/{number + 1:08d}.json"
    published = store.published_refs(before)
    if not store.create(mine, json_bytes({"tables": published, "opened_by": f"{_myself()} {uuid.uuid4().hex}"})):
        raise _refusal(store, "one that started at the same time")
    # From here on who wrote to `before` finds ours; what it published until then is there to be taken over.
    if (now := store.published_refs(before)) != published:
        store.write_json(mine, {"tables": now})
    _clean_up(store, number)
    return mine


def _wait_until_free(store: Store, pointer: str, on_wait: Callable[[str], None]) -> None:
    seen, until = _sign(store, pointer), time.monotonic() + PATIENCE_S
    if seen != _RELEASED:
        on_wait(seen)
    while seen != _RELEASED and time.monotonic() < until:
        time.sleep(PATIENCE_S / 20)
        now = _sign(store, pointer)
        if now not in (seen, _RELEASED):
            raise _refusal(store, now)
        seen = now


def _sign(store: Store, pointer: str) -> str:
    """Return the last sign of life of who opened an epoch."""
    if pointer == LATEST:
        return _RELEASED
    try:
        return store.read_bytes(_sign_of(pointer)).decode()
    except FileNotFoundError:
        return "one that has just started"


def _beat(store: Store, pointer: str, done: threading.Event) -> None:
    for beat in itertools.count():
        _give_sign(store, pointer, f"{_myself()}, sign of life {beat}")
        if done.wait(BEAT_S):
            return


def _give_sign(store: Store, pointer: str, sign: str) -> None:
    try:
        store.write_bytes(_sign_of(pointer), sign.encode())
    except Exception:  # noqa: BLE001
        # The store may answer again. If it does not for long, others take us for dead, and publishing will say so.
        return


def _clean_up(store: Store, before: int) -> None:
    """Delete old epochs; the last one stays for who has just found it."""
    for name in store.names(EPOCHS):
        if _number(name) < before:
            store.delete(f"{EPOCHS}/{name}")


def _refusal(store: Store, holder: str) -> StoreError:
    return StoreError(
        f"another sssl command is writing to {store.root}: {holder}; wait for it, or choose another --output"
    )


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _sign_of(pointer: str) -> str:
    return pointer.removesuffix(".json") + ".held"


def _number(path: str) -> int:
    return int(path.rsplit("/", 1)[-1].split(".")[0])
