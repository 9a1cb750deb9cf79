"""Labels of music that is in no output folder: for people, and for other tools."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas import Catalog, Song
from sssl.export.cells import cell
from sssl.export.m3u import Entry, surest_first
from sssl.words import printable

FormatName = Literal["table", "csv", "json", "m3u"]


@dataclass(frozen=True)
class Labelled:
    """A track with its song; without one, why there is none (docs/reasons.md)."""

    track: Catalog
    song: Song | None
    reason: str | None = None
    detail: str | None = None


def write_table(labelled: Iterable[Labelled], _classes: Sequence[str], to: TextIO) -> None:
    """Write a table for people: label, confidence and timeline of each track."""
    table = Table(box=None, pad_edge=False)
    for name in ("track", "label", "confidence", "timeline"):
        table.add_column(name, overflow="fold")
    for one in labelled:
        if one.song is None:
            cells = (one.track.track_id, "", "", f"not labelled: {_why(one)}")
        else:
            unsure = " (uncertain)" if one.song.abstained else ""
            cells = (
                one.track.track_id,
                one.song.label + unsure,
                f"{one.song.confidence:.2f}",
                _in_words(one.song),
            )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(file=to, highlight=False).print(table)


def write_csv(labelled: Iterable[Labelled], classes: Sequence[str], to: TextIO) -> None:
    """Write a row per track with a probability per class, and the timeline as JSON.

    No text in it is a formula to a spreadsheet, so ids that start like one have an apostrophe in
    front; JSON Lines have them as they are.
    """
    shares = [f"probability_{name}" for name in classes]
    names = [
        "track_id",
        "uri",
        "label",
        "confidence",
        "abstained",
        *shares,
        "model_id",
        "timeline",
        "reason",
        "detail",
    ]
    writer = csv.DictWriter(to, names)
    writer.writeheader()
    for one in labelled:
        row = _row(one, classes)
        probabilities = row.pop("probabilities", {})
        timeline = row.pop("timeline", None)
        row |= {f"probability_{name}": share for name, share in probabilities.items()}
        row |= {name: cell(row[name]) for name in ("track_id", "uri", "detail")}
        row["timeline"] = ""
        if timeline is not None:
            row["timeline"] = json.dumps(timeline, separators=(",", ":"))
        writer.writerow(row)


def write_json(labelled: Iterable[Labelled], classes: Sequence[str], to: TextIO) -> None:
    """Write an object per line as soon as a track is labelled (JSON Lines)."""
    for one in labelled:
        to.write(json.dumps(_row(one, classes), ensure_ascii=False) + "\n")
        to.flush()


def write_m3u(labelled: Iterable[Labelled], classes: Sequence[str], to: TextIO) -> None:
    """Write an extended M3U playlist: emotion by emotion, the surest first; what abstains is left
    out."""
    entries: dict[str, list[Entry]] = {name: [] for name in classes}
    for one in labelled:
        if one.song is not None and not one.song.abstained:
            entry = Entry.of(one.song, one.track.uri, _end_s(one.song))
            entries[one.song.label].append(entry)
    to.write("#EXTM3U\n")
    for name, own in entries.items():
        if own:
            to.write(f"#EXTGRP:{name}\n")
        for entry in surest_first(own):
            if entry.can_be_written:
                to.writelines(f"{line}\n" for line in entry.lines(name))


WRITERS: dict[FormatName, Callable[[Iterable[Labelled], Sequence[str], TextIO], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "m3u": write_m3u,
}


def _row(one: Labelled, classes: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"track_id": one.track.track_id, "uri": one.track.uri}
    if (song := one.song) is not None:
        row |= {"label": song.label, "confidence": song.confidence, "abstained": song.abstained}
        row |= {"probabilities": dict(zip(classes, song.probabilities, strict=True))}
        row |= {"model_id": song.model_id, "timeline": song.timeline}
    return row | {"reason": one.reason, "detail": one.detail}


def _in_words(song: Song) -> str:
    said = []
    for entry in song.timeline:
        start = _clock(entry["start_s"])
        end = _clock(entry["end_s"])
        said.append(f"{entry['label']} {start}-{end}")
    return ", ".join(said)


def _clock(seconds: Any) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _end_s(song: Song) -> float:
    end_s: Any = song.timeline[-1]["end_s"] if song.timeline else 0.0
    return float(end_s)


def _why(one: Labelled) -> str:
    if one.detail:
        return f"{one.reason} ({one.detail})"
    return str(one.reason)
