"""What whoever installs the program gets: the sdist, the wheel, and the extras."""

import ast
import fnmatch
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from reports import make_folder

from pipelines.terminal.extras import PACKAGES
from sssl.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {
    "google-cloud-secret-manager": "google",
    "scikit-learn": "sklearn",
}
COME_ALONG = {"markupsafe"}  # with jinja2


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def ignored(folder, names):
    """Return what git ignores in a folder, as `shutil.copytree` asks."""
    patterns = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    return {
        name
        for name in names
        if any(fnmatch.fnmatch(name, pattern) for pattern in [*patterns, ".git"])
    }


def build(sources, kind):
    """Build an sdist or a wheel of a folder's sources, in a copy of it; return its path."""
    folder = sources.parent / kind
    shutil.copytree(sources, folder / "sources")
    call = f"from setuptools import build_meta; build_meta.build_{kind}('..')"
    built = subprocess.run(
        [sys.executable, "-c", call], cwd=folder / "sources", capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (path,) = (path for path in folder.iterdir() if path.is_file())
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the `checkout`, its sdist `unpacked`, and `site`, where the wheel of that lies
    unpacked."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "checkout", ignore=ignored)
    with tarfile.open(build(folder / "checkout", "sdist")) as archive:
        archive.extractall(folder, filter="data")
    (folder / f"sssl-{__version__}").rename(folder / "unpacked")
    with zipfile.ZipFile(build(folder / "unpacked", "wheel")) as wheel:
        wheel.extractall(folder / "site")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An output folder on disk, with songs, published."""
    folder = tmp_path_factory.mktemp("published") / "out"
    store, snapshot = make_folder(folder, [0.8])
    store.publish(snapshot)
    return folder


def run(*args, site, cwd):
    """Run the command line with a folder of installed packages in the place of the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *args],
        cwd=cwd,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_the_sdist_holds_every_file_of_the_checkout(built):
    made = {
        "PKG-INFO",
        "setup.cfg",
        *(name for name in files_below(built / "unpacked") if ".egg-info/" in name),
    }
    assert files_below(built / "unpacked") - made == files_below(built / "checkout") - {
        ".gitignore"
    }


def test_the_wheel_holds_the_packages_their_types_and_the_license(built):
    (about,) = (built / "site").glob("*.dist-info")
    found = files_below(built / "site")
    assert {name.split("/")[0] for name in found} == {"schemas", "sssl", "pipelines", about.name}
    sources = {name for name in files_below(ROOT / "sssl") if not name.endswith(".pyc")}
    assert {name.removeprefix("sssl/") for name in found if name.startswith("sssl/")} == sources
    assert {"schemas/py.typed", "sssl/py.typed", "pipelines/py.typed"} <= found
    metadata = PathDistribution(about).metadata
    assert (metadata["License-Expression"], metadata["Version"]) == ("Apache-2.0", __version__)
    assert "Apache License" in (about / "licenses/LICENSE").read_text()
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])


def test_an_installed_program_plans_a_catalog(built, tmp_path):
    helped = run("--help", site=built / "site", cwd=tmp_path)
    assert helped.returncode == 0
    assert "label a whole catalog" in helped.stdout
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 16_000)
    (tmp_path / "catalog.csv").write_text(
        f"track_id,uri,label\na,{tmp_path}/a.wav,Q1\nb,{tmp_path}/b.wav,\n"
    )
    planned = run(
        "plan", "--catalog", "catalog.csv", "--output", "out", site=built / "site", cwd=tmp_path
    )
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"│ 2 +│ new +│ decoded", planned.stdout)
    assert "1 of 2 have a label" in planned.stdout


