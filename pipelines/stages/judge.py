"""Judge a round by its scores on held-out tracks: accept its labels and model, or let the previous ones stand.

sssl judge --output OUTPUT --round R [flags]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import tyro

from pipelines.stages.command import preset_of, stage
from pipelines.terminal.console import console
from pipelines.terminal.flags import parse, split_beam_args
from schemas import Round, to_arrow
from sssl.labels.acceptance import JudgeConfig, compare_scores, round_row, unsplit_row
from sssl.presets import PresetName
from sssl.runtime.cpu_time import CLOCK
from sssl.store.folder import Manifest, Snapshot, Store, generation_name
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


def run(store: Store, snapshot: Snapshot, config: Config, _beam_args: Sequence[str] = ()) -> Snapshot:
    """Commit the round's row of `rounds` and return the snapshot with it."""
    parent = last_accepted(store, snapshot, before=config.round) if config.round else None
    inputs = _inputs(snapshot, config.round, parent)
    generation = generation_name("judge", config.round, asdict(config.settings), inputs)
    rounds = store.manifest("rounds", generation)
    if rounds is None:
        CLOCK.lap()  # what went before is not the judge's
        row = _row(store, snapshot, parent, config)
        manifest = Manifest(
            table="rounds",
            generation=generation,
            stage="judge",
            round=config.round,
            config=asdict(config.settings),
            parents=tuple(sorted(manifest.ref for manifest in inputs)),
            files={0: store.write_part("rounds", generation, 0, to_arrow(Round, [row]))},
            summary={"accepted": row.accepted, "cpu_s": CLOCK.lap()},
        )
        rounds = store.commit(manifest)
    snapshot = snapshot.add(rounds)
    _tell(verdict_of(store, snapshot, config.round))
    return snapshot


def verdict_of(store: Store, snapshot: Snapshot, round: int) -> Round:
    """Return the row of a judged round."""
    return next(row for row in read_rounds(store, snapshot) if row.round == round)


def _inputs(snapshot: Snapshot, round: int, parent: Round | None) -> list[Manifest]:
    labels = snapshot.get("labels", round)
    judged = [] if parent is None else [snapshot.get("rounds", parent.round)]
    if has_nothing_to_split(snapshot, round):
        return [labels, *judged]
    scores = [snapshot.get("scores", r) for r in ([round] if parent is None else [round, parent.round])]
    return [snapshot.get("catalog"), labels, snapshot.get("models", round), *scores, *judged]


def _row(store: Store, snapshot: Snapshot, parent: Round | None, config: Config) -> Round:
    """Compare the round with its parent and put together its row."""
    labels = snapshot.get("labels", config.round)
    if parent is not None and has_nothing_to_split(snapshot, config.round):
        return unsplit_row(config.round, parent, labels.summary)
    catalog, scores = snapshot.get("catalog"), snapshot.get("scores", config.round)
    comparison = None
    if parent is not None:
        before = snapshot.get("scores", parent.round)
        comparison = compare_scores(store, catalog, scores, before, config.settings)
    return round_row(
        config.round,
        parent,
        snapshot.get("models", config.round).summary["model_id"],
        scores.summary,
        labels.summary,
        catalog.summary["classes"],
        comparison,
        config.settings,
    )


def _tell(row: Round) -> None:
    said, split = "accepted" if row.accepted else "rejected", f"{row.confident} confident, {row.noisy} noisy"
    console.print(f"round {row.round} {said}: {row.reason} · {split}, {row.relabelled} relabelled", soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    name, preset = preset_of(flags)
    config = parse(Config, flags, "judge", output=tyro.MISSING, round=tyro.MISSING, preset=name, settings=preset.judge)
    return stage(config, run, beam_args)
