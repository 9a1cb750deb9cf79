"""How cost grows with the catalog: segment and score at 1, 4 and 16 times the tracks, a plan of
millions, and a night that adds a hundredth of a catalog.

python tests/bench/growth.py [--tracks 64] [--planned 10000000] [--published 1000000]
    [--night 2000] [--only night]

Each run is a process of its own. What the second and third size cost more than the one before, by
the hours that came on top, should not change; nor should, from the second to the third, the peak
memory of the process, which with Beam's own runner is driver and worker.
"""

import argparse
import csv
import os
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import simulated
from audio_files import write_audio
from material import RATE_HZ, synthesize
from rich.console import Console
from scoring import SEGMENTS_A_TRACK, make
from usage import Usage, measure

from sssl.datasets import synthetic as demo
from sssl.store.seal import opened_json

ROOT = Path(__file__).parents[2]
ENV = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
}
SSSL = [sys.executable, "-m", "pipelines.cli"]
TIMES = (1, 4, 16)
MAX_CHANGE, MAX_PLAN_S, MAX_PLAN_MB, MAX_NIGHT = 0.10, 120, 2000, 0.03
NIGHT_S = 12
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Size:
    hours: float
    usage: Usage


def marginals(sizes):
    """Return the CPU seconds of each hour that a size has on top of the one before."""
    return [(b.usage.cpu_s - a.usage.cpu_s) / (b.hours - a.hours) for a, b in pairwise(sizes)]


def segment_sizes(folder, tracks, minutes):
    """Segment a catalog that lists the same few files over and over under other ids."""
    files = []
    for n, track in enumerate(demo.plan_tracks(4, seed=3)):
        files.append(
            write_audio(folder / f"{n}.ogg", synthesize(track, round(60 * minutes)), RATE_HZ)
        )
    for times in TIMES:
        with (catalog := folder / f"x{times}.csv").open("w", newline="") as file:
            rows = [(f"t{n:06d}", files[n % len(files)]) for n in range(tracks * times)]
            csv.writer(file).writerows([("track_id", "uri"), *rows])
        command = [
            *SSSL,
            "segment",
            "--catalog",
            str(catalog),
            "--output",
            str(folder / f"out{times}"),
        ]
        yield Size(tracks * times * minutes / 60, measure(command, ENV))


def score_sizes(folder, tracks):
    """Score segments of noise."""
    for times in TIMES:
        store, snapshot = make(str(folder / f"score{times}"), tracks * times)
        store.publish(snapshot)
        hours = tracks * times * SEGMENTS_A_TRACK * 3 / 3600
        yield Size(hours, measure([*SSSL, "score", "--output", store.root, "--round", "0"], ENV))


def plans(folder, tracks):
    """Plan a catalog as Parquet and as CSV, before anything ran."""
    for suffix in ("parquet", "csv"):
        catalog = str(folder / f"planned.{suffix}")
        simulated.write_catalog(catalog, tracks)
        yield (
            suffix,
            measure(
                [*SSSL, "plan", "--catalog", catalog, "--output", str(folder / "nothing-yet")], ENV
            ),
        )


