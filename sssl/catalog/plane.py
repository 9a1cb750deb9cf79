"""Valence and arousal of tracks as numbers, where `--task valence-arousal` asks for them, and the
classes that they say: Russell's quadrants ("A circumplex model of affect", 1980)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Catalog
from schemas.views import PLACES
from sssl.errors import CatalogError

TaskName = Literal["classes", "valence-arousal"]
AXES = ("valence", "arousal")
QUADRANTS = ("Q1", "Q2", "Q3", "Q4")
LARGEST = 1.0
"""Both go from its negative to this; 0 is the midpoint of the scale that listeners were given."""


def with_labels_of_numbers(table: pa.Table, url: str) -> pa.Table:
    """Give tracks that have both numbers and no label the label that the numbers say; one that has
    a label keeps it. A number of 0 is on neither side, so that such a track gets none.

    Raises:
        CatalogError: a column is missing, or no track has both numbers.
    """
    for name in AXES:
        if name not in table.column_names:
            raise CatalogError(f"{url}: column {name} is missing: --task valence-arousal needs it")
    valence, arousal = (table[name] for name in AXES)
    has_both = pc.and_(valence.is_valid(), arousal.is_valid())
    if not pc.any(has_both).as_py():
        raise CatalogError(f"{url}: no track has valence and arousal: leave out --task")
    said = quadrants(valence, arousal)
    if "label" in table.column_names:
        said = pc.coalesce(table["label"], said)
        table = table.drop_columns("label")
    return table.append_column("label", said)


def quadrants(valence: pa.ChunkedArray, arousal: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the quadrant of each place, null where a number is null or 0."""
    is_positive, is_negative, is_high, is_low = (
        pc.fill_null(found, False)
        for axis in (valence, arousal)
        for found in (pc.greater(axis, 0), pc.less(axis, 0))
    )
    sides = {(1.0, 1.0): pc.and_(is_positive, is_high), (-1.0, 1.0): pc.and_(is_negative, is_high)}
    sides[-1.0, -1.0] = pc.and_(is_negative, is_low)
    sides[1.0, -1.0] = pc.and_(is_positive, is_low)
    said = pa.chunked_array([pa.nulls(len(valence), pa.string())])
    for name in QUADRANTS:
        said = pc.if_else(sides[PLACES[name]], name, said)  # type: ignore[index]
    return said


def numbers_of(track: Catalog) -> tuple[float, float]:
    """Return the valence and the arousal that a track teaches; NaN where it teaches none.

    Where a listener corrected the label to another than the numbers say, they no longer hold.
    """
    if track.valence is None or track.arousal is None:
        return np.nan, np.nan
    if track.corrections and track.locked and track.label != quadrant(track.valence, track.arousal):
        return np.nan, np.nan
    return track.valence, track.arousal


def quadrant(valence: float, arousal: float) -> str | None:
    """Return the quadrant of a place; None where a number is 0."""
    signs = float(np.sign(valence)), float(np.sign(arousal))
    return next((name for name in QUADRANTS if PLACES[name] == signs), None)
