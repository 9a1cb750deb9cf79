"""Tables that a narrow screen shows as cards, a row each, so that nothing of them lies outside of
it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup

_HEADS = re.compile(r'<th scope="col"[^>]*>(.*?)</th>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_ROW = re.compile(r"<tr\b.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<t(?P<kind>[dh])(?P<attributes>[^>]*)>")
_SPAN = re.compile(r'colspan="(\d+)"')
_ROLES = {"<table": "table", "<thead": "rowgroup", "<tbody": "rowgroup", "<tr": "row"}


def as_cards(table: Markup) -> Markup:
    """Give each cell of a table the title of its column, and the roles of a table, which a layout
    as cards would take away from it. One without a header, or with two, stays as it is."""
    titles = [_TAG.sub("", head) for head in _HEADS.findall(table)]
    if not titles or 'scope="colgroup"' in table:
        return table
    head, body, rows = str(table).partition("<tbody")
    titled = _HEADS.sub(lambda found: found[0].replace("<th", '<th role="columnheader"', 1), head)
    titled += body + _ROW.sub(lambda row: _with_titles(row[0], titles), rows)
    for tag, role in _ROLES.items():
        titled = re.sub(rf"{tag}\b", f'{tag} role="{role}"', titled)
    titled = titled.replace('<table role="table" class="', '<table role="table" class="cards ')
    titled = titled.replace('<table role="table">', '<table role="table" class="cards">')
    # The templates have escaped what they were given.
    return Markup(titled)  # noqa: S704


def _with_titles(row: str, titles: list[str]) -> str:
    columns = _columns(row)
    return _CELL.sub(lambda cell: _titled(cell, titles[next(columns)]), row)


def _columns(row: str) -> Iterator[int]:
    """Yield the column of each cell of a row."""
    column = 0
    for cell in _CELL.finditer(row):
        yield column
        span = _SPAN.search(cell["attributes"])
        column += int(span[1]) if span else 1


def _titled(cell: re.Match[str], title: str) -> str:
    role = "cell" if cell["kind"] == "d" else "rowheader"
    return f'<t{cell["kind"]} role="{role}" data-title="{title}"{cell["attributes"]}>'
