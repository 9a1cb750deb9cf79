"""Segment classifiers, log-mel [B, mels, frames] in dB to logits [B, classes]; and models, one member a fold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sssl.features import MelConfig


class MelNorm(nn.Module):
    """Batch normalisation a mel band: [B, mels, frames] in dB to [B, 1, mels, frames] of about unit variance."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(mels)

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.norm(log_mel).unsqueeze(1)


class ShortChunkCNN(nn.Module):
    """A compact short-chunk CNN (after Won et al., "Evaluation of CNN-based automatic music tagging models", 2020):
    convolutions of 3 x 3 with pooling, then mean and maximum over time and frequency."""

    def __init__(
        self, mels: int, classes: int, channels: tuple[int, ...] = (16, 32, 64, 128), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.norm = MelNorm(mels)
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in zip((1, *channels), channels, strict=False)))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * channels[-1], classes))

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.blocks(self.norm(log_mel))  # [B, C, mels / 16, frames / 16]
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


MODELS: dict[str, Callable[[int, int], nn.Module]] = {"cnn": ShortChunkCNN}
"""Architectures by the name that `--model` takes; each is called with (mels, classes)."""


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a model again and to feed it."""

    architecture: str
    classes: tuple[str, ...]
    cut: MelConfig
    members: int

    def build(self) -> nn.Module:
        """Build one member, with weights from the global generator; channels last is twice as fast on a CPU."""
        member = MODELS[self.architecture](self.cut.mels, len(self.classes))
        return member.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass
class Model:
    """One network a fold. Member k never trained on tracks of fold k and is the one that scores them, so that a track's
    losses never come from a network that has seen its label. With one member (the `paper` preset) all share it."""

    spec: ModelSpec
    members: list[nn.Module]

    def member_of(self, fold: int) -> int:
        """Return the member that scores tracks of a fold."""
        return fold % self.spec.members


def dump(model: Model) -> bytes:
    """Serialize a model as safetensors: the same weights give the same bytes."""
    tensors = {
        f"{k}.{name}": tensor.detach().cpu().contiguous()
        for k, member in enumerate(model.members)
        for name, tensor in member.state_dict().items()
    }
    return safetensors.torch.save(tensors, metadata={"spec": json.dumps(asdict(model.spec), sort_keys=True)})


def load(data: bytes, device: str = "cpu") -> Model:
    """Load a model for scoring.

    Raises:
        ValueError: the bytes are not a model of ours.
    """
    spec = _spec(data)
    tensors = safetensors.torch.load(data)
    members = []
    for k in range(spec.members):
        member = spec.build()
        member.load_state_dict({n.removeprefix(f"{k}."): t for n, t in tensors.items() if n.startswith(f"{k}.")})
        members.append(member.to(device).eval())
    return Model(spec, members)


def model_id(data: bytes) -> str:
    """Name a model after the digest of its weights."""
    return hashlib.sha256(data).hexdigest()[:12]


def _spec(data: bytes) -> ModelSpec:
    length = int.from_bytes(data[:8], "little")
    try:
        spec: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["spec"])
    except (ValueError, KeyError) as error:
        raise ValueError("not a model file of this program: its header carries no spec") from error
    return ModelSpec(**(spec | {"classes": tuple(spec["classes"]), "cut": MelConfig(**spec["cut"])}))
