"""What a run would cost: unit costs of its stages, fitted to trials on a sample, times the work of
a catalog.

The cost of a stage, and the size of a table, is taken for a sum of three: once a run, once a part,
and once a unit of what it grows with. Trials of different size and number of parts tell the three
apart.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtri, stdtrit

from sssl.config import require
from sssl.errors import ConfigError
from sssl.urls import opened

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Draws = NDArray[np.float64]
"""A number with its uncertainty [1 + D]: the estimate, then what it may be as well. Draws of one
`Outlook` add up."""

LEVEL = 0.95
_UPPER = (1 + LEVEL) / 2
DRAWS = 1000
_MISFIT = 0.02
"""Standard error, as a share, of the assumption that costs are such sums: tables of a few rows fit
the trials exactly, and yet are a little larger or smaller with other ids and labels."""
_OF_TRACKS = 1
"""Sets the random numbers that draw tracks apart from those that draw measurements."""
GIB = float(1 << 30)
_HOUR_S = 3600.0
_MILLION = 1e6


@dataclass(frozen=True)
class Prices:
    """What is paid for; in `currency`, as of a day."""

    currency: str
    as_of: date
    vcpu_hour: float
    gpu_hour: float
    storage_gib_month: float
    memory_gib_hour: float = 0.0
    disk_gib_hour: float = 0.0
    shuffle_gib: float = 0.0
    million_writes: float = 0.0
    million_reads: float = 0.0


def read_prices(url: str | None) -> Prices:
    """Read a price file (TOML), by default the example that comes with the program.

    Raises:
        ConfigError: it is not a price file; the message says what is expected.
    """
    try:
        if url is None:
            given = tomllib.loads(files("sssl").joinpath("prices.toml").read_text())
        else:
            with opened(url) as file:
                given = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--prices {url}: {error}; expected a TOML file like sssl/prices.toml"
        ) from error
    optional = {field.name for field in fields(Prices) if field.default is not MISSING}
    expected = {field.name for field in fields(Prices)} - optional
    wrong = ", ".join(sorted((expected - set(given)) | (set(given) - expected - optional)))
    may_be = ", ".join(sorted(optional))
    wanted = f"exactly {', '.join(sorted(expected))}, and optionally {may_be} (see {wrong})"
    require(not wrong, "prices", url, wanted)
    for name in sorted(set(given) - {"currency", "as_of"}):
        value = given[name]
        require(_is_price(value), "prices", url, f"{name} as a number, 0 or more, not {value!r}")
    require(isinstance(given["currency"], str), "prices", url, "currency as text")
    require(isinstance(given["as_of"], date), "prices", url, "as_of as a date, like 2026-11-21")
    return Prices(**given)


def _is_price(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    )


@dataclass(frozen=True)
class Work:
    """What a run, or a table, is charged for: runs of a stage, parts over all of them, and
    units."""

    runs: float
    parts: float
    units: float


@dataclass(frozen=True)
class Trials:
    """Trials of a stage, or sizes of a table: the work [M, 3] of each (see `Work`) and what it took
    [M]."""

    work: Floats
    took: Floats

    @classmethod
    def of(cls, trials: Sequence[tuple[Work, float]]) -> Trials:
        """Collect trials; the order has to be the same for all stages."""
        work = np.array([(w.runs, w.parts, w.units) for w, _ in trials], dtype=float)
        return cls(work, np.array([took for _, took in trials], dtype=float))

    def fit(self) -> Floats:
        """Return the costs [3] of a run, a part and a unit: none below zero, least squares of
        relative errors."""
        return _fit(self.work, self.took)

    def relative_errors(self) -> Floats:
        """Return the errors [M] of the fit, as shares; widened by what the fit takes out of them,
        and since they are so few (Student's t)."""
        costs = self.fit()
        predicted = self.work @ costs
        free = max(1, len(self.took) - int(np.count_nonzero(costs)))
        is_some = predicted > 0
        errors = np.where(is_some, self.took / np.where(is_some, predicted, 1) - 1, 0.0)
        student = stdtrit(free, _UPPER)
        normal = ndtri(_UPPER)
        return errors * np.sqrt(len(errors) / free) * student / normal


@dataclass(frozen=True)
class Wanted:
    """What to predict: `runs` of a stage over a catalog, and the units in all of them for a unit of
    `driver`."""

    runs: float
    driver: str
    factor: float


@dataclass(frozen=True)
class Outlook:
    """A catalog of `tracks` in `parts`, and what each track of a random sample of it has of each
    driver [N]."""

    tracks: int
    parts: int
    sample: Mapping[str, Floats]
    seed: int = 0

    def predict(
        self, trials: Mapping[str, Trials], wanted: Mapping[str, Wanted]
    ) -> dict[str, Draws]:
        """Predict what each stage will take.

        A draw takes other tracks (a bootstrap of the sample), other measurements (residual
        bootstrap of the fit), and errs for the whole run as one trial did. It does so alike for all
        stages, since a busy minute hits them alike. What the fit leaves out comes on top, alike
        too.
        """
        rng = np.random.default_rng(self.seed)
        trial_count = len(next(iter(trials.values())).took)
        others = [np.arange(trial_count), *rng.integers(trial_count, size=(DRAWS, trial_count))]
        means = self._means()
        last = rng.integers(trial_count, size=DRAWS)
        misfit = np.array([1.0, *rng.normal(1.0, _MISFIT, DRAWS)])
        return {
            name: misfit * self._one(trials[name], want, others, means[want.driver], last)
            for name, want in wanted.items()
        }

    def units(self, wanted: Wanted) -> Draws:
        """Return how many units that is in all."""
        mean = self._means()[wanted.driver]
        return self.tracks * mean * wanted.factor

    def _means(self) -> dict[str, Draws]:
        """Return what a track has of each driver, on average; each draw takes the same tracks
        whenever it is asked, so that draws of different stages add up."""
        rng = np.random.default_rng([self.seed, _OF_TRACKS])
        count = len(next(iter(self.sample.values())))
        rows = rng.integers(count, size=(DRAWS, count))
        return {
            name: np.array([each.mean(), *each[rows].mean(axis=1)])
            for name, each in self.sample.items()
        }

    def _one(
        self, trials: Trials, want: Wanted, others: list[Rows], mean: Draws, last: Rows
    ) -> Draws:
        errors, predicted = trials.relative_errors(), trials.work @ trials.fit()
        refits = [
            _fit(trials.work, predicted * _at_least_some(1 + errors[rows])) for rows in others[1:]
        ]
        costs = np.array([trials.fit(), *refits])
        units = self.tracks * mean * want.factor
        total = want.runs * (costs[:, 0] + costs[:, 1] * self.parts) + costs[:, 2] * units
        return total * np.array([1.0, *_at_least_some(1 + errors[last])])


def _at_least_some(share: Floats) -> Floats:
    return np.maximum(share, 0.1)


def _fit(work: Floats, took: Floats) -> Floats:
    scale = np.maximum(work.max(axis=0), 1e-12)
    weight = 1 / np.maximum(took, 1e-9)
    return nnls(work / scale * weight[:, None], took * weight)[0] / scale


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Draws) -> Interval:
        """Return the estimate with the middle 95 % of its draws."""
        low, high = np.quantile(draws[1:], [1 - _UPPER, _UPPER])
        return cls(float(draws[0]), float(low), float(high))


