import json
import subprocess
import sys

import bench
import numpy as np
import parts
import pyarrow.parquet as pq
import pytest
import variants
from audio_files import tone, write_audio
from usage import CommandFailed, Usage, measure

from sssl.audio.mel import STEP_DB, in_steps
from sssl.audio.sound import MEASURES
from sssl.removal.takedown import without
from sssl.store.tensors import log_mels

BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Three whole segments of stereo in m4a, which the naive loop reads in its own way, and in
    ogg."""
    folder = tmp_path_factory.mktemp("music")
    wave = tone(10, channels=2, level=(0.5, 0.1)) + np.random.default_rng(0).normal(
        0, 0.05, (441_000, 2)
    ).astype(np.float32)
    paths = [write_audio(folder / f"a.{suffix}", wave, 44_100) for suffix in ("m4a", "ogg")]
    (folder / "catalog.csv").write_text(
        "track_id,uri\n" + "".join(f"{path.name},{path}\n" for path in paths)
    )
    return str(folder / "catalog.csv")


def python(code):
    return [sys.executable, "-c", code]


def test_a_process_that_outlives_its_parent_is_counted():
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '''{BUSY}'''])"
    usage = measure(python(orphan), bench.ENV)
    assert usage.cpu_s > 0.3


def test_memory_is_that_of_the_largest_process_alone():
    ours = np.ones(40_000_000)
    usage = measure(python("b'x' * 50_000_000"), bench.ENV)
    assert 50 < usage.peak_mb < 100 < ours.nbytes / 1e6


def test_a_command_that_fails_is_not_a_measurement():
    with pytest.raises(CommandFailed, match=r"ended with code 3:\nno tracks"):
        measure(python("import sys; sys.stderr.write('no tracks'); sys.exit(3)"), bench.ENV)


def test_start_up_is_kept_apart():
    cost = bench.Cost.of(one=Usage(6, 8, 100), every=Usage(16, 13, 300), one_h=0.5, every_h=3)
    assert (cost.marginal_cpu_s_per_h, cost.marginal_wall_s_per_h) == (4, 2)
    assert cost.startup_cpu_s == 4
    assert cost.total_cpu_s_per_h == pytest.approx(16 / 3)
    assert (cost.total_wall_s, cost.peak_mb) == (13, 300)


def test_the_loops_do_the_same_work(catalog, tmp_path):
    variants.naive(catalog, tmp_path / "naive")
    variants.plain(catalog, str(tmp_path / "plain"))
    theirs = pq.read_table(tmp_path / "naive" / "segments.parquet")
    ours = pq.read_table(tmp_path / "plain" / "segments")
    assert theirs["start_s"].to_pylist() == ours["start_s"].to_pylist() == [0, 3, 6] * 2
    np.testing.assert_allclose(theirs["level_db"], ours["level_db"], atol=0.01)
    steps = log_mels(pq.read_table(tmp_path / "plain" / "features")).reshape(6, -1).astype(int)
    their_steps = in_steps(np.array(theirs["log_mel"].to_pylist())).astype(int)
    assert STEP_DB * np.abs(their_steps - steps).mean() < 0.05


def test_ratios_are_of_the_cost_without_start_up():
    def cost(cpu_s, wall_s):
        return bench.Cost.of(Usage(5, 5, 0), Usage(5 + cpu_s, 5 + wall_s, 0), one_h=0, every_h=1)

    costs = {
        "bare": cost(2, 2),
        "naive": cost(8, 8),
        "plain": cost(4, 4),
        "stage": cost(5, 3),
        "stage-1": cost(5, 5),
    }
    peaks = {"track-short": 500, "track-long": 650, "stage-short": 800, "stage-long": 1100}
    bars = bench.list_bars(
        {"mp3": costs, "flac": costs}, peaks, {"log-mel": 9, "timbre": 1.5, "rhythm": 0.25}
    )
    assert [bar.value for bar in bars] == [1.75, 1.25, 2.5, 1.6, 0.6, 150, 300]
    assert [bar.met for bar in bars] == [True, False, False, False, True, True, False]


def test_the_bench_runs(tmp_path):
    tiny = {
        "codecs": "ogg",
        "variants": "bare",
        "tracks": 2,
        "minutes": 0.2,
        "rounds": 1,
        "long-minutes": 0.3,
    }
    flags = [f"--{name}={value}" for name, value in tiny.items()]
    command = [sys.executable, bench.HERE / "bench.py", *flags, "--folder", tmp_path / "audio"]
    done = subprocess.run(
        [*command, "--json", tmp_path / "bench.json"], capture_output=True, text=True, check=True
    )
    assert "through the stage: added memory" in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["costs"]["ogg"].keys() == {"bare"}
    assert report["peak_mb"].keys() == {"track-short", "track-long", "stage-short", "stage-long"}
    assert report["sound_cpu_s_per_h"].keys() == {"log-mel", "shared", *MEASURES}
    assert min(report["sound_cpu_s_per_h"].values()) > 0
    assert report["hours"]["ogg-all"] == pytest.approx(3 * 24 / 3600)


def test_a_takedown_asks_for_no_more_files_where_there_are_more_parts():
    gone = {"t00000000", "t00000100", "t00000199"}
    asked = []
    for count in (100, 400):
        store, snapshot = parts.make(count, gone)
        store.medium.begin()
        left = without(store, snapshot, gone)
        asked.append(store.medium.requests["read"] + store.medium.requests["write"])
        ids = store.read_table(left.get("catalog"), ["track_id"])["track_id"].to_pylist()
        assert set(ids).isdisjoint(gone)
        assert len(ids) == 2 * count - 3
        (songs,) = left.get("songs").for_readers.values()
        assert songs.rows == 2 * count - 3
    assert asked[0] == asked[1]