def test_an_installed_program_writes_the_report(built, published, tmp_path):
    written = run("report", "--output", str(published), site=built / "site", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert "</html>" in (published / "report.html").read_text()


def strings_of(path):
    """Yield the texts in a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_no_message_leads_to_a_file_that_only_a_checkout_has():
    """But for what `schemas` says of a column, which is in the bytes of each table, and for what
    writes a page."""
    modules = [path for package in ("sssl", "pipelines") for path in (ROOT / package).rglob("*.py")]
    modules.remove(ROOT / "sssl" / "audio" / "sound.py")
    texts = [(path, text) for path in modules for text in strings_of(path)]
    texts += [(path, path.read_text()) for path in (ROOT / "sssl").rglob("*.jinja")]
    assert not [(path.name, text) for path, text in texts if re.search(r"docs/|\w\.md\b", text)]


def packages_of(extra):
    requirements = [
        re.split(r"[\[<>=]", name)[0] for name in PROJECT["optional-dependencies"][extra]
    ]
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in requirements}


def test_an_extra_is_told_by_each_of_its_packages():
    assert {extra: set(packages) - COME_ALONG for extra, packages in PACKAGES.items()} == {
        extra: packages_of(extra) - ({"apache_beam"} if extra == "gcp" else set())
        for extra in PACKAGES
    }
    assert set(PACKAGES) | {"all", "dev", "readers"} == set(PROJECT["optional-dependencies"])


HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {hidden!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""


def without(packages, code):
    """Run code in a process that does not find some packages."""
    code = HIDE.format(hidden=sorted(packages)) + code
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def call(*args):
    return f"from pipelines.cli import main\nsys.exit(main({[str(arg) for arg in args]!r}))"


EXTRA_PACKAGES = {package for packages in PACKAGES.values() for package in packages}


def test_tables_are_read_in_python_without_any_extra(published):
    read = without(
        EXTRA_PACKAGES,
        f"""
import sssl
output = sssl.open({str(published)!r})
print(len(output.songs()), len(output.sql("select * from songs")))""",
    )
    assert read.returncode == 0, read.stderr
    songs, queried = read.stdout.split()
    assert songs == queried != "0"


@pytest.mark.parametrize(
    "args",
    [
        ["tables"],
        ["sql", "select count(*) from songs"],
        ["export", "--format", "csv", "--to", "{to}"],
        ["export", "--format", "parquet", "--to", "{to}"],
        ["diff", "{output}", "{output}"],
    ],
    ids=lambda args: args[0],
)
def test_commands_that_only_read_tables_need_no_extra(args, published, tmp_path):
    command, *rest = [arg.format(to=tmp_path / "songs", output=published) for arg in args]
    output = [] if command == "diff" else ["--output", published]
    ended = without(EXTRA_PACKAGES, call(command, *output, *rest))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("args", "package", "extra"),
    [
        (["run", "--catalog", "c.csv", "--output", "o"], "torch", "run"),
        (["run", "--catalog", "c.csv", "--output", "o"], "matplotlib", "run"),
        (["segment", "--catalog", "c.csv", "--output", "o"], "av", "run"),
        (["report", "--output", "o"], "jinja2", "report"),
        (["explain", "--output", "o", "--track-id", "a"], "sklearn", "report"),
        (["tables", "--output", "gs://bucket/o"], "gcsfs", "gcp"),
    ],
)
def test_a_command_whose_extra_is_missing_says_what_to_install(
    args, package, extra, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ended = without({package}, call(*args))
    assert ended.returncode == 1
    said = f"error: sssl {args[0]} needs {package}: pip install 'sssl[{extra}]'"
    assert ended.stderr.splitlines() == [said]


def test_a_file_system_that_no_extra_brings_is_named_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ended = without({"s3fs"}, call("tables", "--output", "s3://bucket/o"))
    assert (ended.returncode, ended.stderr) == (
        1,
        "error: sssl tables needs s3fs: pip install s3fs\n",
    )


def test_a_module_of_our_own_that_is_missing_is_no_matter_of_extras(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ended = without({"sssl.store.sql"}, call("sql", "--output", "o", "select 1"))
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (__version__, PROJECT["license"])
    authors = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert authors == ["Sun", "Zhang", "Zhou", "Li"]


def test_a_commit_is_checked_as_make_check_does():
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()[1:]]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == commands
