"""Flags of a command: parsed into its config, refused with code 2. Light to import, for commands that only look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import tyro

from pipelines.terminal.console import console
from sssl.config import require
from sssl.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def split_beam_args(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments at the first bare `--`: ours before it, Beam's behind it."""
    args = list(argv)
    at = args.index("--") if "--" in args else len(args)
    return args[:at], args[at + 1 :]


def parse(config_class: type[ConfigT], argv: Sequence[str], name: str, **defaults: Any) -> ConfigT:
    """Parse flags into a config; an unknown flag, or a value that makes no sense, ends the program with code 2.

    `defaults` take the place of those that the config declares.
    """
    default = config_class(**(_required(config_class) | defaults)) if defaults else tyro.MISSING_NONPROP
    try:
        return tyro.cli(
            config_class,
            args=list(argv),
            prog=f"sssl {name}",
            default=default,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ConfigError as error:
        complain(error)
        raise SystemExit(2) from error


def _required(config_class: Any) -> dict[str, Any]:
    """Mark the fields without a default as missing."""
    without = [f.name for f in fields(config_class) if f.default is MISSING and f.default_factory is MISSING]
    return dict.fromkeys(without, tyro.MISSING)


def require_local(name: str, path: str | None) -> None:
    """Refuse a URL where a file is written by a program that knows local paths only."""
    require(path is None or "://" not in path, name, path, "a path on this machine, to be copied from there")


def complain(error: Exception | str) -> None:
    """Print an error that its user can mend, without a traceback."""
    console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
