"""Records: dataclasses that are kept as JSON and read back by programs that are older or newer than
the writer.

A field that a reader does not know is passed over. A field that is missing has its default, or, if
it was declared with `later`, the value at which the record means what it meant before the field
existed. At that value it is not written either, so that configs are the same JSON, and what is
named after them keeps its name, until somebody uses the new field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

RecordT = TypeVar("RecordT")
_NEUTRAL = "neutral"


class RecordError(ValueError):
    """JSON that is not the record it should be; the message says which field of which record."""


def later(default: Any, *, neutral: Any) -> Any:
    """Declare a field that records written so far do not have.

    Args:
        default: what a new record has unless it is given; of an immutable type.
        neutral: what the field is in a record without it: what was done before there was a choice.
    """
    return dataclasses.field(default=default, metadata={_NEUTRAL: neutral})


def dump(record: Any) -> dict[str, Any]:
    """Return a record as JSON has it, without fields that came later and are at their neutral
    value."""
    return {
        field.name: _plain(getattr(record, field.name))
        for field in dataclasses.fields(record)
        if not _is_neutral(field, record)
    }


def load(kind: type[RecordT], values: Any) -> RecordT:
    """Read a record, and those within it, back from what `dump` made of it, maybe by another
    version.

    Raises:
        RecordError: a value is of the wrong type, or is missing and has no default.
    """
    try:
        return msgspec.convert(_completed(kind, values), kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise RecordError(_sentence(kind, str(error))) from None


def _is_neutral(field: dataclasses.Field[Any], record: Any) -> bool:
    value: Any = getattr(record, field.name)
    return _NEUTRAL in field.metadata and bool(value == field.metadata[_NEUTRAL])


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dump(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _completed(kind: Any, value: Any) -> Any:
    """Add neutral values to JSON that lacks them; what does not fit its type is left to be
    refused."""
    if not _has_later_fields(kind):
        return value
    if dataclasses.is_dataclass(kind):
        return _completed_record(kind, value) if isinstance(value, Mapping) else value
    *_, item_kind = _parts(kind)
    if get_origin(kind) in (Union, UnionType):
        return _completed(item_kind, value)
    if isinstance(value, Mapping):
        return {key: _completed(item_kind, item) for key, item in value.items()}
    return [_completed(item_kind, item) for item in value] if isinstance(value, list) else value


def _completed_record(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    neutral = {
        field.name: _plain(field.metadata[_NEUTRAL])
        for field in dataclasses.fields(kind)
        if _NEUTRAL in field.metadata
    }
    types = get_type_hints(kind)
    return {
        name: _completed(types[name], value)
        for name, value in {**neutral, **values}.items()
        if name in types
    }


@cache
def _has_later_fields(kind: Any) -> bool:
    """Whether a type is, or holds, a record with fields that came later; most have none."""
    if not dataclasses.is_dataclass(kind):
        return any(map(_has_later_fields, _parts(kind)))
    marked = any(_NEUTRAL in field.metadata for field in dataclasses.fields(kind))
    return marked or any(map(_has_later_fields, get_type_hints(kind).values()))


def _parts(kind: Any) -> list[Any]:
    """Return what a tuple, a mapping or a union consists of, without None, `...` and the values of
    literals."""
    return [
        part for part in get_args(kind) if part not in (NoneType, ...) and not isinstance(part, str)
    ]


def _sentence(kind: type, found: str) -> str:
    """Say what msgspec found: ``Expected `int`, got `str` - at `$.a.b` `` becomes "Kind.a.b:
    expected ..."."""
    said, _, place = found.partition(" - at ")
    where = place.replace("`", "").replace("$", kind.__name__) or kind.__name__
    return f"{where}: {said[:1].lower()}{said[1:]}"
