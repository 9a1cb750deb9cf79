"""Settings of embeddings, and what has to be said and accepted before weights are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.records import later
from sssl.embedding.contract import FrontEnd, read_front_end
from sssl.errors import FrontEndError


@dataclass(frozen=True)
class EmbedConfig:
    """Which pretrained network is the front-end."""

    front_end: str | None = later(None, neutral=None)
    """Pretrained network whose embeddings the labels use, too: `onnx:PATH`, `onnx:PATH#OUTPUT`,
    `torchscript:PATH` or `module:PACKAGE.FUNCTION`, a path or any fsspec URL, with a contract in
    `PATH.json` (docs/embeddings.md). Default: none."""
    accept_licence: bool = later(False, neutral=False)
    """Use weights that are marked non-commercial: labels made with them are not for commercial use
    either."""

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


RETRIED = "retried"
"""In the config of embeddings, beside what decides rows: how often missing ones were tried
again."""


def without_history(config: dict[str, Any]) -> dict[str, Any]:
    """Return what decides the rows of embeddings with such a config, however often they were
    retried."""
    return {name: value for name, value in config.items() if name != RETRIED}


@dataclass(frozen=True)
class Remembered:
    """The front-end that a song model goes by: how it was named, and what its rows are named
    after."""

    reference: str
    name: str
    rows: dict[str, Any]
    commercial: bool | None = later(None, neutral=None)
    """Whether its weights could be used commercially then; None in models that MLflow got from an
    earlier version, which did not say."""

    @classmethod
    def of(cls, origin: Origin, config: dict[str, Any]) -> Remembered:
        """Remember the front-end of embeddings with such a config."""
        rows = without_history(config)
        return cls(origin.front_end, origin.name, rows, origin.commercial)

    def found(self, given: str | None, accept_licence: bool = False) -> FrontEnd:
        """Read the front-end where it was, or where it is now.

        Raises:
            FrontEndError: it is not there, is another one, or has become non-commercial, which is
                not accepted.
        """
        try:
            front_end = read_front_end(given or self.reference)
        except FrontEndError as error:
            if given:
                raise
            raise FrontEndError(
                f"this model goes by embeddings of {self.name}, which is not at hand: {error}; say "
                "where it is now with --front-end"
            ) from None
        if front_end.of_rows() != self.rows:
            raise FrontEndError(
                f"{front_end.reference} is not the front-end that this model goes by ({self.name}):"
                " its weights or its contract are others"
            )
        was_commercial = self.commercial is True
        if was_commercial and front_end.contract.forbids_commercial_use and not accept_licence:
            raise FrontEndError(
                f"front-end {front_end.name}: {front_end.licence}, which it was not when this model"
                " was made; give --accept-licence if what you label with it is for no commercial"
                " use"
            )
        return front_end
