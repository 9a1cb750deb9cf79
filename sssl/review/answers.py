"""Where answers go: rows at the end of a file of corrections, on the disk before anybody is told
that they are kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from sssl.catalog.corrections import COLUMNS, Correction, newest, read_corrections, read_rows
from sssl.export.cells import cell
from sssl.store.atomic import alone, replacing


@dataclass(frozen=True)
class Answers:
    """A file of corrections on this machine, to which rows are appended; nothing in it is ever
    changed."""

    path: Path
    classes: Sequence[str]

    def standing(self) -> list[Correction]:
        """Return the corrections that count, the newest last; rows that say nothing are left out.

        Raises:
            CatalogError: the file cannot be read, or is no file of corrections.
        """
        if not self.path.exists():
            return []
        return read_corrections([str(self.path)], self.classes, _say_nothing)

    def append(self, said: Iterable[Correction]) -> int:
        """Append rows, but for those that are there already, and return how many.

        Readers see all of them or none, also if we are killed or the power fails, and whoever else
        appends at the same time, from another window or another process, loses nothing.

        Raises:
            CatalogError: the file cannot be read, or is no file of corrections.
            OSError: the file cannot be written, or another program holds it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.path):
            before, known = self._content(), self._rows()
            new = [one for one in dict.fromkeys(said) if _texts(one) not in known]
            with replacing(self.path, keep_suffix=False) as temporary:
                temporary.write_bytes(before + _as_csv(new, _names_in(before)))
        return len(new)

    def _rows(self) -> set[tuple[str, ...]]:
        """Return the rows of the file as they are written.

        Raises:
            CatalogError: this is no file of corrections.
        """
        rows = read_rows(str(self.path)) if self.path.exists() else []
        return {tuple(row[name] for name in COLUMNS) for row in rows}

    def _content(self) -> bytes:
        """Return what is in the file, up to the start of the next row."""
        if not self.path.exists():
            return _line(COLUMNS)
        content = self.path.read_bytes()
        return content if content.endswith(b"\n") else content + b"\n"


def now() -> str:
    """Return the time in UTC as the column `when` has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def by_track(standing: Iterable[Correction]) -> dict[str, list[Correction]]:
    """Return corrections by track."""
    found: dict[str, list[Correction]] = {}
    for correction in standing:
        found.setdefault(correction.track_id, []).append(correction)
    return found


def label_of(standing: Iterable[Correction], of: Correction) -> str | None:
    """Return the label that stands for the same passage or track as a correction is about."""
    return next((one.label for one in newest(standing) if one.key == of.key), None)


def _say_nothing(_sentence: str) -> None:
    """Leave it to the next run to say which rows of the file say nothing."""


def _names_in(content: bytes) -> list[str]:
    """Return the columns of a file in their order, which its owner may have changed."""
    first = content.decode("utf-8-sig").splitlines()[0]
    return next(csv.reader([first]))


def _as_csv(said: Iterable[Correction], names: Sequence[str]) -> bytes:
    """Write rows with the columns that a file has."""
    rows = (dict(zip(COLUMNS, _texts(one), strict=True)) for one in said)
    return b"".join(_line(cell(row.get(name)) or "" for name in names) for row in rows)


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _texts(said: Correction) -> tuple[str, ...]:
    """Return a correction as the texts of its columns."""
    return tuple(_text(getattr(said, name)) for name in COLUMNS)


def _text(value: str | float | None) -> str:
    """Return a cell; of seconds the shortest that single precision reads back as the same
    number."""
    if isinstance(value, float):
        return np.format_float_positional(np.float32(value), trim="-")
    return value or ""
