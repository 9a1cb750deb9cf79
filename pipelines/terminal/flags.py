"""Flags of a command: parsed into its config, refused with code 2. Light to import, for commands
that only look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from pipelines.terminal.console import alerts
from sssl.config import require
from sssl.errors import ConfigError

ConfigT = TypeVar("ConfigT")
_JUDGING = ("run", "judge")
_RETIRED = ("--max-drop", "--min-gain")


def split_beam_args(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments at the first bare `--`: ours before it, Beam's behind it."""
    args = list(argv)
    at = args.index("--") if "--" in args else len(args)
    return args[:at], args[at + 1 :]


def parse(
    config_class: type[ConfigT],
    argv: Sequence[str],
    name: str,
    description: str | None = None,
    **defaults: Any,
) -> ConfigT:
    """Parse flags into a config; an unknown flag, or a value that makes no sense, ends the program
    with code 2.

    `description` is what `--help` says first, by default the docstring of the config; `defaults`
    take the place of those that the config declares.
    """
    try:
        if defaults:
            default = config_class(**(_required(config_class) | defaults))
        else:
            default = tyro.MISSING_NONPROP
        return tyro.cli(
            config_class,
            args=list(argv),
            prog=f"sssl {name}",
            description=description,
            default=default,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ConfigError as error:
        complain(error)
        raise SystemExit(2) from error


def is_retired(command: str, flag: str) -> bool:
    """Whether a command takes a flag (`--name`, in either spelling) for one more version, with a
    warning."""
    return command in _JUDGING and flag.replace("_", "-") in _RETIRED


def without_retired(command: str, argv: Sequence[str]) -> list[str]:
    """Take out flags that decide nothing any more, with a warning; the next version will refuse
    them.

    `--max-drop None` was how to accept every round.
    """
    if command not in _JUDGING:
        return list(argv)
    args = iter(argv)
    kept = list[str]()
    for arg in args:
        flag, given, value = arg.partition("=")
        if flag.replace("_", "-") not in _RETIRED:
            kept.append(arg)
            continue
        value = value if given else next(args, "")
        accepts_all = flag.endswith("drop") and value == "None"
        if accepts_all:
            kept.append("--accept-all")
            instead = "is now --accept-all"
        else:
            instead = "decides nothing any more: see decisive_z"
        warn(f"{flag} {value} {instead}")
    return kept


def _required(config_class: Any) -> dict[str, Any]:
    """Mark the fields without a default as missing."""
    without = [
        f.name
        for f in fields(config_class)
        if f.default is MISSING and f.default_factory is MISSING
    ]
    return dict.fromkeys(without, tyro.MISSING)


def require_local(name: str, path: str | None) -> None:
    """Refuse a URL where a file is written by a program that knows local paths only."""
    require(
        path is None or "://" not in path,
        name,
        path,
        "a path on this machine, to be copied from there",
    )


def require_no_folder(name: str, path: str | None) -> None:
    """Refuse a folder where a file is written."""
    is_folder = path is not None and Path(path).is_dir()
    require(not is_folder, name, path, "a file to write; this is a folder")


def warn(message: str) -> None:
    """Print a warning; the command goes on."""
    alerts.print(f"warning: {message}", style="yellow", soft_wrap=True)


def complain(error: Exception | str) -> None:
    """Print an error that its user can mend, without a traceback."""
    alerts.print(f"error: {error}", style="red", soft_wrap=True)
