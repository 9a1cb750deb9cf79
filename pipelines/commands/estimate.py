"""Say what a run would cost: hours, storage and money, each with an interval, from trials on a
sample of the catalog.

sssl estimate --catalog CATALOG --tracks N [--prices prices.toml] [--json FILE] [the flags of sssl
run]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from sssl.words import counted

_SHARES = (4, 4, 4, 4, 2, 1)
"""A trial on each quarter of the sample, on a half and on the whole."""
_PARTS_OF_WHOLE = 12
_PIECE_BYTES = 5 << 20
"""What clients of object stores ask for at a time."""
_HOURS = ("wall_h", "cpu_h", "vcpu_h", "gpu_h")
_COLUMNS = (*_HOURS, "memory_gib_h", "disk_gib_h")
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
            is_possible = path.parent.is_dir() and not path.is_dir()
            require(is_possible, "json", self.json, "a file in a folder that exists")

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
    # Until here this process has done what every process does first: start and import.
    start_wall_s = time.time() - psutil.Process().create_time()
    start_cpu_s = time.process_time()
    dealing = config.segment.deal
    read = read_tracks(config.catalog, config.labels, dealing, corrections=config.corrections)
    tracks = deal(read, dealing, Dealt())
    sample = draw(tracks, config.tracks, config.sample_seed)
    with _folder(config.output) as root:
        warm_up, *trials = _try_all(config, sample, root)
    start_wall_s += _slower(warm_up.wall_s, trials[0].wall_s)
    start_cpu_s += _slower(warm_up.cpu_s, trials[0].cpu_s)
    start = StageTime(
        wall_s=_constant(start_wall_s),
        cpu_s=_constant(start_cpu_s),
        cores=config.machines.vcpus,
        memory_gib=config.machines.worker_memory_gib,
        disk_gib=config.machines.worker_disk_gib,
    )
    is_train = np.array(tracks["split"].to_numpy() == "train")
    estimates = {"first run": predict(config, is_train, trials)}
    if config.night is not None:
        unlabelled = np.zeros(config.night, bool)
        night = predict(config, unlabelled, trials)
        del night.stages["train"]  # what was learned stands
        del night.table_bytes["models"]
        estimates["usual night"] = night
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
            f"the catalog has {counted(len(tracks), 'track')}, fewer than --tracks {count}: run it"
            " to know"
        )
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(tracks), count, replace=False)
    sample = with_fingerprints(tracks.take(chosen))
    return rows_of(sample)


def predict(config: Config, is_train: NDArray[np.bool_], trials: Sequence[Trial]) -> Estimate:
    """Predict a run over a catalog, of which it is known which tracks are trained on."""
    largest = max(trials, key=lambda trial: len(trial.track_segments))
    tracks = len(is_train)
    part_size = config.segment.deal.part_size(tracks)
    sample = {
        "audio_s": largest.track_audio_s,
        "segments": largest.track_segments,
        "tracks": np.ones(len(largest.track_segments)),
    }
    outlook = Outlook(tracks, ceil(tracks / part_size), sample, config.sample_seed)

    def predicted(what: str, wanted: Mapping[str, Wanted]) -> dict[str, Draws]:
        took = {}
        for title in wanted:
            tried = [getattr(trial, what)[title] for trial in trials]
            took[title] = Trials.of(tried)
        return outlook.predict(took, wanted)

    stages = _stages_wanted(config, is_train)
    wall_s = _added_up(predicted("wall_s", stages))
    cpu_s = _added_up(predicted("cpu_s", stages))
    times = {}
    for stage in wall_s:
        own = [want for title, want in stages.items() if _stage(title) == stage]
        runs = sum(want.runs for want in own)
        units = np.sum([outlook.units(want) for want in own], axis=0)
        took = wall_s[stage], cpu_s[stage]
        times[stage] = on_machines(config.machines, config.workers, stage, *took, runs, units)
    of_jobs = {title: want for title, want in stages.items() if _stage(title) in ON_ALL_MACHINES}
    writes = _total(predicted("writes", stages))
    reads = _total(predicted("reads", stages))
    reads += _requests_of_audio(outlook, largest)
    shuffle_bytes = _total(predicted("shuffle_bytes", of_jobs))
    tables = _tables_wanted(config, trials[0])
    table_bytes = _added_up(predicted("table_bytes", tables))
    return Estimate(times, table_bytes, Traffic(writes, reads, shuffle_bytes))


def _requests_of_audio(outlook: Outlook, trial: Trial) -> Draws:
    """Return the requests that read a catalog's audio: a track is asked for once for its length,
    then piece by piece."""
    audio_s = outlook.units(Wanted(1, "audio_s", 1))
    audio_bytes = audio_s * trial.audio_bytes / trial.track_audio_s.sum()
    pieces = audio_bytes / _PIECE_BYTES
    return 2 * outlook.tracks + pieces


def _stage(title: str) -> str:
    """Return the stage or the table of a title, which may end in a round."""
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
        first = number % share * size
        pieces.append(sample[first : first + size])
    for number, piece in enumerate([pieces[0], *pieces]):
        console.print(f"trial {number} of {len(pieces)}: {counted(len(piece), 'track')}")
        is_whole = len(piece) == len(pieces[-1])
        parts = _PARTS_OF_WHOLE if is_whole else 1
        output = f"{root.rstrip('/')}/{number}"
        with silenced():
            yield try_stages(config.tried, piece, parts, output, first=number == 0)


def _stages_wanted(config: Config, is_train: NDArray[np.bool_]) -> dict[str, Wanted]:
    trained_by, scored_by = config.tried.passes(is_train)
    training = config.method.train.settled(int(is_train.sum()))
    wanted = {"segment": Wanted(1, "audio_s", 1)}
    for round in config.tried.rounds:
        rounds = config.method.rounds if round else 1
        trained = rounds * float(trained_by.mean()) * training.epochs_of(round)
        scored = rounds * float(scored_by.mean())
        wanted[f"relabel {round}"] = Wanted(rounds, "segments", rounds)
        wanted[f"judge {round}"] = Wanted(rounds, "segments", rounds)
        wanted[f"train {round}"] = Wanted(rounds, "segments", trained)
        wanted[f"score {round}"] = Wanted(rounds, "segments", scored)
    for stage in ("songs", "report"):
        wanted[stage] = Wanted(1, "segments", 1)
    return wanted


def _tables_wanted(config: Config, trial: Trial) -> dict[str, Wanted]:
    wanted = {}
    for title in trial.table_bytes:
        rounds = config.method.rounds if title.endswith(" 1") else 1
        unit = "tracks" if title in BY_TRACK else "segments"
        wanted[title] = Wanted(rounds, unit, rounds)
    return wanted


def _added_up(by_title: Mapping[str, Draws]) -> dict[str, Draws]:
    """Add up the rounds of a stage or a table."""
    total: dict[str, Draws] = {}
    for title, draws in by_title.items():
        name = _stage(title)
        total[name] = total.get(name, 0) + draws
    return total


def _slower(first: Took, again: Took) -> float:
    """Return what all stages took longer the first time."""
    first_took = sum(took for _, took in first.values())
    again_took = sum(took for _, took in again.values())
    return max(0.0, first_took - again_took)


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
    rounds = counted(config.method.rounds, "round")
    machines = f"{config.workers} x {counted(config.machines.vcpus, 'core')}"
    trials = counted(config.tracks, "track")
    first_run = f"{counted(tracks, 'track')}, {rounds}"
    what = {"first run": first_run, "usual night": counted(config.night or 0, "new track")}
    for name, estimate in estimates.items():
        title = f"{name}: {what[name]}, on {machines}; from trials on {trials}"
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
    hours = {}
    for name, stage in estimate.stages.items():
        hours[name] = [getattr(stage, column) for column in _HOURS]
    _print(title, ["hours", "wall", "CPU", "vCPU", "GPU"], hours)
    sizes = {name: [size / GIB] for name, size in estimate.table_bytes.items()}
    _print("tables", ["", "GiB"], sizes)
    writes = _value(estimate.traffic.writes)
    reads = _value(estimate.traffic.reads)
    shuffled_gib = _value(estimate.traffic.shuffle_bytes / GIB)
    requests = f"requests to the storage: {writes:,.0f} that write, {reads:,.0f} that read"
    printed.print(f"{requests}; {shuffled_gib:.2g} GiB shuffled", soft_wrap=True)
    money = {name: [price] for name, price in estimate.money(prices).items()}
    _print(f"prices as of {prices.as_of}", ["", prices.currency], money)


def _print(title: str, headings: list[str], rows: Mapping[str, list[Draws]]) -> None:
    """Print estimates, their sums, and the intervals of the sums."""
    table = Table(headings[0], title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")

    def add_row(name: str, numbers: Iterable[float]) -> None:
        table.add_row(name, *(f"{number:.3g}" for number in numbers))

    for name, cells in rows.items():
        add_row(name, map(_value, cells))
    columns = zip(*rows.values(), strict=True)
    sums = [Interval.of(np.sum(column, axis=0)) for column in columns]
    table.add_section()
    add_row("all", [found.value for found in sums])
    add_row("at least", [found.low for found in sums])
    add_row("at most", [found.high for found in sums])
    printed.print(table)


def _value(draws: Draws) -> float:
    """Return the estimate itself, which comes before the draws of its uncertainty."""
    return float(draws[0])


def _numbers(estimate: Estimate, prices: Prices) -> dict[str, Any]:
    """Return an estimate as JSON has it, each number with its interval."""

    def intervals(draws: Mapping[str, Draws]) -> dict[str, Any]:
        return {name: dump(Interval.of(own)) for name, own in draws.items()}

    stages = {}
    for name, stage in estimate.stages.items():
        stages[name] = intervals({column: getattr(stage, column) for column in _COLUMNS})
    total = {column: estimate.total(column) for column in _COLUMNS}
    return {
        "stages": stages,
        "total": intervals(total),
        "table_bytes": intervals(estimate.table_bytes),
        "traffic": intervals(vars(estimate.traffic)),
        "money": intervals(estimate.money(prices)),
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
