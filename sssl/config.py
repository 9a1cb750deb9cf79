"""Checks of settings, made when they are: before anything expensive starts."""

from __future__ import annotations

from sssl.errors import ConfigError


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Refuse a setting unless the condition holds.

    Raises:
        ConfigError: it does not.
    """
    if not holds:
        raise ConfigError(f"--{name.replace('_', '-')} {value}: expected {expected}")
