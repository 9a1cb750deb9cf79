"""What a container starts, a Flex Template's launcher for one: a stage's flags and Beam's options,
mixed.

SSSL_STAGE=segment sssl-launch --catalog=gs://bucket/catalog.csv --runner=DataflowRunner ...

All arguments are `--name=value`: launchers know nothing of a bare `--`, of flags without a value,
of values in several words. An environment variable may name a secret,
`sm://projects/P/secrets/S/versions/latest`, instead of holding it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_origin, get_type_hints

from docstring_parser import parse_from_object
from google.cloud import secretmanager

from pipelines import cli
from pipelines.stages.settings_file import former_flags, is_in_file
from pipelines.terminal.flags import complain, is_retired
from sssl.config import require
from sssl.errors import ConfigError

_SCHEME = "sm://"
_RENAMED = {"labels": "track_labels"}
"""Flags that a template has under another name, since the launcher itself gives Beam an option of
that name."""
_WORKER_ACCOUNT = "worker_account"
"""The account that a job's workers run as. A launch of Dataflow's knows of one account only, and
runs the launcher as that one, which has rights that workers do without."""


@dataclass(frozen=True)
class Flag:
    """A flag of a stage, as the fields of its config declare it."""

    name: str
    type: Any
    doc: str
    default: Any
    """MISSING for a required flag."""

    @property
    def parameter(self) -> str:
        """Name of the flag as a template's parameter."""
        return _RENAMED.get(self.name, self.name)

    def words(self, value: str) -> list[str]:
        """Return the flag and its value as the command line has them."""
        name = self.name.replace("_", "-")
        if self.type is bool:
            require(value.lower() in ("true", "false"), self.name, value, "true or false")
            return [f"--{name}" if value.lower() == "true" else f"--no-{name}"]
        if get_origin(self.type) is tuple:
            return [f"--{name}", *value.split()]
        return [f"--{name}={value}"]


def flags_of(config_class: Any) -> Iterator[Flag]:
    """List the flags of a config, those of its nested configs in their places, without what is in a
    settings file."""
    types = get_type_hints(config_class)
    hints = get_type_hints(config_class, include_extras=True)
    docs: dict[str, str | None] = {}
    for declaring in filter(is_dataclass, config_class.__mro__):
        docs |= {param.arg_name: param.description for param in parse_from_object(declaring).params}
    for field in fields(config_class):
        if is_in_file(hints[field.name]):
            continue
        if is_dataclass(types[field.name]):
            yield from flags_of(types[field.name])
        else:
            assert field.default_factory is MISSING, f"{field.name}: the default would not show"
            yield Flag(
                field.name,
                types[field.name],
                " ".join((docs[field.name] or "").split()),
                field.default,
            )


def command_line(stage: str, args: Sequence[str]) -> list[str]:
    """Sort a launcher's arguments into the command line of a stage."""
    config_class = cli.module_of(stage).Config
    flags = {flag.parameter: flag for flag in flags_of(config_class)}
    former = set(former_flags(config_class))
    ours: list[str] = []
    beams: list[str] = []
    of_workers: list[str] = []
    for arg in args:
        name, _, value = arg.removeprefix("--").partition("=")
        flag = flags.get(name.replace("-", "_"))
        if name == _WORKER_ACCOUNT:
            of_workers = [f"--service_account_email={value}"]
        elif flag is None:
            taken = is_retired(stage, f"--{name}") or f"--{name.replace('_', '-')}" in former
            (ours if taken else beams).append(arg)
        else:
            ours += flag.words(value)
    beams += of_workers  # last, as Beam goes by the last one
    return [stage, *ours, *(["--", *beams] if beams else [])]


def reveal(environment: MutableMapping[str, str]) -> None:
    """Put secrets in the place of their names."""
    named = {
        name: value.removeprefix(_SCHEME)
        for name, value in environment.items()
        if value.startswith(_SCHEME)
    }
    if named:
        client = secretmanager.SecretManagerServiceClient()
        for name, secret in named.items():
            environment[name] = client.access_secret_version(name=secret).payload.data.decode()


def main(argv: Sequence[str] | None = None) -> int:
    reveal(os.environ)
    try:
        args = command_line(os.environ["SSSL_STAGE"], sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        complain(error)
        return 2
    return cli.main(args)


if __name__ == "__main__":
    sys.exit(main())
