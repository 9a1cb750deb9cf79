"""A folder or a glob as a catalog: the audio in it, and by cause what is left out.

Linked folders are entered, each folder once, whatever leads to it. Pipes and devices are no tracks:
who opens one waits.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.utils import glob_translate

from sssl.errors import CatalogError
from sssl.store.atomic import is_leftover
from sssl.urls import (
    file_system,
    is_not_there,
    is_on_web,
    local_path,
    readable,
    uri_of,
    without_secrets,
)
from sssl.words import counted, some

AUDIO_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".alac", ".ape", ".asf", ".au",
    ".bwf", ".caf", ".dsf", ".eac3", ".ec3", ".f4a", ".f4v", ".flac", ".m2a", ".m4a", ".m4b",
    ".m4p", ".m4r", ".m4v", ".mac", ".mka", ".mkv", ".mov", ".mp1", ".mp2", ".mp3", ".mp4",
    ".mpa", ".mpga", ".oga", ".ogg", ".ogv", ".ogx", ".opus", ".qt", ".rf64", ".snd", ".spx",
    ".tta", ".w64", ".wav", ".wave", ".webm", ".wma", ".wmv", ".wv",
)  # fmt: skip
"""Names of what the decoder reads; of a video it takes the sound."""

_HIDDEN = "hidden"
_IRREGULAR = "pipes or devices"
_UNREADABLE = "folders that cannot be read"
_SEEN = "folders that are listed already, by another name"
_NOT_UTF8 = "names that are not UTF-8"
_FOLDERS = "folders, which `/**` after the pattern would enter"

_Entry = tuple[str, str | None]
"""A name below the folder, and why it is no file to look at, if it is none."""


class LeftOut:
    """Counts what is no track of a folder, by cause, and knows the first few names of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.suffixes: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}

    def add(self, cause: str, name: str) -> None:
        self.counts[cause] += 1
        names = self._names.setdefault(cause, [])
        if len(names) <= 5:  # one more than is shown
            names.append(readable(name))

    def __str__(self) -> str:
        said = [
            f"{cause}: {count} ({some(self._names[cause])})"
            for cause, count in sorted(self.counts.items())
        ]
        if self.suffixes:
            ordered = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))
            by_suffix = [f"{suffix or 'none'} {count}" for suffix, count in ordered]
            said.insert(0, f"no suffix of audio: {self.suffixes.total()} ({some(by_suffix, 8)})")
        return "; ".join(said)


def list_audio(url: str) -> tuple[pa.Table, list[str]]:
    """List the audio of a folder or a glob, sorted by id (the path below the folder), with the URI
    of each.

    Returns remarks, too, sentences on what was left out and which names are not UTF-8. In the ids
    of these the odd bytes are written out, and their URIs have escapes.

    Raises:
        CatalogError: no such folder, or no file system for it.
    """
    left_out = LeftOut()
    shown = without_secrets(url)
    try:
        fs, path = file_system(url)
        if local_path(url) is None:
            tracks = _in_storage(fs, path, is_on_web(url), left_out)
        else:
            tracks = _on_disk(path, left_out)
    except ValueError as error:
        raise CatalogError(f"cannot list {shown}: {error}") from None
    except FileNotFoundError as error:
        if not is_not_there(error):
            why = type(error.__cause__).__name__
            raise CatalogError(f"cannot list {shown}: {why}") from None
        raise CatalogError(f"{shown}: no such file or folder") from None
    names = sorted(tracks)
    ids = [readable(name) for name in names]
    uris = [tracks[name] for name in names]
    table = pa.table({"track_id": pa.array(ids, pa.string()), "uri": pa.array(uris, pa.string())})
    odd = [track_id for track_id, name in zip(ids, names, strict=True) if track_id != name]
    remarks = [f"left out of {shown}: {left_out}"] if str(left_out) else []
    if odd:
        remarks.append(
            f"{shown}: {counted(len(odd), 'name')} not UTF-8, spelt out in ids: {some(odd)}"
        )
    return table, remarks


