"""Whether the demo says the same on other machines.

Another machine rounds differently. Stand-ins for it are torch's kernels for older processors
(ATEN_CPU_CAPABILITY) and other numbers of threads. Music and segments are made once per seed; all
that follows runs once per machine and seed.

python tests/bench/machines.py FOLDER [--seeds 0 1 2 3 4 5] [--kernels native avx2 default]
[--threads 1]

Stopped and started again it goes on: FOLDER/results.json has what is done. The table goes to the
    terminal.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import combinations, product
from pathlib import Path

from pipelines.commands import demo
from sssl.evaluate.sections import wrong_segments
from sssl.labels.findings import Findings
from sssl.store.folder import Store

PUBLISHED_AGREEMENT = 0.97  # share of a seed's tracks that must have the same label on all machines
PRECISION, RECALL = 0.85, 0.75  # of the findings


def prepare(folder, seed):
    """Synthesize and segment a seed's catalog, once; return a copy of the output that a machine can
    go on with."""
    output, segmented = folder / f"seed{seed}" / "demo", folder / f"seed{seed}" / "segmented"
    if not segmented.exists():
        shutil.rmtree(output, ignore_errors=True)
        music = demo.make_music(demo.Config(str(output), seed=seed))
        call(["segment", "--catalog", str(music.catalog), "--output", str(output)], {})
        output.rename(segmented.with_suffix(".part")).rename(segmented)
    shutil.rmtree(output, ignore_errors=True)
    # At the same place as when it was segmented, for the catalog names its files by absolute paths.
    return shutil.copytree(segmented, output)


def call(arguments, environment):
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    subprocess.run(command, env=os.environ | environment, stdout=subprocess.DEVNULL, check=True)


def environment_of(kernels, threads):
    """Return the variables that make this machine compute like another."""
    chosen = {} if kernels == "native" else {"ATEN_CPU_CAPABILITY": kernels}
    return chosen | {"OMP_NUM_THREADS": str(threads)}


def measure(folder, seed, kernels, threads):
    """Run the demo as on another machine; return what it found and published."""
    output = prepare(folder, seed)
    started_s = time.monotonic()
    call(["demo", "--output", str(output), "--seed", str(seed)], environment_of(kernels, threads))
    wall_s = time.monotonic() - started_s
    store = Store.open(str(output))
    snapshot = store.latest()
    truth = demo.make_music(demo.Config(str(output), seed=seed)).truth
    found = wrong_segments(store, snapshot, str(truth))
    songs = store.read_table(snapshot.get("songs"), ["track_id", "label", "abstained"]).to_pydict()
    return {
        "seed": seed,
        "kernels": kernels,
        "threads": threads,
        "flagged": found.flagged,
        "wrong": found.wrong,
        "precision": found.precision,
        "recall": found.recall,
        "auc": found.auc,
        "outcome": Findings.of(store, snapshot).outcome,
        "abstained": sum(songs["abstained"]),
        "labels": dict(zip(songs["track_id"], songs["label"], strict=True)),
        "wall_s": wall_s,
    }


def agreement(rows):
    """Return the least share of tracks that two machines label alike, 1 with a single machine."""
    pairs = combinations([row["labels"] for row in rows], 2)
    return min(
        (sum(one[track] == other[track] for track in one) / len(one) for one, other in pairs),
        default=1.0,
    )


def failures(rows):
    """Say which rows and seeds do not hold what is promised."""
    for row in rows:
        name = f"seed {row['seed']}, {row['kernels']}, {row['threads']} threads"
        if not row["flagged"]:
            yield f"{name}: nothing looks wrong"
        elif row["precision"] < PRECISION or row["recall"] < RECALL:
            yield f"{name}: precision {row['precision']:.3f}, recall {row['recall']:.3f}"
    for seed in sorted({row["seed"] for row in rows}):
        share = agreement([row for row in rows if row["seed"] == seed])
        if share < PUBLISHED_AGREEMENT:
            yield f"seed {seed}: two machines label only {share:.1%} of the tracks alike"


def table(rows):
    """Return the rows as a Markdown table, with the agreement of each seed's machines behind its
    last one."""
    lines = [
        (
            "| seed | kernels | threads | flagged of wrong | precision | recall | AUC | abstained |"
            " labels alike | model |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        for row in own:
            alike = f"{agreement(own):.3f}" if row is own[-1] else ""
            precision, recall, auc = (
                "" if row[name] is None else f"{row[name]:.3f}"
                for name in ("precision", "recall", "auc")
            )
            verdict = row["outcome"].partition(", because")[0]
            lines.append(
                f"| {seed} | {row['kernels']} | {row['threads']} | {row['flagged']} of"
                f" {row['wrong']} | {precision} | {recall} | {auc} | {row['abstained']} of"
                f" {len(row['labels'])} | {alike} | {verdict} |"
            )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda path: Path(path).absolute())
    parser.add_argument("--seeds", type=int, nargs="+", default=range(6))
    parser.add_argument(
        "--kernels",
        nargs="+",
        choices=("native", "avx2", "default"),
        default=("native", "avx2", "default"),
    )
    parser.add_argument("--threads", type=int, nargs="+", default=(1,))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    results = chosen.folder / "results.json"
    rows = json.loads(results.read_text()) if results.exists() else []
    done = {(row["seed"], row["kernels"], row["threads"]) for row in rows}
    for machine in product(chosen.seeds, chosen.kernels, chosen.threads):
        if machine not in done:
            rows.append(measure(chosen.folder, *machine))
            results.write_text(json.dumps(rows))
    rows.sort(key=lambda row: (row["seed"], row["kernels"], row["threads"]))
    broken = list(failures(rows))
    sys.stdout.write("\n".join([table(rows), *broken, ""]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
