"""What each round split, relabelled and gained."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from schemas import Round
from schemas.summaries import LabelsSummary, Pairs, matrix
from sssl.arrays import Floats, Indices
from sssl.labels import mixture
from sssl.labels.acceptance import JudgeConfig
from sssl.labels.split import SplitSummary
from sssl.plots import charts
from sssl.report.source import Context, Source
from sssl.store.rounds import verdict_of

SHOWN_STOPS = 3  # rounds in a flow of labels


def context(source: Source) -> Context:
    """What each round split, relabelled and gained."""
    rounds = source.rounds
    counts = {}
    fitted = {}
    for manifest in source.snapshot.of("labels"):
        counts[manifest.round] = manifest.about(LabelsSummary, source.classes)
        fitted[manifest.round] = manifest.about(SplitSummary)
    numbers = [row.round for row in rounds]
    stands = [verdict_of(row) != "kept" for row in rounds]
    accuracy = {
        "held-out tracks": [row.heldout_accuracy for row in rounds],
        "train tracks": [row.train_accuracy for row in rounds],
    }
    confident = {}
    for name in source.classes:
        confident[name] = [counts[number].confident_share(name) for number in numbers]
    alt = "Confident share by class and round"
    of_mean = "Accuracy of the mean posterior by round"
    colors = ("accent", "muted")
    accuracy_plot = charts.by_round("accuracy", of_mean, numbers, accuracy, colors, stands)
    confident_plot = charts.by_round("confident", alt, numbers, confident, source.colors, stands)
    last = source.split.round
    splits = []
    for row in rounds:
        own = fitted[row.round]
        if own.common is not None:
            splits.append(_split_of(source, row, own, large=row.round == last))
    verdict = source.snapshot.of("rounds")[-1]
    settings = verdict.settings(JudgeConfig)
    return {
        "rounds": rounds,
        # Earlier versions had a rule of their own.
        "by_log_loss": verdict.config.get("judged_by") == "log loss",
        "decisive_z": settings.decisive_z,
        "interval_level": settings.interval_level,
        "accuracy": accuracy_plot,
        "confident": confident_plot,
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
    steps = [counts[stops[0]].flow()]
    for earlier, later in pairwise(stops):
        steps.append(moved_between(source, earlier, later))
    whole = counts[last].flow()
    segments = whole.sum()
    moved = segments - np.trace(whole)
    changed = f"{moved:,.0f} of {segments:,.0f} segments do not have the label they inherited"
    names = ["inherited", *(f"round {stop}" for stop in stops)]
    plot = charts.flow("flow", f"Flow of labels: {changed}", steps, names, source.classes)
    return {"whole": whole, "plot": plot}


def moved_between(source: Source, earlier: int, later: int) -> Floats:
    """Count how many segments of train tracks moved from a label to a label [C, C] between two
    rounds."""
    sql = (
        "select a.label as old, b.label as new, count(*) as n "
        "from labels a join labels b using (track_id, segment_index) join catalog using (track_id) "
        "where a.round = ? and b.round = ? and split = 'train' "
        "and a.label is not null and b.label is not null group by all"
    )
    moved: Pairs = {}
    for row in source.rows(sql, earlier, later):
        from_old = moved.setdefault(row["old"], {})
        from_old[row["new"]] = row["n"]
    return matrix(moved, source.classes)


def _split_of(source: Source, row: Round, fitted: SplitSummary, large: bool) -> Context:
    """Draw the losses of a round with the mixtures that split them; those of the large one also by
    class."""
    common = fitted.common
    assert common is not None  # it was split
    losses = loss_counts(source, row.round, common.axis)
    of = f"loss{row.round}"
    alt = f"Losses of round {row.round}, confident and noisy, with the fitted mixture"
    by_class = []
    for number, name in enumerate(source.classes):
        own = losses[number]
        if large and own.any():
            mixture_of_class = fitted.mixtures.get(name, common)
            plot = charts.loss_histogram(f"{of}-{number}", f"{alt}: {name}", own, mixture_of_class)
            by_class.append((name, plot))
    return {
        "round": row,
        "mixture": common,
        "evidence": fitted.evidence,
        "components": fitted.components,
        "plot": charts.loss_histogram(of, alt, losses.sum(axis=0), common, large),
        "by_class": by_class,
    }


def loss_counts(source: Source, round: int, axis: mixture.Axis) -> Indices:
    """Count the losses that a round was split on: [C, 2, BINS] by inherited label and partition
    (confident, noisy)."""
    sql = (
        "select list_position(?, l.inherited_label) - 1 as c, l.partition = 'noisy' as noisy,"
        " l.loss::double as loss from labels l join catalog using (track_id) where l.round = ? and"
        " split = 'train' and l.partition in ('confident', 'noisy') and l.loss is not null"
    )
    classes = list(source.classes)
    found = source.connection.sql(sql, params=[classes, round])
    counts = np.zeros((len(classes), 2, mixture.BINS), np.int64)
    for batch in found.to_arrow_reader(1 << 16):
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        label, is_noisy, loss = columns
        bins = mixture.bin_of(mixture.to_axis(loss, axis), axis)
        partition = is_noisy.astype(int)
        np.add.at(counts, (label, partition, bins), 1)
    return counts
