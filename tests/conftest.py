import csv
import os
import tempfile
import uuid

# Two torch threads that wait for each other on a busy machine take ten times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What hypothesis keeps would lie in the checkout, which other tests take whole.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tempfile.gettempdir(), "hypothesis"))

import browser as chromium_browser
import gcs
import numpy as np
import pytest
import soundfile
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
FAST = [
    "--tracks-per-part", "2", "--folds", "3", "--warmup-epochs", "6", "--epochs", "1", "--rounds", "2",
    "--min-separation", "None", "--min-agreement", "None", "--batch-size", "8", "--accept-all",
]  # fmt: skip


def music(label, seconds, seed):
    """A class is a register and a rhythm: easy to learn, from real samples."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = 220 * 2 ** CLASSES.index(label) * rng.uniform(0.95, 1.05)
    beat = np.sin(2 * np.pi * (1 + CLASSES.index(label)) * t) > 0
    return (0.3 * beat * np.sin(2 * np.pi * hz * t) + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


def write_catalog(folder, tracks_per_class=5, seconds=15.0):
    """Write tracks in three codecs, the first of each class with a wrong last third, and three broken files."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for c, label in enumerate(CLASSES):
        for n in range(tracks_per_class):
            wave = music(label, seconds, seed=100 * c + n)
            if n == 0:
                third = len(wave) // 3
                wave[-third:] = music(CLASSES[(c + 2) % 4], seconds, seed=n)[-third:]
            path = folder / "audio" / f"{label}_{n}.{('wav', 'flac', 'ogg')[n % 3]}"
            soundfile.write(path, wave, RATE_HZ)
            rows.append((path.stem, path, label))
    (folder / "audio" / "text.mp3").write_text("not music\n" * 100)
    soundfile.write(folder / "audio" / "silent.wav", np.zeros(RATE_HZ * 10, np.float32), RATE_HZ)
    rows += [(name.split(".")[0], folder / "audio" / name, "Q1") for name in ("text.mp3", "silent.wav", "missing.wav")]
    # Tracks without a label are labelled, not learned from.
    soundfile.write(folder / "audio" / "new.wav", music("Q2", seconds, seed=999), RATE_HZ)
    rows.append(("new", folder / "audio" / "new.wav", ""))
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("track_id", "uri", "label"), *rows])
    return str(folder / "catalog.csv")


@pytest.fixture(scope="session")
def catalog(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="session")
def finished(catalog, tmp_path_factory):
    """An output folder of an undisturbed `sssl run`."""
    output = str(tmp_path_factory.mktemp("finished") / "out")
    assert main(["run", "--catalog", catalog, "--output", output, *FAST]) == 0
    return Store.open(output)


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


# What runs whole pipelines, trains, or measures: by far the most of the suite's time.
SLOW_FIXTURES = {"finished", "report_folder", "report_html", "cloud", "prism", "browser"}
SLOW_FOLDERS = ("tests/pipelines/beam", "tests/pipelines/commands", "tests/pipelines/stages", "tests/bench")


def pytest_collection_modifyitems(items):
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames) or item.nodeid.startswith(SLOW_FOLDERS):
            item.add_marker("slow")
        if {"cloud", "prism"} & set(item.fixturenames):
            item.add_marker("cloud")
        if "browser" in item.fixturenames:
            item.add_marker("browser")
