"""All songs, for the table that the page's script sorts and filters, and the first of them for
readers without it.

They are embedded as columns. Of a large catalog the page holds the songs that are worth looking at,
and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from sssl.html import embedded
from sssl.plots.colors import ink_on
from sssl.plots.timeline import strip
from sssl.report import audio
from sssl.report.source import Context, Source
from sssl.urls import file_name

EMBEDDED_SONGS = 20_000
"""Songs in the page, with which it has a few MB."""
LISTED_SONGS = 200
"""Songs in the table that readers without script get."""
STRIP_PARTS = 120
"""Parts that a timeline is divided into: more cannot be told apart in a table."""

# Looking is worth most where something changed or seems wrong, then where the label is least sure.
_WORTH_LOOKING = "label_before is not null desc, wrong desc, abstained desc, confidence, track_id"
_SONGS = f"""
with suspicious as (select track_id, count(*) as wrong from suspects group by track_id),
chosen as (
  select s.*, uri, group_id, c.label as inherited, decoded_s, coalesce(wrong, 0) as wrong,
    label_before
  from songs s join catalog c using (track_id) join ledger using (track_id)
  left join suspicious using (track_id)
  left join (select track_id, label_before from song_changes) using (track_id)
  order by {_WORTH_LOOKING} limit $limit)
select track_id, uri, group_id, confidence, probabilities, abstained, segments, wrong, decoded_s,
  list_position($classes, label) - 1 as label,
  coalesce(list_position($classes, inherited) - 1, -1) as inherited,
  coalesce(list_position($classes, label_before) - 1, -1) as before,
  coalesce(timeline[1].start_s, 0) as timeline_start_s,
  list_transform(timeline, lambda entry: entry.end_s) as timeline_ends_s,
  list_transform(timeline, lambda entry: list_position($classes, entry.label) - 1)
    as timeline_classes
from chosen order by track_id
"""

# A passage is a run of neighbouring segments that look wrong; of several the longest is played,
# then the first.
_PASSAGES = """
with numbered as (
  select *, segment_index - row_number() over (partition by track_id order by segment_index) as run
  from suspects),
runs as (
  select track_id, min(start_s) as start_s, max(end_s) as end_s, count(*) as segments
  from numbered group by track_id, run)
select track_id, start_s, end_s from runs
qualify row_number() over (partition by track_id order by segments desc, start_s) = 1
"""


def listed(source: Source) -> list[Context]:
    """Return the first songs, each with its timeline as a strip."""
    songs = source.rows(
        "select s.*, c.label as inherited, c.split from songs s join catalog c using (track_id) "
        f"order by track_id limit {LISTED_SONGS}"
    )
    return [song | {"strip": strip(song["timeline"], source.classes)} for song in songs]


def columns(source: Source) -> Context:
    """Return the songs worth looking at as columns, in the order of their ids.

    Classes are positions, -1 for none; probabilities are per mille. Of audio that the page can play
    there is a folder, else -1. `passage_start_s` and `passage_end_s` are null where nothing looks
    wrong.
    """
    values = {"classes": list(source.classes), "limit": EMBEDDED_SONGS}
    table = source.connection.sql(_SONGS, params=values).to_arrow_table()
    rows = {name: table[name].to_pylist() for name in table.column_names}
    track_ids = rows["track_id"]
    passages = {row["track_id"]: row for row in source.rows(_PASSAGES)}
    found = [passages.get(track_id, {}) for track_id in track_ids]
    confidence = np.array(rows["confidence"], dtype=np.float64)
    # Shaped, so that no song at all has columns, too.
    flat = np.array(rows["probabilities"], dtype=np.float64)
    probabilities = flat.reshape(-1, len(source.classes))
    groups = []
    for track_id, group in zip(track_ids, rows["group_id"], strict=True):
        is_alone = track_id == group
        groups.append(None if is_alone else group)
    of_timelines = ("timeline_start_s", "timeline_ends_s", "timeline_classes", "decoded_s")
    columns = [rows[name] for name in of_timelines]
    timelines = zip(*columns, strict=True)
    return {
        "track": track_ids,
        **_files(source, rows["uri"]),
        "group": groups,
        "label": rows["label"],
        "confidence": _per_mille(confidence),
        "probabilities": [_per_mille(column) for column in probabilities.T],
        "abstained": [int(flag) for flag in rows["abstained"]],
        "inherited": rows["inherited"],
        "before": rows["before"],
        "segments": rows["segments"],
        "wrong": rows["wrong"],
        "passage_start_s": [row.get("start_s") for row in found],
        "passage_end_s": [row.get("end_s") for row in found],
        "length_s": [round(length_s, 1) for length_s in rows["decoded_s"]],
        "timeline": [coded_timeline(*timeline) for timeline in timelines],
    }


def coded_timeline(
    start_s: float, ends_s: Sequence[float], classes: Sequence[int], length_s: float
) -> str:
    """Write a timeline as runs of a letter per class and where it ends: `a40b120` is the first
    class for a third.

    Ends are in parts of the track, `STRIP_PARTS` in all; `-` is a stretch without emotion. What a
    strip of so many parts cannot show is left out.
    """
    parts_per_s = 0.0
    if length_s > 0:
        parts_per_s = STRIP_PARTS / length_s
    start = round(start_s * parts_per_s)
    reached = min(start, STRIP_PARTS)
    code = f"-{reached}" if reached else ""
    for end_s, position in zip(ends_s, classes, strict=True):
        end = round(end_s * parts_per_s)
        end = min(end, STRIP_PARTS)
        if end > reached:
            letter = chr(ord("a") + position)
            code += f"{letter}{end}"
            reached = end
    return code


def as_json(source: Source, songs: Context, groups: Context | None) -> Markup:
    """Write what the page's script shows as JSON that can stand in a page."""
    content = {
        "classes": source.classes,
        "colors": source.colors,
        "inks": [ink_on(color) for color in source.colors],
        "strip_parts": STRIP_PARTS,
        "songs": songs,
        "groups": groups and groups["columns"],
    }
    return embedded(content)


def _files(source: Source, uris: Sequence[str]) -> Context:
    """Return the files' names, with escapes as in a link, and the folder of each that the page can
    play."""
    folders: dict[str, int] = {}
    names = []
    places = []
    for uri in uris:
        link = audio.link(source.store.medium, uri)
        if link is None:
            names.append(quote(file_name(uri)))
            places.append(-1)
        else:
            folder, slash, name = link.rpartition("/")
            names.append(name)
            places.append(folders.setdefault(folder + slash, len(folders)))
    return {"file": names, "folder": places, "folders": list(folders)}


def _per_mille(values: np.ndarray) -> list[int]:
    found: list[int] = np.rint(1000 * values).astype(int).tolist()
    return found
