"""The pointer that readers follow: a file with the generations that belong together.

On a disk it is `latest.json`. In a bucket each command that writes has one of its own, `latest/00000008.json`, and the
highest counts (see sssl.store.media.lease).
"""

from __future__ import annotations

import json

from sssl.errors import StoreError
from sssl.store.media.medium import Medium, names

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
    try:
        return list(json.loads(medium.read(pointer))["tables"])
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise StoreError(f"{medium.root}/{pointer} is damaged: {error}") from error


def pointer_bytes(refs: list[str], **more: str) -> bytes:
    """Return a pointer to some generations as it is written."""
    return json.dumps({"tables": refs, **more}, indent=1, sort_keys=True).encode()
