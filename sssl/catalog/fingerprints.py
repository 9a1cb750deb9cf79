"""Fingerprints of the catalog's files: by them a file that changed is told from one that did not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sssl.catalog.assign import whole
from sssl.urls import file_system

_MANY_OF_A_FOLDER = 256
"""So many files of a folder are cheaper to look up by a listing, which an object store gives 1000 at a time."""
_AT_ONCE = 8


def fingerprint(uri: str) -> str | None:
    """Identify a file as its storage does: etag or hash, else size and mtime; None if it can't be read."""
    try:
        fs, path = file_system(uri)
        return _fingerprint(fs.info(path))
    except Exception:  # noqa: BLE001
        # Whatever is wrong with the file is found, and named, by the worker that opens it.
        return None


def with_fingerprints(tracks: pa.Table) -> pa.Table:
    """Look up the fingerprint of each track's file, many files of a folder by one listing of it."""
    uris = whole(tracks["uri"])
    pieces = _by_folder(uris)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda rows: _fingerprints(uris.take(pa.array(rows))), pieces))
    back = np.argsort(np.concatenate(pieces), kind="stable")
    at = tracks.schema.get_field_index("source_fingerprint")
    return tracks.set_column(at, tracks.schema.field(at), pa.concat_arrays(found).take(pa.array(back)))


def _by_folder(uris: pa.Array) -> list[NDArray[np.int64]]:
    """Return the rows of `uris` in pieces: all of a folder with many of them, else a few."""
    folder = pc.replace_substring_regex(uris, "[^/]*$", "")
    # A chain like zip://a.wav::/music.zip has no folder.
    codes = pc.if_else(pc.match_substring(uris, "::"), uris, folder).dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    folders = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    few = [rows for rows in folders if len(rows) < _MANY_OF_A_FOLDER]
    pieces = [rows for rows in folders if len(rows) >= _MANY_OF_A_FOLDER]
    if few:
        rest = np.concatenate(few)
        pieces += [rest[start : start + _AT_ONCE] for start in range(0, len(rest), _AT_ONCE)]
    return pieces


def _fingerprints(uris: pa.Array) -> pa.Array:
    texts = uris.to_pylist()
    listed = _listed(texts[0].rpartition("/")[0]) if len(texts) >= _MANY_OF_A_FOLDER else {}
    found = [None] * len(texts) if listed is None else [listed.get(uri) or fingerprint(uri) for uri in texts]
    return pa.array(found, pa.string())


def _listed(folder: str) -> dict[str, str] | None:
    """Return the fingerprints of a folder's files by URI, as far as its storage lists them; None: no such folder."""
    try:
        fs, path = file_system(f"{folder}/")
        infos = fs.ls(path, detail=True, refresh=True)
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001
        # Storages that list nothing can be asked for each file.
        return {}
    return {f"{folder}/{i['name'].rpartition('/')[2]}": _fingerprint(i) for i in infos if i.get("size") is not None}


def _fingerprint(info: dict[str, Any]) -> str:
    for name in ("etag", "ETag", "md5Hash", "crc32c"):
        if info.get(name):
            return f"{name.lower()}:{info[name]}"
    return f"size:{info.get('size')} mtime:{info.get('mtime') or info.get('LastModified') or info.get('updated')}"
