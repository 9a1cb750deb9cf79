"""Augmented views of log-mel batches [B, mels, frames]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """How a training view is made from a segment."""

    gain_db: float = 6.0
    """Level change, uniform within plus or minus this, in dB."""
    mel_mask: int = 8
    """Longest SpecAugment mask over mel bands; 0 turns it off."""
    frame_mask: int = 12
    """Longest SpecAugment mask over frames; 0 turns it off."""


def view(log_mel: Tensor, config: AugmentConfig) -> Tensor:
    """Return a random view: shifted in time, changed in level, masked (Park et al., "SpecAugment", 2019)."""
    batch, _, frames = log_mel.shape
    shifted = log_mel.roll(int(torch.randint(frames, ())), dims=2)
    louder = shifted + (2 * torch.rand(batch, 1, 1, device=log_mel.device) - 1) * config.gain_db
    # Masks take the segment's mean, not 0 dB, which would be the loudest value there is.
    mean = louder.mean(dim=(1, 2), keepdim=True)
    masked = (louder - mean).unsqueeze(1)
    if config.mel_mask:
        masked = torchaudio.functional.mask_along_axis_iid(masked, config.mel_mask, 0.0, axis=2)
    if config.frame_mask:
        masked = torchaudio.functional.mask_along_axis_iid(masked, config.frame_mask, 0.0, axis=3)
    return masked.squeeze(1) + mean


def rolled(log_mel: Tensor, index: int, views: int) -> Tensor:
    """Return the deterministic view `index` of `views` for scoring: the segment rotated by its share of the frames."""
    return log_mel.roll(log_mel.shape[2] * index // views, dims=2)
