"""Label music with a model that is there: nothing is trained, and nothing is written beside what
`--to` names.

sssl label --model OUTPUT|FOLDER|models:/NAME@ALIAS MUSIC ... [--format table|csv|json|m3u] [--to
FILE]

Exit code 1 says that no track was labelled, or one of the files that MUSIC names not; of folders
and catalogs some tracks may have no label.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import tyro

from pipelines.terminal.console import bar, tell
from pipelines.terminal.flags import complain, parse, require_local, require_no_folder
from schemas import Catalog
from sssl.catalog.read import new_track, read_unlabelled
from sssl.catalog.tables import is_table
from sssl.config import require
from sssl.errors import CatalogError, FrontEndError, StoreError, Unlabelled
from sssl.export.labels import WRITERS, About, FormatName, Labelled
from sssl.runtime.ahead import results_in_order
from sssl.runtime.machine import cores
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.urls import file_name, file_system, is_on_web, without_secrets
from sssl.words import counted, some

if TYPE_CHECKING:
    from sssl.songs.labeller import Labeller

_UNKNOWN_BYTES = "surrogateescape"
"""Names of files that are no UTF-8 are written as they are on the disk."""
_AHEAD = 2
"""Tracks per process that are decoded, or wait for it, while others are scored."""


@dataclass(frozen=True)
class Config:
    """Label music with a model that is there, without training: files, folders or catalogs."""

    music: tyro.conf.Positional[tuple[str, ...]]
    """Audio files, folders or globs of them, catalogs as `sssl run` takes them; paths or fsspec
    URLs."""
    model: str
    """What labels: the output folder of a run, a folder in which MLflow saved the model, or
    `models:/NAME@ALIAS`."""
    format: FormatName = "table"
    """table: for people. csv: a row per track. json: an object per line. m3u: a playlist, emotion
    by emotion, the surest first, without what is too uncertain to publish."""
    to: str | None = None
    """File to write; default: the terminal."""
    front_end: str | None = None
    """Where the front-end that the model goes by is now, as `sssl run --front-end` names it;
    default: where it was."""
    accept_licence: bool = False
    """Use a front-end whose weights were marked non-commercial since the model was made: the labels
    are not for commercial use either."""
    processes: int | None = None
    """Processes that decode; default: one per core."""
    mlflow_uri: str | None = None
    """MLflow server of `models:/`; default: MLFLOW_TRACKING_URI."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        require(bool(self.music), "music", "nothing", "audio files, a folder or a catalog")
        require(
            self.processes is None or self.processes > 0, "processes", self.processes, "1 or more"
        )
        require_local("to", self.to)
        require_no_folder("to", self.to)


def tracks_of(music: Sequence[str]) -> list[Catalog]:
    """List the tracks of files, folders, globs and catalogs, each once.

    Raises:
        CatalogError: a folder or a catalog cannot be read, or there is nothing in it.
    """
    found: dict[str, Catalog] = {}
    for given in music:
        for track in _tracks_in(given):
            found.setdefault(track.uri, track)
    return list(found.values())


def label(
    tracks: Sequence[Catalog], labeller: Labeller, pool: IsolatedPool, ahead: int
) -> Iterator[Labelled]:
    """Label tracks in their order; while one is labelled, the processes of a pool decode `ahead` of
    those after it."""
    submit = partial(pool.submit, labeller.cutter())
    for track, done in zip(tracks, results_in_order(submit, tracks, ahead), strict=True):
        if isinstance(done, Failure):
            yield Labelled(track, None, done.reason, done.detail)
            continue
        try:
            yield Labelled(track, labeller.song(done), done.ledger.reason, done.ledger.detail)
        except Unlabelled as error:
            yield Labelled(track, None, error.reason, error.detail)


def load_labeller(
    model: str, mlflow_uri: str | None, front_end: str | None = None, accept_licence: bool = False
) -> Labeller:
    """Load what labels.

    Raises:
        StoreError: there is no model of ours.
        FrontEndError: it goes by a front-end that is neither where it was nor given, or may not be
            used.
    """
    if model.startswith("models:/") or os.path.exists(os.path.join(model, "MLmodel")):
        from sssl.tracking.registered import registered_labeller

        return registered_labeller(model, mlflow_uri, front_end, accept_licence)
    from sssl.songs.labeller import labeller_of

    store = Store.open(model)
    return labeller_of(store, store.latest(), front_end, accept_licence)


def run(config: Config, tracks: Sequence[Catalog], to: TextIO) -> list[Catalog]:
    """Label tracks and write their labels; return those that have none."""
    processes = min(config.processes or cores(), len(tracks))
    pool = IsolatedPool(processes, config.limits, preload="sssl.audio.cut")
    try:
        labeller = load_labeller(
            config.model, config.mlflow_uri, config.front_end, config.accept_licence
        )
        if labeller.embedder is not None:
            tell(labeller.embedder.said)
        labelled = _Counted(label(tracks, labeller, pool, _AHEAD * processes), len(tracks))
        has_numbers = labeller.maker.model.classifier.regression is not None
        WRITERS[config.format](labelled, About(labeller.maker.classes, has_numbers), to)
        return labelled.without
    finally:
        pool.close()


class _Counted:
    """Passes on what is labelled, counts it and shows the progress."""

    def __init__(self, labelled: Iterator[Labelled], total: int) -> None:
        self._labelled = labelled
        self._total = total
        self.without: list[Catalog] = []

    def __iter__(self) -> Iterator[Labelled]:
        if self._total == 1:
            yield from map(self._count, self._labelled)
            return
        with bar("label", self._total) as progress:
            for done, one in enumerate(map(self._count, self._labelled), start=1):
                progress(done, "")
                yield one

    def _count(self, one: Labelled) -> Labelled:
        if one.song is None:
            self.without.append(one.track)
        return one


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "label")
    try:
        tracks = tracks_of(config.music)
        if config.to is None:
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(errors=_UNKNOWN_BYTES)
            without = run(config, tracks, sys.stdout)
        else:
            with (
                replacing(Path(config.to)) as path,
                path.open("w", encoding="utf-8", errors=_UNKNOWN_BYTES, newline="") as file,
            ):
                without = run(config, tracks, file)
    except BrokenPipeError:
        raise  # whoever read the output stopped reading
    except (CatalogError, FrontEndError, StoreError, OSError) as error:
        complain(error)
        return 1
    if without:
        of_all = f"{len(without)} of {counted(len(tracks), 'track')}"
        names = some([track.track_id for track in without])
        said = f"{of_all} not labelled; --format csv has the reason of each: {names}"
        tell(said)
    if len(without) == len(tracks) or any(track.uri in config.music for track in without):
        return 1
    return 0


def _tracks_in(given: str) -> list[Catalog]:
    """List the tracks that a path or URL names."""
    try:
        fs, path = file_system(given)
    except ValueError as error:
        raise CatalogError(f"{without_secrets(given)}: {error}") from None
    # A web address is one file, whatever signs are in it.
    has_signs = any(sign in path for sign in "*?[") and not is_on_web(given)
    is_glob = has_signs and not fs.isfile(path)
    if is_table(given) or is_glob or fs.isdir(path):
        return read_unlabelled(given)
    return [new_track(file_name(given), given)]
