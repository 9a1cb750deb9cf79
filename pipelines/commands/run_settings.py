"""Flags of the whole job; apart from it, so that whoever explains or refuses them need not load
Beam and torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pipelines.stages.churn import require_share
from pipelines.stages.policy import LearnConfig
from pipelines.stages.settings import Inputs, Settings
from pipelines.stages.settings_file import IN_FILE, Source
from schemas.records import later
from sssl.embedding.settings import EmbedConfig
from sssl.model.settings import check_size
from sssl.presets import GUARDED, Preset
from sssl.songs.settings import SongConfig


@dataclass(frozen=True)
class Config(Inputs):
    """Label a whole catalog: an emotion, a confidence and a timeline for every track."""

    source: Source = later(Source(), neutral=Source())
    segment: Settings = field(default_factory=Settings)
    embed: EmbedConfig = later(EmbedConfig(), neutral=EmbedConfig())
    method: Annotated[Preset, IN_FILE] = GUARDED
    policy: LearnConfig = later(LearnConfig(), neutral=LearnConfig())
    songs: SongConfig = field(default_factory=SongConfig)
    max_churn: float | None = later(None, neutral=None)
    """Publish nothing, and end with exit code 4, if a larger share of the published song labels
    would change; none: publish however many change."""
    truth: str | None = None
    """CSV with `track_id`, `start_s`, `end_s`, `true_label`: the report measures against it, and
    nothing is trained on it."""
    mlflow_uri: str | None = None
    """MLflow tracking server; default: MLFLOW_TRACKING_URI, else SQLite in a local output
    folder."""

    def __post_init__(self) -> None:
        check_size(self.method.train.model, self.segment.cut)
        require_share(self.max_churn)
