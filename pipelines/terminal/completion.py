"""Completion of commands and flags in a shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Annotated, Any, Union

import tyro

from pipelines.terminal.extras import how_to_install
from pipelines.terminal.flags import warn


def print_completion(
    shell: str, commands: Mapping[str, str], module_of: Callable[[str], ModuleType]
) -> None:
    """Print the script that completes the commands, each with what it does, and their flags; then
    end the program.

    A command that lacks packages is left out, with a warning.
    """
    configs = []
    for name, text in commands.items():
        try:
            config = module_of(name).Config
        except ImportError as error:
            warn(how_to_install(name, error) or f"{name} is left out: {error}")
            continue
        described = tyro.conf.subcommand(name, prefix_name=False, description=text)
        configs.append(Annotated[config, described])
    any_command: Any = Union[tuple(configs)]  # noqa: UP007 (made of a list)
    tyro.cli(
        any_command,
        prog="sssl",
        args=["--tyro-print-completion", shell],
        config=(tyro.conf.OmitArgPrefixes,),
    )
