"""Damage audio files of every codec in every way we know, cut them, and hold the ledger to its
promises.

python tests/fuzz.py --files 1000 --seed 0

Prints what became of the files, by mutation, codec and reason; ends with code 1 if a promise is
broken. The files that broke one are kept.
"""

from __future__ import annotations

import csv
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from audio_files import CONTAINERS, DECLARES, LACKS_END_MARK, write_container

from pipelines.cli import main as sssl
from schemas import REASONS, Status
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.store.folder import Store
from sssl.store.tensors import log_mels

SOURCE_S = 12.0
TIMEOUT_S = 20.0  # a whole file takes 0.02 s
SEGMENT_S = MelConfig().segment_s
TOLERANCE_S = GateConfig().tolerance_s

# The header that declares a length lies in front of this, but for ogg, which has it in its last
# page.
_HEAD_BYTES = 8192
_TEXT = b"It was the best of times, it was the worst of times,\r\n"
_EXTREMES = [
    value.to_bytes(size, "big")
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1)
]
_EXTREMES += [bytes(255 - byte for byte in extreme) for extreme in _EXTREMES]
# A file on a disk may be anything, but never a failure of the storage, nor of the decoder's
# process.
_NOT_THE_FILE = {code for code in REASONS if code.startswith("decoder-")}
_NOT_THE_FILE |= {"missing", "denied", "unreachable", "unavailable"}

Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]


def flip_bits(data: bytes, rng: np.random.Generator, start: int, stop: int) -> bytes:
    """Flip 1 to 64 bits between two places."""
    flipped = bytearray(data)
    for at in rng.integers(start, stop, size=2 ** rng.integers(7)):
        flipped[at] ^= 1 << rng.integers(8)
    return bytes(flipped)


def put_extremes(data: bytes, rng: np.random.Generator) -> bytes:
    """Put numbers such as 0, -1 and 2**31 - 1 in place of up to four fields in the first
    kilobyte."""
    changed = bytearray(data)
    for at in rng.integers(4, 1024, size=rng.integers(1, 5)):
        extreme = _EXTREMES[rng.integers(len(_EXTREMES))]
        changed[at : at + len(extreme)] = extreme
    return bytes(changed)


