"""One writer at a time on an object store, which has no locks, no renames and no processes that it
sees die.

Each command that writes opens an epoch, `latest/00000008.json`: an object that is created only if
it is not there, so one of two gets it. It starts as a copy of the epoch before, and readers follow
the highest. Only the command that opened an epoch writes to it: one that was taken for dead, and
was not, can publish no more.

While it runs, the command renews `latest/00000008.held`, and marks it released at the end. Who
finds it renewed is refused; who sees it unchanged for PATIENCE_S opens the next epoch. No clocks
are compared, and nothing is asked of the store but create-if-absent.
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

from sssl.errors import StoreError
from sssl.store.media.medium import Medium, names
from sssl.store.pointer import BEFORE, EPOCHS, LATEST, newest_pointer, pointer_bytes, published_refs

BEAT_S = 5.0
"""A holder gives a sign of life this often."""
PATIENCE_S = 60.0
"""Without a sign for so long, requests and their retries included, a holder counts as dead."""
_RELEASED = "released"


@contextmanager
def held(medium: Medium, on_wait: Callable[[str], None]) -> Iterator[str]:
    """Hold an output folder on an object store; yield the pointer to publish to.

    `on_wait` is told who may still hold it, if we have to wait for a sign of life.

    Raises:
        StoreError: another command holds it.
    """
    mine = _open_epoch(medium, on_wait)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(medium, mine, done), daemon=True)
    heart.start()
    try:
        yield mine
    finally:
        done.set()
        heart.join()
        _give_sign(medium, mine, _RELEASED)


def _open_epoch(medium: Medium, on_wait: Callable[[str], None]) -> str:
    before = newest_pointer(medium)
    _wait_until_free(medium, before, on_wait)
    number = 0 if before == LATEST else _number(before)
    mine = f"{EPOCHS}/{number + 1:08d}.json"
    published = published_refs(medium, before)
    opened_by = f"{_myself()} {uuid.uuid4().hex}"
    earlier = published_refs(medium, before, BEFORE)
    if not medium.create_if_absent(mine, pointer_bytes(published, earlier, opened_by=opened_by)):
        raise _refusal(medium, "one that started at the same time")
    # From here on who wrote to `before` finds ours; what it published until then is there to be
    # taken over.
    if (now := published_refs(medium, before)) != published:
        medium.put(mine, pointer_bytes(now, published_refs(medium, before, BEFORE)))
    _clean_up(medium, number)
    return mine


def _wait_until_free(medium: Medium, epoch: str, on_wait: Callable[[str], None]) -> None:
    seen = _sign(medium, epoch)
    until = time.monotonic() + PATIENCE_S
    if seen != _RELEASED:
        on_wait(f"waiting up to {PATIENCE_S:.0f} s: is {seen} still writing there?")
    while seen != _RELEASED and time.monotonic() < until:
        time.sleep(PATIENCE_S / 20)
        now = _sign(medium, epoch)
        if now not in (seen, _RELEASED):
            raise _refusal(medium, now)
        seen = now


def _sign(medium: Medium, epoch: str) -> str:
    """Return the last sign of life of who opened an epoch."""
    if epoch == LATEST:
        return _RELEASED
    try:
        return medium.read(_sign_of(epoch)).decode()
    except FileNotFoundError:
        return "one that has just started"


def _beat(medium: Medium, epoch: str, done: threading.Event) -> None:
    for beat in itertools.count():
        _give_sign(medium, epoch, f"{_myself()}, sign of life {beat}")
        if done.wait(BEAT_S):
            return


def _give_sign(medium: Medium, epoch: str, sign: str) -> None:
    try:
        medium.put(_sign_of(epoch), sign.encode())
    except Exception:  # noqa: BLE001
        # The store may answer again. If it does not for long, others take us for dead, and
        # publishing will say so.
        return


def _clean_up(medium: Medium, before: int) -> None:
    """Delete old epochs; the last one stays for who has just found it."""
    for name in names(medium, EPOCHS):
        if _number(name) < before:
            medium.delete(f"{EPOCHS}/{name}")


def _refusal(medium: Medium, holder: str) -> StoreError:
    return StoreError(
        f"another sssl command is writing to {medium.root}: {holder}; wait for it, or choose"
        " another --output"
    )


def _myself() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _sign_of(epoch: str) -> str:
    return epoch.removesuffix(".json") + ".held"


def _number(path: str) -> int:
    return int(path.rsplit("/", 1)[-1].split(".")[0])
