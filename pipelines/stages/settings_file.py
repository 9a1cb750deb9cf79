"""The settings file, TOML: how audio is cut and checked, and the numbers of the method.

    sssl run --print-settings > settings.toml      # all of them, each with what it means
    sssl run --catalog CATALOG --output OUTPUT --settings settings.toml

A file needs to name only what it changes. The rest comes from the preset.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
import tomlkit
import tyro
from docstring_parser import parse_from_object
from tomlkit import TOMLDocument
from tomlkit.items import Table

from pipelines.terminal.console import printed
from pipelines.terminal.flags import complain, parse, warn, without_retired
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.errors import ConfigError
from sssl.presets import PRESETS, Preset, PresetName
from sssl.runtime.process_pool import Limits
from sssl.urls import opened, why_unreadable, without_secrets

IN_FILE: Any = tyro.conf.Suppress
"""Marks settings of a config that are in the file, and no flags: `Annotated[Kind, IN_FILE]`."""

ConfigT = TypeVar("ConfigT")
_TableT = TypeVar("_TableT", TOMLDocument, Table)
_NONE = "none"
"""What stands for None, which TOML does not have."""
_PRINT = ("--print-settings", "--print_settings")
_HOW_TO_PRINT = "With --print-settings it prints all settings, as a file for --settings, and ends."
_LINE = 110
"""Characters in a line of a comment."""


@dataclass(frozen=True)
class Source:
    """Where settings that are not flags come from."""

    preset: PresetName = "guarded"
    """Values of the settings that the file does not name: `guarded`, or `paper` for the method as
    published."""
    settings: str | None = None
    """TOML file with settings of the method, and of how audio is cut and checked; a local path or
    any fsspec URL. `--print-settings` prints a file with all of them."""


@dataclass(frozen=True)
class FileSettings:
    """What a settings file holds."""

    cut: MelConfig = field(default_factory=MelConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    limits: Limits = field(default_factory=Limits)
    method: Preset = field(default_factory=Preset)


class _Setting(NamedTuple):
    """A setting: the tables of the file that lead to it, its name, and its type."""

    tables: tuple[str, ...]
    name: str
    type: Any

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


OfSettings = Callable[[FileSettings], dict[str, Any]]
"""Which fields of a command's config a settings file fills."""


def parse_with_settings(
    config_class: type[ConfigT], argv: Sequence[str], name: str, of_settings: OfSettings
) -> ConfigT:
    """Parse the flags of a command on top of its settings file and preset.

    An unknown flag, a file that cannot be used or a value that makes no sense ends the program with
    code 2; `--print-settings` prints what would be used, and ends it with 0.
    """
    leading = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    leading.add_argument("--preset", choices=PRESETS, default="guarded")
    leading.add_argument("--settings")
    leading.add_argument(*_PRINT, action="store_true")
    given, _ = leading.parse_known_args(list(argv))
    flags = without_retired(name, [flag for flag in argv if flag not in _PRINT])
    settings = FileSettings(method=PRESETS[given.preset])
    try:
        if given.settings is not None:
            settings = read_settings(given.settings, settings)
        flags, values = _take_former_flags(flags, set(former_flags(config_class)))
        settings = _overlaid(settings, values)
    except ConfigError as error:
        complain(error)
        raise SystemExit(2) from error
    if given.print_settings:
        printed.print(as_toml(settings), highlight=False, soft_wrap=True, end="")
        raise SystemExit(0)
    source = Source(given.preset, given.settings)
    description = f"{inspect.getdoc(config_class)} {_HOW_TO_PRINT}"
    return parse(config_class, flags, name, description, source=source, **of_settings(settings))


def read_settings(path: str, below: FileSettings) -> FileSettings:
    """Read a settings file on top of other settings.

    Raises:
        ConfigError: it cannot be read, or names what is no setting, or no value of one.
    """
    shown = without_secrets(path)
    try:
        with opened(path) as file:
            text = file.read().decode("utf-8-sig")  # with the mark that editors on Windows write
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # says where in the file, and nothing of its URL
        raise ConfigError(f"--settings {shown}: cannot be read: {error}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--settings {shown}: cannot be read: {why_unreadable(path, error)}"
        ) from None
    try:
        return _overlaid(below, values)
    except ConfigError as error:
        raise ConfigError(f"--settings {shown}: {str(error).removeprefix('--')}") from None


