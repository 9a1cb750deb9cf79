"""Say what a run would cost: hours, storage and money, each with an interval, from trials on a
sample of the catalog.

sssl estimate --catalog CATALOG --tracks N [--prices prices.toml] [--json FILE] [the flags of sssl
run]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.commands.machines import ON_ALL_MACHINES, Machines, on_machines
from pipelines.commands.reported import beside, print_beside
from pipelines.commands.trials import BY_TRACK, LABELLED_PER_CLASS, Method, Took, Trial, try_stages
from pipelines.stages import segment
from pipelines.stages.settings_file import IN_FILE, Source, parse_with_settings
from pipelines.terminal.console import console, printed, silenced
from pipelines.terminal.flags import complain
from schemas import Catalog
from schemas.records import dump
from sssl.catalog.assign import Dealt, deal
from sssl.catalog.committed import rows_of
from sssl.catalog.fingerprints import with_fingerprints
from sssl.catalog.read import read_tracks
from sssl.config import require
from sssl.errors import CatalogError, ConfigError, StoreError, TrainError
from sssl.estimate import (
    DRAWS,
    GIB,
    LEVEL,
    Draws,
    Estimate,
    Interval,
    Outlook,
    Prices,
    StageTime,
    Traffic,
    Trials,
    Wanted,
    read_prices,
)
from sssl.presets import GUARDED, Preset
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store

_SHARES = (4, 4, 4, 4, 2, 1)
"""A trial on each quarter of the sample, on a half and on the whole."""
_PARTS_OF_WHOLE = 12
_PIECE_BYTES = 5 << 20
"""What clients of object stores ask for at a time."""
_COLUMNS = ("wall_h", "cpu_h", "vcpu_h", "gpu_h", "memory_gib_h", "disk_gib_h")
_COVERS = (
    f"Intervals ({LEVEL:.0%}) cover which tracks were drawn and how much the trials differed. They"
    " don't cover another machine or load, other prices, and tracks with labels that are longer"
    " than others. All rounds are counted, though one that finds nothing to split costs next to"
    " nothing. vCPU-hours are wall hours times cores, as they are billed."
)


@dataclass(frozen=True)
class Config:
    """Say what a run would cost, from trials on a sample of the catalog; takes as long as labelling
    some three times as many tracks, on this machine."""

    catalog: str
    """Catalog as `sssl run` takes it."""
    tracks: int = 96
    """Tracks to try it on, drawn at random; more of them narrow the interval."""
    labels: str | None = None
    """CSV with `track_id` and `label` (and other catalog columns), joined to the catalog by id."""
    corrections: str | None = None
    """CSV of what listeners said, as for `sssl run`: their labels are trained on, too."""
    output: str | None = None
    """Folder (a path or any fsspec URL) for the tables of the trials, which stay there; default: a
    temporary folder. Where the run's own output will lie is best: trials read and write there."""
    prices: str | None = None
    """Price file; default: the example prices in sssl/prices.toml."""
    workers: int = 1
    """Machines like this one that the run will have; training stays on one."""
    night: int | None = None
    """New tracks, without a label, of a usual night: its cost is said beside that of the first."""
    reported: str | None = None
    """Output folder of a run of this catalog: what its jobs took is said beside the estimate."""
    json: str | None = None
    """Write all numbers to this file."""
    machines: Machines = field(default_factory=Machines)
    sample_seed: int = 0
    """Seed of the sample."""
    source: Source = field(default_factory=Source)
    segment: segment.Settings = field(default_factory=segment.Settings)
    method: Annotated[Preset, IN_FILE] = GUARDED
    songs: SongConfig = field(default_factory=SongConfig)

    def __post_init__(self) -> None:
        least = max(_SHARES) * LABELLED_PER_CLASS * len(self.segment.deal.classes)
        require(self.tracks >= least, "tracks", self.tracks, f"{least} or more with these classes")
        require(self.workers > 0, "workers", self.workers, "1 or more")
        require(self.night is None or self.night > 0, "night", self.night, "1 or more")
        if self.json is not None:
            path = Path(self.json)
            require(
                path.parent.is_dir() and not path.is_dir(),
                "json",
                self.json,
                "a file in a folder that exists",
            )

    @property
    def tried(self) -> Method:
        """What a trial tries."""
        return Method(self.segment, self.method, self.songs)


