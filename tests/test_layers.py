"""Which part may import which, how large one gets, and what a command loads before it works."""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for package in ("schemas", "sssl", "pipelines")
    for path in sorted((ROOT / package).rglob("*.py"))
]

# What is sent to MLflow, what it loads by itself, and what is fetched from it.
TRACKING = tuple(
    Path("sssl/tracking") / name for name in ("mlflow_copy.py", "pyfunc.py", "registered.py")
)
MAKES_FEATURES = (Path("sssl/audio/features.py"), Path("sssl/model/augment.py"))
ALLOWED_ONLY_IN = {
    "apache_beam": lambda path: path.parts[0] == "pipelines",
    "mlflow": lambda path: path in TRACKING,
    "torchaudio": lambda path: path in MAKES_FEATURES,
    "pipelines": lambda path: path.parts[0] == "pipelines",
    "sssl": lambda path: path.parts[0] in ("sssl", "pipelines"),
}

ROOMS = (
    "schemas",
    "sssl.errors",
    "sssl.words",
    "sssl.version",
    "sssl.config",
    "sssl.arrays",
    "sssl.metrics",
    "sssl.html",
    "sssl.google_storage",
    "sssl.urls",
    "sssl.runtime",
    "sssl.store",
    "sssl.catalog",
    "sssl.audio",
    "sssl.embedding",
    "sssl.datasets",
    "sssl.model",
    "sssl.labels",
    "sssl.presets",
    "sssl.songs",
    "sssl.evaluate",
    "sssl.plots",
    "sssl.tracking",
    "sssl.report",
    "sssl.export",
    "sssl.review",
    "sssl.estimate",
    "sssl.removal",
    "sssl.api",
    "sssl",
    "pipelines",
    "pipelines.errors",
    "pipelines.terminal",
    "pipelines.beam",
    "pipelines.stages",
    "pipelines.commands",
    "pipelines.cli",
    "pipelines.launch",
    "pipelines.templates",
)
"""From the bottom up: a module imports from its own room and from those before it in this list."""

MOST_MODULES, MOST_LINES = 14, 500

LOOKING = (
    "plan", "tables", "sql", "report", "rollback", "publish", "takedown", "mlflow-sync",
    "explain", "suggest", "diff",
    "export", "review", "verify", "vacuum",
)  # fmt: skip
HEAVY = ("torch", "torchaudio", "apache_beam", "av", "mlflow")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported(path):
    """Yield the modules that a file imports, wherever in it: at the top, in functions, for
    annotations."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


GRAPH = {
    module: {name for name in imported(path) if name in MODULES} for module, path in MODULES.items()
}


def room_of(module):
    return ".".join(module.split(".")[: 1 if module.startswith("schemas") else 2])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    here = path.relative_to(ROOT)
    packages = {name.split(".")[0] for name in imported(path)}
    forbidden = {
        name for name in packages if name in ALLOWED_ONLY_IN and not ALLOWED_ONLY_IN[name](here)
    }
    assert not forbidden, f"{here} must not import {', '.join(sorted(forbidden))}"


def test_modules_import_each_other_in_no_circle():
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle


def test_rooms_import_each_other_in_no_circle():
    rooms = defaultdict(set)
    for module, names in GRAPH.items():
        rooms[room_of(module)] |= {room_of(name) for name in names} - {room_of(module)}
    TopologicalSorter(rooms).prepare()


def test_a_room_imports_only_what_is_listed_before_it():
    place = {room: number for number, room in enumerate(ROOMS)}
    assert {room_of(module) for module in MODULES} == set(ROOMS)
    wrong = [
        f"{module} imports {name}"
        for module, names in GRAPH.items()
        for name in names
        if place[room_of(name)] > place[room_of(module)]
    ]
    assert not wrong


def test_errors_and_version_import_nothing():
    assert not list(imported(MODULES["sssl.errors"]))
    assert not list(imported(MODULES["sssl.version"]))


def test_a_folder_holds_no_more_modules_than_one_keeps_in_mind():
    here = [path.relative_to(ROOT) for path in FILES if path.name != "__init__.py"]
    counts = Counter(path.parent for path in here if path.parts[0] == "sssl")
    assert not {str(folder): count for folder, count in counts.items() if count > MOST_MODULES}


def test_no_module_is_longer_than_one_reads_at_once():
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert not {module: count for module, count in lines.items() if count > MOST_LINES}


def heavy_packages_loaded_by(code):
    """Return which of the heavy packages a fresh process has loaded once it has run some code."""
    ask = f"{code}\nimport sys\nprint('loaded', *sorted(set({HEAVY!r}) & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("command", LOOKING)
def test_a_command_that_neither_decodes_nor_trains_starts_without_torch_beam_and_decoders(command):
    code = (
        f"import pipelines.cli\ntry:\n  pipelines.cli.main([{command!r}, '--help'])\nexcept"
        " SystemExit:\n  pass"
    )
    assert heavy_packages_loaded_by(code) == []


def test_the_flags_of_a_run_are_explained_and_refused_without_them():
    for args in (["--help"], ["--catalogue", "music.csv"]):
        code = (
            f"import pipelines.cli\ntry:\n  pipelines.cli.main(['run', *{args!r}])\nexcept"
            " SystemExit:\n  pass"
        )
        assert heavy_packages_loaded_by(code) == []


def test_tables_are_read_in_python_without_them(tmp_path):
    code = (
        f"import sssl\nfrom sssl.store.folder import Store\nStore.open({str(tmp_path)!r},"
        " create=True)"
    )
    assert heavy_packages_loaded_by(f"{code}\nsssl.open({str(tmp_path)!r})") == []
