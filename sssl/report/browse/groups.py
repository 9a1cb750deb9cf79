"""Artists or albums: the songs of each group of the catalog, by emotion."""

from __future__ import annotations

from collections.abc import Sequence

from sssl.report.source import Context, Source

EMBEDDED_GROUPS = 5_000
LISTED_GROUPS = 50

_GROUPS = f"""
with suspicious as (select distinct track_id from suspects)
select group_id as name, count(*) as songs, count_if(abstained) as abstained,
  count(x.track_id) as wrong,
  histogram(s.label) as labels
from songs s join catalog using (track_id) left join suspicious x using (track_id)
group by group_id order by songs desc, name limit {EMBEDDED_GROUPS}
"""


def context(source: Source) -> Context | None:
    """Return the largest groups, in all and those that readers without script get; None if every
    group is a track of its own, as without a column of groups."""
    (counted,) = source.rows(
        "select count(distinct group_id) as groups, count(*) as tracks from catalog"
    )
    if counted["groups"] == counted["tracks"]:
        return None
    rows = source.rows(_GROUPS)
    (labelled,) = source.rows(
        "select count(distinct group_id) as groups from songs join catalog using (track_id)"
    )
    return {
        "total": labelled["groups"],
        "listed": rows[:LISTED_GROUPS],
        "columns": _columns(rows, source.classes),
    }


def _columns(rows: Sequence[Context], classes: Sequence[str]) -> Context:
    """Return groups as columns; `labels` has a column per class."""
    plain = {name: [row[name] for row in rows] for name in ("name", "songs", "abstained", "wrong")}
    return {**plain, "labels": [[row["labels"].get(name, 0) for row in rows] for name in classes]}
