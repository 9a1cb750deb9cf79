"""How many tracks have each emotion."""

from __future__ import annotations

from sssl.report.source import Context, Source


def context(source: Source) -> Context:
    """How many tracks have each emotion."""
    by_class = source.rows(
        "select name, (select count(*) from songs where label = name) as tracks, (select count(*)"
        " from songs where label = name and abstained) as abstained, (select median(confidence)"
        " from songs where label = name) as confidence, (select count(*) from catalog where label ="
        " name) as inherited, (select count(*) from songs s join catalog c using (track_id) where"
        " s.label = name and c.label <> name) as other from (select unnest(?) as name) order by"
        " list_position(?, name)",
        *[list(source.classes)] * 2,
    )
    return {
        "by_class": by_class,
        "largest": max([1, *(max(row["tracks"], row["inherited"]) for row in by_class)]),
    }
