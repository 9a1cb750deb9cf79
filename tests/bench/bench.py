"""What the segment stage costs, side by side with a bare decoder, a notebook's loop, and our own
loop without Beam.

These make log-mels alone, so the stage does, too, for the comparison; `e` is the stage as it comes,
which also describes the sound. What that costs is shown by family of measures.

python tests/bench/bench.py [--quick] [--json PATH]

Each variant runs in a process of its own over the same files, on a catalog of one track and on all
of them. The difference between the two is the marginal cost, which the bars are for; what is left
of one track is the start-up.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from usage import Usage, measure

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Whoever measures cores gives each process one thread, the pools of BLAS, OpenMP and numba
# included.
ENV = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    ),
}
SCRIPT = [sys.executable, str(HERE / "variants.py")]
BARRED = ("ogg", "mp3", "m4a")
VARIANTS = {
    "bare": "a  bare decode",
    "naive": "b  librosa + pandas",
    "plain": "c  our functions in a loop",
    "stage": "d  sssl segment",
    "stage-1": "d1 sssl segment --processes 1",
    "sound": "e  sssl segment, with its column sound",
}
# Variant, what it is measured against, in what, limit, whether the limit is the most or the least.
RATIOS = (
    ("stage", "plain", "CPU", 1.15, True),
    ("stage", "bare", "CPU", 2.2, True),
    ("naive", "stage", "CPU", 2.0, False),
    ("stage", "stage-1", "wall", 0.65, True),
)
MAX_ADDED_MB = 200
MAX_SOUND_CPU_S_PER_H = 2.0
QUICK = {"codecs": ["ogg"], "tracks": 4, "minutes": 1.0, "rounds": 1, "long_minutes": 30.0}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Cost:
    """What a variant costs in a codec, from its runs on one track and on all."""

    marginal_cpu_s_per_h: float
    marginal_wall_s_per_h: float
    startup_cpu_s: float
    total_cpu_s_per_h: float
    total_wall_s: float
    peak_mb: float

    @classmethod
    def of(cls, one: Usage, every: Usage, one_h: float, every_h: float):
        cpu_s_per_h = (every.cpu_s - one.cpu_s) / (every_h - one_h)
        return cls(
            marginal_cpu_s_per_h=cpu_s_per_h,
            marginal_wall_s_per_h=(every.wall_s - one.wall_s) / (every_h - one_h),
            startup_cpu_s=one.cpu_s - one_h * cpu_s_per_h,
            total_cpu_s_per_h=every.cpu_s / every_h,
            total_wall_s=every.wall_s,
            peak_mb=every.peak_mb,
        )

    def marginal(self, resource):
        return {"CPU": self.marginal_cpu_s_per_h, "wall": self.marginal_wall_s_per_h}[resource]


@dataclass(frozen=True)
class Bar:
    """A number and what it has to be: at most, or at least, the limit."""

    name: str
    codec: str
    value: float
    limit: float
    at_most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def rule(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g}{self.unit}"


def letter(variant):
    return VARIANTS[variant].split()[0]


def run_on(variant, catalog):
    name, _, processes = variant.partition("-")
    flags = ["--processes", processes] if processes else []
    flags += ["--sound-version", "0"] if name == "stage" else []
    name = "stage" if name == "sound" else name
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as folder:
        return measure([*SCRIPT, name, str(catalog), f"{folder}/out", *flags], ENV)


def best(usages):
    """What others on the machine add is never negative, so the least counts; of memory the most."""
    return Usage(
        min(usage.cpu_s for usage in usages),
        min(usage.wall_s for usage in usages),
        max(usage.peak_mb for usage in usages),
    )


def make_material(args):
    """Make what is not there yet; return its folder and the seconds of each catalog."""
    numbers = (args.tracks, args.minutes, args.repeat, args.long_minutes)
    console.print(f"material in {args.folder} (some minutes the first time)")
    measure(
        [sys.executable, str(HERE / "material.py"), args.folder, *map(str, numbers), *args.codecs],
        ENV,
    )
    folder = Path(args.folder)
    return folder, json.loads((folder / "material.json").read_text())


def measure_costs(args, folder, seconds):
    """Run all variants in turn, round by round, so that a busy minute of the machine hits them
    alike."""
    usages = defaultdict(list)
    for round in range(args.rounds):
        for codec in args.codecs:
            for variant in args.variants:
                for size in ("one", "all"):
                    usage = run_on(variant, folder / f"{codec}-{size}.csv")
                    usages[codec, variant, size].append(usage)
                console.print(
                    f"round {round + 1} {codec:<5}{VARIANTS[variant]:<31}{usage.cpu_s:7.1f} CPU s"
                    f" {usage.wall_s:7.1f} s"
                )
    return {
        codec: {
            variant: Cost.of(
                *(best(usages[codec, variant, size]) for size in ("one", "all")),
                *(seconds[f"{codec}-{size}"] / 3600 for size in ("one", "all")),
            )
            for variant in args.variants
        }
        for codec in args.codecs
    }


def measure_memory(folder):
    """Return peaks in MB for a short and a very long track: alone in a process, and of the stage's
    largest process."""
    peaks = {}
    for name in ("short", "long"):
        with (folder / f"{name}.csv").open() as file:
            path = file.read().rsplit(",", 1)[1].strip()
        peaks[f"track-{name}"] = measure([*SCRIPT, "track", path], ENV).peak_mb
        peaks[f"stage-{name}"] = run_on("stage", folder / f"{name}.csv").peak_mb
    return peaks


def sound_costs(folder):
    """Return the CPU s an hour of audio of each family of measures."""
    path = (folder / "short.csv").read_text().rsplit(",", 1)[1].strip()
    done = subprocess.run(
        [sys.executable, str(HERE / "families.py"), path],
        env=ENV,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def list_bars(costs, peaks, by_family):
    described = sum(cost for name, cost in by_family.items() if name != "log-mel")
    bars = [Bar("description of sound, CPU", "ogg", described, MAX_SOUND_CPU_S_PER_H, unit=" s/h")]
    for codec in [codec for codec in costs if codec in BARRED]:
        for variant, against, resource, limit, at_most in RATIOS:
            if {variant, against} <= costs[codec].keys():
                one, other = (costs[codec][name].marginal(resource) for name in (variant, against))
                name = f"{letter(variant)} / {letter(against)}, {resource}"
                bars.append(Bar(name, codec, one / other, limit, at_most))
    for process, name in {"track": "cut and made a table of", "stage": "through the stage"}.items():
        added_mb = peaks[f"{process}-long"] - peaks[f"{process}-short"]
        bars.append(
            Bar(f"long track {name}: added memory", "ogg", added_mb, MAX_ADDED_MB, unit=" MB")
        )
    return bars


def cost_table(costs):
    table = Table(title="Cost (marginal: without start-up)")
    for heading in ("codec", "variant"):
        table.add_column(heading, no_wrap=True)
    headings = (
        "CPU s/h",
        "x real time\na core",
        "wall s/h",
        "start-up\nCPU s",
        "CPU s/h with\nstart-up",
        "peak MB",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for codec, by_variant in costs.items():
        for variant, cost in by_variant.items():
            table.add_row(
                codec,
                VARIANTS[variant],
                f"{cost.marginal_cpu_s_per_h:.2f}",
                f"{3600 / cost.marginal_cpu_s_per_h:.0f}",
                f"{cost.marginal_wall_s_per_h:.2f}",
                f"{cost.startup_cpu_s:.1f}",
                f"{cost.total_cpu_s_per_h:.2f}",
                f"{cost.peak_mb:.0f}",
            )
        table.add_section()
    return table


def family_table(by_family):
    table = Table("what", title="Description of sound, one thread")
    table.add_column("CPU s/h", justify="right")
    for name, cost in by_family.items():
        table.add_row(name, f"{cost:.2f}")
    return table


def bar_table(bars):
    table = Table(title="Bars")
    for heading in ("what", "codec", "measured", "bar", ""):
        table.add_column(
            heading, justify="right" if heading == "measured" else "left", no_wrap=True
        )
    for bar in bars:
        verdict = "[green]met" if bar.met else "[red]missed"
        table.add_row(bar.name, bar.codec, f"{bar.value:.2f}{bar.unit}", bar.rule, verdict)
    return table


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="ogg only, minutes instead of half an hour; its numbers are rough",
    )
    add("--json", type=Path, help="write all numbers to this file")
    add(
        "--folder",
        default=f"{tempfile.gettempdir()}/sssl-bench",
        help="where the audio is kept; default %(default)s",
    )
    add("--codecs", nargs="+", choices=[*BARRED, "opus", "flac"], default=[*BARRED, "opus", "flac"])
    add("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    add("--tracks", type=int, default=10, help="different tracks a codec; default %(default)s")
    add("--minutes", type=float, default=4.0, help="mean length of a track; default %(default)s")
    add(
        "--repeat",
        type=int,
        default=3,
        help="how often the catalog lists each track; default %(default)s",
    )
    add(
        "--rounds",
        type=int,
        default=2,
        help="times that all is run; the least counts; default %(default)s",
    )
    add(
        "--long-minutes",
        type=float,
        default=180.0,
        help="length of the long track; default %(default)s",
    )
    if "--quick" in argv:
        parser.set_defaults(**QUICK)
    args = parser.parse_args(argv)
    if args.tracks * args.repeat < 2:
        parser.error(
            "--tracks times --repeat must be at least 2: a marginal cost is the difference of two"
            " catalogs"
        )
    return args


def main(argv):
    args = parse(argv)
    load_before = os.getloadavg()
    folder, seconds = make_material(args)
    costs = measure_costs(args, folder, seconds)
    peaks = measure_memory(folder)
    by_family = sound_costs(folder)
    bars = list_bars(costs, peaks, by_family)
    console.print(cost_table(costs), family_table(by_family), bar_table(bars))
    console.print(
        f"load before {load_before[0]:.2f}, at the end {os.getloadavg()[0]:.2f}; {os.cpu_count()}"
        " cores"
    )
    if args.json:
        report = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "load": {"before": load_before, "after": os.getloadavg()},
            "settings": {name: str(value) for name, value in vars(args).items()},
            "naive_m4a": (
                "librosa.load"
                if shutil.which("ffmpeg")
                else "PyAV a frame at a time, librosa.resample"
            ),
            "hours": {name: length_s / 3600 for name, length_s in seconds.items()},
            "costs": {
                codec: {name: asdict(cost) for name, cost in by.items()}
                for codec, by in costs.items()
            },
            "peak_mb": peaks,
            "sound_cpu_s_per_h": by_family,
            "bars": [asdict(bar) | {"met": bar.met} for bar in bars],
        }
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