def run(config: Config) -> Estimate:
    """Try the stages on a sample and say what they will take on the whole catalog.

    Raises:
        CatalogError: the catalog, or its sample, cannot be used.
        ConfigError: the price file cannot be used.
    """
    prices = read_prices(config.prices)
    start_wall_s = time.time() - psutil.Process().create_time()
    start_cpu_s = time.process_time()
    tracks = deal(
        read_tracks(
            config.catalog,
            config.labels,
            config.segment.deal,
            corrections=config.corrections,
        ),
        config.segment.deal,
        Dealt(),
    )
    sample = draw(tracks, config.tracks, config.sample_seed)
    with _folder(config.output) as root:
        warm_up, *trials = _try_all(config, sample, root)
    is_train = np.array(tracks["split"].to_numpy() == "train")
    start = StageTime(
        wall_s=_constant(start_wall_s + _slower(warm_up.wall_s, trials[0].wall_s)),
        cpu_s=_constant(start_cpu_s + _slower(warm_up.cpu_s, trials[0].cpu_s)),
        cores=config.machines.vcpus,
        memory_gib=config.machines.worker_memory_gib,
        disk_gib=config.machines.worker_disk_gib,
    )
    estimates = {"first run": predict(config, is_train, trials)}
    if config.night is not None:
        estimates["usual night"] = predict(config, np.zeros(config.night, bool), trials)
        del estimates["usual night"].stages["train"]  # what was learned stands
        del estimates["usual night"].table_bytes["models"]
    for estimate in estimates.values():
        estimate.stages["start"] = start
    _tell(config, len(tracks), estimates, prices)
    return estimates["first run"]


def draw(tracks: pa.Table, count: int, seed: int) -> list[Catalog]:
    """Draw tracks at random.

    Raises:
        CatalogError: there are fewer.
    """
    if len(tracks) < count:
        raise CatalogError(
            f"the catalog has {len(tracks)} tracks, fewer than --tracks {count}: run it to know"
        )
    chosen = np.random.default_rng(seed).choice(len(tracks), count, replace=False)
    return rows_of(with_fingerprints(tracks.take(chosen)))


def predict(config: Config, is_train: NDArray[np.bool_], trials: Sequence[Trial]) -> Estimate:
    """Predict a run over a catalog, of which it is known which tracks are trained on."""
    largest = max(trials, key=lambda trial: len(trial.track_segments))
    outlook = Outlook(
        tracks=len(is_train),
        parts=ceil(len(is_train) / config.segment.deal.part_size(len(is_train))),
        sample={
            "audio_s": largest.track_audio_s,
            "segments": largest.track_segments,
            "tracks": np.ones(len(largest.track_segments)),
        },
        seed=config.sample_seed,
    )
    stages = _stages_wanted(config, is_train)

    def predicted(what: str, wanted: Mapping[str, Wanted]) -> dict[str, Draws]:
        took = {t: Trials.of([getattr(trial, what)[t] for trial in trials]) for t in wanted}
        return outlook.predict(took, wanted)

    of_jobs = {title: want for title, want in stages.items() if _stage(title) in ON_ALL_MACHINES}
    wall_s = _added_up(predicted("wall_s", stages))
    cpu_s = _added_up(predicted("cpu_s", stages))
    times = {}
    for stage in wall_s:
        runs = sum(want.runs for title, want in stages.items() if _stage(title) == stage)
        units = [outlook.units(want) for title, want in stages.items() if _stage(title) == stage]
        times[stage] = on_machines(
            config.machines,
            config.workers,
            stage,
            wall_s[stage],
            cpu_s[stage],
            runs,
            np.sum(units, axis=0),
        )
    # A track's audio is asked for once for its length, then piece by piece.
    audio_s = outlook.units(Wanted(1, "audio_s", 1))
    audio_bytes = audio_s * largest.audio_bytes / largest.track_audio_s.sum()
    of_audio = 2 * outlook.tracks + audio_bytes / _PIECE_BYTES
    traffic = Traffic(
        writes=_total(predicted("writes", stages)),
        reads=_total(predicted("reads", stages)) + of_audio,
        shuffle_bytes=_total(predicted("shuffle_bytes", of_jobs)),
    )
    table_bytes = _added_up(predicted("table_bytes", _tables_wanted(config, trials[0])))
    return Estimate(times, table_bytes, traffic)