def _on_disk(path: str, left_out: LeftOut) -> dict[str, str]:
    """Return the URIs of a folder's or a glob's audio on this machine, by name."""
    if _has_signs(path) and not os.path.lexists(path):
        base = _base(path)
        depth = None if "**" in path else path[len(base) :].count("/")
        is_wanted = re.compile(glob_translate(path)).match
        entries: Iterable[_Entry] = (
            (name, cause)
            for name, cause in _walk(base, depth)
            if cause not in (None, _IRREGULAR, _FOLDERS) or is_wanted(f"{base}/{name}")
        )
    elif os.path.isdir(path):
        base = path.rstrip("/")
        entries = _walk(path, None)
    else:
        os.stat(path)
        base, name = os.path.split(path)
        entries = [(name, None)]
    return {name: uri_of(f"{base}/{name}") for name in _audio(entries, left_out)}


def _in_storage(
    fs: fsspec.AbstractFileSystem, path: str, is_web: bool, left_out: LeftOut
) -> dict[str, str]:
    """Return the URIs of a folder's or a glob's audio in another storage, by name."""
    fs.invalidate_cache()  # what this process saw earlier may have changed
    is_glob = _has_signs(path, "*[" if is_web else "*?[") and not fs.isdir(path)
    found = fs.glob(path, detail=True) if is_glob else fs.find(path, detail=True)
    if not found and not is_glob:
        fs.info(
            path
        )  # which says what a listing keeps to itself: that there is no such folder, or no answer
    base = _base(path) if is_glob else path.rstrip("/")
    if base in found:
        base = base.rpartition("/")[0]  # a file rather than a folder
    entries = (
        (name[len(base) + 1 :], _cause(name, info))
        for name, info in sorted(found.items())
        if info.get("type") != "directory"
    )
    return {name: fs.unstrip_protocol(f"{base}/{name}") for name in _audio(entries, left_out)}


def _cause(name: str, info: dict[str, Any]) -> str | None:
    """Return why an entry of another storage is no file to look at, None if it is one."""
    if readable(name) != name:
        return _NOT_UTF8
    if info.get("type") == "other":
        return _IRREGULAR
    return None


def _audio(entries: Iterable[_Entry], left_out: LeftOut) -> Iterator[str]:
    """Yield the names of audio files; count all others."""
    for name, cause in entries:
        if cause is not None:
            left_out.add(cause, name)
        elif any(map(_is_hidden, name.split("/"))):
            left_out.add(_HIDDEN, name)
        elif name.lower().endswith(AUDIO_SUFFIXES):
            yield name
        else:
            left_out.suffixes[os.path.splitext(name)[1].lower()] += 1


def _walk(base: str, depth: int | None) -> Iterator[_Entry]:
    """Yield what is in a folder on this machine and `depth` levels below it, all of them where that
    is None.

    Links to folders come last, so that a folder goes by its own name where it has one.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    links = list[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else heapq.heappop(links)
        path = f"{base}/{folder}"
        try:
            about = os.stat(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            if not folder:
                raise
            yield folder, _UNREADABLE
            continue
        if (about.st_dev, about.st_ino) in seen:
            yield folder, _SEEN
            continue
        seen.add((about.st_dev, about.st_ino))
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not _is_folder(entry):
                yield name, None if _is_file(entry) else _IRREGULAR
            elif _is_hidden(entry.name):
                yield name, _HIDDEN
            elif depth is not None and name.count("/") + 1 >= depth:
                yield name, _FOLDERS
            elif entry.is_symlink():
                heapq.heappush(links, name)
            else:
                waiting.append(name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link that leads to nothing: a track that is missing."""
    return not os.path.exists(entry.path) or entry.is_file()


def _is_hidden(name: str) -> bool:
    """Whether a name is hidden on purpose; bands and albums have names that start with several
    dots."""
    return is_leftover(name) or (name.startswith(".") and not name.startswith(".."))


def _has_signs(path: str, signs: str = "*?[") -> bool:
    return any(sign in path for sign in signs)


def _base(pattern: str) -> str:
    """Return the folder above all that a pattern leaves open."""
    return re.split(r"[*?[]", pattern)[0].rpartition("/")[0]
