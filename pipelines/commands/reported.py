"""What the jobs of a run took, beside what was estimated: whether an estimate is to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.terminal.console import printed
from sssl.estimate import Estimate, Interval
from sssl.store.folder import Store

_HOUR_S = 3600.0


def beside(estimate: Estimate, store: Store) -> dict[str, dict[str, Any]]:
    """Compare CPU hours by stage with those that a folder's published tables report.

    They are what counters show: `cpu-msec` and `read-bytes` of a job come from the same receipts.
    """
    jobs = {}
    for manifest in store.latest().manifests:
        # The catalog is of the segment stage, whose job has a generation of its own.
        if manifest.table != "catalog":
            jobs[manifest.stage, manifest.round, manifest.generation] = manifest
    found: dict[str, dict[str, Any]] = {}
    for (stage, _, _), manifest in sorted(jobs.items(), key=str):
        if stage not in estimate.stages or manifest.cpu_s is None:
            continue
        one = found.setdefault(stage, {"cpu_h": 0.0, "read_bytes": 0})
        one["cpu_h"] += manifest.cpu_s / _HOUR_S
        one["read_bytes"] += manifest.summary.get("read_bytes") or 0
    for stage, one in found.items():
        said = Interval.of(estimate.stages[stage].cpu_h)
        one["estimated_cpu_h"] = said.value
        reported_h = one["cpu_h"]
        one["is_within"] = said.low <= reported_h <= said.high
    return found


def print_beside(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the comparison."""
    title = "CPU hours, estimated and reported"
    table = Table("", title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("estimated", "reported", "reported / estimated", "GB read"):
        table.add_column(heading, justify="right")
    for stage, one in found.items():
        estimated_h = max(one["estimated_cpu_h"], 1e-12)
        ratio = one["cpu_h"] / estimated_h
        table.add_row(
            stage,
            f"{one['estimated_cpu_h']:.3g}",
            f"{one['cpu_h']:.3g}",
            f"{ratio:.2f}{'' if one['is_within'] else ', outside'}",
            f"{one['read_bytes'] / 1e9:.3g}",
        )
    printed.print(table)
