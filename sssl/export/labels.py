"""Labels of music that is in no output folder: for people, and for other tools."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas import Catalog, Song
from schemas.songs import NUMBER_COLUMNS
from sssl.catalog.plane import AXES
from sssl.export.cells import cell
from sssl.export.m3u import Entry, surest_first
from sssl.plots.timeline import clock
from sssl.words import printable

FormatName = Literal["table", "csv", "json", "m3u"]


@dataclass(frozen=True)
class Labelled:
    """A track with its song; without one, why there is none (docs/reasons.md)."""

    track: Catalog
    song: Song | None
    reason: str | None = None
    detail: str | None = None


class About(NamedTuple):
    """What songs may say: their classes, and whether they have valence and arousal."""

    classes: Sequence[str]
    has_numbers: bool = False


def write_table(labelled: Iterable[Labelled], about: About, to: TextIO) -> None:
    """Write a table for people: label, confidence, numbers and timeline of each track."""
    table = Table(box=None, pad_edge=False)
    axes = AXES if about.has_numbers else ()
    for name in ("track", "label", "confidence", *axes, "timeline"):
        table.add_column(name, overflow="fold")
    for one in labelled:
        if one.song is None:
            said = ["", "", *("" for _ in axes), f"not labelled: {_why(one)}"]
        else:
            unsure = " (uncertain)" if one.song.abstained else ""
            said = [one.song.label + unsure, f"{one.song.confidence:.2f}"]
            said += [number_in_words(one.song, axis) for axis in axes]
            said.append(_in_words(one.song))
        table.add_row(*(Text(printable(cell)) for cell in (one.track.track_id, *said)))
    console = Console(file=to, highlight=False)
    with console.capture() as shown:
        console.print(table)
    to.write(shown.get())  # here: rich would end the program if nobody reads it


def write_csv(labelled: Iterable[Labelled], about: About, to: TextIO) -> None:
    """Write a row per track with a probability per class, and the timeline as JSON.

    No text in it is a formula to a spreadsheet, so ids and labels that start like one have an
    apostrophe in front; JSON Lines have them as they are.
    """
    shares = [f"probability_{name}" for name in about.classes]
    names = [
        "track_id",
        "uri",
        "label",
        "confidence",
        "abstained",
        *shares,
        *(NUMBER_COLUMNS if about.has_numbers else ()),
        "model_id",
        "timeline",
        "reason",
        "detail",
    ]
    writer = csv.DictWriter(to, names)
    writer.writeheader()
    for one in labelled:
        row = _row(one, about.classes)
        probabilities = row.pop("probabilities", {})
        timeline = row.pop("timeline", None)
        row |= {f"probability_{name}": share for name, share in probabilities.items()}
        row |= {name: cell(value) for name, value in row.items() if isinstance(value, str)}
        row["timeline"] = ""
        if timeline is not None:
            row["timeline"] = json.dumps(timeline, separators=(",", ":"))
        writer.writerow(row)


def write_json(labelled: Iterable[Labelled], about: About, to: TextIO) -> None:
    """Write an object per line as soon as a track is labelled (JSON Lines)."""
    for one in labelled:
        to.write(json.dumps(_row(one, about.classes), ensure_ascii=False) + "\n")
        to.flush()


def write_m3u(labelled: Iterable[Labelled], about: About, to: TextIO) -> None:
    """Write an extended M3U playlist: emotion by emotion, the surest first; what abstains is left
    out."""
    entries: dict[str, list[Entry]] = {name: [] for name in about.classes}
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


WRITERS: dict[FormatName, Callable[[Iterable[Labelled], About, TextIO], None]] = {
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
        if song.valence is not None:
            row |= {name: getattr(song, name) for name in NUMBER_COLUMNS}
        row |= {"model_id": song.model_id, "timeline": song.timeline}
    return row | {"reason": one.reason, "detail": one.detail}


def number_in_words(song: Song, axis: str) -> str:
    """Say a number with its interval: `0.25 (-0.13 to 0.63)`."""
    value, low, high = (getattr(song, axis + end) for end in ("", "_low", "_high"))
    if value is None:
        return ""
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _in_words(song: Song) -> str:
    said = []
    for entry in song.timeline:
        start_s: Any = entry["start_s"]
        end_s: Any = entry["end_s"]
        said.append(f"{entry['label']} {clock(start_s)}-{clock(end_s)}")
    return ", ".join(said)


def _end_s(song: Song) -> float:
    end_s: Any = song.timeline[-1]["end_s"] if song.timeline else 0.0
    return float(end_s)


def _why(one: Labelled) -> str:
    if one.detail:
        return f"{one.reason} ({one.detail})"
    return str(one.reason)
