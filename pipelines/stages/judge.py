"""Judge a round by the labelled tracks that its model has not learned: accept the model, keep its
parent, or both.

sssl judge --output OUTPUT --round R [flags]
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.settings_file import IN_FILE, Source
from pipelines.stages.standing import find_earlier, learned_stands
from pipelines.terminal.console import tell
from schemas import Round, to_arrow
from schemas.records import dump
from schemas.summaries import LabelsSummary, ModelsSummary, RoundsSummary, ScoresSummary
from sssl.labels.acceptance import JudgeConfig, round_row, unsplit_row
from sssl.labels.comparison import JudgedTracks, compare, compare_held_out, read_judged
from sssl.labels.split import SplitSummary
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, Snapshot
from sssl.store.rounds import has_nothing_to_split, in_use, last_accepted, read_rounds, verdict_of


@dataclass(frozen=True)
class Config:
    """Accept a round's model, keep its parent's, or let both label: by labelled tracks that they
    have not learned."""

    output: str
    """Output folder of the score stage."""
    round: int
    """Round to judge."""
    source: Source = field(default_factory=Source)
    settings: Annotated[JudgeConfig, IN_FILE] = field(default_factory=JudgeConfig)


def run(context: Context, round: int, settings: JudgeConfig) -> Context:
    """Commit the round's row of `rounds` and return the context with it."""
    store = context.store
    snapshot = context.snapshot
    parent = last_accepted(store, snapshot, before=round) if round else None
    config = dump(settings) | {"judged_by": "log loss"}
    inputs = _inputs(snapshot, round, parent)
    planned = Manifest.plan("rounds", "judge", config, inputs.values(), round)
    earlier = find_earlier(context, planned, inputs)
    if earlier is not None and "catalog" in inputs and learned_stands(context, earlier, inputs):
        make = partial(_taken_over, store, snapshot, store.named(earlier.ref))
    else:
        make = partial(_make, store, snapshot, parent, settings)
    context = context.add(store.commit_once(planned, make))
    if (
        snapshot.of("songs")
        and in_use(store, context.snapshot).model_id != in_use(store, snapshot).model_id
    ):
        # Songs by other models than those in use would contradict whatever labels a file from here
        # on.
        context = context.on(context.snapshot.without("songs"))
    row = row_of(context, round)
    tell(f"round {row.round} {verdict_of(row)}: {row.reason}")
    return context


def row_of(context: Context, round: int) -> Round:
    """Return the row of a judged round."""
    rounds = read_rounds(context.store, context.snapshot)
    (row,) = [row for row in rounds if row.round == round]
    return row


def _inputs(snapshot: Snapshot, round: int, parent: Round | None) -> dict[str, Manifest]:
    """Return what a round is judged by, each under a name of its own."""
    labels = {"labels": snapshot.get("labels", round)}
    judged = {} if parent is None else {"rounds": snapshot.get("rounds", parent.round)}
    if has_nothing_to_split(snapshot, round):
        return labels | judged
    inputs = {
        "catalog": snapshot.get("catalog"),
        "models": snapshot.get("models", round),
        "scores": snapshot.get("scores", round),
    }
    if parent is not None:
        inputs["parent_scores"] = snapshot.get("scores", parent.round)
    return inputs | labels | judged


def _taken_over(store: Store, snapshot: Snapshot, earlier: Manifest, planned: Manifest) -> Made:
    """Return an earlier verdict, which stands, with the counts of the labels as they are now."""
    assert planned.round is not None
    (found,) = store.read_table(earlier).to_pylist()
    row = Round(**found)
    labels = snapshot.about("labels", LabelsSummary, planned.round)
    row = replace(row, locked=labels.locked, unlabelled=labels.unlabelled)
    file = store.write_part("rounds", planned.generation, 0, to_arrow(Round, [row]))
    summary = dict(earlier.summary)
    summary.pop("cpu_s", None)
    return Made({0: file}, summary)


def _make(
    store: Store, snapshot: Snapshot, parent: Round | None, settings: JudgeConfig, planned: Manifest
) -> Made:
    assert planned.round is not None
    row, summary = _judge(store, snapshot, parent, planned.round, settings)
    file = store.write_part("rounds", planned.generation, 0, to_arrow(Round, [row]))
    return Made({0: file}, dump(summary))


def _judge(
    store: Store, snapshot: Snapshot, parent: Round | None, round: int, settings: JudgeConfig
) -> tuple[Round, RoundsSummary]:
    """Compare the round with its parent; return its row and what the manifest says of it."""
    labels = snapshot.about("labels", LabelsSummary, round)
    split = snapshot.about("labels", SplitSummary, round)
    if parent is not None and has_nothing_to_split(snapshot, round):
        return unsplit_row(round, parent, labels, split), RoundsSummary(accepted=False)
    tracks = None if parent is None else _read_labelled(store, snapshot, parent.round, round)
    if tracks is None or parent is None:
        judging = None
    else:
        judging = _not_learned(tracks, snapshot, parent.round, round)
    found = None
    held_out = None
    if judging is not None:
        found = compare(judging)
        held_out = compare_held_out(judging, settings.interval_level)
    model = snapshot.about("models", ModelsSummary, round)
    scores = snapshot.about("scores", ScoresSummary, round)
    row = round_row(round, parent, model.model_id, scores, labels, split, found, held_out, settings)
    if tracks is None or verdict_of(row) != "undecided":
        return row, RoundsSummary(accepted=row.accepted)
    classes = snapshot.catalog.classes
    return row, RoundsSummary(classes=classes, confusions=tracks.confusions(tracks.both, classes))


def _read_labelled(store: Store, snapshot: Snapshot, before: int, after: int) -> JudgedTracks:
    """Read what the models of two rounds make of labelled tracks."""
    of_parent = snapshot.get("scores", before)
    own = snapshot.get("scores", after)
    return read_judged(store, snapshot.get("catalog"), of_parent, own)


def _not_learned(tracks: JudgedTracks, snapshot: Snapshot, before: int, after: int) -> JudgedTracks:
    """Leave out tracks that a model has learned; one with a single member has learned all train
    tracks."""
    single = any(snapshot.get("models", round).rows == 1 for round in (before, after))
    if single:
        return tracks.of(tracks.held_out)
    return tracks


main = StageCommand(
    "judge",
    Config,
    lambda context, config: run(context, config.round, config.settings),
    of_settings=lambda given: {"settings": given.method.judge},
    takes_beam_args=False,
).main
