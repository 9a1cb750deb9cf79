"""Which pretrained network is the front-end, and what the JSON beside its weights says of it.

Nothing is asked of a hub, and no framework is loaded here, unless by the package that a Python
function lies in: whoever plans only wants names and digests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from schemas.records import RecordError, dump, load
from sssl.errors import FrontEndError
from sssl.urls import beside, file_name, local_path, opened, why_unreadable, without_secrets

Kind = Literal["onnx", "torchscript", "module"]
Pooling = Literal["mean", "max", "first"]
Layout = Literal["BT", "BCT"]
BATCH = 16
"""Windows that a network gets at once. It is part of what embeddings are named after, since sums of
another batch size may differ in their last bit."""
_EXPECTED = "onnx:PATH, onnx:PATH#OUTPUT, torchscript:PATH or module:PACKAGE.FUNCTION"
_NON_COMMERCIAL = re.compile(r"(?<![a-z])(nc|non[-_\s]*commercial)(?![a-z])", re.IGNORECASE)
_RATES_HZ = (1_000, 768_000)
"""Sample rates that recordings have, the highest ones included."""
_WINDOWS_S = (0.01, 600.0)
"""Windows that networks take: at 48 kHz a batch of the longest ones is 1.8 GB of samples."""
_OF_NUMBERS = (
    "sample_rate_hz", "window_s", "window_samples", "pooling", "input", "layout", "version",
)  # fmt: skip
"""Fields of a contract that decide numbers. A licence that is worded better changes no
embedding."""


@dataclass(frozen=True)
class Reference:
    """What `--front-end` names: weights or a function, and which output of an ONNX graph."""

    kind: Kind
    place: str
    """Path or URL of the weights, or the dotted name of a function."""
    output: str | None = None

    def __str__(self) -> str:
        output = "" if self.output is None else f"#{self.output}"
        return f"{self.kind}:{without_secrets(self.place)}{output}"

    @property
    def file(self) -> str:
        """Path or URL of the weights, or of the source of a function's module."""
        if self.kind == "module":
            return _source_of(self.place)
        return self.place

    @property
    def contract(self) -> str:
        """Path or URL of the JSON beside the weights."""
        return beside(self.file, ".json")


@dataclass(frozen=True)
class Contract:
    """What the JSON beside the weights says: what goes in, what comes out, and who may use it."""

    sample_rate_hz: int
    """Sample rate of the samples that go in, in Hz."""
    licence: str
    """Licence of the weights, as its SPDX name where it has one."""
    window_s: float | None = None
    """Length of what goes in, in seconds; default: the segment."""
    window_samples: int | None = None
    """The same in samples, instead."""
    pooling: Pooling = "mean"
    """How the time steps of an output [B, time, D] become one embedding."""
    input: str | None = None
    """Input of an ONNX graph that takes the samples; default: its only one."""
    layout: Layout = "BT"
    """Axes of what goes in: BT is [batch, samples], BCT is [batch, 1, samples]."""
    commercial: bool | None = None
    """Whether the weights may be used commercially; default: unless the licence says NC."""
    version: str | None = None
    """To be raised where a Python function answers otherwise than its source file shows."""
    name: str | None = None
    """What people call the network; default: the name of its file."""
    source: str | None = None
    """Where the weights come from, for people."""

    @property
    def forbids_commercial_use(self) -> bool:
        """Whether the weights are marked non-commercial."""
        if self.commercial is not None:
            return not self.commercial
        return _NON_COMMERCIAL.search(self.licence) is not None

    def window(self, segment_s: float) -> int:
        """Return how many samples go in for a segment of so many seconds."""
        if self.window_samples is not None:
            return self.window_samples
        seconds = segment_s if self.window_s is None else self.window_s
        return max(1, round(seconds * self.sample_rate_hz))


@dataclass(frozen=True)
class FrontEnd:
    """A front-end whose contract was read: its weights are known by their digest."""

    reference: Reference
    contract: Contract
    weights_sha256: str

    @property
    def name(self) -> str:
        """What people call it."""
        place = self.reference.place
        default = place if self.reference.kind == "module" else file_name(place)
        return self.contract.name or default

    @property
    def licence(self) -> str:
        """Say what the licence of its weights is."""
        if self.contract.forbids_commercial_use:
            return f"licence {self.contract.licence}, non-commercial"
        return f"licence {self.contract.licence}"

    def of_rows(self) -> dict[str, Any]:
        """Return what decides embeddings, wherever the weights lie."""
        numbers = {key: value for key, value in dump(self.contract).items() if key in _OF_NUMBERS}
        function = {"function": self.reference.place} if self.reference.kind == "module" else {}
        return {
            "kind": self.reference.kind,
            "weights_sha256": self.weights_sha256,
            "output": self.reference.output,
            "contract": numbers,
            "batch": BATCH,
            **function,
        }

    def described(self) -> dict[str, Any]:
        """Return what a log says of it."""
        return {
            "front_end": str(self.reference),
            "name": self.name,
            "licence": self.contract.licence,
            "commercial": not self.contract.forbids_commercial_use,
            "weights_sha256": self.weights_sha256,
        }

    def weights(self) -> bytes:
        """Read the weights.

        Raises:
            FrontEndError: they cannot be read, or are no longer those that the digest is of.
        """
        data = _read(self.reference.file, f"weights of {self.reference}")
        if hashlib.sha256(data).hexdigest() != self.weights_sha256:
            raise FrontEndError(f"{self.reference}: the weights are not those of before; run again")
        return data


