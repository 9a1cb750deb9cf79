"""How many song labels a new publication changes."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.rounds import in_use
from sssl.words import counted

_COLUMNS = ["track_id", "label"]


@dataclass(frozen=True)
class SongChanges:
    """Songs that both of two publications have, how many of them have another label, and which
    models label."""

    songs: int
    changed: int
    model_before: str
    model_after: str
    gone: int = 0
    """Songs of before that there are no more, as their tracks failed or left the catalog."""

    @property
    def share(self) -> float:
        """Share of the songs in both that have another label; 0 if there are none."""
        if self.songs:
            return self.changed / self.songs
        return 0.0

    def __str__(self) -> str:
        models = f"from model {self.model_before} to {self.model_after}"
        if self.model_before == self.model_after:
            models = f"by the same model {self.model_after}"
        said = f"{self.changed} of {counted(self.songs, 'song label')} ({self.share:.1%}), {models}"
        if self.gone:
            return f"{said}; {counted(self.gone, 'song')} of before gone"
        return said


def song_changes(store: Store, before: Snapshot, after: Snapshot) -> SongChanges | None:
    """Compare the songs of two snapshots; files that both have are not read. None if one has no
    songs."""
    if not before.of("songs") or not after.of("songs"):
        return None
    old = before.get("songs")
    new = after.get("songs")
    same = {file.sha256 for file in old.files.values()} & {
        file.sha256 for file in new.files.values()
    }
    unread = sum(file.rows for file in new.files.values() if file.sha256 in same)
    labels = _labels(store, new, same)
    others = _labels(store, old, same)
    both = labels.join(others, "track_id", join_type="inner", right_suffix="_before")
    changed = pc.sum(pc.not_equal(both["label"], both["label_before"])).as_py() or 0
    model_before = in_use(store, before).model_id
    model_after = in_use(store, after).model_id
    songs = unread + len(both)
    gone = old.rows - songs
    return SongChanges(songs, changed, model_before, model_after, gone)


def _labels(store: Store, songs: Manifest, leave_out: set[str]) -> pa.Table:
    """Read the labels of songs, but those in some files."""
    files = [file for file in songs.files.values() if file.sha256 not in leave_out]
    tables = [store.read_part(file, _COLUMNS) for file in files]
    empty = pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})
    if tables:
        return pa.concat_tables([table.select(_COLUMNS) for table in tables])
    return empty
