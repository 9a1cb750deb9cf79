"""Compare ways to learn from inherited labels by grouped cross-validation, on the labelled tracks
of a catalog.

sssl evaluate --catalog CATALOG --output OUTPUT [--truth sections.csv] [--plant 0.3] [flags] [--
beam options]

Stopped and started again it goes on. It publishes no labels: what readers of the folder see stays
    as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.commands.all_stages import learn, rounds
from pipelines.stages import embed, segment, songs
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.corrections import find_corrections
from pipelines.stages.previous import TABLES
from pipelines.terminal.console import console, printed
from schemas import Catalog, to_arrow
from schemas.records import dump, later
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import CatalogConfig, Dealt, deal
from sssl.catalog.committed import read_dealt, rows_of
from sssl.catalog.corrections import corrected_classes
from sssl.catalog.plane import TaskName, numbers_of
from sssl.catalog.read import read_catalog
from sssl.config import require
from sssl.embedding.contract import FrontEnd
from sssl.embedding.settings import EmbedConfig
from sssl.errors import CatalogError
from sssl.evaluate import methods as evaluation
from sssl.evaluate.methods import METHODS, Fold, Method, MethodName, Outcome
from sssl.evaluate.planting import Planting, draw, write_planted
from sssl.evaluate.sections import read_sections, true_labels
from sssl.labels.confident_learning import check_installed, prune
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.removals import taken_down
from sssl.tracking.tracker import Untracked
from sssl.urls import without_secrets

_LEARNED = ("labels", "models", "scores", "rounds")


@dataclass(frozen=True)
class Config:
    """Compare methods by grouped cross-validation: which of them labels new music best."""

    catalog: str
    """Catalog as `sssl run` takes it; only tracks with a label are used, and a `split` column is
    ignored."""
    output: str
    """Output folder; the tables of all folds lie there, the result in `evaluation.json` and
    `evaluation.html`."""
    labels: str | None = None
    """CSV with `track_id` and `label` (and other catalog columns), joined to the catalog by id."""
    corrections: str | None = None
    """CSV of what listeners said of tracks and passages (docs/review.md), which counts as true.
    Default: corrections.csv in the output folder, if there is one."""
    truth: str | None = None
    """CSV with `track_id`, `start_s`, `end_s`, `true_label` of sections; without it a track's label
    counts as true."""
    plant: float = 0.0
    """Exchange this share of the training segments for segments of tracks with another label."""
    plant_span: bool = False
    """Plant stretches of 3 to 8 segments in a row instead of single segments."""
    folds: int = 5
    """Outer folds: each track is held out once a seed, together with its group."""
    seeds: int = 3
    """Repetitions with other folds, other planted segments and other random numbers."""
    methods: tuple[MethodName, ...] = tuple(METHODS)
    """Methods to compare; the first is the one that gains are measured against."""
    warmup_epochs: int | None = None
    """Epochs of every warm-up; default: those of the method's preset."""
    rounds: int | None = None
    """Most rounds of self-learning; default: those of the method's preset."""
    classes: tuple[str, ...] = CatalogConfig.classes
    """The emotion classes."""
    cross_folds: int = CatalogConfig.folds
    """Cross-fitting folds inside a training set."""
    test_share: float = CatalogConfig.test_share
    """Share of the training groups held out to accept rounds by; no network trains on them."""
    task: TaskName = later("classes", neutral="classes")
    """valence-arousal: learn the catalog's numbers, too, and measure them (see `sssl run`)."""
    cut: MelConfig = field(default_factory=MelConfig)
    songs: SongConfig = field(default_factory=SongConfig)
    embed: EmbedConfig = later(EmbedConfig(), neutral=EmbedConfig())

    def __post_init__(self) -> None:
        require(0 <= self.plant < 1, "plant", self.plant, "a share from 0 to below 1")
        require(self.folds > 1, "folds", self.folds, "2 or more")
        require(self.seeds > 0, "seeds", self.seeds, "1 or more")
        require(bool(self.methods), "methods", self.methods, f"one or more of {', '.join(METHODS)}")

    def settings(self) -> segment.Settings:
        """Return the settings of the segment stage."""
        deal = CatalogConfig(self.classes, self.cross_folds, self.test_share, task=self.task)
        return segment.Settings(deal=deal, cut=self.cut)


