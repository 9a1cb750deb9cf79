"""The pointer that readers follow: a file with the generations that belong together.

On a disk it is `latest.json`. In a bucket each command that writes has one of its own,
`latest/00000008.json`, and the highest counts (see sssl.store.media.lease).
"""

from __future__ import annotations

from collections.abc import Sequence

from sssl.errors import StoreError
from sssl.store.media.medium import Medium, names
from sssl.store.seal import json_bytes, opened_json

LATEST = "latest.json"
EPOCHS = "latest"
BEFORE = "before"


def newest_pointer(medium: Medium) -> str:
    """Return the pointer that readers follow."""
    epochs = [name for name in names(medium, EPOCHS) if name.endswith(".json")]
    if epochs:
        return f"{EPOCHS}/{epochs[-1]}"
    return LATEST


def published_refs(medium: Medium, pointer: str, which: str = "tables") -> list[str]:
    """Return the generations that a pointer names, none before the first; those of the publication
    before it with `BEFORE`.

    Raises:
        StoreError: it is damaged.
    """
    place = f"{medium.root}/{pointer}"
    try:
        found = opened_json(medium.read(pointer), place)
    except FileNotFoundError:
        return []
    refs = found.get(which, []) if isinstance(found, dict) and "tables" in found else None
    if not isinstance(refs, list) or not all(
        isinstance(ref, str) and ref.count("/") == 1 for ref in refs
    ):
        raise StoreError(f"{place} is damaged: it does not say which tables are published")
    return refs


def pointer_bytes(refs: Sequence[str], before: Sequence[str] = (), **more: str) -> bytes:
    """Return a pointer to some generations, and to those of the publication before them, as it is
    written."""
    earlier = {BEFORE: list(before)} if before else {}
    return json_bytes({"tables": list(refs), **earlier, **more})


def bytes_of_next(medium: Medium, refs: Sequence[str]) -> bytes:
    """Return a pointer to generations that take the place of what is published.

    Before them comes the last publication that had other songs.
    """
    pointer = newest_pointer(medium)
    published = published_refs(medium, pointer, "tables")
    before = published_refs(medium, pointer, BEFORE)
    songs = [ref for ref in published if ref.startswith("songs/")]
    has_others = bool(songs) and songs[0] not in refs
    return pointer_bytes(refs, published if has_others else before)
