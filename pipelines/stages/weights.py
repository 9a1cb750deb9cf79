"""The weights that a first training starts from, and the name that settings have for them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from sssl.errors import TrainError
from sssl.model.settings import TrainConfig
from sssl.urls import opened, without_secrets


def initial_weights(settings: TrainConfig, round: int) -> bytes | None:
    """Read the model file that a round starts from by its settings, None if there is none: later
    rounds start from the model before.

    Raises:
        TrainError: there is no such file.
    """
    if round or settings.init is None:
        return None
    return read_weights(settings.init)


def named_by_content(settings: TrainConfig, weights: bytes | None) -> TrainConfig:
    """Return the settings with the model id of `weights` in place of their path, which says neither
    what is in the file nor, with a signature in it, is it for every eye."""
    if weights is None:
        return replace(settings, init=None)
    from sssl.model.ensemble import model_id  # here: it loads torch

    return replace(settings, init=model_id(weights))


# `sssl run` names them before it trains; what it named is what it starts from.
@lru_cache(maxsize=1)
def read_weights(url: str) -> bytes:
    """Read a model file of ours from a path or any fsspec URL.

    Raises:
        TrainError: there is none.
    """
    from sssl.model.ensemble import load  # here: it loads torch

    try:
        with opened(url) as file:
            data = file.read()
        load(data)
    except Exception as error:  # noqa: BLE001
        # What file systems and torch raise has no end, and a message may carry a signed URL.
        why = str(error) if "://" not in url else type(error).__name__
        raise TrainError(f"init {without_secrets(url)}: {why}") from None
    return data