def _stage(title: str) -> str:
    return title.split()[0]


def _total(by_title: Mapping[str, Draws]) -> Draws:
    total: Draws = np.sum(list(by_title.values()), axis=0)
    return total


def _try_all(config: Config, sample: list[Catalog], root: str) -> Iterator[Trial]:
    """Try the stages on pieces of the sample; twice on the first, since everything is slower
    once."""
    pieces = []
    for number, share in enumerate(_SHARES):
        size = len(sample) // share
        pieces.append(sample[number % share * size :][:size])
    for number, piece in enumerate([pieces[0], *pieces]):
        console.print(f"trial {number} of {len(pieces)}: {len(piece)} tracks")
        parts = _PARTS_OF_WHOLE if len(piece) == len(pieces[-1]) else 1
        with silenced():
            yield try_stages(
                config.tried, piece, parts, f"{root.rstrip('/')}/{number}", first=number == 0
            )


def _stages_wanted(config: Config, is_train: NDArray[np.bool_]) -> dict[str, Wanted]:
    trained, scored = (float(passes.mean()) for passes in config.tried.passes(is_train))
    epochs = (config.method.train.warmup_epochs, config.method.train.epochs)
    wanted = {"segment": Wanted(1, "audio_s", 1)}
    for round in config.tried.rounds:
        rounds = config.method.rounds if round else 1
        wanted[f"relabel {round}"] = wanted[f"judge {round}"] = Wanted(rounds, "segments", rounds)
        wanted[f"train {round}"] = Wanted(rounds, "segments", rounds * trained * epochs[round])
        wanted[f"score {round}"] = Wanted(rounds, "segments", rounds * scored)
    return wanted | dict.fromkeys(("songs", "report"), Wanted(1, "segments", 1))


def _tables_wanted(config: Config, trial: Trial) -> dict[str, Wanted]:
    wanted = {}
    for title in trial.table_bytes:
        rounds = config.method.rounds if title.endswith(" 1") else 1
        wanted[title] = Wanted(rounds, "tracks" if title in BY_TRACK else "segments", rounds)
    return wanted


def _added_up(by_title: Mapping[str, Draws]) -> dict[str, Draws]:
    """Add up the rounds of a stage or a table."""
    total: dict[str, Draws] = {}
    for title, draws in by_title.items():
        name = title.split()[0]
        total[name] = total.get(name, 0) + draws
    return total


def _slower(first: Took, again: Took) -> float:
    """Return what all stages took longer the first time."""
    return max(
        0.0, sum(took for _, took in first.values()) - sum(took for _, took in again.values())
    )


def _constant(value: float) -> Draws:
    return np.full(1 + DRAWS, value)


