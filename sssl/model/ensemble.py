"""Models: one segment classifier per fold, and the file they are kept in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import safetensors.torch
import torch
from torch import nn

from schemas import records
from sssl.audio.mel import MelConfig
from sssl.errors import StoreError
from sssl.model.folded import folded
from sssl.model.networks import FRONT_ENDS, Classifier
from sssl.store.manifest import loaded


@dataclass(frozen=True)
class ModelSpec:
    """What is needed to build a model again and to feed it."""

    architecture: str
    classes: tuple[str, ...]
    cut: MelConfig
    members: int

    def build(self) -> nn.Module:
        """Build one member, with weights from the global generator; channels last is twice as fast
        on a CPU."""
        member = Classifier(FRONT_ENDS[self.architecture](self.cut.mels), len(self.classes))
        return member.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass
class Model:
    """One network per fold. Member k never trained on tracks of fold k and is the one that scores
    them, so that a track's losses never come from a network that has seen its label. With one
    member (the `paper` preset) all share it."""

    spec: ModelSpec
    members: list[nn.Module]

    @cached_property
    def folded_members(self) -> list[nn.Module]:
        """The members as scoring takes them, see `folded`; made once."""
        return [folded(member) for member in self.members]


def dump(model: Model) -> bytes:
    """Serialize a model as safetensors: the same weights give the same bytes."""
    tensors = {}
    for number, member in enumerate(model.members):
        for name, tensor in member.state_dict().items():
            # Contiguous: channels last is a layout to compute in, not one of files.
            tensors[f"{number}.{name}"] = tensor.detach().cpu().contiguous()
    # Sorted, so that the same spec gives the same bytes, which name the model.
    spec = json.dumps(records.dump(model.spec), sort_keys=True)
    return safetensors.torch.save(tensors, metadata={"spec": spec})


def load(data: bytes, device: str = "cpu") -> Model:
    """Load a model for scoring.

    Raises:
        StoreError: the bytes are not a model of ours.
    """
    spec = _spec(data)
    try:
        tensors = safetensors.torch.load(data)
        return Model(
            spec, [_member(spec, tensors, k).to(device).eval() for k in range(spec.members)]
        )
    except (safetensors.SafetensorError, KeyError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise StoreError(f"not a model file of this program, or a damaged one: {said}") from error


def _member(spec: ModelSpec, tensors: dict[str, torch.Tensor], k: int) -> nn.Module:
    member = spec.build()
    prefix = f"{k}."
    own = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            own[name.removeprefix(prefix)] = tensor
    member.load_state_dict(own)
    return member


def model_id(data: bytes) -> str:
    """Name a model after the digest of its weights."""
    return hashlib.sha256(data).hexdigest()[:12]


def _spec(data: bytes) -> ModelSpec:
    # Without loading a tensor: a file of another program may be large, or no tensors at all.
    length = int.from_bytes(data[:8], "little")
    try:
        spec = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("not a model file of this program: its header carries no spec") from error
    return loaded(ModelSpec, spec, "the header of a model file")
