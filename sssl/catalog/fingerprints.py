"""Fingerprints of the catalog's files: by them a file that changed is told from one that did not.

A file whose storage tells too little has none, and counts as changed at every run: a size alone
would let a replaced file of the same length pass. What is known to be absent has a word instead,
since that can be compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sssl.catalog.assign import whole
from sssl.catalog.inventory import listed_fingerprints
from sssl.urls import file_system, is_not_there, leads_nowhere, local_path
from sssl.words import counted, some

MISSING = "missing"
"""Stands for the fingerprint where there is no file."""
_UNSUPPORTED = "unsupported-uri"
"""Stands for it where no file system reads the URI."""
_NO_ANSWER = "no answer"
"""What a look-up gives that failed; it never gets into a committed table."""

_MANY_OF_A_FOLDER = 256
"""So many files of a folder are cheaper to look up by a listing, which an object store gives 1000
at a time."""
_AT_ONCE = 8

# What storages call a hash of the content, and the time when it was written; each has words of its
# own.
_HASHES = ("etag", "ETag", "md5Hash", "crc32c", "Content-MD5", "Digest")
_TIMES = (
    "mtime", "LastModified", "updated", "Last-Modified", "last_modified", "last_write_time",
    "modify",
    "modificationTime", "created",
)  # fmt: skip


def fingerprint(uri: str) -> str | None:
    """Identify a file as its storage does, by a hash or else by size and time; `missing` if there
    is none.

    None where the storage tells too little, or did not answer: that equals no fingerprint.
    """
    found = _look_up(uri)
    if found == _NO_ANSWER:
        return None
    return found


def with_fingerprints(
    tracks: pa.Table,
    before: pa.Table | None = None,
    tell: Callable[[str], None] | None = None,
    inventories: Sequence[str] = (),
) -> pa.Table:
    """Look up the fingerprint of each track's file, many files of a folder by one listing of it;
    one that an inventory lists is not asked for.

    Where the storage does not answer, a file keeps the fingerprint that it had `before` at the same
    URI: an outage changes no file. How many did so is told.
    """
    return with_answers(look_up(tracks, tell, inventories), before, tell)


def look_up(
    tracks: pa.Table, tell: Callable[[str], None] | None = None, inventories: Sequence[str] = ()
) -> pa.Table:
    """Look up fingerprints likewise; where the storage does not answer stands a word that
    `with_answers` takes out again, and that no catalog may keep."""
    uris = whole(tracks["uri"])
    listed = listed_fingerprints(uris, inventories)
    if inventories and tell is not None:
        files = counted(listed.null_count, "file")
        tell(f"{files} of {len(uris)} in no inventory: looked up")
    return _set_fingerprints(tracks, _ask(uris, listed))


def with_answers(
    tracks: pa.Table, before: pa.Table | None, tell: Callable[[str], None] | None = None
) -> pa.Table:
    """Put in the place of failed look-ups what was known `before`, and tell of how many files."""
    found = whole(tracks["source_fingerprint"])
    failed = pc.fill_null(pc.equal(found, _NO_ANSWER), False)
    if not pc.any(failed).as_py():
        return tracks
    known = pa.nulls(len(tracks), pa.string()) if before is None else _known(tracks, before)
    _tell_failed(tracks["track_id"].filter(failed), known.filter(failed), tell)
    return _set_fingerprints(tracks, pc.if_else(failed, known, found))


def _set_fingerprints(tracks: pa.Table, found: pa.Array) -> pa.Table:
    at = tracks.schema.get_field_index("source_fingerprint")
    return tracks.set_column(at, tracks.schema.field(at), found)


def _ask(uris: pa.Array, listed: pa.Array) -> pa.Array:
    """Return fingerprints [N]: those that are listed, and what the storage says of other files."""
    is_asked = listed.is_null()
    asked = uris.filter(is_asked)
    if not len(asked):
        return listed
    pieces = _by_folder(asked)
    with ThreadPoolExecutor(32) as pool:
        looked_up = list(pool.map(lambda rows: _fingerprints(asked.take(pa.array(rows))), pieces))
    back = np.argsort(np.concatenate(pieces), kind="stable")
    answers = pa.concat_arrays(looked_up).take(pa.array(back))
    return pc.replace_with_mask(listed, is_asked, answers)


def _known(tracks: pa.Table, before: pa.Table) -> pa.Array:
    """Return the fingerprints [N] that tracks had at the same URI."""
    place = pc.index_in(whole(tracks["track_id"]), whole(before["track_id"]))
    is_same = pc.equal(whole(before["uri"]).take(place), whole(tracks["uri"]))
    return pc.if_else(is_same, whole(before["source_fingerprint"]).take(place), None)


def _tell_failed(
    track_ids: pa.ChunkedArray, known: pa.Array, tell: Callable[[str], None] | None
) -> None:
    if tell is None:
        return
    kept = known.is_valid()
    if pc.any(kept).as_py():
        names = track_ids.filter(kept).to_pylist()
        files = counted(len(names), "file")
        tell(f"no answer from the storage of {files}, taken for unchanged: {some(names)}")
    if not pc.all(kept).as_py():
        names = track_ids.filter(pc.invert(kept)).to_pylist()
        files = counted(len(names), "file")
        tell(f"no answer from the storage of {files} that nothing is known of: {some(names)}")


def _by_folder(uris: pa.Array) -> list[NDArray[np.int64]]:
    """Return the rows of `uris` in pieces: all of a folder with many of them, else a few."""
    folder = pc.replace_substring_regex(uris, "[^/]*$", "")
    # A chain like zip://a.wav::/music.zip has no folder.
    is_chain = pc.match_substring(uris, "::")
    codes = pc.if_else(is_chain, uris, folder).dictionary_encode().indices.to_numpy()
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
    # On a disk a listing has to look at each file, too, and looks at links instead of what they
    # lead to.
    is_listed = len(texts) >= _MANY_OF_A_FOLDER and local_path(texts[0]) is None
    listed = _listed(texts[0].rpartition("/")[0]) if is_listed else {}
    if listed is None:
        return pa.array([MISSING] * len(texts), pa.string())
    return pa.array([listed.get(uri) or _look_up(uri) for uri in texts], pa.string())


def _listed(folder: str) -> dict[str, str | None] | None:
    """Return the fingerprints of a folder's files by URI, as far as its storage lists them; None:
    no such folder."""
    try:
        fs, path = file_system(f"{folder}/")
        infos = fs.ls(path, detail=True, refresh=True)
    except FileNotFoundError as error:
        if is_not_there(error):
            return None
        return {}
    except Exception:  # noqa: BLE001
        # Storages that list nothing can be asked for each file.
        return {}
    return {f"{folder}/{info['name'].rpartition('/')[2]}": _fingerprint(info) for info in infos}


def _look_up(uri: str) -> str | None:
    """Return a file's fingerprint, or the word for why there is none."""
    path = local_path(uri)
    if path is not None:
        return _of_local(path)
    try:
        fs, path = file_system(uri)
    except (ValueError, ImportError):
        return _UNSUPPORTED
    except Exception:  # noqa: BLE001
        return _NO_ANSWER  # of what a chain lies on
    try:
        return _fingerprint(fs.info(path))
    except FileNotFoundError as error:
        if is_not_there(error):
            return MISSING
        return _NO_ANSWER
    except Exception:  # noqa: BLE001
        # Whatever is wrong with the file is found, and named, by the worker that opens it.
        return _NO_ANSWER


def _of_local(path: str) -> str:
    try:
        found = os.stat(path)
    except ValueError:  # of a name that no file can have
        return MISSING
    except OSError as error:
        if leads_nowhere(error):
            return MISSING
        return _NO_ANSWER
    return f"size:{found.st_size} mtime:{found.st_mtime}"


def _fingerprint(info: dict[str, Any]) -> str | None:
    for name in _HASHES:
        if info.get(name):
            return f"{name.lower()}:{info[name]}"
    size = info.get("size")
    if info.get("CRC") is not None:  # of a member of an archive
        return f"crc:{info['CRC']} size:{size}"
    time = next((info[name] for name in _TIMES if info.get(name)), None)
    if size is None or time is None:
        return None
    return f"size:{size} mtime:{time}"
