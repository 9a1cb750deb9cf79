"""What to listen to: passages that look wrong and songs that are uncertain, those first that tell
most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, Literal

from sssl.catalog.corrections import Correction
from sssl.errors import StoreError
from sssl.report.browse.songs import coded_timeline
from sssl.report.source import Context, Source
from sssl.words import counted, some

CLOSE = 0.2
"""A song is uncertain if its second emotion is less than this behind; the report calls it so,
too."""
MOST_OPEN = 200
"""Passages, and songs, that are listed without an answer; their successors come with the next
start."""

# A passage is a run of neighbouring segments that the model takes for the same emotion. First comes
# the one in which most segments are expected to be wrong, as its answer corrects most.
_PASSAGES = """
with numbered as (
  select *, segment_index
    - row_number() over (partition by track_id, model_label order by segment_index) as run
  from suspects)
select 'passage' as kind, track_id, min(start_s) as start_s, max(end_s) as end_s,
  count(*) as segments, model_label as label, avg(model_probability) as confidence,
  any_value(inherited_label) as catalog_label
from numbered group by track_id, model_label, run
order by sum(1 - clean_probability) desc, max(evidence) desc, track_id, start_s
"""
# A song plays from the longest passage of its own emotion.
_CANDIDATES = """
with candidates as (
  select s.*, c.label as catalog_label, c.locked, list_reverse_sort(probabilities) as by_size,
    list_filter(timeline, lambda entry: entry.label = s.label) as own
  from songs s join catalog c using (track_id))
select 'song' as kind, track_id, segments, label, confidence, catalog_label, abstained,
  list_reverse_sort(list_transform(own, lambda entry: struct_pack(
    length_s := entry.end_s - entry.start_s, start_s := entry.start_s)))[1].start_s as play_from_s
from candidates
"""
# What a listener has locked is settled.
_UNCERTAIN = f"""{_CANDIDATES}
where not locked and (abstained or by_size[1] - by_size[2] < {CLOSE})
order by by_size[1] - by_size[2], track_id
"""
_ASKED_FOR = f"{_CANDIDATES} where list_contains($1, track_id) order by list_position($1, track_id)"
_TRACKS = """
select track_id, uri, group_id, s.label, probabilities, decoded_s,
  coalesce(timeline[1].start_s, 0) as start_s,
  list_transform(timeline, lambda entry: entry.end_s) as ends_s,
  list_transform(timeline, lambda entry:
    list_position($classes, entry.label) - 1) as timeline_classes
from songs s join catalog c using (track_id) join ledger using (track_id)
where list_contains($track_ids, track_id)
"""


@dataclass(frozen=True)
class Item:
    """A passage or a whole song to listen to, and the label that it is taken for."""

    kind: Literal["passage", "song"]
    track_id: str
    segments: int
    label: str
    confidence: float | None
    catalog_label: str | None
    start_s: float | None = None
    end_s: float | None = None
    abstained: bool = False
    play_from_s: float | None = None

    def answer_in(self, said: Sequence[Correction]) -> str | None:
        """Return the label that the corrections of its track give it: of a passage the newest that
        is about half of it or more, then that of the whole track."""
        of_passage = (one.label for one in reversed(said) if self._is_covered_by(one))
        of_track = (one.label for one in said if one.start_s is None)
        return next(chain(of_passage, of_track), None)

    def _is_covered_by(self, said: Correction) -> bool:
        if self.start_s is None or self.end_s is None or said.start_s is None or said.end_s is None:
            return False
        covered_s = min(self.end_s, said.end_s) - max(self.start_s, said.start_s)
        return covered_s >= (self.end_s - self.start_s) / 2


@dataclass(frozen=True)
class Track:
    """A track of the queue as its page shows it."""

    track_id: str
    uri: str
    group: str | None
    label: str
    probabilities: list[float]
    length_s: float
    timeline: str
    """As `coded_timeline` writes it."""


@dataclass(frozen=True)
class Queue:
    """Items in the order in which they are worth an answer, and the tracks that they are of."""

    items: list[Item] = field(default_factory=list)
    tracks: dict[str, Track] = field(default_factory=dict)


def passages(source: Source) -> list[Item]:
    """Return all passages that look wrong, those first whose answer tells most."""
    return list(_items(source, _PASSAGES))


def make_queue(
    source: Source,
    said: Mapping[str, Sequence[Correction]],
    most_open: int | None = MOST_OPEN,
    asked_for: Sequence[str] = (),
) -> Queue:
    """Return what to listen to: passages and songs by turns, those that have an answer among them.

    Args:
        source: the published tables.
        said: corrections that count, by track.
        most_open: passages, and songs, without an answer; None: all.
        asked_for: ids of songs that come first, whatever is thought of them.

    Raises:
        StoreError: one of them has no song.
    """
    asked = list(_items(source, _ASKED_FOR, list(asked_for))) if asked_for else []
    unknown = sorted({*asked_for} - {item.track_id for item in asked})
    if unknown:
        raise StoreError(f"{counted(len(unknown), 'track')} without a song: {some(unknown)}")
    by_kind = [_first(_items(source, sql), said, most_open) for sql in (_PASSAGES, _UNCERTAIN)]
    by_turns = chain.from_iterable(zip_longest(*by_kind))
    items = asked + [item for item in by_turns if item is not None and item not in asked]
    return Queue(items, _tracks(source, sorted({item.track_id for item in items})))


def _items(source: Source, sql: str, *values: Any) -> Iterator[Item]:
    for row in source.rows(sql, *values):
        yield Item(**row)


def _first(
    items: Iterator[Item], said: Mapping[str, Sequence[Correction]], most_open: int | None
) -> list[Item]:
    """Return the first items, so many of them without an answer."""
    found, still_open = [], 0
    for item in items:
        still_open += item.answer_in(said.get(item.track_id, ())) is None
        if most_open is not None and still_open > most_open:
            break
        found.append(item)
    return found


def _tracks(source: Source, track_ids: Sequence[str]) -> dict[str, Track]:
    values: dict[str, Any] = {"classes": list(source.classes), "track_ids": list(track_ids)}
    rows = source.connection.sql(_TRACKS, params=values).to_arrow_table().to_pylist()
    return {row["track_id"]: _track(row) for row in rows}


def _track(row: Context) -> Track:
    timeline = coded_timeline(
        row["start_s"], row["ends_s"], row["timeline_classes"], row["decoded_s"]
    )
    return Track(
        track_id=row["track_id"],
        uri=row["uri"],
        group=None if row["group_id"] == row["track_id"] else row["group_id"],
        label=row["label"],
        probabilities=row["probabilities"],
        length_s=row["decoded_s"],
        timeline=timeline,
    )
