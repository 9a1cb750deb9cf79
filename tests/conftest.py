import csv
import os
import shutil
import tempfile
import uuid
from pathlib import Path

# Two torch threads that wait for each other on a busy machine take ten times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What hypothesis keeps would lie in the checkout, which other tests take whole.
os.environ.setdefault(
    "HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tempfile.gettempdir(), "hypothesis")
)

import browser as chromium_browser
import gcs
import numpy as np
import pytest
import soundfile
from filelock import FileLock
from hypothesis import settings
from reports import make_folder, read, sections

from pipelines.cli import main
from sssl.store.folder import Store

# The same examples on every machine and in every run, and no time limit on a busy one.
settings.register_profile("sssl", derandomize=True, max_examples=50, deadline=None, database=None)
settings.load_profile("sssl")
# Before any test: the decoders' processes have the environment that the first of them started in.
os.environ.update(gcs.ENVIRONMENT)
RATE_HZ = 16_000
CLASSES = ("Q1", "Q2", "Q3", "Q4")
TRAINING = ["--settings", str(Path(__file__).with_name("fast.toml"))]
FAST = ["--tracks-per-part", "2", "--folds", "3", *TRAINING]
WRONG_PER_CLASS = 2


def music(label, seconds, seed):
    """A class is a register and a rhythm: easy to learn, from real samples."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = 220 * 2 ** CLASSES.index(label) * rng.uniform(0.98, 1.02)
    beat = np.sin(2 * np.pi * (1 + CLASSES.index(label)) * t) > 0
    return (0.3 * beat * np.sin(2 * np.pi * hz * t) + 0.01 * rng.standard_normal(len(t))).astype(
        np.float32
    )


def write_catalog(folder, tracks_per_class=5, seconds=15.0, wrong_per_class=1):
    """Write tracks in three codecs, the first of each class with a wrong last third, and three
    broken files."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for c, label in enumerate(CLASSES):
        for n in range(tracks_per_class):
            wave = music(label, seconds, seed=100 * c + n)
            if n < wrong_per_class:
                third = len(wave) // 3
                wave[-third:] = music(CLASSES[(c + 2) % 4], seconds, seed=n)[-third:]
            path = folder / "audio" / f"{label}_{n}.{('wav', 'flac', 'ogg')[n % 3]}"
            soundfile.write(path, wave, RATE_HZ)
            rows.append((path.stem, path, label))
    (folder / "audio" / "text.mp3").write_text("not music\n" * 100)
    soundfile.write(folder / "audio" / "silent.wav", np.zeros(RATE_HZ * 10, np.float32), RATE_HZ)
    rows += [
        (name.split(".")[0], folder / "audio" / name, "Q1")
        for name in ("text.mp3", "silent.wav", "missing.wav")
    ]
    # Tracks without a label are labelled, not learned from.
    soundfile.write(folder / "audio" / "new.wav", music("Q2", seconds, seed=999), RATE_HZ)
    rows.append(("new", folder / "audio" / "new.wav", ""))
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("track_id", "uri", "label"), *rows])
    return str(folder / "catalog.csv")


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A function that makes a folder once for all workers of the session. They read it; who writes,
    takes a copy."""
    own = tmp_path_factory.getbasetemp()
    root = own if worker_id == "master" else own.parent

    def once(name, make):
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def catalog(shared):
    def write(folder):
        write_catalog(folder, wrong_per_class=WRONG_PER_CLASS)

    return str(shared("music", write) / "catalog.csv")


@pytest.fixture(scope="session")
def finished(catalog, shared):
    """An output folder of an undisturbed `sssl run`, to read."""

    def run(output):
        assert main(["run", "--catalog", catalog, "--output", str(output), *FAST]) == 0

    return Store.open(str(shared("finished", run)))


@pytest.fixture(scope="session")
def finished_in_halves(catalog, shared):
    """The same of a folder whose log-mels have half precision, as before schema version 9."""

    def run(output):
        settings = output.with_suffix(".toml")
        fast = Path(__file__).with_name("fast.toml").read_text()
        settings.write_text(f'{fast}\n[cut]\nstored_as = "float16"\n')
        flags = [*FAST, "--settings", str(settings)]
        assert main(["run", "--catalog", catalog, "--output", str(output), *flags]) == 0

    return Store.open(str(shared("halves", run)))


@pytest.fixture(scope="module")
def finished_copy(finished, tmp_path_factory):
    """A copy of it, for a module that writes."""
    return Store.open(
        str(shutil.copytree(finished.root, tmp_path_factory.mktemp("finished") / "out"))
    )


@pytest.fixture
def in_memory():
    """Where an output folder can lie for a test that needs no disk."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def report_folder():
    """A warm-up, an accepted and a rejected round, with all sorts of tracks."""
    return make_folder("memory://report", (0.6, 0.9, 0.4))


@pytest.fixture(scope="session")
def report_truth(tmp_path_factory):
    return sections(tmp_path_factory.mktemp("truth") / "sections.csv")


@pytest.fixture(scope="session")
def report_html(report_folder, report_truth):
    return read(report_folder, report_truth)


@pytest.fixture(scope="session")
def cloud():
    """Google Cloud Storage, as an emulator on this machine."""
    with gcs.storage() as storage:
        yield storage


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium."""
    with chromium_browser.chromium() as opened:
        yield opened


# What runs pipelines, trains, measures, builds a package, makes reports or asks MLflow: by far the
# most of the suite's time.
SLOW_FIXTURES = {"finished", "report_folder", "report_html", "built", "cloud", "prism", "browser"}
SLOW_FOLDERS = (
    "tests/bench",
    "tests/pipelines/beam",
    "tests/pipelines/commands",
    "tests/pipelines/stages",
    "tests/sssl/report",
    "tests/sssl/tracking",
)
# What looks at what a model that was trained here found, as far as that may differ from machine to
# machine.
KERNELS = (
    "tests/pipelines/commands/test_explain.py",
    "tests/pipelines/commands/test_run.py::test_the_",
    "tests/sssl/report/test_report_tracks.py::test_players_point_at_",
    "tests/sssl/tracking/test_tracker.py::test_the_last_step_of_a_run_",
    "tests/test_docs.py::test_a_file_of_the_catalog_",
    "tests/test_docs.py::test_what_labels_new_music_",
    "tests/test_notebook.py::test_the_notebook_runs_",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.startswith(KERNELS):
            item.add_marker("kernels")
        if SLOW_FIXTURES & set(item.fixturenames) or item.nodeid.startswith(SLOW_FOLDERS):
            item.add_marker("slow")
        if {"cloud", "prism"} & set(item.fixturenames):
            item.add_marker("cloud")
        if "browser" in item.fixturenames:
            item.add_marker("browser")
