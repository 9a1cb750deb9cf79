"""Settings of embeddings, and what has to be said and accepted before weights are used."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.records import later
from sssl.embedding.contract import FrontEnd, read_front_end
from sssl.errors import FrontEndError


@dataclass(frozen=True)
class EmbedConfig:
    """Which pretrained network is the front-end."""

    front_end: str | None = later(None, neutral=None)
    """Pretrained network whose embeddings tell emotions, too: `onnx:PATH`, `onnx:PATH#OUTPUT`, `torchscript:PATH` or
    `module:PACKAGE.FUNCTION`, a path or any fsspec URL, with a contract in `PATH.json` (docs/embeddings.md). Default:
    none."""
    accept_licence: bool = later(False, neutral=False)
    """Use weights that are marked non-commercial: what is labelled with them is for no commercial use either."""

    def admitted(self) -> FrontEnd:
        """Read the front-end, and check that its licence is accepted where that is needed.

        Raises:
            FrontEndError: there is none, it cannot be read, or its licence is not accepted.
        """
        if self.front_end is None:
            raise FrontEndError("--front-end is missing: which network is to embed?")
        found = read_front_end(self.front_end)
        if found.contract.forbids_commercial_use and not self.accept_licence:
            raise FrontEndError(
                f"front-end {found.name}: {found.licence}; give --accept-licence if what you label "
                "with it is for no commercial use"
            )
        return found


@dataclass(frozen=True)
class Origin:
    """Which front-end made embeddings: what their manifest says beside counts."""

    front_end: str
    """As `--front-end` named it, without what may be secret in a URL."""
    name: str
    licence: str
    commercial: bool

    @classmethod
    def of(cls, front_end: FrontEnd) -> Origin:
        """Say where a front-end comes from."""
        contract = front_end.contract
        commercial = not contract.forbids_commercial_use
        return cls(str(front_end.reference), front_end.name, contract.licence, commercial)
