"""The queries of docs/queries.md: `PYTHONPATH=. python tests/queries.py OUTPUT` writes what comes
out on that folder. With `--check` it writes nothing and fails where a query that shows something in
the docs shows nothing.

A query is a block of SQL; the table right behind it is its output.
"""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path

from sssl.store.folder import Store
from sssl.store.sql import connect

PAGE = Path(__file__).parents[1] / "docs" / "queries.md"
QUERY = re.compile(
    r"^## (?P<title>.+)\n(?P<text>(?:(?!##"
    r" |```).*\n)*)```sql\n(?P<sql>[^`]*)```\n(?P<output>\n(?:\|.*\n)+)?",
    re.MULTILINE,
)


def queries(page):
    """Yield (title, SQL, columns of the output) of each query."""
    for found in QUERY.finditer(page):
        header = (found["output"] or "").strip().splitlines()[0]
        yield found["title"], found["sql"], [name.strip() for name in header.strip("|").split("|")]


def rendered(connection, sql):
    """Run a query and render its rows as a Markdown table."""
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    rows = [[cell(value) for value in row] for row in result.fetchall()]
    lines = [names, ["---"] * len(names), *(rows or [["(none)", *[""] * (len(names) - 1)]])]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value):
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f} s"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    text = "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def refreshed(page, connection):
    """Return the page with the outputs of its queries on a database."""
    return QUERY.sub(
        lambda q: (
            f"## {q['title']}\n{q['text']}```sql\n{q['sql']}```\n\n{rendered(connection, q['sql'])}"
        ),
        page,
    )


def faults(page, connection):
    """Say which queries come out empty, or with other columns than the page has."""
    for found in QUERY.finditer(page):
        shown, now = (
            (found["output"] or "").strip().splitlines(),
            rendered(connection, found["sql"]).splitlines(),
        )
        if shown[:1] != now[:1]:
            yield f"{found['title']}: columns {now[0]}, expected {''.join(shown[:1])}"
        elif now[2].startswith("| (none)") and not shown[2].startswith("| (none)"):
            yield f"{found['title']}: nothing comes out"


if __name__ == "__main__":
    store = Store.open(sys.argv[1])
    connection = connect(store, store.latest())
    if "--check" in sys.argv[2:]:
        sys.exit("\n".join(faults(PAGE.read_text(), connection)) or None)
    PAGE.write_text(refreshed(PAGE.read_text(), connection))
