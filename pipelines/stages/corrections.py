"""The corrections of an output folder: where they lie, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from schemas.summaries import CatalogSummary
from sssl.audio.mel import MelConfig
from sssl.catalog.committed import read_part
from sssl.catalog.corrections import FILE_NAME, corrected_classes
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.words import counted, some


def find_corrections(store: Store, given: str | None) -> str | None:
    """Return where the corrections of a run lie: where they were given, else in its output folder;
    None without any."""
    if given is not None:
        return given
    return store.url(FILE_NAME) if store.exists(FILE_NAME) else None


def tell_corrections(
    store: Store, snapshot: Snapshot, tell: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Tell how many tracks and passages of a segmented catalog are corrected, and warn of passages
    that lock no segment."""
    summary = snapshot.get("catalog").about(CatalogSummary)
    if not summary.corrected_tracks + summary.corrected_passages:
        return
    tracks = counted(summary.corrected_tracks, "track")
    passages = counted(summary.corrected_passages, "passage")
    tell(f"labels that a listener corrected or confirmed: of {tracks} and of {passages}")
    idle = sorted(_idle_passages(store, snapshot)) if summary.corrected_passages else []
    if idle:
        why = "they cover no half of a segment, or lie beyond the end of the track"
        warn(f"{counted(len(idle), 'corrected passage')} without effect, for {why}: {some(idle)}")


def _idle_passages(store: Store, snapshot: Snapshot) -> Iterator[str]:
    """Yield the passages that lock no segment of their track."""
    catalog, segments = snapshot.get("catalog"), snapshot.get("segments")
    segment_s = segments.settings(MelConfig, "cut").segment_s
    by_part = store.read_table(catalog, ["part", "corrections"])
    corrected = by_part.filter(by_part["corrections"].is_valid())
    for part in sorted(corrected["part"].unique().to_pylist()):
        rows = store.read_part(segments.files[part], ["track_id", "start_s"])
        for track in read_part(store, catalog, part):
            own = rows.filter(pc.equal(rows["track_id"], track.track_id))
            for one in track.corrections or ():
                if one["start_s"] is None:
                    continue
                alone = replace(track, corrections=[one])
                if not np.any(
                    corrected_classes(own, segment_s, [alone], snapshot.catalog.classes) >= 0
                ):
                    yield f"{track.track_id} ({one['start_s']:g}-{one['end_s']:g} s)"
