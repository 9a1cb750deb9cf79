"""A trial of all stages on a few tracks: what they take and what their tables hold, for an estimate
of a whole run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pipelines.commands import report
from pipelines.stages import judge, relabel, score, segment, songs, train
from pipelines.stages.context import Context
from schemas import Catalog, to_arrow
from sssl.catalog.assign import Dealt, deal
from sssl.errors import CatalogError
from sssl.estimate import Floats, Work
from sssl.presets import Preset
from sssl.runtime.cpu_time import tree_cpu_s
from sssl.runtime.reading import READING
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store
from sssl.store.layout import is_receipt
from sssl.store.manifest import Snapshot
from sssl.tracking.tracker import Untracked

BY_TRACK = ("catalog", "ledger")
"""Tables with one row per track; the others grow with the segments."""
LABELLED_PER_CLASS = 3
"""Tracks of a class that a trial needs: one to hold out, two to train on in different folds."""
_EPOCHS = 2
_SHUFFLED = 2
"""How often what a receipt says crosses a shuffle: as the part's reference, and as the receipt."""


@dataclass(frozen=True)
class Method:
    """What is tried: the settings of all stages."""

    segment: segment.Settings
    preset: Preset
    songs: SongConfig

    @property
    def rounds(self) -> range:
        """Rounds of a trial: the warm-up and one that stands for all later ones."""
        return range(min(self.preset.rounds, 1) + 1)

    @property
    def members(self) -> int:
        if self.preset.train.cross_fit:
            return self.segment.deal.folds
        return 1

    def passes(self, is_train: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return for each track by how many members its segments are trained on, and scored."""
        by_all = self.members if self.preset.score.average_members else 1
        trained = np.where(is_train, max(1, self.members - 1), 0.0)
        scored = np.where(is_train, 1.0, by_all)
        return trained, scored


Took = dict[str, tuple[Work, float]]
"""The work that something was, and what it took, by title: a stage or table, with its round if it
has rounds."""


@dataclass(frozen=True)
class Trial:
    """What the stages took on a few tracks, and what their tables hold."""

    wall_s: Took
    cpu_s: Took
    table_bytes: Took
    writes: Took
    reads: Took
    shuffle_bytes: Took
    audio_bytes: float
    track_audio_s: Floats
    track_segments: Floats


def try_stages(
    method: Method, tracks: list[Catalog], parts: int, output: str, *, first: bool = False
) -> Trial:
    """Run all stages on a few tracks, dealt into so many parts, as `sssl run` does; the `first`
    trial logs to MLflow.

    Raises:
        CatalogError: too few of the tracks can be decoded.
    """
    store = Store.open(output, create=True)
    meter = _Meter(store)
    context = Context(store, Snapshot(), tracker=None if first else Untracked())
    dealing = replace(method.segment.deal, tracks_per_part=ceil(len(tracks) / parts))
    settings = replace(method.segment, deal=dealing, max_error_ratio=1.0)
    bare = [
        replace(track, label=None, split=None, group_id=track.track_id, locked=False)
        for track in tracks
    ]
    with meter.of("segment"):
        context = segment.run_on(
            context, lambda before: deal(to_arrow(Catalog, bare), dealing, before), settings
        )
    audio_bytes = context.snapshot.get("ledger").summary["read_bytes"]
    labelled = to_arrow(Catalog, with_any_label(bare, _segments_of(context), dealing.classes))
    context = segment.run_on(
        context, lambda before: deal(labelled, dealing, Dealt(before.tracks)), settings
    )
    # As if there were something to split, and for as long as it takes to time an epoch.
    relabelling = replace(
        method.preset.relabel,
        evidence=replace(method.preset.relabel.evidence, min_agreement=None),
        min_separation=None, peaked=False, tau=1.0, max_noisy_share=0.4, noisy_weight=1.0,
    )  # fmt: skip
    training = replace(
        method.preset.train, init=None, warmup_epochs=_EPOCHS, epochs=_EPOCHS, patience=None
    )
    for round in method.rounds:
        with meter.of(f"relabel {round}"):
            context = relabel.run(context, round, relabelling)
        with meter.of(f"train {round}"), TemporaryDirectory(prefix="sssl-mlflow-") as folder:
            context = train.run(
                context, round, training, mlflow_uri=f"sqlite:///{folder}/mlflow.db"
            )
        with meter.of(f"score {round}"):
            context = score.run(context, round, method.preset.score)
        with meter.of(f"judge {round}"):
            context = judge.run(context, round, method.preset.judge)
    with meter.of("songs"):
        context = songs.run(context, method.songs)
    with meter.of("report"):
        report.run(context, None)
    return _trial(method, context, meter, audio_bytes)


def with_any_label(
    tracks: list[Catalog], segments: Mapping[str, int], classes: Sequence[str]
) -> list[Catalog]:
    """Give tracks that have segments a label, each class in turn: what training costs does not
    depend on what labels say, and a small sample of a catalog may lack some.

    Raises:
        CatalogError: there are too few.
    """
    usable = [track.track_id for track in tracks if segments[track.track_id]]
    least = len(classes) * LABELLED_PER_CLASS
    if len(usable) < least:
        raise CatalogError(
            f"{len(usable)} of {len(tracks)} tracks of a piece of the sample gave segments,"
            f" expected {least} or more: give more --tracks, or see in the ledger of `sssl segment`"
            " what is wrong with them"
        )
    label = {track_id: classes[number % len(classes)] for number, track_id in enumerate(usable)}
    return [replace(track, label=label.get(track.track_id)) for track in tracks]


class _Meter:
    """What stages take and do: wall and CPU seconds, files that they write, requests that read
    tables, and bytes of receipts, which are shuffled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.wall_s: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}
        self.writes: dict[str, float] = {}
        self.reads: dict[str, float] = {}
        self.shuffle_bytes: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        files, receipt_bytes = self._files()
        requests = READING.requests
        wall_s = time.monotonic()
        cpu_s = tree_cpu_s()
        yield
        self.wall_s[stage] = time.monotonic() - wall_s
        self.cpu_s[stage] = tree_cpu_s() - cpu_s
        self.reads[stage] = READING.requests - requests
        files_now, receipt_bytes_now = self._files()
        self.writes[stage] = files_now - files
        self.shuffle_bytes[stage] = _SHUFFLED * (receipt_bytes_now - receipt_bytes)

    def _files(self) -> tuple[int, int]:
        """Count the files of the folder, and the bytes of its receipts."""
        sizes = self._store.medium.sizes("")
        return len(sizes), sum(size for path, size in sizes.items() if is_receipt(path))


