"""The verdict on a round: whether its model takes the place of the one it started from.

It goes by the log loss of all labelled tracks that neither model has learned
(sssl/labels/comparison.py) and has three zones. A loss that surely fell accepts the round, one that
surely rose keeps its parent. In between, where training once more might say the opposite, both
label together by the mean of their posteriors: whichever way such a verdict falls, few labels hang
on it. The accuracy is a veto only, and only where there are enough tracks for it to mean something.
LOG.md has the error rates (tests/bench/verdicts.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from schemas import Round
from schemas.summaries import LabelsSummary, ScoresSummary
from sssl.config import require
from sssl.labels.comparison import FEWEST_GROUPS, Comparison, HeldOutChange
from sssl.labels.relabel import SplitSummary
from sssl.metrics import quality
from sssl.store.rounds import Verdict

VETO_TRACKS = 60
"""From so many tracks on a fall of the accuracy counts."""
VETO_ERRORS = 2.0
"""How many standard errors deep it has to be."""


@dataclass(frozen=True)
class JudgeConfig:
    """When a round's model is taken."""

    accept_all: bool = False
    """Accept every round without a test."""
    decisive_z: float = 1.0
    """Accept a round whose log loss fell by more standard errors than this, keep its parent's model
    where it rose by more. In between it is undecided: both label, by the mean of their
    posteriors."""
    interval_level: float = 0.95
    """Level of the intervals of held-out changes, which are told and decide nothing."""

    def __post_init__(self) -> None:
        require(self.decisive_z >= 0, "decisive_z", self.decisive_z, "0 or more")
        require(
            0 < self.interval_level < 1,
            "interval_level",
            self.interval_level,
            "a share between 0 and 1",
        )


def decide(found: Comparison | None, config: JudgeConfig) -> tuple[Verdict, str]:
    """Return the verdict on a round after the warm-up, and why, from how it compares with its
    parent."""
    if config.accept_all:
        return "accepted", "every round is, without a test (accept_all)"
    if found is None:
        few = f"fewer than {FEWEST_GROUPS} groups of labelled tracks"
        return "undecided", f"{few} are scored by models that have not learned them"
    accuracy = found.accuracy
    if found.tracks >= VETO_TRACKS and accuracy.value < -VETO_ERRORS * accuracy.error:
        return "kept", f"its accuracy fell: log loss {found}"
    if found.loss.z < -config.decisive_z:
        return "accepted", f"its log loss fell: {found}"
    if found.loss.z > config.decisive_z:
        return "kept", f"its log loss rose: {found}"
    return "undecided", f"its log loss did not surely fall or rise: {found}"


def round_row(
    round: int,
    parent: Round | None,
    model_id: str,
    scores: ScoresSummary,
    labels: LabelsSummary,
    split: SplitSummary,
    found: Comparison | None,
    held_out_change: HeldOutChange | None,
    config: JudgeConfig,
) -> Round:
    """Put together the row of a trained round from the summaries of its tables and the comparison
    with its parent."""
    held_out = quality(scores.confusion("test"))
    train = quality(scores.confusion("train"))
    verdict, reason = ("accepted", "warm-up") if parent is None else decide(found, config)
    return Round(
        round=round,
        accepted=verdict == "accepted",
        reason=reason,
        parent_round=None if parent is None else parent.round,
        model_id=model_id,
        **_split_columns(labels, split),
        heldout_tracks=held_out.tracks,
        heldout_accuracy=held_out.accuracy,
        heldout_macro_f1=held_out.macro_f1,
        heldout_loss=scores.losses.get("test", 0.0) / held_out.tracks if held_out.tracks else None,
        **_held_out_columns(held_out_change),
        train_accuracy=train.accuracy,
        train_macro_f1=train.macro_f1,
        verdict=verdict,
        **_comparison_columns(found),
    )


def unsplit_row(round: int, parent: Round, labels: LabelsSummary, split: SplitSummary) -> Round:
    """Make the row of a round whose losses had nothing to split: nothing was trained, the parent's
    model stands."""
    return replace(
        parent,
        round=round,
        accepted=False,
        verdict="kept",
        reason="nothing to split: no segment of a train track is noisy",
        parent_round=parent.round,
        **_split_columns(labels, split),
        **_held_out_columns(None),
        **_comparison_columns(None),
    )


_HELD_OUT = ("accuracy", "loss")
_COMPARED = (
    "judged_tracks",
    "judged_groups",
    "log_loss_change",
    "log_loss_change_error",
    "log_loss_change_z",
    "accuracy_change",
    "accuracy_change_error",
)


def _held_out_columns(change: HeldOutChange | None) -> dict[str, Any]:
    """Return the columns of the change on held-out tracks; all are None where there is none."""
    columns: dict[str, Any] = {"heldout_groups": None if change is None else change.groups}
    for name in _HELD_OUT:
        interval = None if change is None else getattr(change, name)
        prefix = f"heldout_{name}_change"
        columns[prefix] = None if interval is None else interval.value
        columns[f"{prefix}_low"] = None if interval is None else interval.low
        columns[f"{prefix}_high"] = None if interval is None else interval.high
    return columns


def _comparison_columns(found: Comparison | None) -> dict[str, Any]:
    """Return the columns of what the verdict goes by; all are None where nothing was compared."""
    if found is None:
        return dict.fromkeys(_COMPARED)
    loss = found.loss
    accuracy = found.accuracy
    values = (
        found.tracks,
        found.groups,
        loss.value,
        loss.error,
        loss.z,
        accuracy.value,
        accuracy.error,
    )
    return dict(zip(_COMPARED, values, strict=True))


def _split_columns(labels: LabelsSummary, split: SplitSummary) -> dict[str, Any]:
    """Return the columns of how a round was split, and of what became of the segments."""
    by_name = {} if split.common is None else {"*": split.common}
    for name in labels.classes:
        if name in split.mixtures:
            by_name[name] = split.mixtures[name]
    mixtures = list(by_name.values())
    return {
        "components": split.components,
        "mixture_class": list(by_name),
        "confident_mean": [m.confident.mean for m in mixtures],
        "confident_std": [m.confident.std for m in mixtures],
        "noisy_mean": [m.noisy and m.noisy.mean for m in mixtures],
        "noisy_std": [m.noisy and m.noisy.std for m in mixtures],
        "noisy_share": [m.noisy.weight if m.noisy else 0.0 for m in mixtures],
        "confident": labels.confident,
        "noisy": labels.noisy,
        "locked": labels.locked,
        "unlabelled": labels.unlabelled,
        "relabelled": labels.relabelled,
    }
