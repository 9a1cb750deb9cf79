"""Judge a round by its scores on held-out tracks: accept its labels and model, or let the previous ones stand.

sssl judge --output OUTPUT --round R [flags]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import tyro

from pipelines.command import preset_of, stage
from pipelines.flags import parse, split_beam_args
from pipelines.progress import console
from schemas import Round, to_arrow
from sssl.judge import JudgeConfig, round_row, unsplit_row
from sssl.presets import PresetName
from sssl.rounds import last_accepted, read_rounds
from sssl.store import Manifest, Snapshot, Store, generation_name


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
    labels = snapshot.get("labels", config.round)
    parent = last_accepted(store, snapshot, before=config.round) if config.round else None
    if parent is not None and has_nothing_to_split(labels):
        row = unsplit_row(config.round, parent, labels.summary)
        inputs = [labels, snapshot.get("rounds", parent.round)]
    else:
        model, scores = snapshot.get("models", config.round), snapshot.get("scores", config.round)
        classes = snapshot.get("catalog").summary["classes"]
        model_id = model.summary["model_id"]
        row = round_row(config.round, parent, model_id, scores.summary, labels.summary, classes, config.settings)
        inputs = [labels, model, scores] + ([] if parent is None else [snapshot.get("rounds", parent.round)])
    generation = generation_name("judge", config.round, asdict(config.settings), inputs)
    file = store.write_part("rounds", generation, 0, to_arrow(Round, [row]))
    manifest = Manifest(
        table="rounds",
        generation=generation,
        stage="judge",
        round=config.round,
        config=asdict(config.settings),
        parents=tuple(sorted(parent.ref for parent in inputs)),
        files={0: file},
        summary={"accepted": row.accepted},
    )
    verdict, split = "accepted" if row.accepted else "rejected", f"{row.confident} confident, {row.noisy} noisy"
    console.print(f"round {row.round} {verdict}: {row.reason} · {split}, {row.relabelled} relabelled", soft_wrap=True)
    return snapshot.add(store.commit(manifest))


def has_nothing_to_split(labels: Manifest) -> bool:
    """Whether a later round's labels are the inherited ones: training on them again would show nothing."""
    return bool(labels.round) and not labels.summary.get("noisy")


def verdict_of(store: Store, snapshot: Snapshot, round: int) -> Round:
    """Return the row of a judged round."""
    return next(row for row in read_rounds(store, snapshot) if row.round == round)


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    name, preset = preset_of(flags)
    config = parse(Config, flags, "judge", output=tyro.MISSING, round=tyro.MISSING, preset=name, settings=preset.judge)
    return stage(config, run, beam_args)
