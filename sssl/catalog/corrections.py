"""What listeners said: a file of corrections, in which each row locks the label of a track or of a
passage.

Nothing in such a file is ever changed: whoever thinks better of it adds a row, and of the same
passage the newest row counts.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import Catalog, arrow_schema
from sssl.arrays import Floats, column
from sssl.catalog.assign import whole
from sssl.catalog.tables import what_it_has, which_is_meant
from sssl.errors import CatalogError
from sssl.urls import first_line, opened, why_unreadable, without_secrets
from sssl.words import counted, some, unguarded

COLUMNS = ("track_id", "start_s", "end_s", "label", "who", "when")
_NEEDED = COLUMNS[:4]
FILE_NAME = "corrections.csv"
"""What the file is called that `sssl run` looks for in its output folder."""
_CELL = arrow_schema(Catalog).field("corrections").type
_ROUNDING_S = 1e-4
"""Times have single precision: half of a segment is half of it, whatever the last digit says."""

Tell = Callable[[str], None]
Key = tuple[str, float | None, float | None]


@dataclass(frozen=True)
class Correction:
    """What somebody said of a track or a passage; without a label that what was said before does
    not count."""

    track_id: str
    start_s: float | None
    end_s: float | None
    label: str | None
    who: str = ""
    when: str = ""

    @property
    def key(self) -> Key:
        """What it is about: a later one about the same counts instead."""
        return self.track_id, self.start_s, self.end_s

    @property
    def where(self) -> str:
        """Say which passage of which track it is about."""
        if self.start_s is None:
            return self.track_id
        return f"{self.track_id} ({self.start_s:g}-{self.end_s:g} s)"


def is_corrections(url: str) -> bool:
    """Whether a file of labels is one of corrections: it says where passages start and end."""
    try:
        with opened(url) as file:
            first = first_line(file).strip()
    except (OSError, ValueError):
        return False  # whoever reads it says what is wrong with it
    names = next(csv.reader([first]), [])
    return {"start_s", "end_s", "label"} <= set(names)


def read_corrections(
    urls: Sequence[str],
    classes: Sequence[str],
    tell: Tell,
    track_ids: pa.Array | None = None,
) -> list[Correction]:
    """Read the corrections that count, the newest last, from one file or from several together: a
    row of one may take back what another one says. Rows that say nothing are left out, and `tell`
    is told why, and which passages overlap with another label.

    Given the `track_ids` of a catalog, corrections have these, though the file may have blanks
    around them.

    Raises:
        CatalogError: a file cannot be read, or lacks a column.
    """
    found: list[Correction] = []
    for url in urls:
        found += _usable_rows(url, classes, tell)
    if track_ids is not None:
        found = list(_spelled_as(track_ids, found))
    standing = newest(found)
    shown = " and ".join(map(without_secrets, urls))
    for one, other in _contradictions(standing):
        places = f"{one.where} and {other.where}"
        labels = f"{one.label} and {other.label}"
        taken = "a segment takes the one that covers most of it"
        tell(f"{shown}: {places} overlap and say {labels}: {taken}")
    return standing


def _usable_rows(url: str, classes: Sequence[str], tell: Tell) -> list[Correction]:
    """Return the rows of a file that say something, those that take something back among them."""
    bad: defaultdict[str, list[str]] = defaultdict(list)
    found = []
    for row in read_rows(url):
        correction, why = _checked(row, classes)
        if correction is None:
            bad[why].append(row["track_id"].strip() or "(no track_id)")
        else:
            found.append(correction)
    shown = without_secrets(url)
    for why, track_ids in bad.items():
        tell(f"{shown}: {counted(len(track_ids), 'correction')} left out, {why}: {some(track_ids)}")
    return found


def read_rows(url: str) -> list[dict[str, str]]:
    """Read the rows of a file of corrections as they are written, each with the columns that it
    has.

    Raises:
        CatalogError: the file cannot be read, or lacks a column.
    """
    shown = without_secrets(url)
    try:
        with opened(url) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise CatalogError(f"cannot read {shown}: {why_unreadable(url, error)}") from None
    # A quote that nobody closed would make all rows behind it a part of its own.
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="", strict=True)
    names = reader.fieldnames or []
    for name in _NEEDED:
        if name not in names:
            raise CatalogError(f"{shown}: column {name} is missing; {what_it_has(names)}")
    found = []
    try:
        for row in reader:
            cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
            cells["track_id"] = row["track_id"] or ""  # ids may begin or end with a blank
            found.append({name: unguarded(cell) for name, cell in cells.items()})
    except csv.Error as error:
        raise CatalogError(f"cannot read {shown}: {error}") from None
    return found


def without_tracks(
    content: bytes, is_gone: Callable[[str], bool], stays: Callable[[str], bool] = lambda _: False
) -> bytes:
    """Return a file of corrections without the rows of some tracks; all others stay as they are,
    among them those of a track that `stays`, whose id has blanks around that of one which goes.

    Raises:
        CatalogError: it has no column of tracks, or cannot be read.
    """
    try:
        lines = list(io.StringIO(content.decode("utf-8"), newline=""))
        reader = csv.reader(lines, strict=True)  # as in `read_rows`
        names = [name.strip("\ufeff ") for name in next(reader, [])]
        at = names.index("track_id")
        start = reader.line_num
        kept = lines[:start]
        for row in reader:
            cell = row[at] if len(row) > at else ""
            written = unguarded(cell)
            is_meant = is_gone(bare_id(cell)) and not stays(written)
            if not is_gone(written) and not is_meant:
                kept += lines[start : reader.line_num]
            start = reader.line_num
    except (ValueError, csv.Error) as error:
        raise CatalogError(f"this is no file of corrections: {error}") from None
    return "".join(kept).encode()


def bare_id(track_id: str) -> str:
    """Return an id without the blanks around it, which somebody may have typed."""
    return unguarded(track_id.strip())


def newest(corrections: Iterable[Correction]) -> list[Correction]:
    """Return the corrections that count, the newest last: of each passage the newest, unless it
    takes back what was said. One without a time is older than one with; of the same time the later
    row is the newer."""
    latest: dict[Key, Correction] = {}
    for correction in sorted(corrections, key=lambda one: _time(one.when)):
        latest.pop(correction.key, None)
        latest[correction.key] = correction
    return [correction for correction in latest.values() if correction.label is not None]


def with_corrections(tracks: pa.Table, corrections: Sequence[Correction], tell: Tell) -> pa.Table:
    """Put corrections into a catalog: those of a whole track are its label from then on, which is
    locked."""
    track_ids = whole(tracks["track_id"])
    by_track: defaultdict[str, list[Correction]] = defaultdict(list)
    for correction in corrections:
        by_track[correction.track_id].append(correction)
    corrected = pa.array(by_track, pa.string())
    is_strange = pc.invert(pc.is_in(corrected, track_ids))
    strangers = corrected.filter(is_strange).to_pylist()
    if strangers:
        count = sum(len(by_track[track_id]) for track_id in strangers)
        names = some(sorted(strangers))
        tell(f"{counted(count, 'correction')} left out, no such track in the catalog: {names}")
    # Null for most tracks, of which there may be millions.
    place = pc.index_in(track_ids, corrected)
    labels = []
    locked = []
    cells_of_tracks = []
    for own in by_track.values():
        label = _label_of_track(own)
        labels.append(label)
        locked.append(None if label is None else True)
        cells_of_tracks.append(list(map(_as_cell, own)))
    said = {
        "label": pa.array(labels, pa.string()),
        "locked": pa.array(locked, pa.bool_()),
        "corrections": pa.array(cells_of_tracks, _CELL),
    }
    for name, values in said.items():
        cells = values.take(place)
        if name != "corrections":
            cells = pc.coalesce(cells, whole(tracks[name]))
        at = tracks.schema.get_field_index(name)
        tracks = tracks.set_column(at, tracks.schema.field(at), cells)
    return tracks


def _spelled_as(track_ids: pa.Array, corrections: Sequence[Correction]) -> Iterator[Correction]:
    """Yield corrections with the ids of the catalog: as they are written, else without the blanks
    around them."""
    written = pa.array({one.track_id for one in corrections}, pa.string())
    known = set(written.filter(pc.is_in(written, track_ids)).to_pylist())
    for one in corrections:
        yield one if one.track_id in known else replace(one, track_id=bare_id(one.track_id))


def count_corrections(tracks: pa.Table) -> tuple[int, int]:
    """Count the tracks and the passages of a catalog that were corrected."""
    said = tracks["corrections"].drop_null()
    starts = [one["start_s"] for own in said.to_pylist() for one in own]
    of_tracks = sum(start is None for start in starts)
    return of_tracks, len(starts) - of_tracks


def corrected_classes(
    segments: pa.Table, segment_s: float, tracks: Iterable[Catalog], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Return the class that a listener gave each segment [N] (`track_id`, `start_s`), -1 where
    nobody did.

    A passage locks the segments that it covers by half or more; of several passages the one that
    covers most of a segment, the newest of those that cover as much. Elsewhere the correction of
    the whole track counts, if any.
    """
    found = np.full(len(segments), -1, np.int64)
    start_s = column(segments, "start_s")
    for track in tracks:
        if track.corrections:
            own = pc.equal(segments["track_id"], track.track_id).to_numpy()
            found[own] = _of_track(start_s[own], segment_s, track.corrections, classes)
    return found


