"""docs/notebook.ipynb: `PYTHONPATH=. python tests/notebook.py OUTPUT` runs it on a folder and keeps
what it shows."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PAGE = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def executed(output):
    """Return the notebook, run with an output folder as the `demo` beside its own."""
    notebook = nbformat.read(PAGE, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "demo").symlink_to(Path(output).absolute())
        docs = Path(folder, "docs")
        docs.mkdir()
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(docs)}}).execute()
    return notebook


if __name__ == "__main__":
    done = executed(sys.argv[1])
    for cell in done.cells:
        cell.metadata.pop("execution", None)  # times of day
    nbformat.write(done, PAGE)