@contextmanager
def _folder(output: str | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sssl-estimate-") as folder:
        if output is None:
            yield folder
        elif Store.at(output).find("0"):
            raise StoreError(
                f"{output} has the trials of an earlier estimate: choose another --output, or"
                " delete it"
            )
        else:
            yield output


def _tell(config: Config, tracks: int, estimates: Mapping[str, Estimate], prices: Prices) -> None:
    """Print the estimates, and write them down if asked to."""
    rounds = f"{config.method.rounds} round{'s' * (config.method.rounds != 1)}"
    machines = f"{config.workers} x {config.machines.vcpus} cores"
    what = {"first run": f"{tracks} tracks, {rounds}", "usual night": f"{config.night} new tracks"}
    for name, estimate in estimates.items():
        title = f"{name}: {what[name]}, on {machines}; from trials on {config.tracks} tracks"
        _tell_one(title, estimate, prices)
    printed.print(_COVERS, soft_wrap=True)
    numbers = _numbers(estimates["first run"], prices)
    if "usual night" in estimates:
        numbers["usual_night"] = _numbers(estimates["usual night"], prices)
    if config.reported is not None:
        numbers["reported"] = beside(estimates["first run"], Store.open(config.reported))
        print_beside(numbers["reported"])
    if config.json is not None:
        Path(config.json).write_text(json.dumps(numbers, indent=1))


def _tell_one(title: str, estimate: Estimate, prices: Prices) -> None:
    hours = {
        name: [getattr(stage, column) for column in _COLUMNS[:4]]
        for name, stage in estimate.stages.items()
    }
    _print(title, ["hours", "wall", "CPU", "vCPU", "GPU"], hours)
    sizes = {name: [size / GIB] for name, size in estimate.table_bytes.items()}
    _print("tables", ["", "GiB"], sizes)
    traffic = estimate.traffic
    writes, reads = Interval.of(traffic.writes), Interval.of(traffic.reads)
    printed.print(
        f"requests to the storage: {writes.value:,.0f} that write, {reads.value:,.0f} that read; "
        f"{Interval.of(traffic.shuffle_bytes / GIB).value:.2g} GiB shuffled",
        soft_wrap=True,
    )
    money = {name: [price] for name, price in estimate.money(prices).items()}
    _print(f"prices as of {prices.as_of}", ["", prices.currency], money)


def _print(title: str, headings: list[str], rows: Mapping[str, list[Draws]]) -> None:
    """Print estimates, their sums, and the intervals of the sums."""
    table = Table(headings[0], title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for name, cells in rows.items():
        table.add_row(name, *(f"{cell[0]:.3g}" for cell in cells))
    sums = [Interval.of(np.sum(column, axis=0)) for column in zip(*rows.values(), strict=True)]
    table.add_section()
    for name, of_sum in (("all", "value"), ("at least", "low"), ("at most", "high")):
        table.add_row(name, *(f"{getattr(found, of_sum):.3g}" for found in sums))
    printed.print(table)


def _numbers(estimate: Estimate, prices: Prices) -> dict[str, Any]:
    def interval(draws: Draws) -> dict[str, float]:
        return dump(Interval.of(draws))

    return {
        "stages": {
            name: {column: interval(getattr(stage, column)) for column in _COLUMNS}
            for name, stage in estimate.stages.items()
        },
        "total": {column: interval(estimate.total(column)) for column in _COLUMNS},
        "table_bytes": {name: interval(size) for name, size in estimate.table_bytes.items()},
        "traffic": {
            each.name: interval(getattr(estimate.traffic, each.name)) for each in fields(Traffic)
        },
        "money": {name: interval(price) for name, price in estimate.money(prices).items()},
        "currency": prices.currency,
        "prices_as_of": prices.as_of.isoformat(),
    }


def main(argv: Sequence[str]) -> int:
    config = parse_with_settings(
        Config,
        argv,
        "estimate",
        lambda given: {"segment": segment.Settings.of(given), "method": given.method},
    )
    try:
        run(config)
    except ConfigError as error:
        complain(error)
        return 2
    except (CatalogError, StoreError, TrainError) as error:
        complain(error)
        return 1
    return 0
