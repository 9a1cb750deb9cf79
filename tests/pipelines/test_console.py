"""What others chose, names and messages, is only shown."""

import io

import pytest
from rich.table import Table

from pipelines.terminal.console import alerts, console, printed


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


@pytest.mark.parametrize("terminal", [console, alerts, printed])
def test_names_in_brackets_or_colons_are_shown_as_they_are(terminal, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "_file", shown)
    table = Table("track")
    table.add_row("[b] in a table")
    terminal.print("report: /music/[live]/[/old]/:cd:/report.html", table, soft_wrap=True)
    said = shown.getvalue()
    assert "/music/[live]/[/old]/:cd:/report.html" in said
    assert "[b] in a table" in said
