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


class Classifier(nn.Module):
    """Front-end, dropout and head: log-mel [B, mels, frames] in dB to logits [B, classes]."""

    def __init__(self, front_end: nn.Module, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.front_end = front_end
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(int(front_end.width), classes))  # type: ignore[arg-type]

    def forward(self, log_mel: Tensor) -> Tensor:
        logits: Tensor = self.head(self.front_end(log_mel))
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
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise((1, *channels))))
        self.width = 2 * channels[-1]

    def forward(self, log_mel: Tensor) -> Tensor:
        return _mean_and_maximum(self.blocks(self.norm(log_mel)))


class ShortChunkResNet(nn.Module):
    """The same with residual blocks of two convolutions, the first of which strides (Won et al.,
    2020)."""

    def __init__(self, mels: int, channels: tuple[int, ...] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        self.norm = MelNorm(mels)
        self.blocks = nn.Sequential(*(_Residual(a, b) for a, b in pairwise((1, *channels))))
        self.width = 2 * channels[-1]

    def forward(self, log_mel: Tensor) -> Tensor:
        return _mean_and_maximum(self.blocks(self.norm(log_mel)))


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
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise((1, *channels))))
        bands = mels // 2 ** len(channels)
        self.moment = nn.Sequential(nn.Linear(channels[-1] * bands, width), nn.ReLU(inplace=True))
        self.attention, self.value = nn.Linear(width, heads), nn.Linear(width, width)
        self.width, self._heads = width, heads

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.blocks(self.norm(log_mel))  # [B, C, mels / 16, frames / 16]
        moments = self.moment(maps.flatten(1, 2).transpose(1, 2))
        share = self.attention(moments).softmax(dim=1).unsqueeze(-1)
        values = self.value(moments).unflatten(2, (self._heads, -1))
        return (share * values).sum(dim=1).flatten(1)


FRONT_ENDS: dict[str, Callable[[int], nn.Module]] = {
    "cnn": ShortChunkCNN,
    "resnet": ShortChunkResNet,
    "attention": AttentionCNN,
}
"""Front-ends by the name that `model` takes; each is called with the number of mel bands."""
_HALVED = {
    "cnn": 4,
    "attention": 4,
}  # how often its pooling halves a spectrogram; a strided convolution leaves one


def smallest_side(model: str) -> int:
    """Return how many mel bands, and frames, a front-end needs at least."""
    return int(2 ** _HALVED.get(model, 0))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _conv(inputs, outputs, stride=2), _conv(outputs, outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(maps))) + self.shortcut(maps))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
    )


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_conv(inputs, outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2))


def _mean_and_maximum(maps: Tensor) -> Tensor:
    """Pool maps [B, C, mels, frames] to [B, 2 C]."""
    return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