def _segments_of(context: Context) -> dict[str, int]:
    ledger = context.store.read_table(context.snapshot.get("ledger"), ["track_id", "segments"])
    return dict(zip(ledger["track_id"].to_pylist(), ledger["segments"].to_pylist(), strict=True))


def _trial(method: Method, context: Context, meter: _Meter, audio_bytes: float) -> Trial:
    store = context.store
    snapshot = context.snapshot
    ledger = store.read_table(
        snapshot.get("ledger"), ["track_id", "decoded_s", "segments"]
    ).to_pandas()
    catalog = (
        store.read_table(snapshot.get("catalog"), ["track_id", "split"])
        .to_pandas()
        .set_index("track_id")
    )
    segments = ledger["segments"].to_numpy(float)
    audio_s = ledger["decoded_s"].to_numpy(float)
    trained, scored = method.passes(catalog["split"][ledger["track_id"]].to_numpy() == "train")
    parts = snapshot.catalog.parts
    units = {
        "segment": audio_s.sum(),
        "train": segments @ trained * _EPOCHS,
        "score": segments @ scored,
    }
    units |= dict.fromkeys(BY_TRACK, len(segments))

    def with_work(title: str, took: float) -> tuple[Work, float]:
        return Work(1, parts, float(units.get(title.split()[0], segments.sum()))), took

    sizes = {_title(m.table, m.round): m.bytes for m in snapshot.manifests}

    def with_works(by_title: Mapping[str, float]) -> Took:
        return {title: with_work(title, took) for title, took in by_title.items()}

    return Trial(
        wall_s=with_works(meter.wall_s),
        cpu_s=with_works(meter.cpu_s),
        table_bytes=with_works(sizes),
        writes=with_works(meter.writes),
        reads=with_works(meter.reads),
        shuffle_bytes=with_works(meter.shuffle_bytes),
        audio_bytes=audio_bytes,
        track_audio_s=audio_s,
        track_segments=segments,
    )


def _title(name: str, round: int | None) -> str:
    if round is None:
        return name
    return f"{name} {round}"
