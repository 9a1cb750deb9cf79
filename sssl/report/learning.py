"""What each round split, relabelled and gained."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from schemas import Round
from schemas.summaries import LabelsSummary, Pairs, matrix
from sssl.arrays import Floats, Indices
from sssl.labels import mixture
from sssl.labels.acceptance import JudgeConfig
from sssl.labels.relabel import SplitSummary
from sssl.plots import charts
from sssl.report.source import Context, Source
from sssl.store.rounds import verdict_of

SHOWN_STOPS = 3  # rounds in a flow of labels


def context(source: Source) -> Context:
    """What each round split, relabelled and gained."""
    rounds = source.rounds
    labels = {m.round: m for m in source.snapshot.of("labels")}
    counts = {
        round: manifest.about(LabelsSummary, source.classes) for round, manifest in labels.items()
    }
    fitted = {round: manifest.about(SplitSummary) for round, manifest in labels.items()}
    numbers = [row.round for row in rounds]
    stands = [verdict_of(row) != "kept" for row in rounds]
    accuracy = {
        "held-out tracks": [row.heldout_accuracy for row in rounds],
        "train tracks": [row.train_accuracy for row in rounds],
    }
    confident = {
        name: [counts[r].confident_share(name) for r in numbers] for name in source.classes
    }
    alt = "Confident share by class and round"
    of_mean = "Accuracy of the mean posterior by round"
    split_rounds = [row for row in rounds if fitted[row.round].common is not None]
    last = source.split.round
    verdict = source.snapshot.of("rounds")[-1]
    settings = verdict.settings(JudgeConfig)
    splits = [
        _split_of(source, row, fitted[row.round], large=row.round == last) for row in split_rounds
    ]
    return {
        "rounds": rounds,
        "by_log_loss": (
            verdict.config.get("judged_by") == "log loss"
        ),  # earlier versions had a rule of their own
        "decisive_z": settings.decisive_z,
        "interval_level": settings.interval_level,
        "accuracy": charts.by_round(
            "accuracy", of_mean, numbers, accuracy, ("accent", "muted"), stands
        ),
        "confident": charts.by_round("confident", alt, numbers, confident, source.colors, stands),
        "splits": sorted(splits, key=lambda split: not split["by_class"]),
        "flow": _flow(source, counts) if last else None,
    }


def _flow(source: Source, counts: dict[int | None, LabelsSummary]) -> Context:
    """Draw where labels went, from the inherited ones over the accepted rounds to the last split,
    the last few."""
    last = source.split.round
    assert last is not None  # labels always have a round
    before = [row.round for row in source.rounds if row.accepted and 0 < row.round < last]
    stops = [*before, last][-SHOWN_STOPS:]
    first = counts[stops[0]].flow()
    steps = [first, *(moved_between(source, *pair) for pair in pairwise(stops))]
    whole = counts[last].flow()
    changed = (
        f"{whole.sum() - np.trace(whole):,.0f} of {whole.sum():,.0f} segments do not have the label"
        " they inherited"
    )
    names = ["inherited", *(f"round {stop}" for stop in stops)]
    return {
        "whole": whole,
        "plot": charts.flow("flow", f"Flow of labels: {changed}", steps, names, source.classes),
    }


def moved_between(source: Source, earlier: int, later: int) -> Floats:
    """Count how many segments of train tracks moved from a label to a label [C, C] between two
    rounds."""
    found = source.rows(
        "select a.label as old, b.label as new, count(*) as n "
        "from labels a join labels b using (track_id, segment_index) join catalog using (track_id) "
        "where a.round = ? and b.round = ? and split = 'train' "
        "and a.label is not null and b.label is not null group by all",
        *(earlier, later),
    )
    moved: Pairs = {}
    for row in found:
        moved.setdefault(row["old"], {})[row["new"]] = row["n"]
    return matrix(moved, source.classes)


def _split_of(source: Source, row: Round, fitted: SplitSummary, large: bool) -> Context:
    """Draw the losses of a round with the mixtures that split them; those of the large one also by
    class."""
    common = fitted.common
    assert common is not None  # it was split
    losses = loss_counts(source, row.round, common.axis)
    of = f"loss{row.round}"
    alt = f"Losses of round {row.round}, confident and noisy, with the fitted mixture"
    return {
        "round": row,
        "mixture": common,
        "evidence": fitted.evidence,
        "components": fitted.components,
        "plot": charts.loss_histogram(of, alt, losses.sum(axis=0), common, large),
        "by_class": [
            (
                name,
                charts.loss_histogram(
                    f"{of}-{c}", f"{alt}: {name}", losses[c], fitted.mixtures.get(name, common)
                ),
            )
            for c, name in enumerate(source.classes)
            if large and losses[c].any()
        ],
    }


def loss_counts(source: Source, round: int, axis: mixture.Axis) -> Indices:
    """Count the losses that a round was split on: [C, 2, BINS] by inherited label and partition
    (confident, noisy)."""
    found = source.connection.sql(
        "select list_position(?, l.inherited_label) - 1 as c, l.partition = 'noisy' as noisy,"
        " l.loss::double as loss from labels l join catalog using (track_id) where l.round = ? and"
        " split = 'train' and l.partition in ('confident', 'noisy') and l.loss is not null",
        params=[list(source.classes), round],
    )
    counts = np.zeros((len(source.classes), 2, mixture.BINS), np.int64)
    for batch in found.to_arrow_reader(1 << 16):
        c, noisy, loss = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        np.add.at(
            counts, (c, noisy.astype(int), mixture.bin_of(mixture.to_axis(loss, axis), axis)), 1
        )
    return counts