def hole(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Choose a stretch between a hundredth and a third of the file."""
    size = round(len(data) * rng.uniform(0.01, 0.33))
    start = int(rng.integers(len(data) - size))
    return start, start + size


def fill(data: bytes, rng: np.random.Generator, filler: Callable[[int], bytes]) -> bytes:
    start, stop = hole(data, rng)
    return data[:start] + filler(stop - start) + data[stop:]


def swap(data: bytes, rng: np.random.Generator) -> bytes:
    a, b, c = sorted(rng.integers(len(data), size=3).tolist())
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def splice_head(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Put the first bytes, up to a few headers long, of another codec's file in place of ours."""
    size = 2 ** int(rng.integers(4, 13))
    return other[:size] + data[size:]


def splice_half(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    share = rng.uniform(0.2, 0.8)
    return data[: round(len(data) * share)] + other[round(len(other) * share) :]


def cut_at(share: float) -> Mutation:
    return lambda data, other, rng: data[: round(len(data) * share)]


MUTATIONS: dict[str, Mutation] = {
    "intact": lambda data, other, rng: data,
    "renamed codec": lambda data, other, rng: other,
    "renamed text": lambda data, other, rng: _TEXT * (len(data) // len(_TEXT)),
    "renamed noise": lambda data, other, rng: rng.bytes(len(data)),
    "zero length": lambda data, other, rng: b"",
    "cut at 50 %": cut_at(0.5),
    "cut at 90 %": cut_at(0.9),
    "cut anywhere": lambda data, other, rng: data[: int(rng.integers(len(data)))],
    "cut in the head": lambda data, other, rng: data[: int(rng.integers(1, 2048))],
    "head missing": lambda data, other, rng: data[int(rng.integers(1, len(data) // 2)) :],
    "bits flipped": lambda data, other, rng: flip_bits(data, rng, 0, len(data)),
    "bits flipped in the head": lambda data, other, rng: flip_bits(data, rng, 0, 512),
    "bits flipped in the tail": lambda data, other, rng: flip_bits(
        data, rng, len(data) - 512, len(data)
    ),
    "extremes in the head": lambda data, other, rng: put_extremes(data, rng),
    "zeros inside": lambda data, other, rng: fill(data, rng, bytes),
    "noise inside": lambda data, other, rng: fill(data, rng, rng.bytes),
    "stretch missing": lambda data, other, rng: fill(data, rng, lambda size: b""),
    "stretches swapped": lambda data, other, rng: swap(data, rng),
    "noise behind": lambda data, other, rng: data + rng.bytes(int(rng.integers(1, 20_000))),
    "head spliced": splice_head,
    "half spliced": splice_half,
    "other file behind": lambda data, other, rng: data + other,
}


@dataclass(frozen=True)
class Mutant:
    """A mutated file as a track of a catalog; its source lasted SOURCE_S."""

    track_id: str
    path: Path
    codec: str
    mutation: str
    promised: bool  # the catalog says how long it should be
    head_kept: bool


@dataclass(frozen=True)
class Outcome:
    """A mutant with its ledger row, and what lies in `segments` for it."""

    mutant: Mutant
    ledger: dict[str, object]
    segments: int
    finite: bool

    @property
    def is_short(self) -> bool:
        return self.ledger["decoded_s"] < SOURCE_S - TOLERANCE_S

    @property
    def became(self) -> str:
        """The reason, or ok; `ok, short` where audio is missing and the ledger does not know."""
        return self.ledger["reason"] or ("ok, short" if self.is_short else "ok")


def write_sources(folder: Path) -> dict[str, Path]:
    """Encode a whole file in every codec and container."""
    sources = {}
    for codec in CONTAINERS:
        (folder / codec).mkdir(parents=True)
        sources[codec] = write_container(folder / codec, codec, SOURCE_S)
    return sources


def write_mutants(sources: dict[str, Path], files: int, seed: int, folder: Path) -> list[Mutant]:
    """Write mutated files; every pair of mutation and codec comes once before any comes twice."""
    folder.mkdir()
    pairs = list(itertools.product(MUTATIONS, sources))
    np.random.default_rng(seed).shuffle(pairs)
    turns = zip(range(files), itertools.cycle(pairs))
    return [
        _write_mutant(sources, mutation, codec, seed, n, folder) for n, (mutation, codec) in turns
    ]


def _write_mutant(
    sources: dict[str, Path], mutation: str, codec: str, seed: int, number: int, folder: Path
) -> Mutant:
    rng = np.random.default_rng([seed, number])
    data = sources[codec].read_bytes()
    other = sources[rng.choice([name for name in sources if name != codec])].read_bytes()
    mutated = MUTATIONS[mutation](data, other, rng)
    track_id = f"{seed}-{number:05d}"
    path = folder / f"{track_id}{sources[codec].suffix}"
    path.write_bytes(mutated)
    return Mutant(
        track_id,
        path,
        codec,
        mutation,
        bool(rng.integers(2)),
        mutated[:_HEAD_BYTES] == data[:_HEAD_BYTES],
    )


def cut(mutants: list[Mutant], folder: Path) -> list[Outcome]:
    """Run `sssl segment` on the mutants."""
    with (folder / "catalog.csv").open("w", newline="") as file:
        rows = [
            (mutant.track_id, mutant.path, SOURCE_S if mutant.promised else "")
            for mutant in mutants
        ]
        csv.writer(file).writerows([("track_id", "uri", "expected_s"), *rows])
    settings = folder / "limits.toml"
    settings.write_text(f"[limits]\ntimeout_s = {TIMEOUT_S}\n")
    catalog, output = str(folder / "catalog.csv"), str(folder / "out")
    flags = ["--settings", str(settings), "--max-error-ratio", "1"]
    code = sssl(["segment", "--catalog", catalog, "--output", output, *flags])
    assert code == 0, f"sssl segment ended with code {code}"
    return _outcomes(mutants, Store.open(str(folder / "out")))


def _outcomes(mutants: list[Mutant], store: Store) -> list[Outcome]:
    snapshot = store.latest()
    ledger = {row["track_id"]: row for row in store.read_table(snapshot.get("ledger")).to_pylist()}
    assert ledger.keys() == {mutant.track_id for mutant in mutants}
    assert snapshot.get("ledger").rows == len(mutants)
    segments: Counter[str] = Counter()
    broken: set[str] = set()
    for _, part in store.iter_parts(snapshot.get("features"), ["track_id", "log_mel"]):
        track_ids = part["track_id"].to_pylist()
        segments.update(track_ids)
        finite = np.isfinite(log_mels(part)).all(axis=(1, 2))
        broken.update(np.asarray(track_ids)[~finite])
    return [
        Outcome(m, ledger[m.track_id], segments[m.track_id], m.track_id not in broken)
        for m in mutants
    ]


def broken_promises(outcome: Outcome) -> Iterator[str]:
    """What the ledger owes us for any file, whatever was done to it, and does not keep."""
    mutant, row = outcome.mutant, outcome.ledger
    ok = row["status"] == Status.OK
    if row["status"] not in tuple(Status) or not (
        row["reason"] is None if ok else row["reason"] in REASONS
    ):
        yield f"status {row['status']} with reason {row['reason']}"
    if row["segments"] != outcome.segments or (row["status"] == Status.FAILED) != (
        outcome.segments == 0
    ):
        yield (
            f"{row['status']}, {row['segments']} segments in the ledger, {outcome.segments} in the"
            " table"
        )
    if not outcome.finite:
        yield "a stored log-mel is not finite"
    if row["reason"] in _NOT_THE_FILE:
        yield f"{row['reason']}: {row['detail']}"
    if ok and abs(outcome.segments - row["decoded_s"] // SEGMENT_S) > 1:
        yield f"{outcome.segments} segments from {row['decoded_s']} s"
    if ok and row["expected_s"] is not None and row["decoded_s"] < row["expected_s"] - TOLERANCE_S:
        yield f"accepted with {row['decoded_s']} of {row['expected_s']} s"
    if outcome.became == "ok, short" and _should_tell(mutant):
        yield f"accepted with {row['decoded_s']} of {SOURCE_S} s, though its head is as it was"
    if mutant.mutation in ("intact", "renamed codec") and outcome.became != "ok":
        yield f"{outcome.became}, though whole"


def _should_tell(mutant: Mutant) -> bool:
    return mutant.promised or (
        mutant.head_kept and CONTAINERS[mutant.codec][-1] in (DECLARES, LACKS_END_MARK)
    )


def tables(outcomes: list[Outcome]) -> str:
    """Count outcomes by mutation, by codec, and by both."""
    counted = [(o.mutant.mutation, o.mutant.codec, o.ledger["status"], o.became) for o in outcomes]
    frame = pd.DataFrame(counted, columns=["mutation", "codec", "status", "reason"])
    mutation, codec, status, reason = (frame[column] for column in frame)
    crossings = (mutation, status), (mutation, reason), (codec, reason), ([mutation, codec], reason)
    return "\n\n".join(
        pd.crosstab(rows, columns, rownames=None, colnames=[""]).replace(0, ".").to_string()
        for rows, columns in crossings
    )


@dataclass(frozen=True)
class Config:
    """Fuzz the segment stage."""

    files: int = 2000
    """Number of mutated files."""
    seed: int = 0
    """Another seed makes other files."""
    keep: Path = Path("build/fuzz")
    """Folder for the files that broke a promise."""


def main(config: Config) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mutants = write_mutants(
            write_sources(folder / "sources"), config.files, config.seed, folder / "mutants"
        )
        started = time.monotonic()
        outcomes = cut(mutants, folder)
        elapsed_s = time.monotonic() - started
        print(tables(outcomes))
        print(f"\n{len(outcomes)} files of seed {config.seed} in {elapsed_s:.0f} s")
        broken = [outcome for outcome in outcomes if list(broken_promises(outcome))]
        for outcome in broken:
            config.keep.mkdir(parents=True, exist_ok=True)
            print(f"{shutil.copy(outcome.mutant.path, config.keep)}: {describe(outcome)}")
    return 1 if broken else 0


def describe(outcome: Outcome) -> str:
    mutant = outcome.mutant
    return f"{mutant.codec}, {mutant.mutation}: {'; '.join(broken_promises(outcome))}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