@dataclass(frozen=True)
class _Bench:
    """What all folds share: the segmented catalog, its rows and the true label of each segment."""

    base: Context
    rows: list[Catalog]
    segments: pd.DataFrame
    config: Config
    front_end: FrontEnd | None = None


def run(context: Context, config: Config) -> None:
    """Evaluate all methods on all folds, print the summary and write it as JSON and HTML."""
    if config.truth is not None:
        read_sections(config.truth, config.classes)  # refused now rather than after decoding
    if "prune" in config.methods:
        check_installed()
    bench = set_up(replace(context, tracker=Untracked()), config)
    outcomes = list[Outcome]()
    total = config.seeds * config.folds * len(config.methods)
    for seed in range(config.seeds):
        for number in range(config.folds):
            fold = make_fold(bench, seed, number)
            for name in config.methods:
                console.print(f"{len(outcomes) + 1}/{total}: seed {seed}, fold {number}, {name}")
                learned, cpu_s = learn_by(bench, fold, METHODS[name])
                outcomes.append(evaluation.measure(context.store, learned, fold, name, cpu_s))
    write(context.store, config, outcomes)


def set_up(context: Context, config: Config) -> _Bench:
    """Segment the labelled tracks, on top of what is published, and look up the true label of each
    segment.

    Raises:
        CatalogError: no track has a label, or a class has too few to fold.
    """
    store = context.store
    settings = config.settings()
    asked = config.embed.front_end is not None
    front_end = embed.check(config.embed, config.cut.segment_s) if asked else None
    read = partial(_labelled_rows, store, config, settings.deal)
    base = segment.run_on(context, read, settings).snapshot.only("catalog", *TABLES)
    if not context.snapshot.manifests:
        store.publish(base)  # so that a grown catalog finds what is decoded
    table = store.read_table(base.get("segments"), ["track_id", "start_s"])
    segments = table.to_pandas()
    rows = rows_of(read_dealt(store, base.get("catalog")).tracks)
    usable = set(segments["track_id"])
    # Without segments there is nothing to hold out or to learn from.
    rows = [row if row.track_id in usable else replace(row, label=None, split=None) for row in rows]
    evaluation.check_folds(rows, config.folds, config.classes)
    label = segments["track_id"].map({row.track_id: row.label for row in rows})
    if config.truth is not None:
        sections = read_sections(config.truth, config.classes)
        label = true_labels(segments, sections, config.cut.segment_s)
    else:
        heard = corrected_classes(table, config.cut.segment_s, rows, config.classes)
        names = np.array([*config.classes, None], dtype=object)  # -1 where nobody said anything
        label = label.where(heard < 0, names[heard])
    return _Bench(context.on(base), rows, segments.assign(true_label=label), config, front_end)


def make_fold(bench: _Bench, seed: int, number: int) -> Fold:
    """Commit the tables of a fold: the catalog without the labels it withholds, and segments with
    what is planted."""
    store = bench.base.store
    config = bench.config
    settings = bench.config.settings()
    rows, held_out = evaluation.withhold(bench.rows, config.folds, number, seed, settings.deal)
    snapshot = segment.run_on(bench.base, lambda _dealt: to_arrow(Catalog, rows), settings).snapshot
    if bench.front_end is not None:
        # In the first fold; in the others, whose segments are the same files, its files are kept.
        snapshot = embed.run(bench.base.on(snapshot), bench.front_end).snapshot
    truth = bench.segments["true_label"].to_numpy(dtype=object)
    if config.plant:
        planting = Planting(config.plant, config.plant_span, seed)
        source = draw(_plantable(bench.segments, rows), planting)
        embedded = snapshot.of("embeddings")
        for table in ("segments", "features"):
            snapshot = snapshot.add(write_planted(store, snapshot.get(table), source, planting))
        for embeddings in embedded:
            segments = snapshot.get("segments")
            snapshot = snapshot.add(write_planted(store, embeddings, source, planting, segments))
        truth = truth[source]
    numbers = {row.track_id: numbers_of(row) for row in bench.rows if row.track_id in held_out}
    known = {track_id: both for track_id, both in numbers.items() if not math.isnan(both[0])}
    return Fold(seed, number, snapshot, held_out, truth, known)


