"""Segment classifiers: a front-end, log-mel [B, mels, frames] in dB to embedding [B, width], and a
linear head.

A front-end is any module with an attribute `width`. One more entry in FRONT_ENDS, and its name in
sssl/model/settings.py, make it a value of `model`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from sssl.audio.mel import FLOOR_DB, STEP_DB


def in_db(log_mel: Tensor) -> Tensor:
    """Return log-mels [B, mels, frames] as they are stored, bytes of steps or half-precision dB, in
    dB in single precision: what a network takes."""
    values = log_mel.float()
    if log_mel.dtype == torch.uint8:
        return FLOOR_DB + STEP_DB * values
    return values


class Classifier(nn.Module):
    """Front-end, dropout and head: log-mel [B, mels, frames] in dB to logits [B, classes]."""

    def __init__(self, front_end: nn.Module, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.front_end = front_end
        width = int(front_end.width)  # type: ignore[arg-type]
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, log_mel: Tensor) -> Tensor:
        embedding = self.front_end(log_mel)
        logits: Tensor = self.head(embedding)
        return logits


class MelNorm(nn.Module):
    """Batch normalisation a mel band: [B, mels, frames] in dB to [B, 1, mels, frames] of about unit
    variance."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(mels)

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.norm(log_mel).unsqueeze(1)


class ShortChunkCNN(nn.Module):
    """A compact short-chunk CNN (after Won et al., "Evaluation of CNN-based automatic music tagging
    models", 2020): convolutions of 3 x 3 with pooling, then mean and maximum over time and
    frequency."""

    def __init__(self, mels: int, channels: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.norm = MelNorm(mels)
        self.blocks = _chain(_block, channels)
        self.width = 2 * channels[-1]

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.blocks(self.norm(log_mel))
        return _mean_and_maximum(maps)


class ShortChunkResNet(nn.Module):
    """The same with residual blocks of two convolutions, the first of which strides (Won et al.,
    2020)."""

    def __init__(self, mels: int, channels: tuple[int, ...] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        self.norm = MelNorm(mels)
        self.blocks = _chain(_Residual, channels)
        self.width = 2 * channels[-1]

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.blocks(self.norm(log_mel))
        return _mean_and_maximum(maps)


class AttentionCNN(nn.Module):
    """Convolutions as in the CNN, then all of a moment's maps as one vector, and attention over the
    moments: each of the heads chooses which of them its part of the embedding comes from."""

    def __init__(
        self,
        mels: int,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        width: int = 128,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.norm = MelNorm(mels)
        self.blocks = _chain(_block, channels)
        bands = mels // 2 ** len(channels)  # each block halves them
        maps = channels[-1] * bands
        self.moment = nn.Sequential(nn.Linear(maps, width), nn.ReLU(inplace=True))
        self.attention = nn.Linear(width, heads)
        self.value = nn.Linear(width, width)
        self.width = width
        self._heads = heads

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.blocks(self.norm(log_mel))  # [B, C, mels / 16, frames / 16]
        by_moment = maps.flatten(1, 2).transpose(1, 2)
        moments = self.moment(by_moment)  # [B, frames / 16, width]
        share = self.attention(moments).softmax(dim=1).unsqueeze(-1)
        values = self.value(moments).unflatten(2, (self._heads, -1))
        attended = (share * values).sum(dim=1)  # [B, heads, width / heads]
        return attended.flatten(1)


FRONT_ENDS: dict[str, Callable[[int], nn.Module]] = {
    "cnn": ShortChunkCNN,
    "resnet": ShortChunkResNet,
    "attention": AttentionCNN,
}
"""Front-ends by the name that `model` takes; each is called with the number of mel bands."""


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, stride=2)
        self.second = _conv(outputs, outputs)
        # No bias before batch normalisation, which takes any away.
        narrow = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        first = torch.relu(self.first(maps))
        residual = self.second(first)
        return torch.relu(residual + self.shortcut(maps))


def _chain(block: Callable[[int, int], nn.Module], channels: tuple[int, ...]) -> nn.Sequential:
    """Return a block for each step of channels, the first of which takes the one spectrogram."""
    steps = pairwise((1, *channels))
    blocks = [block(inputs, outputs) for inputs, outputs in steps]
    return nn.Sequential(*blocks)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_conv(inputs, outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2))


def _mean_and_maximum(maps: Tensor) -> Tensor:
    """Pool maps [B, C, mels, frames] to [B, 2 C]."""
    sides = (2, 3)
    mean = maps.mean(dim=sides)
    maximum = maps.amax(dim=sides)
    return torch.cat([mean, maximum], dim=1)
