"""Attack our commands, and an output folder: kill -9, refusals of the disk, flipped bits, damaged
files.

python tests/attack.py DEMO --kills 70 --faults 35 --flips 640 --damages 40 --seed 0

Bits are flipped in a copy of an output folder (tests/flips.py); kills, refusals and damages strike
commands on a small catalog of their own (tests/strikes.py). Ends with code 1 if anything was lost,
half done, or silent.
"""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import flips
import strikes
import tyro


@dataclass(frozen=True)
class Config:
    output: Annotated[str, tyro.conf.Positional]
    """Folder of a finished run."""
    kills: int = 70
    faults: int = 35
    flips: int = 640
    damages: int = 40
    seed: int = 0


def main(config: Config) -> int:
    wrongs = [*_of_flips(config), *_of_strikes(config)]
    for wrong in wrongs:
        print(f"wrong: {wrong}")
    return 1 if wrongs else 0


def _of_flips(config: Config) -> list[str]:
    if not config.flips:
        return []
    found, silent = flips.attack(config.output, config.flips, config.seed)
    names = ("flips", "verify", "readers", "sql refuses", "sql answers otherwise")
    print(" | ".join(["kind", *names]))
    for kind, counts in found.items():
        print(" | ".join([kind, *(str(counts[name]) for name in names)]))
    return [f"silent: {line}" for line in silent]


def _of_strikes(config: Config) -> list[str]:
    if not (config.kills or config.faults or config.damages):
        return []
    wrongs = []
    with tempfile.TemporaryDirectory() as folder:
        made = strikes.scenes(Path(folder))
        chance = random.Random(config.seed)
        for kind, drawn in (
            ("kills", strikes.kills(config.kills, chance)),
            ("refusals", strikes.faults(config.faults, chance)),
        ):
            tally = strikes.strike(made, drawn, Path(folder), partial(print, flush=True))
            print(f"{kind}: {dict(tally.strikes)}; commands ended with {dict(tally.ends)}")
            wrongs += tally.wrongs
        unmended = (
            strikes.damage(made["run"], config.damages, chance, Path(folder))
            if config.damages
            else []
        )
        print(f"{config.damages} damaged files: {len(unmended)} not found or not as before")
        wrongs += unmended
    return wrongs


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
