"""Seals: what is written carries the digest of its own content, so that a bit that flipped on a
disk is noticed.

A JSON object has the digest of everything else in it as one more field, which readers that do not
know it pass over. Other bytes have theirs behind them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sssl.errors import StoreError

_FIELD = "content_sha256"
_MOST_INDENTED_BYTES = 1 << 16
"""Larger objects are for programs: the encoder that indents is ten times as slow."""
_ARCHIVE_END_BYTES = 22  # the last record of a zip archive, as which torch writes checkpoints
_DIGEST_BYTES = hashlib.sha256().digest_size
_HEX_DIGITS = 2 * _DIGEST_BYTES


def json_bytes(value: Any) -> bytes:
    """Return a JSON value as the store writes it; an object is sealed."""
    if isinstance(value, dict):
        value = {**value, _FIELD: _digest(json.loads(json.dumps(value)))}
    plain = json.dumps(value, sort_keys=True)
    is_small = len(plain) <= _MOST_INDENTED_BYTES
    if is_small:
        return json.dumps(value, indent=1, sort_keys=True).encode()
    return plain.encode()


def opened_json(data: bytes, place: str) -> Any:
    """Return the JSON value of a file that was found in a place; what has no seal, of an earlier
    version, is trusted.

    Raises:
        StoreError: it is no JSON, or not as it was written; the message names the place.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{place} is damaged: {error or 'it is empty'}") from error
    if not isinstance(value, dict):
        return value
    seal = value.pop(_FIELD, None)
    if _has_renamed_seal(value) if seal is None else seal != _digest(value):
        raise StoreError(f"{place} is damaged: its content is not what was written")
    return value


def sealed(data: bytes) -> bytes:
    """Return bytes with their seal behind them."""
    return data + hashlib.sha256(data).digest()


def opened(data: bytes) -> bytes | None:
    """Return what was sealed, None if it is not as it was written; an archive of a version without
    seals is trusted."""
    if data[-_ARCHIVE_END_BYTES:].startswith(b"PK\x05\x06"):
        return data
    content = data[:-_DIGEST_BYTES]
    seal = data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() == seal:
        return content
    return None


def _has_renamed_seal(values: dict[str, Any]) -> bool:
    """Whether a field is the seal of all the others: a bit of its name flipped."""
    for name, value in values.items():
        if isinstance(value, str) and len(value) == _HEX_DIGITS:
            others = {other: kept for other, kept in values.items() if other != name}
            if value == _digest(others):
                return True
    return False


def _digest(values: dict[str, Any]) -> str:
    """Return the SHA-256 of an object as it is read, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
