"""The errors that callers handle. Each message names the thing, its value and what was expected.

This module imports nothing, so that every other one can import it.
"""


class ConfigError(Exception):
    """A setting that makes no sense; the message says which, its value and what is expected."""


class FrontEndError(ConfigError):
    """A pretrained network that cannot be used as a front-end; the message says what is wrong with
    it."""


class StoreError(Exception):
    """An output folder that cannot be used as asked."""


class MissingManifest(StoreError):
    """A table that is named as committed and is not there."""


class CatalogError(Exception):
    """A catalog that cannot be used; the message says which row or column and what was expected."""


class TrainError(Exception):
    """Training that cannot start; the message says what is missing from the data."""


class DeviceError(Exception):
    """A GPU that was asked for is not there, or it is full and stays so."""


class AudioError(Exception):
    """A file gives no usable audio.

    `reason` is a code of `schemas.reasons.REASONS` ("empty-file", "not-audio" or "corrupt"),
    `detail` what happened.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it survives pickling
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Unlabelled(Exception):
    """A file that cannot be labelled; `reason` is a code of `schemas.reasons.REASONS`.

    `uri` names it without what is secret.
    """

    def __init__(self, uri: str, reason: str, detail: str | None) -> None:
        super().__init__(uri, reason, detail)  # all three, so that it survives pickling
        self.uri = uri
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        why = f" ({self.detail})" if self.detail else ""
        return f"{self.uri}: {self.reason}{why}"
