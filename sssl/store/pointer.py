"""The pointer that readers follow: a file with the generations that belong together.

On a disk it is `latest.json`. In a bucket each command that writes has one of its own, `latest/00000008.json`, and the
highest counts (see sssl.store.media.lease).
"""

from __future__ import annotations

from sssl.errors import StoreError
from sssl.store.media.medium import Medium, names
from sssl.store.seal import json_bytes, opened_json

LATEST = "latest.json"
EPOCHS = "latest"


def newest_pointer(medium: Medium) -> str:
    """Return the pointer that readers follow."""
    epochs = [name for name in names(medium, EPOCHS) if name.endswith(".json")]
    return f"{EPOCHS}/{epochs[-1]}" if epochs else LATEST


def published_refs(medium: Medium, pointer: str) -> list[str]:
    """Return the generations that a pointer names, none before the first.

    Raises:
        StoreError: it is damaged.
    """
    place = f"{medium.root}/{pointer}"
    try:
        found = opened_json(medium.read(pointer), place)
    except FileNotFoundError:
        return []
    refs = found.get("tables") if isinstance(found, dict) else None
    if not isinstance(refs, list) or not all(isinstance(ref, str) and ref.count("/") == 1 for ref in refs):
        raise StoreError(f"{place} is damaged: it does not say which tables are published")
    return refs


def pointer_bytes(refs: list[str], **more: str) -> bytes:
    """Return a pointer to some generations as it is written."""
    return json_bytes({"tables": refs, **more})
