"""Whether `sssl estimate` predicts a run over ten times its sample: CPU and wall time, and the
bytes of each table.

python tests/bench/estimate.py [--tracks 240] [--seconds 10]

Flags behind a bare -- are given to both commands.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from conftest import RATE_HZ, music
from rich.console import Console
from usage import measure

from sssl.store.folder import Store

ROOT = Path(__file__).parents[2]
ENV = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
}
SSSL = [sys.executable, "-m", "pipelines.cli"]
CLASSES = ("Q1", "Q2")
"""Two classes, since a trial needs three tracks of each: ten times the least sample is ten times
less work so."""
# Rounds that split whatever they find, so that what was counted is what runs.
SETTINGS = """
[method.train]
warmup_epochs = 2
epochs = 1

[method.relabel]
tau = 1.0
max_noisy_share = 0.4
min_separation = "none"
peaked = false

[method.relabel.evidence]
min_agreement = "none"
"""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def write_music(folder, tracks, seconds):
    """Write tracks of half to one and a half times the mean length, in three codecs."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(5), []
    for n in range(tracks):
        length_s, label = rng.uniform(0.5, 1.5) * seconds, CLASSES[n % len(CLASSES)]
        path = folder / "audio" / f"t{n:05d}.{('wav', 'flac', 'ogg')[n % 3]}"
        if not path.exists():
            soundfile.write(path, music(label, length_s, seed=n), RATE_HZ)
        rows.append((path.stem, path, label))
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("track_id", "uri", "label"), *rows])
    return folder / "catalog.csv"


def compare(folder, catalog, tracks, flags):
    """Return what was predicted and what came out, by name."""
    result = folder / "estimate.json"
    sample = ["--tracks", str(tracks // 10), "--json", str(result)]
    measure([*SSSL, "estimate", "--catalog", str(catalog), *sample, *flags], ENV)
    predicted = json.loads(result.read_text())
    usage = measure(
        [*SSSL, "run", "--catalog", str(catalog), "--output", str(folder / "out"), *flags], ENV
    )
    sizes = {}
    for manifest in Store.open(str(folder / "out")).latest().manifests:
        sizes[manifest.table] = sizes.get(manifest.table, 0) + manifest.bytes
    found = {"CPU h": usage.cpu_s / 3600, "wall h": usage.wall_s / 3600} | sizes
    intervals = {"CPU h": predicted["total"]["cpu_h"], "wall h": predicted["total"]["wall_h"]}
    return {
        name: ((intervals | predicted["table_bytes"])[name], value) for name, value in found.items()
    }


def main(argv):
    at = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--tracks", type=int, default=240, help="ten times the sample; default %(default)s"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="mean length of a track; default %(default)s"
    )
    parser.add_argument(
        "--folder", type=Path, help="keep music and outputs here; default: a temporary folder"
    )
    args = parser.parse_args(argv[:at])
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as temporary:
        folder = args.folder or Path(temporary)
        catalog = write_music(folder, args.tracks, args.seconds)
        settings = folder / "settings.toml"
        settings.write_text(SETTINGS)
        flags = ["--classes", *CLASSES, "--settings", str(settings), *argv[at + 1 :]]
        for name, (said, found) in compare(folder, catalog, args.tracks, flags).items():
            met = said["low"] <= found <= said["high"]
            interval = f"{said['value']:.4g} [{said['low']:.4g}, {said['high']:.4g}]"
            console.print(
                f"{name:<10}predicted {interval:<40}came out"
                f" {found:<12.4g}{'met' if met else 'missed'}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
