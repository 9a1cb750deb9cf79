"""Augmented views of log-mel batches [B, mels, frames]."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor

from sssl.model.settings import AugmentConfig


def view(log_mel: Tensor, config: AugmentConfig, shift: Tensor | None = None) -> Tensor:
    """Return a random view: shifted in time, changed in level, masked (Park et al., "SpecAugment",
    2019).

    A `shift` in frames that was drawn before, on the device, saves the wait for a number.
    """
    batch, _, frames = log_mel.shape
    # The shift wraps around, so that the segment keeps its length and all of its sound.
    if shift is None:
        shifted = log_mel.roll(int(torch.randint(frames, ())), dims=2)
    else:
        # `roll` would ask the device for the number, and wait.
        places = torch.arange(frames, device=log_mel.device)
        shifted = log_mel[:, :, (places - shift) % frames]
    between = 2 * torch.rand(batch, 1, 1, device=log_mel.device) - 1  # -1 and 1
    louder = shifted + between * config.gain_db
    # Masks take the segment's mean, not 0 dB, which would be the loudest value there is.
    mean = louder.mean(dim=(1, 2), keepdim=True)
    masked = (louder - mean).unsqueeze(1)
    if config.mel_mask:
        masked = torchaudio.functional.mask_along_axis_iid(masked, config.mel_mask, 0.0, axis=2)
    if config.frame_mask:
        masked = torchaudio.functional.mask_along_axis_iid(masked, config.frame_mask, 0.0, axis=3)
    return masked.squeeze(1) + mean


def rolled(log_mel: Tensor, index: int, views: int) -> Tensor:
    """Return the deterministic view `index` of `views` for scoring: the segment rotated by its
    share of the frames."""
    return log_mel.roll(log_mel.shape[2] * index // views, dims=2)
