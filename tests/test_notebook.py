"""docs/notebook.ipynb runs, on an output like the demo's."""

import nbformat
import pytest
from notebook import PAGE, executed


@pytest.fixture(scope="module")
def ran(finished):
    return executed(finished.root)


def shown(notebook, kind):
    return [
        out.data[kind]
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        if kind in out.get("data", {})
    ]


def test_the_notebook_runs_and_shows_what_the_tables_say(ran, finished):
    (songs, failed, *_) = shown(ran, "text/plain")
    assert "track_id label  confidence  abstained  segments" in songs
    assert all(name in failed for name in ("missing", "not-audio", "silent"))
    assert "dtype('uint8')" in " ".join(shown(ran, "text/plain"))


def test_a_timeline_is_drawn(ran):
    assert len(shown(ran, "image/png")) == 1


def test_what_the_notebook_shows_in_the_docs_was_run_without_an_error():
    kept = nbformat.read(PAGE, as_version=4)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(out.output_type == "error" for cell in code for out in cell.outputs)
    assert PAGE.stat().st_size < 200_000
