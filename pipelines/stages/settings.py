"""Settings of the segment stage; apart from it, so that whoever plans need not load Beam and torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from schemas import Segment, columns
from schemas.records import dump
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.plan import AgainConfig
from sssl.runtime.process_pool import Limits

_OF_THE_TENSOR = ("sound_db",)  # came later, and is made of the log-mel where it is missing: no reason to decode again


@dataclass(frozen=True)
class Settings:
    """Settings of the stage."""

    deal: CatalogConfig = field(default_factory=CatalogConfig)
    cut: MelConfig = field(default_factory=MelConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    again: AgainConfig = field(default_factory=AgainConfig)
    limits: Limits = field(default_factory=Limits)
    processes: int | None = None
    """Decoder processes a worker; default: one a core where Beam runs in this process, else one."""
    max_error_ratio: float = 0.5
    """Fail the run, after the ledger is committed, if a larger share of the tracks failed."""

    def of_rows(self) -> dict[str, Any]:
        """Return what decides the rows of a track."""
        names = [column.name for column in columns(Segment) if column.name not in _OF_THE_TENSOR]
        return {"cut": dump(self.cut), "gate": dump(self.gate), "toolchain": toolchain(), "columns": names}


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


def toolchain() -> dict[str, str]:
    """Return the versions that decide what comes out of a file."""
    return {name: version(name) for name in ("av", "soundfile", "soxr", "torchaudio")}
