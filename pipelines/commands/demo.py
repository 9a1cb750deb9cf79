"""Make a small catalog of synthesized music, some of it labelled wrong or broken, and label it.

sssl demo [--output demo]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.commands import run
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.segment import reasons_of
from pipelines.terminal.console import bar
from schemas.summaries import SongsSummary
from sssl.datasets.synthetic import TRACKS, DemoCatalog, make_catalog
from sssl.evaluate.sections import wrong_segments
from sssl.labels.findings import Findings
from sssl.metrics import quality
from sssl.presets import GUARDED
from sssl.songs.classifier import SongModel
from sssl.songs.settings import SongConfig
from sssl.songs.threshold import Threshold
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.rounds import guesses_in_use, in_use, read_rounds
from sssl.words import counted

_WANTED_PRECISION = 0.8  # some 90 train tracks cannot show much more, however many are right
_QUERIES = (
    "select status, reason, count(*) as tracks from ledger group by all order by tracks desc",
    "select track_id, label, round(confidence, 2) as confidence, segments from songs order by confidence limit 10",
    "select track_id, start_s, inherited_label, model_label, round(evidence, 1) as evidence from suspects "
    "order by evidence desc limit 10",
)


@dataclass(frozen=True)
class Config:
    """Make a small catalog of synthesized music, some of it labelled wrong or broken, and label it."""

    output: str = "demo"
    """Folder for the music and for the output."""
    tracks: int = TRACKS
    """Tracks to synthesize, four broken files come on top."""
    warmup_epochs: int = GUARDED.train.warmup_epochs
    """Epochs of the warm-up."""
    seed: int = 0
    """Seed of the music and of training."""


def label_demo(context: Context, config: Config) -> Context:
    """Synthesize the catalog, run the main job on it and print what came out."""
    music = make_music(config)
    training = replace(GUARDED.train, warmup_epochs=config.warmup_epochs, seed=config.seed)
    job = run.Config(
        catalog=str(music.catalog),
        output=config.output,
        truth=str(music.truth),
        method=replace(GUARDED, train=training),
        songs=SongConfig(wanted_precision=_WANTED_PRECISION),
    )
    made = run.run(context, job)
    sys.stdout.write(summary(made.store, made.snapshot, config.output, str(music.truth)))
    return made


def make_music(config: Config) -> DemoCatalog:
    """Synthesize what is missing of the catalog in the output folder."""
    folder = Path(config.output, f"music-{config.tracks}-{config.seed}")
    with bar("synthesize", config.tracks) as update:
        return make_catalog(folder, config.tracks, config.seed, lambda done, _total: update(done, ""))


def summary(store: Store, snapshot: Snapshot, output: str, truth: str) -> str:
    """Say in a few lines what came out, and how to look further."""
    ledger, songs = snapshot.get("ledger"), snapshot.get("songs")
    found, findings = wrong_segments(store, snapshot, truth), Findings.of(store, snapshot)
    warm_up, used = read_rounds(store, snapshot)[0], in_use(store, snapshot)
    guesses = songs.about(SongsSummary), guesses_in_use(snapshot, used)
    published, by_mean = (quality(guessed.confusion("test")) for guessed in guesses)
    abstained = guesses[0].abstained
    rows = {
        "tracks labelled": f"{songs.rows} of {ledger.rows}",
        "too uncertain": abstentions(abstained, songs.about(SongModel).threshold),
        "segments": str(snapshot.get("segments").rows),
        "not clean": reasons_of(ledger),
        "look wrong": f"{findings.found}: precision {_share(found.precision)}, recall {_share(found.recall)}, "
        f"AUC {_share(found.auc)} (planted: {found.wrong})",
        "labels right": f"{found.segment_accuracy_before:.3f} of segments as inherited, "
        f"{found.segment_accuracy_after:.3f} as relabelled",
        "model": findings.outcome,
        "held-out tracks": f"published label right for {_share(published.accuracy)} of {published.tracks}; "
        f"mean posterior for {_share(by_mean.accuracy)} ({used.name}), "
        f"after the warm-up for {_share(warm_up.heldout_accuracy)}",
    }
    lines = [f"{name:<18}{value}" for name, value in rows.items()]
    queries = [f'sssl sql --output {output} "{query}"' for query in _QUERIES]
    return "\n".join(["", *lines, "", f"report: {store.url('report.html')}", "", *queries, ""])


def abstentions(abstained: int, threshold: Threshold) -> str:
    """Say how many tracks abstain, below which confidence, and what that was chosen for."""
    wanted = f"--wanted-precision {threshold.wanted_precision}"
    if threshold.abstain_below is None:
        fitted_without = counted(threshold.left_out_tracks, "track")
        return f"{counted(abstained, 'track')}: {fitted_without} left out of the fit cannot show {wanted}"
    above = counted(threshold.tracks_above, "track")
    return (
        f"{counted(abstained, 'track')}, with a confidence below {threshold.abstain_below:.2f} "
        "or unlike anything labelled. "
        f"Above it the label is right for {threshold.right_above} of {above} left out of the fit, "
        f"which shows a precision of {_share(threshold.precision_low)} ({wanted})"
    )


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


main = StageCommand("demo", Config, label_demo, creates=True, takes_beam_args=False).main