@dataclass(frozen=True)
class StageTime:
    """What a stage takes: wall time, CPU time, on machines of so many `cores` and, if it uses them,
    GPUs. Each of its `workers` first takes `start_s`, all jobs of the stage together."""

    wall_s: Draws
    cpu_s: Draws
    cores: int
    gpus: int = 0
    workers: int = 1
    start_s: float = 0.0
    memory_gib: float = 0.0
    disk_gib: float = 0.0

    @property
    def wall_h(self) -> Draws:
        return self.machine_h / self.workers

    @property
    def cpu_h(self) -> Draws:
        return self.cpu_s / _HOUR_S

    @property
    def machine_h(self) -> Draws:
        """Hours of machines, those in which they start included."""
        return (self.wall_s + self.start_s * self.workers) / _HOUR_S

    @property
    def vcpu_h(self) -> Draws:
        """vCPU-hours as they are billed, busy or not."""
        return self.machine_h * self.cores

    @property
    def gpu_h(self) -> Draws:
        return self.machine_h * self.gpus

    @property
    def memory_gib_h(self) -> Draws:
        return self.machine_h * self.memory_gib

    @property
    def disk_gib_h(self) -> Draws:
        return self.machine_h * self.disk_gib


@dataclass(frozen=True)
class Traffic:
    """What goes to and fro: requests to the storage that write and that read, and what jobs
    shuffle."""

    writes: Draws
    reads: Draws
    shuffle_bytes: Draws


@dataclass(frozen=True)
class Estimate:
    """What a run would take, by stage, and leave behind, by table."""

    stages: dict[str, StageTime]
    table_bytes: dict[str, Draws]
    traffic: Traffic

    def total(self, name: str) -> Draws:
        """Add up `wall_h`, `cpu_h`, `vcpu_h` or another property over the stages."""
        return np.sum([getattr(stage, name) for stage in self.stages.values()], axis=0)

    def stored_gib(self) -> Draws:
        return np.sum(list(self.table_bytes.values()), axis=0) / GIB

    def money(self, prices: Prices) -> dict[str, Draws]:
        """Return what is to pay, a month of storage included; what has no price is left out."""
        of_machines = {
            "vCPUs": self.total("vcpu_h") * prices.vcpu_hour,
            "GPUs": self.total("gpu_h") * prices.gpu_hour,
            "storage a month": self.stored_gib() * prices.storage_gib_month,
        }
        others = {
            "memory": (self.total("memory_gib_h"), prices.memory_gib_hour),
            "disks": (self.total("disk_gib_h"), prices.disk_gib_hour),
            "shuffle": (self.traffic.shuffle_bytes / GIB, prices.shuffle_gib),
            "writes": (self.traffic.writes / _MILLION, prices.million_writes),
            "reads": (self.traffic.reads / _MILLION, prices.million_reads),
        }
        return of_machines | {name: much * price for name, (much, price) in others.items() if price}
