"""Acceptance of a round: its model must not be worse on held-out tracks than the one it started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from schemas import Round
from sssl.metrics import Floats, Quality, quality

_FLOAT32 = 1e-6  # a parent's accuracy comes back from a float32 column


@dataclass(frozen=True)
class JudgeConfig:
    """When a round is accepted."""

    max_drop: float | None = 0.0
    """Reject a round whose held-out accuracy falls by more than this share; none: accept every round."""


def confusion_of(counts: dict[str, float], split: str, classes: Sequence[str]) -> Floats:
    """Return the confusion counts [C, C] of a split from the counts of a scores table."""
    return np.array([[counts.get(f"confusion/{split}/{true}/{guess}", 0) for guess in classes] for true in classes])


def verdict(held_out: Quality, parent: Quality | None, config: JudgeConfig) -> tuple[bool, str]:
    """Accept or reject a round by its held-out quality and that of the accepted round it started from."""
    if parent is None:
        return True, "warm-up"
    if config.max_drop is None:
        return True, "accepted without a test (no --max-drop)"
    if held_out.accuracy is None or parent.accuracy is None:
        return True, "accepted without a test: no held-out track"
    if held_out.accuracy < parent.accuracy - config.max_drop - _FLOAT32:
        return False, f"held-out accuracy fell from {parent.accuracy:.3f} to {held_out.accuracy:.3f}"
    return True, f"held-out accuracy {parent.accuracy:.3f} -> {held_out.accuracy:.3f}"


def round_row(
    round: int,
    parent: Round | None,
    model_id: str,
    scores: dict[str, Any],
    labels: dict[str, Any],
    classes: Sequence[str],
    config: JudgeConfig,
) -> Round:
    """Put together the row of a trained round from the summaries of its scores and labels tables."""
    held_out, train = (quality(confusion_of(scores, split, classes)) for split in ("test", "train"))
    before = (
        None if parent is None else Quality(parent.heldout_tracks, parent.heldout_accuracy, parent.heldout_macro_f1)
    )
    accepted, reason = verdict(held_out, before, config)
    return Round(
        round=round,
        accepted=accepted,
        reason=reason,
        parent_round=None if parent is None else parent.round,
        model_id=model_id,
        **_split_columns(labels),
        heldout_tracks=held_out.tracks,
        heldout_accuracy=held_out.accuracy,
        heldout_macro_f1=held_out.macro_f1,
        heldout_loss=scores.get("loss/test", 0.0) / held_out.tracks if held_out.tracks else None,
        train_accuracy=train.accuracy,
        train_macro_f1=train.macro_f1,
    )


def unsplit_row(round: int, parent: Round, labels: dict[str, Any]) -> Round:
    """Make the row of a round whose losses had nothing to split: nothing was trained, the parent's model stands."""
    reason = "nothing to split: no segment of a train track is noisy"
    return replace(
        parent, round=round, accepted=False, reason=reason, parent_round=parent.round, **_split_columns(labels)
    )


def _split_columns(labels: dict[str, Any]) -> dict[str, Any]:
    mixture: list[dict[str, Any]] = labels.get("mixture", [])
    return {
        "components": labels.get("components"),
        "mixture_class": [m["class"] for m in mixture],
        "confident_mean": [m["confident"]["mean"] for m in mixture],
        "confident_std": [m["confident"]["std"] for m in mixture],
        "noisy_mean": [m["noisy"]["mean"] for m in mixture],
        "noisy_std": [m["noisy"]["std"] for m in mixture],
        "noisy_share": [m["noisy"]["weight"] for m in mixture],
        **{name: int(labels.get(name, 0)) for name in ("confident", "noisy", "locked", "unlabelled", "relabelled")},
    }
