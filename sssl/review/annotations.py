"""What people said in Label Studio, read back from its JSON export as corrections."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from sssl.catalog.corrections import Correction
from sssl.errors import CatalogError
from sssl.urls import opened, why_unreadable, without_secrets


class _Result(msgspec.Struct):
    """One thing that somebody marked: a choice for the song, or a region of the sound with its
    label."""

    type: str
    value: dict[str, Any] = {}


class _Annotation(msgspec.Struct):
    """What one person submitted for a task."""

    result: list[_Result]
    was_cancelled: bool = False
    completed_by: int | str | dict[str, Any] | None = None
    created_at: str | None = None
    updated_at: str | None = None
    lead_time: float | None = None


class _Task(msgspec.Struct):
    """A task of the export, with what `tasks.py` put into its data."""

    data: dict[str, Any]
    annotations: list[_Annotation]


class _Unreadable(Exception):
    """What says nothing; the message says why."""


@dataclass
class Annotated:
    """Corrections that were read, what was left out and why, and how long people took for it."""

    corrections: list[Correction] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    lead_s: float = 0.0


def read_annotations(url: str, classes: Sequence[str], track_ids: Collection[str]) -> Annotated:
    """Read Label Studio's JSON export. Answers without a label are left out, with a sentence that
    names them.

    Args:
        url: path or fsspec URL of the export, as "JSON" (not "JSON-MIN", which has no times of
            answers).
        classes: labels that count.
        track_ids: ids of the catalog.

    Raises:
        CatalogError: the file cannot be read, or is no such export.
    """
    shown, found = without_secrets(url), Annotated()
    try:
        with opened(url) as file:
            content = msgspec.json.decode(file.read())
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise CatalogError(f"cannot read {shown}: {why_unreadable(url, error)}") from None
    if not isinstance(content, list):
        raise CatalogError(f"{shown} is no list of tasks: export the project as JSON")
    for number, raw in enumerate(content, start=1):
        try:
            task = _task_in(raw)
            track_id = _track_of(task, track_ids)
        except _Unreadable as why:
            found.left_out.append(f"task {_number_of(raw, number)}: {why}")
            continue
        _read_task(task, track_id, classes, found)
    return found


def _read_task(task: _Task, track_id: str, classes: Sequence[str], found: Annotated) -> None:
    """Add what people said of a track."""
    for annotation in task.annotations:
        if annotation.was_cancelled:
            continue  # skipped
        found.lead_s += annotation.lead_time or 0.0
        for result in annotation.result:
            try:
                start_s, end_s, label = _said(result, classes)
            except _Unreadable as why:
                found.left_out.append(f"{track_id}: {why}")
                continue
            when = annotation.updated_at or annotation.created_at or ""
            who = _name_of(annotation.completed_by)
            found.corrections.append(Correction(track_id, start_s, end_s, label, who, when))


def _task_in(raw: Any) -> _Task:
    if isinstance(raw, dict) and "annotations" not in raw:
        raise _Unreadable("no annotations; is the export JSON, and not JSON-MIN?")
    try:
        return msgspec.convert(raw, _Task)
    except msgspec.ValidationError as error:
        raise _Unreadable(str(error)) from None


def _track_of(task: _Task, track_ids: Collection[str]) -> str:
    track_id = task.data.get("track_id")
    if not isinstance(track_id, str):
        raise _Unreadable(
            "no track_id in its data; was it made by `sssl export --format label-studio`?"
        )
    if track_id not in track_ids:
        raise _Unreadable(f"no track {track_id} in the catalog")
    return track_id


def _said(result: _Result, classes: Sequence[str]) -> tuple[float | None, float | None, str]:
    """Return the passage that a result is about, None and None for the whole song, and its
    label."""
    if result.type == "choices":
        return None, None, _label(result.value.get("choices"), classes)
    if result.type != "labels":
        raise _Unreadable(f"a result of type {result.type} is neither a choice nor a region")
    start_s, end_s = (_seconds(result.value.get(name)) for name in ("start", "end"))
    if not 0 <= start_s < end_s < math.inf:
        raise _Unreadable(f"a region from {start_s:g} to {end_s:g} s is no passage")
    return start_s, end_s, _label(result.value.get("labels"), classes)


def _label(names: Any, classes: Sequence[str]) -> str:
    if not isinstance(names, list) or len(names) != 1 or names[0] not in classes:
        raise _Unreadable(f"{names} is not one of {', '.join(classes)}")
    return str(names[0])


def _seconds(value: Any) -> float:
    """Return seconds in single precision, as the catalog has them; NaN of what is no number, and
    infinity of what is too large for one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    except OverflowError:  # integers of JSON may have hundreds of digits
        return math.inf if value > 0 else -math.inf


def _name_of(person: int | str | dict[str, Any] | None) -> str:
    """Return who answered: the mail address where the export has it, else the number of the
    user."""
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    if person is None:
        return ""
    return f"user {person}" if isinstance(person, int) else str(person)


def _number_of(raw: Any, number: int) -> str:
    """Return the id that Label Studio gave a task, else where it stands in the file."""
    known = raw.get("id") if isinstance(raw, dict) else None
    return str(known if isinstance(known, int) else number)
