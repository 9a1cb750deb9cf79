"""Flip single bits of an output folder, and see who notices.

python tests/attack.py OUTPUT --flips 640 --seed 0

Each flip is made in a copy, then undone. `readers` read all manifests, tables and models as our commands do; `sql` asks
DuckDB for a digest of the rows of each table. Silent is what `sssl verify` does not notice, though it changes an answer
of DuckDB. Ends with code 1 if there is such a flip.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import duckdb
import tyro

from schemas import TABLES
from sssl.errors import StoreError
from sssl.model.ensemble import load
from sssl.store.folder import Store
from sssl.store.sql import connect
from sssl.store.verify import verify

KINDS = {
    "segments": "segments/*/*.parquet",
    "scores": "scores/*/*.parquet",
    "labels": "labels/*/*.parquet",
    "songs": "songs/*/*.parquet",
    "catalog and ledger": "[cl]*/*/*.parquet",
    "models": "models/*/*.safetensors",
    "checkpoints": "models/*/*.pt",
    "manifests, receipts, pointer": "**/*.json",
}


@dataclass(frozen=True)
class Config:
    output: Annotated[str, tyro.conf.Positional]
    """Folder of a finished run."""
    flips: int = 640
    seed: int = 0


def readers_notice(store: Store) -> bool:
    """Read what commands read; whether any of it says that something is damaged."""
    try:
        snapshot = store.latest()
        for manifest in snapshot.manifests:
            if manifest.table == "models":
                load(store.read_file(manifest.files[0]))
            else:
                store.read_table(manifest)
    except StoreError:
        return True
    return False


def answers(store: Store) -> dict[str, object] | None:
    """Ask SQL for a digest of all rows of each table; None where it refuses."""
    try:
        snapshot = store.latest()
        with connect(store, snapshot) as connection:
            digest = "select count(*), bit_xor(hash(t)) from {} t"
            return {name: connection.execute(digest.format(name)).fetchone() for name in TABLES if snapshot.of(name)}
    except (StoreError, duckdb.Error):
        return None


def attack(output: str, flips: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Flip bits, in turn in each kind of file; return who noticed, by kind, and what nobody did."""
    chance, found, silent = random.Random(seed), defaultdict(Counter[str]), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(output, Path(folder, "out"), ignore=shutil.ignore_patterns("mlflow*", "music*")))
        store = Store.open(str(root))
        right = answers(store)
        for number in range(flips):
            kind = list(KINDS)[number % len(KINDS)]
            path = chance.choice(sorted(root.glob(KINDS[kind])))
            whole = path.read_bytes()
            at, bit = chance.randrange(len(whole)), chance.randrange(8)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            verified = any(damage.path == str(path.relative_to(root)) for damage in verify(store).damages)
            noticed, said = readers_notice(store), answers(store)
            found[kind].update({"flips": 1, "verify": verified, "readers": noticed, "sql refuses": said is None})
            found[kind]["sql answers otherwise"] += said not in (None, right)
            if not verified and (said != right):
                silent.append(f"{path.relative_to(root)}: byte {at}, bit {bit}")
            path.write_bytes(whole)
    return found, silent


def main(config: Config) -> int:
    found, silent = attack(config.output, config.flips, config.seed)
    names = ("flips", "verify", "readers", "sql refuses", "sql answers otherwise")
    print(" | ".join(["kind", *names]))
    for kind, counts in found.items():
        print(" | ".join([kind, *(str(counts[name]) for name in names)]))
    for line in silent:
        print(f"silent: {line}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
