"""The whole job: segment, warm-up, rounds of relabel, train, score and judge, then songs and report.

sssl run --catalog CATALOG --output OUTPUT [flags] [-- beam options]

Stopped anywhere and started again it goes on: each stage finds its finished parts, epochs and tables by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import tyro

from pipelines.commands import report
from pipelines.stages import judge, relabel, score, segment, songs, train
from pipelines.stages.command import preset_of, stage
from pipelines.terminal.flags import parse, split_beam_args
from schemas import Round
from sssl.evaluate.sections import read_sections
from sssl.model.ensemble import model_id
from sssl.model.train import check_size
from sssl.presets import GUARDED, Preset, PresetName
from sssl.report.page import figures
from sssl.songs.classifier import SongConfig
from sssl.songs.labeller import Recipe
from sssl.store.folder import Snapshot, Store, digest_of
from sssl.tracking.tracker import Tracker, Untracked, server_of, without_secrets


@dataclass(frozen=True)
class Config:
    """Label a whole catalog: an emotion, a confidence and a timeline for every track."""

    catalog: str
    """CSV or Parquet with `track_id` and `uri`, or a folder or glob of audio; a local path or any fsspec URL."""
    output: str
    """Output folder; a local path or any fsspec URL."""
    labels: str | None = None
    """CSV with `track_id` and `label` (and other catalog columns), joined to the catalog by id."""
    preset: PresetName = "guarded"
    """Preset that the other flags' defaults come from: `guarded`, or `paper` for the method as published."""
    segment: segment.Settings = field(default_factory=segment.Settings)
    method: Preset = GUARDED
    songs: SongConfig = field(default_factory=SongConfig)
    truth: str | None = None
    """CSV with `track_id`, `start_s`, `end_s`, `true_label`: measured against in the report, never trained on."""
    mlflow_uri: str | None = None
    """MLflow tracking server; default: MLFLOW_TRACKING_URI, else SQLite in a local output folder."""

    def __post_init__(self) -> None:
        check_size(self.method.train.model, self.segment.cut)


def run(store: Store, published: Snapshot, config: Config, beam_args: Sequence[str]) -> Snapshot:
    """Run all stages; publish each as soon as that takes nothing away from readers, and all of them at the end."""
    if config.truth:
        read_sections(config.truth)  # refused now rather than by the report, hours later
    server_of(store, config.mlflow_uri)  # likewise
    init = config.method.train.init
    named = init and model_id(train.read_weights(init))
    segment_config = segment.Config(config.catalog, config.output, config.labels, config.segment)
    segmented = segment.run(store, published, segment_config, beam_args).only("catalog", "segments", "ledger")
    _publish(store, segmented, published)
    train.check(segmented, config.method.train)
    method = replace(config.method, train=replace(config.method.train, init=named))
    # Two outputs are two runs, though their relative paths may be the same; URLs may carry passwords and signatures.
    params = asdict(replace(config, output=store.root, mlflow_uri=None, method=method))
    key = digest_of([segmented.get("catalog").ref, params])[:12]
    tracker = Tracker(store, config.mlflow_uri, key, params)
    with tracker.whole():
        for round, snapshot in enumerate(rounds(store, segmented, config.output, config.method, beam_args, tracker)):
            tracker.log(_metrics(judge.verdict_of(store, snapshot, round)), step=round)
            _publish(store, snapshot, published)
        snapshot = songs.run(store, snapshot, songs.Config(config.output, config.songs), beam_args)
        store.publish(snapshot)
        recipe = Recipe.of(store, snapshot)
        tracker.model(recipe.weights, recipe.settings)
        tracker.files({f"plots/{name}.svg": data for name, data in figures(store, snapshot).items()})
        report.run(store, snapshot, report.Config(config.output, config.truth))
        tracker.log({"tracks_labelled": snapshot.get("songs").rows})
        # Named, not copied: a takedown could not reach into a tracking server.
        tracker.tag("sssl.report", without_secrets(store.url("report.html")))
    return snapshot


def rounds(
    store: Store,
    snapshot: Snapshot,
    output: str,
    method: Preset,
    beam_args: Sequence[str],
    tracker: Tracker | Untracked,
) -> Iterator[Snapshot]:
    """Run the warm-up and the rounds of self-learning on a segmented catalog; yield the snapshot after each."""
    for round in range(method.rounds + 1):
        snapshot = relabel.run(store, snapshot, relabel.Config(output, round, settings=method.relabel), beam_args)
        snapshot = learn(store, snapshot, output, round, method, beam_args, tracker)
        yield snapshot
        if not judge.verdict_of(store, snapshot, round).accepted:
            break  # another round would split the same scores again


def learn(
    store: Store,
    snapshot: Snapshot,
    output: str,
    round: int,
    method: Preset,
    beam_args: Sequence[str],
    tracker: Tracker | Untracked,
) -> Snapshot:
    """Train a round's model on the round's labels, score with it and judge it."""
    snapshot = train.run(store, snapshot, train.Config(output, round, settings=method.train), tracker=tracker)
    snapshot = score.run(store, snapshot, score.Config(output, round, settings=method.score), beam_args)
    return judge.run(store, snapshot, judge.Config(output, round, settings=method.judge))


def _publish(store: Store, snapshot: Snapshot, published: Snapshot) -> None:
    if snapshot.covers(published):
        store.publish(snapshot)


def _metrics(row: Round) -> dict[str, float | None]:
    """Return what MLflow shows of a round."""
    names = (
        "heldout_accuracy",
        "heldout_macro_f1",
        "heldout_loss",
        "heldout_accuracy_change",
        "heldout_accuracy_change_low",
        "heldout_accuracy_change_high",
        "heldout_loss_change",
        "heldout_loss_change_low",
        "heldout_loss_change_high",
        "train_accuracy",
        "train_macro_f1",
        "confident",
        "noisy",
        "relabelled",
        "accepted",
    )
    return {name: getattr(row, name) for name in names}


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    name, preset = preset_of(flags)
    config = parse(Config, flags, "run", catalog=tyro.MISSING, output=tyro.MISSING, preset=name, method=preset)
    return stage(config, run, beam_args, create=True)
