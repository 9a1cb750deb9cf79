"""Metadata of the Dataflow Flex Templates, one per pipeline: `python -m pipelines.templates
ROOT`."""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pipelines.cli import COMMANDS, module_of
from pipelines.launch import Flag, flags_of

TEMPLATES = ("segment", "relabel", "score", "songs")
"""Stages that the nightly workflow launches on Dataflow."""

_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"


def metadata(stage: str) -> str:
    """Return the metadata of a stage's template as JSON."""
    value = {
        "name": f"SSSL {stage}",
        "description": COMMANDS[stage],
        "parameters": [_parameter(flag) for flag in flags_of(module_of(stage).Config)],
    }
    return json.dumps(value, indent=2) + "\n"


def _parameter(flag: Flag) -> dict[str, Any]:
    # No `defaultValue`: the console would send it along, and a preset could no longer set it.
    default = "" if flag.default in (MISSING, None) else f" Default: {_shown(flag.default)}."
    return {
        "name": flag.parameter,
        "label": flag.parameter.replace("_", " "),
        "helpText": flag.doc + default,
        "isOptional": flag.default is not MISSING,
        **_kind(flag.type),
    }


def _kind(type: Any) -> dict[str, Any]:
    if type is bool:
        return {"paramType": "BOOLEAN"}
    if type in (int, float):
        return {"paramType": "NUMBER", "regexes": [f"^{_NUMBER}$"]}
    if type in (int | None, float | None):
        return {"paramType": "TEXT", "regexes": [f"^(None|{_NUMBER})$"]}
    if get_origin(type) is Literal:
        return {
            "paramType": "ENUM",
            "enumOptions": [{"value": choice, "label": choice} for choice in get_args(type)],
        }
    assert type in (str, str | None) or get_origin(type) is tuple, (
        f"{type}: how does a template ask for it?"
    )
    return {"paramType": "TEXT"}


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        if default:
            return "true"
        return "false"
    if isinstance(default, tuple):
        return " ".join(default)
    return f"{default}"


def main(root: str) -> None:
    folder = Path(root, "infra", "templates")
    folder.mkdir(parents=True, exist_ok=True)
    for stage in TEMPLATES:
        (folder / f"{stage}.json").write_text(metadata(stage))


if __name__ == "__main__":
    main(sys.argv[1])
