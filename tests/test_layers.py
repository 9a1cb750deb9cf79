import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for package in ("schemas", "sssl", "pipelines") for path in sorted((ROOT / package).rglob("*.py"))]

TRACKING = (Path("sssl/tracking/mlflow_copy.py"), Path("sssl/tracking/pyfunc.py"))  # MLflow loads the second
MAKES_FEATURES = (Path("sssl/audio/features.py"), Path("sssl/model/augment.py"))
ALLOWED_ONLY_IN = {
    "apache_beam": lambda path: path.parts[0] == "pipelines",
    "mlflow": lambda path: path in TRACKING,
    "torchaudio": lambda path: path in MAKES_FEATURES,
    "pipelines": lambda path: path.parts[0] == "pipelines",
    "sssl": lambda path: path.parts[0] in ("sssl", "pipelines"),
}


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    here = path.relative_to(ROOT)
    forbidden = {
        name for name in imported_packages(path) if name in ALLOWED_ONLY_IN and not ALLOWED_ONLY_IN[name](here)
    }
    assert not forbidden, f"{here} must not import {', '.join(sorted(forbidden))}"


@pytest.mark.parametrize("command", ["sql", "tables", "explain", "diff", "export", "plan"])
def test_commands_that_only_look_start_without_torch_and_beam(command):
    start = f"import sys, pipelines.cli; pipelines.cli.module_of({command!r})"
    code = f"{start}; sys.exit(bool({{'torch', 'apache_beam'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
