"""Single bits of an output folder are flipped: who notices?

Each flip is made in a copy, then undone. `readers` read the file as our commands do, `sql` asks
DuckDB for a digest of its rows. Silent is what neither `sssl verify` nor a reader notices, though
it changes what is read.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import duckdb

from sssl.errors import StoreError
from sssl.model.ensemble import load
from sssl.store import seal
from sssl.store.folder import Store
from sssl.store.verify import verify

KINDS = {
    "segments": "segments/*/*.parquet",
    "scores": "scores/*/*.parquet",
    "labels": "labels/*/*.parquet",
    "songs": "songs/*/*.parquet",
    "parts of these": "_parts/*/*/*.parquet",
    "catalog and ledger": "[cl]*/*/*.parquet",
    "models": "models/*/*.safetensors",
    "checkpoints": "models/*/*.pt",
    "manifests, receipts, records": "**/*.json",
}


@dataclass(frozen=True)
class Flip:
    """A bit of a file, and what is there without it."""

    kind: str
    path: Path
    whole: bytes
    at: int
    bit: int

    def make(self) -> None:
        flipped = bytes([self.whole[self.at] ^ 1 << self.bit])
        self.path.write_bytes(self.whole[: self.at] + flipped + self.whole[self.at + 1 :])

    def undo(self) -> None:
        self.path.write_bytes(self.whole)


def draw(root: Path, kind: str, chance: random.Random) -> Flip:
    path = chance.choice(sorted(root.glob(KINDS[kind])))
    whole = path.read_bytes()
    return Flip(kind, path, whole, chance.randrange(len(whole)), chance.randrange(8))


def read(store: Store, path: str) -> object:
    """Read a file as our commands do."""
    files = {
        file.path: file for manifest in store.latest().manifests for file in manifest.all_files
    }
    if path.endswith(".parquet"):
        return store.read_part(files[path])
    if path.endswith(".safetensors"):
        return load(store.read_file(files[path])).spec
    if path.endswith(".pt"):
        return seal.opened(store.read_bytes(path))
    return store.read_json(path)


def seen_by_reader(store: Store, flip: Flip) -> bool:
    """Whether reading the file says that it is damaged."""
    try:
        return read(store, str(flip.path.relative_to(store.root))) is None
    except StoreError:
        return True


def answer(flip: Flip) -> object:
    """Ask DuckDB for a digest of the rows of a file; None where it refuses, or where it is no
    table."""
    if flip.path.suffix != ".parquet":
        return None
    try:
        return duckdb.execute(
            f"select count(*), bit_xor(hash(t)) from read_parquet('{flip.path}') t"
        ).fetchone()
    except duckdb.Error:
        return None


def attack(output: str, flips: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Flip a bit of a file of each kind at a time; return who noticed, by kind, and what nobody
    did."""
    chance, found, silent = random.Random(seed), defaultdict(Counter[str]), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("mlflow*", "music*")
        root = Path(shutil.copytree(output, Path(folder, "out"), ignore=ignored))
        store = Store.open(str(root))
        for _ in range(flips // len(KINDS)):
            drawn = [draw(root, kind, chance) for kind in KINDS]
            right = [
                (answer(flip), read(store, str(flip.path.relative_to(root)))) for flip in drawn
            ]
            for flip in drawn:
                flip.make()
            verified = {damage.path for damage in verify(store).damages}
            for flip in drawn:
                flip.undo()
            for flip, (rows, content) in zip(drawn, right, strict=True):
                flip.make()
                counts, path = found[flip.kind], str(flip.path.relative_to(root))
                counts["flips"] += 1
                counts["verify"] += path in verified
                counts["readers"] += (seen := seen_by_reader(store, flip))
                counts["sql refuses"] += rows is not None and answer(flip) is None
                counts["sql answers otherwise"] += (
                    said := answer(flip)
                ) is not None and said != rows
                if (
                    path not in verified
                    and not seen
                    and (said != rows or read(store, path) != content)
                ):
                    silent.append(f"{path}: byte {flip.at}, bit {flip.bit}")
                flip.undo()
    return found, silent