def learn_by(bench: _Bench, fold: Fold, method: Method) -> tuple[Snapshot, float]:
    """Learn a fold by a method up to the songs; return the tables and the CPU seconds that went
    into them."""
    method = method.with_settings(fold.seed, bench.config.warmup_epochs, bench.config.rounds)
    *_, learned = rounds(bench.base.on(fold.snapshot), method.preset)
    cpu_s = _cpu_s(learned.snapshot, *_LEARNED)
    if method.refit is not None:
        pruned = learned.on(prune(learned.store, learned.snapshot))
        learned = learn(pruned, 0, method.refit)
        cpu_s += _cpu_s(learned.snapshot, *_LEARNED)
    snapshot = songs.run(learned, bench.config.songs).snapshot
    return snapshot, cpu_s + _cpu_s(snapshot, "songs")


def _cpu_s(snapshot: Snapshot, *tables: str) -> float:
    """Return the CPU seconds that tables took; work that methods share counts for each of them. NaN
    if unknown."""
    taken = [manifest.cpu_s for table in tables for manifest in snapshot.of(table)]
    return math.fsum(math.nan if cpu_s is None else cpu_s for cpu_s in taken)


def write(store: Store, config: Config, outcomes: Sequence[Outcome]) -> None:
    """Print the summary and write `evaluation.json` and `evaluation.html`."""
    summary = evaluation.summarize(outcomes)
    facts = {
        "catalog": without_secrets(config.catalog),
        "truth": "sections" if config.truth else "track labels",
        "planted": f"{config.plant:.0%}{' in stretches' if config.plant_span else ''}"
        if config.plant
        else "nothing",
        "folds": config.folds,
        "seeds": config.seeds,
        "held-out songs a method": sum(
            len(o.correct) for o in outcomes if o.method == config.methods[0]
        ),
    }
    if config.embed.front_end is not None:
        facts["front-end"] = without_secrets(config.embed.front_end)
    store.write_json(
        "evaluation.json",
        {
            "config": _shown(dump(config)),
            "summary": summary,
            "rows": evaluation.to_records(evaluation.tabulate(outcomes)),
            "calibration": evaluation.to_records(evaluation.calibration(outcomes)),
        },
    )
    store.write_bytes("evaluation.html", evaluation.render(summary, facts).encode())
    table = Table(
        "", *summary, title="mean ± standard error", title_justify="left", box=SIMPLE_HEAD
    )
    for metric in evaluation.measured_metrics(summary):
        table.add_row(metric.title, *(evaluation.said(of[metric.name]) for of in summary.values()))
    printed.print(table)
    console.print(
        f"result: {store.url('evaluation.html')}, {store.url('evaluation.json')}", soft_wrap=True
    )


def _shown(value: Any) -> Any:
    """Return settings as they may be shown: URLs may carry passwords and signatures."""
    if isinstance(value, Mapping):
        return {name: _shown(inner) for name, inner in value.items()}
    if isinstance(value, str):
        return without_secrets(value)
    return value


def _labelled_rows(store: Store, config: Config, dealing: CatalogConfig, dealt: Dealt) -> pa.Table:
    said = find_corrections(store, config.corrections)
    gone = taken_down(store)
    tracks = read_catalog(config.catalog, config.labels, dealing, dealt, gone, corrections=said)
    labelled = tracks.filter(tracks["label"].is_valid())
    if not len(labelled):
        raise CatalogError(
            f"{config.catalog}: no track has a label, and nothing else can be held out"
        )
    # Again, so that few labels in a large catalog do not become parts of a few rows.
    return deal(labelled, dealing, dealt)


def _plantable(segments: pd.DataFrame, rows: Sequence[Catalog]) -> pd.DataFrame:
    """Return the rows of segments as `planting.draw` takes them."""
    by_id = {row.track_id: row for row in rows}
    tracks = [by_id[track_id] for track_id in segments["track_id"]]
    return pd.DataFrame(
        {
            "track_id": segments["track_id"],
            "label": [track.label for track in tracks],
            "fold": [track.fold for track in tracks],
            "eligible": [_is_plantable(track) for track in tracks],
        }
    )


def _is_plantable(track: Catalog) -> bool:
    """Whether segments of a track may be exchanged: nobody has vouched for what they are."""
    return track.split == "train" and not track.locked and not track.corrections


main = StageCommand("evaluate", Config, run, creates=True).main