def as_toml(settings: Any) -> str:
    """Write settings as TOML, each below what it means."""
    return tomlkit.dumps(_add(tomlkit.document(), settings))


def former_flags(config_class: Any) -> Iterator[str]:
    """Name what a config has in the settings file, and took as flags (`--name`) before there was
    one."""
    hints = get_type_hints(config_class, include_extras=True)
    kinds = get_type_hints(config_class)
    for of_field in fields(config_class):
        hint = hints[of_field.name]
        kind = kinds[of_field.name]
        if is_in_file(hint):
            yield from (setting.flag for setting in _settings(kind))
        elif is_dataclass(kind):
            yield from former_flags(kind)


def is_in_file(hint: Any) -> bool:
    """Whether a field with this type hint is marked as one of the settings file."""
    return IN_FILE in getattr(hint, "__metadata__", ())


def _settings(kind: Any, tables: tuple[str, ...] = ()) -> Iterator[_Setting]:
    types = get_type_hints(kind)
    for of_field in fields(kind):
        kind_of_field = types[of_field.name]
        if is_dataclass(kind_of_field):
            yield from _settings(kind_of_field, (*tables, of_field.name))
        else:
            yield _Setting(tables, of_field.name, kind_of_field)


def _take_former_flags(argv: Sequence[str], former: set[str]) -> tuple[list[str], dict[str, Any]]:
    """Take flags that are settings now out of the arguments, with a warning; the next version will
    refuse them.

    Returns what is left, and what they set as a settings file would.
    """
    known = {setting.flag: setting for setting in _settings(FileSettings) if setting.flag in former}
    left = list[str]()
    values = dict[str, Any]()
    args = iter(argv)
    for arg in args:
        flag, has_value, value = arg.partition("=")
        flag = flag.replace("_", "-")
        setting = known.get(flag.replace("--no-", "--", 1))
        if setting is None:
            left.append(arg)
            continue
        if setting.type is bool:
            value = value or str(not flag.startswith("--no-"))
        elif not has_value:
            value = next(args, "")
        _put(values, setting, value)
        where = ".".join(setting.tables)
        warn(
            f"{flag} is a setting now: {setting.name} in [{where}] of a file for --settings, see"
            " --print-settings"
        )
    return left, values


def _put(values: dict[str, Any], setting: _Setting, value: str) -> None:
    """Add a setting that was given in words to what a settings file would hold."""
    table = values
    for name in setting.tables:
        table = table.setdefault(name, {})
    is_none = value.lower() == _NONE and type(None) in get_args(setting.type)
    try:
        if is_none:
            table[setting.name] = _NONE
        else:
            table[setting.name] = msgspec.convert(value, setting.type, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{setting.flag} {value}: {error}") from None


def _overlaid(record: Any, values: Mapping[str, Any], tables: tuple[str, ...] = ()) -> Any:
    """Return settings with what a file says in their places.

    Raises:
        ConfigError: there is no such setting, or the value is none of it.
    """
    types = get_type_hints(type(record))
    changed: dict[str, Any] = {}
    for name, value in values.items():
        path = ".".join((*tables, name))
        if name not in types:
            near = difflib.get_close_matches(name, types, 1)
            raise ConfigError(
                f"{path}: no such setting" + (f"; is {near[0]} meant?" if near else "")
            )
        kind = types[name]
        if is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: expected a table, [{path}]")
            changed[name] = _overlaid(getattr(record, name), value, (*tables, name))
        elif value == _NONE and type(None) in get_args(kind):
            changed[name] = None
        else:
            changed[name] = _converted(path, value, kind)
    return replace(record, **changed)


def _converted(path: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} = {value}: {str(error)[:1].lower()}{str(error)[1:]}") from None


def _add(table: _TableT, record: Any) -> _TableT:
    """Add settings to a table: values first, then the tables within it, as TOML wants them."""
    docs = {param.arg_name: param.description for param in parse_from_object(type(record)).params}
    nested = {name: value for name, value in vars(record).items() if is_dataclass(value)}
    for name, value in vars(record).items():
        if name in nested:
            continue
        for line in textwrap.wrap(" ".join((docs.get(name) or "").split()), _LINE):
            table.add(tomlkit.comment(line))
        table.add(name, _NONE if value is None else value)
    for name, value in nested.items():
        table.add(name, _add(tomlkit.table(), value))
    return table
