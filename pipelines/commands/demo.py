"""Make a small catalog of synthesized music, some of it labelled wrong or broken, and label it.

sssl demo [--output demo]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.commands import run, run_settings
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import bar
from pipelines.terminal.shell import sql_command
from sssl.datasets.synthetic import TRACKS, DemoCatalog, make_catalog
from sssl.presets import GUARDED
from sssl.songs.settings import SongConfig

_WANTED_PRECISION = 0.8  # some 90 train tracks cannot show much more, however many are right
_QUERIES = (
    "select status, reason, count(*) as tracks from ledger group by all order by tracks desc",
    (
        "select track_id, label, round(confidence, 2) as confidence, segments from songs order by"
        " confidence limit 10"
    ),
)


@dataclass(frozen=True)
class Config:
    """Make a small catalog of synthesized music, some of it labelled wrong or broken, and label
    it."""

    output: str = "demo"
    """Folder for the music and for the output."""
    tracks: int = TRACKS
    """Tracks to synthesize, four broken files come on top."""
    warmup_epochs: int | None = GUARDED.train.warmup_epochs
    """Epochs of the warm-up; default: those of `sssl run`."""
    seed: int = 0
    """Seed of the music and of training."""


def label_demo(context: Context, config: Config) -> Context:
    """Synthesize the catalog, run the main job on it and say how to look further."""
    music = make_music(config)
    training = replace(GUARDED.train, warmup_epochs=config.warmup_epochs, seed=config.seed)
    job = run_settings.Config(
        catalog=str(music.catalog),
        output=config.output,
        truth=str(music.truth),
        method=replace(GUARDED, train=training),
        songs=SongConfig(wanted_precision=_WANTED_PRECISION),
    )
    made = run.run(context, job)
    queries = [sql_command(config.output, query) for query in _QUERIES]
    sys.stdout.write("\n".join([*queries, ""]))
    return made


def make_music(config: Config) -> DemoCatalog:
    """Synthesize what is missing of the catalog in the output folder."""
    folder = Path(config.output, f"music-{config.tracks}-{config.seed}")
    with bar("synthesize", config.tracks) as update:
        return make_catalog(
            folder, config.tracks, config.seed, lambda done, _total: update(done, "")
        )


main = StageCommand(
    "demo", Config, label_demo, creates=True, takes_beam_args=False, copies_itself=True
).main