def plan_of_night(folder, tracks):
    """Plan a hundredth more tracks on top of a catalog that is published; all files are in an
    inventory, as the bucket is not there to be asked."""
    catalog, night, inventory = (
        str(folder / f"{name}.parquet") for name in ("before", "night", "inventory")
    )
    output = str(folder / "planned")
    simulated.write_catalog(catalog, tracks)
    simulated.write_output(catalog, output)
    simulated.write_catalog(night, tracks + tracks // 100)
    simulated.write_inventory(inventory, tracks + tracks // 100)
    places = ["--catalog", night, "--output", output, "--inventory", inventory]
    return measure([*SSSL, "plan", *places], ENV)


def nights(folder, tracks):
    """Run on a catalog of which a tenth is labelled, again as it is, and with a hundredth more
    without a label.

    Yields what each run took, and how many epochs were trained since the folder was new.
    """
    files = []
    for n, track in enumerate(demo.plan_tracks(16, seed=3)):
        path = write_audio(folder / f"night{n}.ogg", synthesize(track, NIGHT_S), RATE_HZ)
        files.append((path, track.label))
    rows = []
    for n in range(tracks + tracks // 100):
        path, label = files[n // 10 % len(files) if n % 10 == 0 else n % len(files)]
        rows.append((f"t{n:06d}", path, label if n % 10 == 0 and n < tracks else ""))
    catalog, output = folder / "night.csv", folder / "night"
    command = [*SSSL, "run", "--catalog", str(catalog), "--output", str(output)]
    for name, count in (("first run", tracks), ("again", tracks), ("night", len(rows))):
        with catalog.open("w", newline="") as file:
            csv.writer(file).writerows([("track_id", "uri", "label"), *rows[:count]])
        yield name, measure(command, ENV), epochs_trained(output)


def epochs_trained(output):
    """Count the epochs that members of all models of an output folder were trained."""
    histories = [
        opened_json(path.read_bytes(), str(path)) for path in output.glob("models/*/member*.json")
    ]
    return sum(len(history["epochs"]) for history in histories)


def tell_nights(folder, tracks):
    taken = {}
    for name, usage, epochs in nights(folder, tracks):
        taken[name] = usage, epochs
        console.print(
            f"{tracks} tracks, {name}: {usage.cpu_s:.1f} CPU s, {usage.wall_s:.1f} s, {epochs}"
            " epochs trained so far"
        )
    (first, learned), (again, _), (night, epochs) = taken.values()
    share = (night.cpu_s - again.cpu_s) / first.cpu_s
    met = verdict(share <= MAX_NIGHT and epochs == learned)
    console.print(
        f"a night costs {share:.1%} of the first run more than a run without changes: {met}"
    )


def tell(stage, sizes):
    for times, size in zip(TIMES, sizes, strict=True):
        usage = size.usage
        console.print(
            f"{stage:<8}{times:>3} x {size.hours:7.2f} h {usage.cpu_s:8.1f} CPU s"
            f" {usage.wall_s:8.1f} s {usage.peak_mb:7.0f} MB"
        )
    first, second = marginals(sizes)
    # The smallest has so few parts that not all are at hand at once that could be.
    _, middle, largest = (size.usage.peak_mb for size in sizes)
    for name, change in (("CPU s/h", second / first - 1), ("peak memory", largest / middle - 1)):
        console.print(
            f"{stage}, {name}: {change:+.0%} at the largest, {verdict(change <= MAX_CHANGE)}"
        )


def verdict(met):
    return "[green]met[/]" if met else "[red]missed[/]"


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--tracks",
        type=int,
        default=64,  # two parts: the next one is read while one is scored, which takes memory
        help="tracks of the smallest catalog; default %(default)s",
    )
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="length of a track; default %(default)s"
    )
    parser.add_argument(
        "--planned", type=int, default=10_000_000, help="tracks to plan; default %(default)s"
    )
    parser.add_argument(
        "--published",
        type=int,
        default=1_000_000,  # ten times as many take 10 minutes to commit
        help="tracks that are published before a plan; default %(default)s",
    )
    parser.add_argument(
        "--night", type=int, default=2000, help="tracks before a night; default %(default)s"
    )
    parser.add_argument("--only", choices=["night"], help="measure nothing else")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as name:
        folder = Path(name)
        tell_nights(folder, args.night)
        if args.only:
            return
        tell("segment", list(segment_sizes(folder, args.tracks, args.minutes)))
        tell("score", list(score_sizes(folder, args.tracks)))
        for suffix, usage in plans(folder, args.planned):
            tell_plan(f"plan of {args.planned} tracks in {suffix}", usage)
        usage = plan_of_night(folder, args.published)
        tell_plan(f"plan of 1 % more tracks than the {args.published} published", usage)


def tell_plan(what, usage):
    met = verdict(usage.wall_s <= MAX_PLAN_S and usage.peak_mb <= MAX_PLAN_MB)
    console.print(
        f"{what}: {usage.cpu_s:.1f} CPU s, {usage.wall_s:.1f} s, {usage.peak_mb:.0f} MB: {met}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
