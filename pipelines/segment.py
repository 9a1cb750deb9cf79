"""Cut every track of a catalog into segments, and write down what became of each.

sssl segment --catalog CATALOG --output OUTPUT [flags] [-- beam options]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import apache_beam as beam

from pipelines.command import parse, split_beam_args, stage
from pipelines.execute import in_process, run_job
from pipelines.io import ErrorRatioExceeded, Job, PartRef
from pipelines.transforms import CommitParts, ListParts, SplitDone
from schemas import Catalog, Ledger, to_arrow
from sssl.catalog import CatalogConfig, commit_catalog, read_catalog
from sssl.cut import CutConfig, CutTrack, cut_track, ledger_row, segments_table, toolchain
from sssl.isolate import Failure, IsolatedPool, Limits
from sssl.score import cores
from sssl.store import Receipt, Snapshot, Store


@dataclass(frozen=True)
class Settings:
    """Settings of the stage."""

    deal: CatalogConfig = field(default_factory=CatalogConfig)
    cut: CutConfig = field(default_factory=CutConfig)
    limits: Limits = field(default_factory=Limits)
    processes: int | None = None
    """Decoder processes a worker; default: one a core where Beam runs in this process, else one."""
    max_error_ratio: float = 0.5
    """Fail the run, after the ledger is committed, if a larger share of the tracks failed."""


@dataclass(frozen=True)
class Config:
    """Cut every track of a catalog into segments."""

    catalog: str
    """CSV or Parquet with `track_id` and `uri`, or a folder or glob of audio; a local path or any fsspec URL."""
    output: str
    """Output folder; a local path or any fsspec URL."""
    labels: str | None = None
    """CSV with `track_id` and `label` (and other catalog columns), joined to the catalog by id."""
    settings: Settings = field(default_factory=Settings)


def build(root: beam.Pipeline, job: Job, settings: Settings, processes: int) -> None:
    """Wire the pipeline."""
    parts = root | ListParts(job) | SplitDone(job)
    cut = parts.todo | beam.ParDo(CutPart(job, settings, processes))
    (parts.done, cut) | CommitParts(job)


class CutPart(beam.DoFn):
    """Cut the tracks of a part in isolated processes and write its segments and ledger."""

    def __init__(self, job: Job, settings: Settings, processes: int) -> None:
        self._job, self._settings, self._processes = job, settings, processes

    def setup(self) -> None:
        self._pool = IsolatedPool(self._processes, self._settings.limits, preload="sssl.cut")

    def teardown(self) -> None:
        self._pool.close()

    def process(self, ref: PartRef) -> Iterator[Receipt]:
        tracks = self._job.tracks(ref)
        results = self._pool.map(partial(cut_track, config=self._settings.cut), tracks)
        cuts = [_cut_or_failed(track, result) for track, result in zip(tracks, results, strict=True)]
        yield write_part(self._job, ref.part, tracks, cuts, self._settings.cut)


def write_part(job: Job, part: int, tracks: list[Catalog], cuts: list[CutTrack], config: CutConfig) -> Receipt:
    """Write the segments and the ledger of a part."""
    tables = {"segments": segments_table(cuts, config), "ledger": to_arrow(Ledger, [cut.ledger for cut in cuts])}
    counts: Counter[str] = Counter(tracks=len(cuts), segments=len(tables["segments"]))
    for track, cut in zip(tracks, cuts, strict=True):
        counts[f"status/{cut.ledger.status}"] += 1
        counts["decoded_s"] += cut.ledger.decoded_s  # type: ignore[assignment]
        if cut.ledger.reason:
            counts[f"reason/{cut.ledger.reason}"] += 1
        if cut.ledger.segments and track.label and track.split == "train":
            counts[f"trainable/{track.label}"] += 1
    return job.write(part, tables, counts)


def run(store: Store, snapshot: Snapshot, config: Config, beam_args: Sequence[str]) -> Snapshot:
    """Run the stage and return the snapshot with its tables.

    Raises:
        CatalogError: the catalog cannot be used.
        ErrorRatioExceeded: too many tracks failed.
    """
    settings = config.settings
    rows = read_catalog(config.catalog, config.labels, settings.deal)
    catalog = commit_catalog(store, rows, settings.deal)
    job_config = {"cut": asdict(settings.cut), "toolchain": toolchain()}
    job = Job.of(store, "segment", ("segments", "ledger"), job_config, [catalog])
    processes = settings.processes or (cores() if in_process(beam_args) else 1)
    segments, ledger = run_job(job, lambda root: build(root, job, settings, processes), beam_args)
    failed = ledger.summary.get("status/failed", 0) / len(rows)
    snapshot = snapshot.add(catalog).add(segments).add(ledger)
    if failed > settings.max_error_ratio:
        raise ErrorRatioExceeded(
            f"{failed:.0%} of {len(rows)} tracks failed, --max-error-ratio allows {settings.max_error_ratio:.0%}; "
            '`sssl sql "select reason, count(*) from ledger group by all"` says why',
            snapshot,
        )
    return snapshot


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    return stage(parse(Config, flags, "segment"), run, beam_args, create=True)


def _cut_or_failed(track: Catalog, result: CutTrack | Failure) -> CutTrack:
    if isinstance(result, Failure):
        return CutTrack(ledger_row(track, result.reason, result.detail))
    return result
