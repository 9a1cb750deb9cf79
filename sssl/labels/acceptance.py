"""The verdict on a round: whether its model takes the place of the one it started from.

It goes by the log loss of all labelled tracks that neither model has learned (sssl/labels/comparison.py) and has three
zones. A loss that surely fell accepts the round, one that surely rose keeps its parent. In between, where training once
more might say the opposite, both label together by the mean of their posteriors: whichever way such a verdict falls,
few labels hang on it. The accuracy is a veto only, and only where there are enough tracks for it to mean something.
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
    """Accept a round whose log loss fell by more standard errors than this, keep its parent's model where it rose by
    more. In between it is undecided: both label, by the mean of their posteriors."""
    interval_level: float = 0.95
    """Level of the intervals of held-out changes, which are told and decide nothing."""

    def __post_init__(self) -> None:
        require(self.decisive_z >= 0, "decisive_z", self.decisive_z, "0 or more")
        require(0 < self.interval_level < 1, "interval_level", self.interval_level, "a share between 0 and 1")


def decide(found: Comparison | None, config: JudgeConfig) -> tuple[Verdict, str]:
    """Return the verdict on a round after the warm-up, and why, from how it compares with its parent."""
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
    """Put together the row of a trained round from the summaries of its tables and the comparison with its parent."""
    held_out, train = (quality(scores.confusion(of)) for of in ("test", "train"))
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
    """Make the row of a round whose losses had nothing to split: nothing was trained, the parent's model stands."""
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


def _held_out_columns(change: HeldOutChange | None) -> dict[str, Any]:
    columns = {"": "value", "_low": "low", "_high": "high"}
    return {"heldout_groups": None if change is None else change.groups} | {
        f"heldout_{name}_change{suffix}": getattr(getattr(change, name, None), field, None)
        for name in ("accuracy", "loss")
        for suffix, field in columns.items()
    }


def _comparison_columns(found: Comparison | None) -> dict[str, Any]:
    return {
        "judged_tracks": None if found is None else found.tracks,
        "judged_groups": None if found is None else found.groups,
        "log_loss_change": None if found is None else found.loss.value,
        "log_loss_change_error": None if found is None else found.loss.error,
        "log_loss_change_z": None if found is None else found.loss.z,
        "accuracy_change": None if found is None else found.accuracy.value,
        "accuracy_change_error": None if found is None else found.accuracy.error,
    }


def _split_columns(labels: LabelsSummary, split: SplitSummary) -> dict[str, Any]:
    named = [] if split.common is None else [("*", split.common)]
    named += [(name, split.mixtures[name]) for name in labels.classes if name in split.mixtures]
    mixtures = [mixture for _, mixture in named]
    return {
        "components": split.components,
        "mixture_class": [name for name, _ in named],
        "confident_mean": [m.confident.mean for m in mixtures],
        "confident_std": [m.confident.std for m in mixtures],
        "noisy_mean": [m.noisy and m.noisy.mean for m in mixtures],
        "noisy_std": [m.noisy and m.noisy.std for m in mixtures],
        "noisy_share": [m.noisy.weight if m.noisy else 0.0 for m in mixtures],
        **{name: getattr(labels, name) for name in ("confident", "noisy", "locked", "unlabelled", "relabelled")},
    }
