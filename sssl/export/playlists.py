"""Playlists of songs, one per emotion, the surest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sssl.errors import StoreError
from sssl.export.m3u import Entry, surest_first
from sssl.export.songs import Exported, labelled_parts, note_others, require_own, write_left_out
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot

SUFFIX = ".m3u8"  # M3U in UTF-8


def write_playlists(
    store: Store, snapshot: Snapshot, to: str, names: Mapping[str, str], *, abstained: bool
) -> Exported:
    """Write a playlist per emotion into a folder, and `left_out.csv`.

    Args:
        names: of classes; files are named after them, too. A class without one has its own.
        abstained: whether songs that are too uncertain to publish are in them.

    Raises:
        StoreError: the folder has files, and none says that an export made them; or a name is none
            for a file.
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
            entry = Entry.of(labelled.song, labelled.track.uri, labelled.entry.decoded_s)
            if labelled.song.abstained and not abstained:
                exported.left_out[entry.track_id] = "abstained"
            elif not entry.can_be_written:
                exported.left_out[entry.track_id] = "a playlist cannot name it"
            else:
                entries[labelled.song.label].append(entry)
                exported.songs += 1
    written = set[Path]()
    for label, name in named.items():
        playlist = (folder / f"{name}{SUFFIX}").resolve()
        written.add(playlist)
        with replacing(playlist) as path:
            text = "\n".join(["#EXTM3U", *_lines(entries[label], name), ""])
            # Names of files that are no UTF-8 are written as they are on the disk.
            path.write_bytes(text.encode(errors="surrogateescape"))
    write_left_out(folder, exported)
    note_others(folder, written, exported)
    return exported


def _lines(entries: list[Entry], name: str) -> Iterator[str]:
    for entry in surest_first(entries):
        yield from entry.lines(name)
