"""Whether the numbers of a GPU are those of a CPU, and what becomes of cards without memory."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from gpu_material import CLASSES, SEGMENTS_A_TRACK, track_log_mel

from sssl.model.ensemble import load
from sssl.model.score import posteriors
from sssl.model.settings import ScoreConfig
from sssl.model.streaming.scorer import Rows, StreamScorer

FREE_GB = (2.5, 0.9, 0.6)


def score_in_memory(data, parts, **settings):
    scorer = StreamScorer(load(data), ["cuda:0"], **settings)
    return np.concatenate(
        scorer.score(range(len(parts)), parts.__getitem__, lambda _, __, found: found)
    )


def parts_in_memory(count):
    random = np.random.default_rng(3)
    found = []
    for number in range(count):
        tracks = [track_log_mel(2_000_000 + number * 8 + n) for n in range(8)]
        folds = np.repeat(random.integers(-1, 4, 8), SEGMENTS_A_TRACK)
        found.append(Rows(np.concatenate(tracks), folds, None))
    return found


def measure_numbers(results, data):
    parts = parts_in_memory(64)  # 512 tracks
    reference = np.concatenate(
        [posteriors(load(data), p.log_mel, p.folds, ScoreConfig(), 4) for p in parts[:8]]
    )
    single = score_in_memory(data, parts, dtype=torch.float32)
    half = score_in_memory(data, parts)
    tracks = [
        found.reshape(-1, SEGMENTS_A_TRACK, len(CLASSES)).mean(axis=1).argmax(axis=1)
        for found in (single, half)
    ]
    again = score_in_memory(data, parts[::-1])
    back = np.concatenate(np.split(again, len(parts))[::-1])
    results.tell(
        "numbers",
        {
            "single precision against the CPU, largest": float(
                np.abs(single[: len(reference)] - reference).max()
            ),
            "half precision against single, largest": float(np.abs(half - single).max()),
            "tracks of 512 that peak elsewhere": int((tracks[0] != tracks[1]).sum()),
            "the same bytes in another order of parts": bool(np.array_equal(half, back)),
        },
    )
    return half


HOG = """
import sys, time, torch
torch.cuda.init()
held = []
for size in (1 << 28, 1 << 24, 1 << 20):
    while torch.cuda.mem_get_info()[0] - size > float(sys.argv[1]) * 2**30:
        held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
print(torch.cuda.mem_get_info()[0] / 2**30, flush=True)
time.sleep(600)
"""


def measure_full_cards(results, root, data, expected):
    """Score where another process holds all memory but some."""
    model, found = Path(root, "model"), Path(root, "found.npy")
    model.write_bytes(data)
    for free_gb in FREE_GB:
        with results.trying(f"{free_gb} GB free"):
            hog = subprocess.Popen(
                [sys.executable, "-c", HOG, str(free_gb)], stdout=subprocess.PIPE, text=True
            )
            left_gb = float(hog.stdout.readline())
            command = [
                sys.executable,
                Path(__file__).with_name("gpu.py"),
                "--score-some",
                str(model),
                str(found),
            ]
            began_s = time.perf_counter()
            try:
                made = subprocess.run(
                    command, capture_output=True, text=True, timeout=90, check=False
                )
            finally:
                hog.kill()
                hog.wait()
            said = [
                line for line in made.stderr.splitlines() if "is full" in line or "Error" in line
            ]
            worst = float(np.abs(np.load(found) - expected).max()) if made.returncode == 0 else None
            results.tell(
                f"a card with {left_gb:.2f} GB free",
                {
                    "exit": made.returncode,
                    "s, start included": round(time.perf_counter() - began_s, 1),
                    "largest difference": worst,
                    "halved": len(said),
                    "last said": said[-1][:300] if said else "",
                },
            )
            found.unlink(missing_ok=True)


def score_some(model, found):
    logging.basicConfig(level=logging.WARNING)
    np.save(found, score_in_memory(Path(model).read_bytes(), parts_in_memory(64)))