def parse_reference(text: str) -> Reference:
    """Read what `--front-end` names.

    Raises:
        FrontEndError: it is nothing of the kind.
    """
    kind, _, place = text.partition(":")
    if not place or kind not in ("onnx", "torchscript", "module"):
        raise FrontEndError(f"--front-end {without_secrets(text)}: expected {_EXPECTED}")
    if kind == "module" and "." not in place:
        raise FrontEndError(f"--front-end {text}: expected module:PACKAGE.FUNCTION")
    output = None
    path = local_path(place)
    if kind == "onnx" and "#" in place and not (path and os.path.exists(path)):
        place, _, output = place.rpartition("#")
    return Reference(kind, place, output or None)  # type: ignore[arg-type]  # one of the three


def read_front_end(text: str) -> FrontEnd:
    """Read the contract of a front-end, and the digest of its weights.

    Raises:
        FrontEndError: it cannot be read, or the contract is not one; the message says why.
    """
    reference = parse_reference(text)
    shown = without_secrets(reference.contract)
    contract = parse_contract(_read(reference.contract, f"contract of {reference}"), shown)
    weights = _read(reference.file, f"weights of {reference}")
    return FrontEnd(reference, contract, hashlib.sha256(weights).hexdigest())


def parse_contract(data: bytes, place: str) -> Contract:
    """Read a contract from the JSON that was found in a place.

    Raises:
        FrontEndError: it is none; the message names the field.
    """
    try:
        values = json.loads(data)
    except ValueError as error:
        raise FrontEndError(f"{place} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise FrontEndError(f"{place}: expected an object such as {_EXAMPLE}")
    known = [field.name for field in dataclasses.fields(Contract)]
    for name in values:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"is {close[0]} meant?" if close else f"known are {', '.join(known)}"
            raise FrontEndError(f"{place}: {name} is no field of a contract; {hint}")
    for name in ("sample_rate_hz", "licence"):
        if name not in values:
            raise FrontEndError(f"{place}: {name} is missing; a contract is such as {_EXAMPLE}")
    try:
        contract = load(Contract, values)
    except RecordError as error:
        raise FrontEndError(f"{place}: {error}") from None
    _check(contract, place)
    return contract


_EXAMPLE = '{"sample_rate_hz": 48000, "window_s": 10, "licence": "Apache-2.0"}'


def _check(contract: Contract, place: str) -> None:
    _require_between(place, "sample_rate_hz", contract.sample_rate_hz, _RATES_HZ, "Hz")
    if contract.window_s is not None and contract.window_samples is not None:
        raise FrontEndError(f"{place}: give window_s or window_samples, not both")
    if contract.window_s is not None:
        _require_between(place, "window_s", contract.window_s, _WINDOWS_S, "seconds")
    if contract.window_samples is not None:
        shortest, longest = (round(bound * contract.sample_rate_hz) for bound in _WINDOWS_S)
        unit = f"samples at {contract.sample_rate_hz} Hz"
        _require_between(
            place, "window_samples", contract.window_samples, (shortest, longest), unit
        )
    if not contract.licence.strip():
        raise FrontEndError(f"{place}: licence is empty; say who may use the weights, and for what")


def _require_between(
    place: str, name: str, value: float, bounds: tuple[float, float], unit: str
) -> None:
    lowest, highest = bounds
    if not lowest <= value <= highest:
        raise FrontEndError(
            f"{place}: {name} is {value}, expected {lowest:,} to {highest:,} {unit}"
        )


def _read(url: str, what: str) -> bytes:
    try:
        with opened(url) as file:
            return file.read()
    except FileNotFoundError:
        raise FrontEndError(f"{what}: there is no {without_secrets(url)}") from None
    except ImportError:
        raise  # a file system that is not installed: the command says which extra brings it
    except Exception as error:  # noqa: BLE001
        # What storage clients raise has no end.
        raise FrontEndError(f"{what}: {why_unreadable(url, error)}") from None


def _source_of(function: str) -> str:
    """Return the source file of the module that a dotted name of a function begins with."""
    module = function.rpartition(".")[0]
    try:
        found = importlib.util.find_spec(module)
    except Exception as error:  # noqa: BLE001 (packages that the module lies in are imported by this)
        raise FrontEndError(f"module:{function}: {error}; is it on PYTHONPATH?") from None
    if found is None or not found.origin or not os.path.exists(found.origin):
        raise FrontEndError(f"module:{function}: no module {module}; is it on PYTHONPATH?")
    return found.origin
