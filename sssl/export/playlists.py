"""Playlists of songs, one per emotion, the surest first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sssl.errors import StoreError
from sssl.export.songs import Exported, Labelled, labelled_parts, require_own, write_left_out
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.urls import local_path
from sssl.words import printable

SUFFIX = ".m3u8"  # M3U in UTF-8


class Entry(NamedTuple):
    """A song in a playlist."""

    confidence: float
    track_id: str
    place: str
    """Path, or URI where it is no local file."""
    duration_s: float

    @classmethod
    def of(cls, labelled: Labelled) -> Entry:
        song, track, entry = labelled
        path = local_path(track.uri)
        place = track.uri if path is None else os.path.abspath(path)  # to a player a path is one below the playlist
        return cls(song.confidence, track.track_id, place, entry.decoded_s)

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of extended M3U."""
        yield f"#EXTINF:{round(self.duration_s)},{printable(self.track_id)} ({name} {self.confidence:.2f})"
        yield self.place


def write_playlists(
    store: Store, snapshot: Snapshot, to: str, names: Mapping[str, str], *, abstained: bool
) -> Exported:
    """Write a playlist per emotion into a folder, and `left_out.csv`.

    Args:
        names: of classes; files are named after them, too. A class without one has its own.
        abstained: whether songs that are too uncertain to publish are in them.

    Raises:
        StoreError: the folder has files, and none says that an export made them; or a name is none for a file.
    """
    named = {label: names.get(label, label) for label in snapshot.catalog.classes}
    for name in named.values():
        if Path(name).name != name:
            raise StoreError(f"{name!r} is no name for a playlist: choose another by --names")
    folder = Path(to)
    require_own(folder)
    exported = Exported()
    write_left_out(folder, exported)  # first: it says that the folder is ours
    entries: dict[str, list[Entry]] = {label: [] for label in named}
    for part in labelled_parts(store, snapshot, exported):
        for labelled in part:
            reason = _why_not(labelled, abstained)
            if reason is not None:
                exported.left_out[labelled.track.track_id] = reason
                continue
            entries[labelled.song.label].append(Entry.of(labelled))
            exported.songs += 1
    for label, name in named.items():
        with replacing(folder / f"{name}{SUFFIX}") as path:
            path.write_text("\n".join(["#EXTM3U", *_lines(entries[label], name), ""]), encoding="utf-8")
    write_left_out(folder, exported)
    return exported


def _why_not(labelled: Labelled, abstained: bool) -> str | None:
    if labelled.song.abstained and not abstained:
        return "abstained"
    if "\n" in labelled.track.uri or "\r" in labelled.track.uri:
        return "a playlist cannot name it"
    return None


def _lines(entries: list[Entry], name: str) -> Iterator[str]:
    for entry in sorted(entries, key=lambda entry: (-entry.confidence, entry.track_id)):
        yield from entry.lines(name)
