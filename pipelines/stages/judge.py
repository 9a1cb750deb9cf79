"""Judge a round by its scores on held-out tracks: accept its labels and model, or let the previous ones stand.

sssl judge --output OUTPUT --round R [flags]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import console
from schemas import Round, to_arrow
from schemas.records import dump
from schemas.summaries import LabelsSummary, ModelsSummary, RoundsSummary, ScoresSummary
from sssl.labels.acceptance import JudgeConfig, compare_scores, round_row, unsplit_row
from sssl.labels.relabel import SplitSummary
from sssl.presets import PresetName
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, Snapshot
from sssl.store.rounds import has_nothing_to_split, last_accepted, read_rounds


@dataclass(frozen=True)
class Config:
    """Accept or reject a round by its scores on held-out tracks."""

    output: str
    """Output folder of the score stage."""
    round: int
    """Round to judge."""
    preset: PresetName = "guarded"
    """Preset that the other flags' defaults come from: `guarded`, or `paper` for the method as published."""
    settings: JudgeConfig = field(default_factory=JudgeConfig)


def run(context: Context, round: int, settings: JudgeConfig) -> Context:
    """Commit the round's row of `rounds` and return the context with it."""
    store, snapshot = context.store, context.snapshot
    parent = last_accepted(store, snapshot, before=round) if round else None
    planned = Manifest.plan("rounds", "judge", dump(settings), _inputs(snapshot, round, parent), round)
    context = context.add(store.commit_once(planned, partial(_make, store, snapshot, parent, settings)))
    _tell(verdict_of(context, round))
    return context


def verdict_of(context: Context, round: int) -> Round:
    """Return the row of a judged round."""
    return next(row for row in read_rounds(context.store, context.snapshot) if row.round == round)


def _make(store: Store, snapshot: Snapshot, parent: Round | None, settings: JudgeConfig, planned: Manifest) -> Made:
    assert planned.round is not None
    row = _row(store, snapshot, parent, planned.round, settings)
    file = store.write_part("rounds", planned.generation, 0, to_arrow(Round, [row]))
    return Made({0: file}, dump(RoundsSummary(accepted=row.accepted)))


def _inputs(snapshot: Snapshot, round: int, parent: Round | None) -> list[Manifest]:
    labels = snapshot.get("labels", round)
    judged = [] if parent is None else [snapshot.get("rounds", parent.round)]
    if has_nothing_to_split(snapshot, round):
        return [labels, *judged]
    scores = [snapshot.get("scores", r) for r in ([round] if parent is None else [round, parent.round])]
    return [snapshot.get("catalog"), labels, snapshot.get("models", round), *scores, *judged]


def _row(store: Store, snapshot: Snapshot, parent: Round | None, round: int, settings: JudgeConfig) -> Round:
    """Compare the round with its parent and put together its row."""
    labels, split = snapshot.about("labels", LabelsSummary, round), snapshot.about("labels", SplitSummary, round)
    if parent is not None and has_nothing_to_split(snapshot, round):
        return unsplit_row(round, parent, labels, split)
    catalog, scores = snapshot.get("catalog"), snapshot.get("scores", round)
    comparison = None
    if parent is not None:
        before = snapshot.get("scores", parent.round)
        comparison = compare_scores(store, catalog, scores, before, settings)
    return round_row(
        round,
        parent,
        snapshot.about("models", ModelsSummary, round).model_id,
        snapshot.about("scores", ScoresSummary, round),
        labels,
        split,
        comparison,
        settings,
    )


def _tell(row: Round) -> None:
    said = "accepted" if row.accepted else "rejected"
    console.print(f"round {row.round} {said}: {row.reason}", soft_wrap=True)


main = StageCommand(
    "judge",
    Config,
    lambda context, config: run(context, config.round, config.settings),
    of_preset=lambda preset: {"settings": preset.judge},
).main
