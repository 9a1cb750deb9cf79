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
from sssl.labels.split import SplitSummary
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
    deep = VETO_ERRORS * accuracy.error  # shallower falls are chance too often
    if found.tracks >= VETO_TRACKS and accuracy.value < -deep:
        return "kept", f"its accuracy fell: log loss {found}"
    # In standard errors, so that few tracks decide only where the difference is large.
    z = found.loss.z
    if z < -config.decisive_z:
        return "accepted", f"its log loss fell: {found}"
    if z > config.decisive_z:
        return "kept", f"its log loss rose: {found}"
    return "undecided", f"its log loss neither surely fell nor surely rose: {found}"


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
    verdict: Verdict = "accepted"
    reason = "warm-up"
    if parent is not None:
        verdict, reason = decide(found, config)
    held_out_loss = None
    if held_out.tracks:
        held_out_loss = scores.losses.get("test", 0.0) / held_out.tracks
    of_split = _split_columns(labels, split)
    of_held_out = _held_out_columns(held_out_change)
    of_comparison = _comparison_columns(found)
    return Round(
        round=round,
        accepted=verdict == "accepted",
        reason=reason,
        parent_round=None if parent is None else parent.round,
        model_id=model_id,
        heldout_tracks=held_out.tracks,
        heldout_accuracy=held_out.accuracy,
        heldout_macro_f1=held_out.macro_f1,
        heldout_loss=held_out_loss,
        train_accuracy=train.accuracy,
        train_macro_f1=train.macro_f1,
        verdict=verdict,
        **of_split,
        **of_held_out,
        **of_comparison,
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


# Columns that are null where nothing was compared.
_HELD_OUT = (
    "heldout_groups",
    "heldout_accuracy_change",
    "heldout_accuracy_change_low",
    "heldout_accuracy_change_high",
    "heldout_loss_change",
    "heldout_loss_change_low",
    "heldout_loss_change_high",
)
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
    if change is None:
        return dict.fromkeys(_HELD_OUT)
    columns: dict[str, Any] = {"heldout_groups": change.groups}
    for name in ("accuracy", "loss"):
        interval = getattr(change, name)
        prefix = f"heldout_{name}_change"
        columns[prefix] = interval.value
        columns[f"{prefix}_low"] = interval.low
        columns[f"{prefix}_high"] = interval.high
    return columns


def _comparison_columns(found: Comparison | None) -> dict[str, Any]:
    """Return the columns of what the verdict goes by; all are None where nothing was compared."""
    if found is None:
        return dict.fromkeys(_COMPARED)
    return {
        "judged_tracks": found.tracks,
        "judged_groups": found.groups,
        "log_loss_change": found.loss.value,
        "log_loss_change_error": found.loss.error,
        "log_loss_change_z": found.loss.z,
        "accuracy_change": found.accuracy.value,
        "accuracy_change_error": found.accuracy.error,
    }


def _split_columns(labels: LabelsSummary, split: SplitSummary) -> dict[str, Any]:
    """Return the columns of how a round was split, and of what became of the segments."""
    by_name = {} if split.common is None else {"*": split.common}
    for name in labels.classes:
        if name in split.mixtures:
            by_name[name] = split.mixtures[name]
    columns: dict[str, Any] = {"components": split.components, "mixture_class": list(by_name)}
    confident = [mixture.confident for mixture in by_name.values()]
    noisy = [mixture.noisy for mixture in by_name.values()]
    columns["confident_mean"] = [one.mean for one in confident]
    columns["confident_std"] = [one.std for one in confident]
    # Null where a mixture has one component only.
    columns["noisy_mean"] = [None if one is None else one.mean for one in noisy]
    columns["noisy_std"] = [None if one is None else one.std for one in noisy]
    columns["noisy_share"] = [one.weight if one else 0.0 for one in noisy]
    for name in ("confident", "noisy", "locked", "unlabelled", "relabelled"):
        columns[name] = getattr(labels, name)
    return columns
