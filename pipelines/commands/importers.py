"""Make a catalog of a published data set that lies on disk, and say how to go on.

sssl import 4q|pmemo|emomusic|deam SRC --catalog OUT.csv [--task
quadrant|valence|arousal|valence-arousal] [--truth SECTIONS.csv]
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from pipelines.terminal.flags import complain, parse
from sssl.datasets.published import AXES_TASK, CLASSES, Imported, SetName, Task, import_set
from sssl.errors import CatalogError


@dataclass(frozen=True)
class Config:
    """Make a catalog of a published data set."""

    name: Annotated[SetName, tyro.conf.Positional]
    """The data set: 4Q, PMEmo, EmoMusic or DEAM."""
    src: Annotated[str, tyro.conf.Positional]
    """Local folder of the set, or one above it."""
    catalog: str
    """Catalog to write; ends in .csv."""
    task: Task = "quadrant"
    """Classes: Russell's quadrants, or the sign of one axis. valence-arousal: quadrants, and both
    axes as numbers from -1 to 1, for `sssl run --task valence-arousal`."""
    truth: str | None = None
    """Sections to write, for sets that are annotated over time; default: `truth-` before the
    catalog's name."""

    @property
    def truth_path(self) -> Path:
        catalog = Path(self.catalog)
        if self.truth:
            return Path(self.truth)
        return catalog.with_name(f"truth-{catalog.name}")


def run(config: Config) -> Imported:
    """Write the sections, if the set has any, and then the catalog.

    Raises:
        CatalogError: the set cannot be read, or the catalog not be written.
    """
    if not config.catalog.endswith(".csv"):
        raise CatalogError(f"--catalog {config.catalog}: expected a name that ends in .csv")
    found = import_set(config.name, config.src, config.task)
    if found.truth is not None:
        _write(found.truth, config.truth_path)
    _write(found.catalog, Path(config.catalog))
    return found


def summary(config: Config, found: Imported) -> str:
    """Say what was found and how to go on."""
    catalog = found.catalog
    truth = found.truth
    artists = catalog["group_id"][catalog["group_id"] != ""].nunique()
    rows = {
        "tracks": f"{len(catalog)} of {artists} artists",
        "labelled": _counts(catalog["label"], CLASSES[config.task]),
        "not labelled": (
            f"{found.unannotated} not annotated, {found.undecided} at a midpoint or without a value"
        ),
        "no file": f"{found.missing} annotated tracks; the run's ledger will list them as missing",
        "split": (
            _counts(catalog["split"], ("train", "test"))
            if (catalog["split"] != "").any()
            else "none given; the run deals one by artist"
        ),
        "true sections": (
            "none; the set has no annotation over time"
            if truth is None
            else f"{len(truth)} in {truth['track_id'].nunique()} tracks, in {config.truth_path}"
        ),
    }
    lines = [f"{name:<15}{value}" for name, value in rows.items()]
    lines += [f"{'note':<15}{remark}" for remark in found.remarks]
    return "\n".join([*lines, "", shlex.join(next_command(config, found)), ""])


def next_command(config: Config, found: Imported) -> list[str]:
    """Say the command that labels the catalog."""
    truth = [] if found.truth is None else ["--truth", str(config.truth_path)]
    classes = ["--classes", *CLASSES[config.task]]
    task = ["--task", config.task] if config.task == AXES_TASK else []
    return [
        "sssl",
        "run",
        "--catalog",
        config.catalog,
        *truth,
        *classes,
        *task,
        "--output",
        f"out-{config.name}",
    ]


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "import")
    try:
        found = run(config)
    except CatalogError as error:
        complain(error)
        return 1
    sys.stdout.write(summary(config, found))
    return 0


def _counts(column: pd.Series, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {(column == name).sum()}" for name in names)


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV under a temporary name first: a reader never meets half of it."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(part, index=False)
        part.replace(path)
    except OSError as error:
        raise CatalogError(f"cannot write {path}: {error}") from error
