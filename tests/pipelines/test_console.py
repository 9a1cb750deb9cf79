"""What others chose, names and messages, is only shown."""

import io

import pytest
from rich.table import Table

from pipelines.terminal.console import console, printed


@pytest.mark.parametrize("terminal", [console, printed])
def test_names_cannot_steer_the_terminal(terminal, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "_file", shown)
    table = Table("track")
    table.add_row("\x1b]0;title\x07 in a table")
    terminal.print("\x1b[2J gone\x9b1A", table)
    said = shown.getvalue()
    assert not {"\x1b", "\x07", "\x9b"} & set(said)
    assert "?[2J gone?1A" in said
    assert "?]0;title" in said