def _of_track(
    start_s: Floats, segment_s: float, said: Sequence[dict[str, Any]], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Return the class that a listener gave each segment [N] of a track."""
    found = np.full(len(start_s), -1, np.int64)
    most_covered_s = np.full(len(start_s), segment_s / 2 - _ROUNDING_S)
    for correction in said:
        if correction["start_s"] is None:
            found[:] = classes.index(correction["label"])
    for correction in said:
        if correction["start_s"] is not None:
            ends_s = np.minimum(start_s + segment_s, correction["end_s"])
            covered_s = ends_s - np.maximum(start_s, correction["start_s"])
            is_most = covered_s >= most_covered_s
            found[is_most] = classes.index(correction["label"])
            most_covered_s[is_most] = covered_s[is_most]
    return found


def _label_of_track(corrections: Sequence[Correction]) -> str | None:
    return next((one.label for one in corrections if one.start_s is None), None)


def _as_cell(correction: Correction) -> dict[str, Any]:
    return {"start_s": correction.start_s, "end_s": correction.end_s, "label": correction.label}


def _checked(row: dict[str, str], classes: Sequence[str]) -> tuple[Correction | None, str]:
    """Return a row as a correction, or None and what is wrong with it."""
    if not row["track_id"].strip():
        return None, "without a track_id"
    label = row["label"] or None
    if label is not None and label not in classes:
        asked = which_is_meant(label, classes)
        if asked:
            return None, f"with the label {label!r} ({asked})"
        return None, f"with another label than {', '.join(classes)}"
    start_s = _seconds(row["start_s"])
    end_s = _seconds(row["end_s"])
    if (row["start_s"] == "") != (row["end_s"] == ""):
        return None, "with a start but no end, or the other way round"
    if start_s is not None and end_s is not None and not 0 <= start_s < end_s < math.inf:
        expected = "seconds from the track's start, the end after the start"
        return None, f"with times that are no passage ({expected})"
    return Correction(row["track_id"], start_s, end_s, label, row["who"], row["when"]), ""


def _seconds(text: str) -> float | None:
    """Return seconds in single precision, as the catalog has them; None without any, NaN of what is
    no number."""
    try:
        return float(np.float32(text)) if text else None
    except ValueError:
        return math.nan


def _time(when: str) -> float:
    """Return a time in seconds; one that cannot be read is before all others."""
    try:
        time = datetime.fromisoformat(when)
    except ValueError:
        return -math.inf
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _contradictions(corrections: Sequence[Correction]) -> Iterator[tuple[Correction, Correction]]:
    """Yield the first two passages of each track that overlap and say different labels."""
    by_track: defaultdict[str, list[Correction]] = defaultdict(list)
    for correction in corrections:
        if correction.start_s is not None:
            by_track[correction.track_id].append(correction)
    for passages in by_track.values():
        pair = next((pair for pair in combinations(passages, 2) if _contradict(*pair)), None)
        if pair is not None:
            yield pair


def _contradict(one: Correction, other: Correction) -> bool:
    """Whether two passages of a track overlap and say different labels."""
    latest_start_s = max(one.start_s or 0.0, other.start_s or 0.0)
    first_end_s = min(one.end_s or 0.0, other.end_s or 0.0)
    return latest_start_s < first_end_s and one.label != other.label
