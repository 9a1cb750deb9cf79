"""The two ways to run the method: `paper` as published, `guarded` as we would run it on our own
catalog."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sssl.config import require
from sssl.labels.acceptance import JudgeConfig
from sssl.labels.evidence import EvidenceConfig
from sssl.labels.settings import RelabelConfig
from sssl.model.settings import AugmentConfig, ScoreConfig, TrainConfig


@dataclass(frozen=True)
class Preset:
    """Settings of all stages of self-learning."""

    rounds: int = 1
    """Rounds of split, relabel and retrain after the warm-up. Only the first splits on losses that
    are cross-fitted in full: its soft labels carry what members know of their own tracks to the
    other members."""
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        require(self.rounds >= 0, "rounds", self.rounds, "0 or more")


GUARDED = Preset()

PAPER = Preset(
    rounds=8,  # E = 1: the paper splits every epoch
    relabel=RelabelConfig(
        evidence=EvidenceConfig(
            consistency=0.0, neighbours=False, min_agreement=None, by_sound=False
        ),
        axis="loss",
        peaked=False,
        clip_quantile=0.0,
        per_class_prior=None,
        min_separation=None,
        monotone=False,
        max_noisy_share=None,
        noisy_weight=1.0,
    ),
    train=TrainConfig(
        cross_fit=False,
        warmup_epochs=12,
        epochs=1,
        ema=0.0,
        warmup_mixup=False,
        plain_from=None,
        bag=1,
        lambda_noisy=1.0,
        lambda_consistency=1.0,
        lambda_prior=1.0,
        augment=AugmentConfig(),
    ),
    score=ScoreConfig(views=2),
    judge=JudgeConfig(accept_all=True),
)

PresetName = Literal["guarded", "paper"]

PRESETS: dict[PresetName, Preset] = {"guarded": GUARDED, "paper": PAPER}
