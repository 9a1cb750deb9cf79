"""Settings of the segment stage; apart from it, so that whoever plans need not load Beam and
torch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Annotated, Any

import pyarrow.parquet as pq

from pipelines.stages.settings_file import IN_FILE, FileSettings, Source
from schemas.records import dump, later
from sssl.audio.integrity import Defect, GateConfig
from sssl.audio.mel import MelConfig, StoredAs
from sssl.audio.sound import SOUND_VERSION
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.plan import AgainConfig
from sssl.config import require
from sssl.errors import StoreError
from sssl.runtime.process_pool import Limits
from sssl.store.folder import Store
from sssl.store.layout import MARK
from sssl.store.manifest import FolderMark, Manifest, Snapshot, loaded
from sssl.store.tensors import tensor_about

_DECODED = ("track_id", "segment_index", "start_s", "log_mel", "level_db", "band_level_db")
"""Columns that only decoding fills. Rows of an earlier run are kept as they have them, in whatever
table and type. Later ones are no reason to decode a folder again: `sound_db` is made of the log-mel
where it is missing, and `sound` is asked for by `sound_version`."""
SOUND = "sound"


@dataclass(frozen=True)
class Settings:
    """Settings of the stage."""

    deal: CatalogConfig = field(default_factory=CatalogConfig)
    cut: Annotated[MelConfig, IN_FILE] = field(default_factory=MelConfig)
    gate: Annotated[GateConfig, IN_FILE] = field(default_factory=GateConfig)
    again: AgainConfig = field(default_factory=AgainConfig)
    limits: Annotated[Limits, IN_FILE] = field(default_factory=Limits)
    sound_version: int | None = None
    """Version of the column `sound` (docs/sound.md), 0 for none; default: that of the output
    folder, or the latest in a new folder. With another version everything is decoded again."""
    processes: int | None = None
    """Decoder processes per worker; default: one per core if Beam runs in this process, else
    one."""
    max_error_ratio: float = 0.5
    """Fail the run, after the ledger is committed, if a larger share of the tracks failed."""
    reject: tuple[Defect, ...] = later((), neutral=())
    """Defects whose tracks fail; tracks with others are kept as partial."""

    def __post_init__(self) -> None:
        known = range(SOUND_VERSION + 1)
        valid = self.sound_version is None or self.sound_version in known
        require(valid, "sound_version", self.sound_version, f"0 to {SOUND_VERSION}")
        processes = self.processes
        require(processes is None or processes > 0, "processes", processes, "1 or more")
        ratio = self.max_error_ratio
        require(0 <= ratio <= 1, "max_error_ratio", ratio, "a share from 0 to 1")

    @classmethod
    def of(cls, given: FileSettings) -> Settings:
        """Return the settings that a file gives."""
        return cls(cut=given.cut, gate=given.gate, limits=given.limits)

    @property
    def strict_gate(self) -> GateConfig:
        """The gate, with what `reject` names."""
        return self.gate.rejecting(self.reject)

    def of_rows(self) -> dict[str, Any]:
        """Return what decides the rows of a track."""
        sound = {} if self.sound_version is None else {SOUND: self.sound_version}
        rows = {
            "cut": dump(self.cut),
            "gate": dump(self.strict_gate),
            "toolchain": toolchain(),
            "columns": list(_DECODED),
        }
        return rows | sound

    def in_folder(self, store: Store, published: Snapshot) -> Settings:
        """Return the settings on top of what is published in a folder: log-mels are stored as they
        are there, and the version of sound is the folder's unless one is given.

        None afterwards stands for a folder from before there was the column.
        """
        ledger = published.of("ledger")
        stored_as = self._stored_as(ledger[0] if ledger else None, store)
        of_folder = ledger[0].config.get(SOUND) if ledger else SOUND_VERSION
        asked = self.sound_version
        same = asked is None or asked == (of_folder or 0)
        cut = replace(self.cut, stored_as=stored_as)
        return replace(self, cut=cut, sound_version=of_folder if same else asked)

    def _stored_as(self, ledger: Manifest | None, store: Store) -> StoredAs:
        """Return how log-mels are stored in a folder with the ledger of a last run, or with parts
        of a first run that was stopped, if there was one."""
        of_folder = _cut_of_parts(store) if ledger is None else ledger.settings(MelConfig, "cut")
        if of_folder is not None:
            # Otherwise everything is decoded again anyway.
            return of_folder.stored_as if of_folder.is_alike(self.cut) else self.cut.stored_as
        mark = store.read_record_if_whole(MARK, FolderMark)
        # A first run that an earlier version began goes on with the parts that it has.
        is_earlier = mark is not None and mark.begun_at is None
        return "float16" if is_earlier else self.cut.stored_as

    def passed_over(self, asked: Settings) -> str | None:
        """Say that a folder does not store log-mels as they were asked for. What nobody asks for is
        the default."""
        stored_as = asked.cut.stored_as
        if stored_as in (self.cut.stored_as, MelConfig().stored_as):
            return None
        return (
            f"stored_as = {stored_as} is for new folders: log-mels here stay {self.cut.stored_as}"
            " until their cut changes"
        )


def _cut_of_parts(store: Store) -> MelConfig | None:
    """Return how log-mels were cut that a run wrote and did not publish, None if there are none, or
    none that say it."""
    for paths in store.medium.walk("features"):
        for path in paths:
            if path.endswith(".parquet"):
                with (
                    suppress(OSError, ValueError, KeyError, StoreError),
                    store.open_file(path) as file,
                ):
                    about = tensor_about(pq.read_schema(file), "log_mel")
                    return loaded(MelConfig, about["mel"], store.url(path))
    return None


@dataclass(frozen=True)
class Inputs:
    """What a run reads, and the folder that it writes to."""

    catalog: str
    """CSV or Parquet with `track_id` and `uri`, or a folder or glob of audio; a local path or any
    fsspec URL."""
    output: str
    """Output folder; a local path or any fsspec URL."""
    labels: str | None = None
    """CSV with `track_id` and `label` (and other catalog columns), joined to the catalog by id."""
    corrections: str | None = later(None, neutral=None)
    """CSV of what listeners said of tracks and passages (docs/review.md); it takes precedence over
    `labels`. Default: corrections.csv in the output folder, if there is one."""


@dataclass(frozen=True)
class Config(Inputs):
    """Cut every track of a catalog into segments."""

    source: Source = field(default_factory=Source)
    settings: Settings = field(default_factory=Settings)


def toolchain() -> dict[str, str]:
    """Return the versions that decide what comes out of a file."""
    return {name: version(name) for name in ("av", "soundfile", "soxr", "torchaudio")}
