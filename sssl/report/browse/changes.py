"""What changed since the publication before: which songs have another label now."""

from __future__ import annotations

from sssl.report.source import Context, Source
from sssl.store.publications import published_before

LISTED_CHANGES = 20


def context(source: Source) -> Context | None:
    """Return what changed since the publication before; None if there was none."""
    before = published_before(source.store).of("songs")
    if not before:
        return None
    (counted,) = source.rows("select count(*) as songs from song_changes")
    return {
        "made_at": before[0].created_at,
        "changed": counted["songs"],
        "moves": source.rows(
            "select label_before, label, count(*) as songs from song_changes "
            "group by all order by songs desc, label_before, label"
        ),
        "listed": source.rows(
            "select track_id, label_before, confidence_before, label, confidence from song_changes "
            f"order by least(confidence_before, confidence) desc, track_id limit {LISTED_CHANGES}"
        ),
    }
