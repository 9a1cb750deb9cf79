"""The catalog in the plane of valence and arousal: by these numbers where songs have them, else
computed from the probabilities of the classes."""

from __future__ import annotations

from sssl.plots.plane import Cell, draw_plane
from sssl.report.source import Context, Source

QUADRANTS = {"Q1": (1.0, 1.0), "Q2": (-1.0, 1.0), "Q3": (-1.0, -1.0), "Q4": (1.0, -1.0)}
"""Valence and arousal of classes whose place in the plane is known: Russell's quadrants."""
CELLS = 60
"""Cells of the plane along a side: more cannot be told apart."""

_CELL = "least(floor(({axis} + 1) / 2 * $cells), $cells - 1)::int"
_PLACES = f"""
with points as (
  select list_position($classes, label) - 1 as position,
    coalesce(valence::double,
      list_dot_product(probabilities::double[], $valence::double[])) as valence,
    coalesce(arousal::double,
      list_dot_product(probabilities::double[], $arousal::double[])) as arousal
  from songs)
select {_CELL.format(axis="valence")} as x, {_CELL.format(axis="arousal")} as y,
  position, count(*) as songs
from points group by all order by x, y, songs desc, position
"""


def context(source: Source) -> Context | None:
    """Draw all songs in the plane; None where the place of a class in it is not known."""
    if not set(source.classes) <= QUADRANTS.keys():
        return None
    found = cells(source)
    names = [(name, *QUADRANTS[name]) for name in source.classes]
    songs = sum(cell.songs for cell in found)
    alt = f"{songs:,} songs by valence and arousal"
    plot = draw_plane("plane", alt, found, names)
    (counted,) = source.rows("select count(valence) as songs from songs")
    return {"songs": songs, "plot": plot, "has_numbers": bool(counted["songs"])}


def cells(source: Source) -> list[Cell]:
    """Count songs by cell: a song lies at its valence and arousal, or else at the mean of its
    classes' places, weighed by their probabilities."""
    valences = []
    arousals = []
    for name in source.classes:
        valence, arousal = QUADRANTS[name]
        valences.append(valence)
        arousals.append(arousal)
    values = {"classes": list(source.classes), "valence": valences, "arousal": arousals}
    values["cells"] = CELLS
    table = source.connection.sql(_PLACES, params=values).to_arrow_table()
    songs: dict[tuple[int, int], int] = {}
    commonest: dict[tuple[int, int], int] = {}
    for row in table.to_pylist():
        place = row["x"], row["y"]
        songs[place] = songs.get(place, 0) + row["songs"]
        commonest.setdefault(place, row["position"])  # the first is that of most songs
    found = []
    for (x, y), count in songs.items():
        cell = Cell(_middle(x), _middle(y), count, commonest[x, y])
        found.append(cell)
    return found


def _middle(index: int) -> float:
    """Return where the middle of a cell lies on an axis."""
    return (2 * index + 1) / CELLS - 1
