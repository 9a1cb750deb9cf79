"""The emotions of the catalog, and the first songs one by one."""

from __future__ import annotations

from sssl.plots.timeline import strip
from sssl.report.source import Context, Source

SHOWN_SONGS = 200


def context(source: Source) -> Context:
    """The emotions of the catalog, and the first songs one by one."""
    by_class = source.rows(
        "select name, (select count(*) from songs where label = name) as tracks, "
        "(select count(*) from songs where label = name and abstained) as abstained, "
        "(select median(confidence) from songs where label = name) as confidence, "
        "(select count(*) from catalog where label = name) as inherited, "
        "(select count(*) from songs s join catalog c using (track_id) where s.label = name and c.label <> name) "
        "as other from (select unnest(?) as name) order by list_position(?, name)",
        *[list(source.classes)] * 2,
    )
    songs = source.rows(
        "select s.*, c.label as inherited, c.split from songs s join catalog c using (track_id) "
        f"order by track_id limit {SHOWN_SONGS}"
    )
    return {
        "by_class": by_class,
        "largest": max([1, *(max(row["tracks"], row["inherited"]) for row in by_class)]),
        "songs": [song | {"strip": strip(song["timeline"], source.classes)} for song in songs],
    }
