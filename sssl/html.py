"""Pages from the templates of sssl's rooms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from markupsafe import Markup


def template(
    name: str,
    filters: Mapping[str, Callable[..., Any]],
    tests: Mapping[str, Callable[..., bool]] | None = None,
) -> jinja2.Template:
    """Load a template; a name it uses and is not given is an error, and what it is given is
    escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sssl", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    environment.tests |= tests or {}
    return environment.get_template(name)


def embedded(content: Any) -> Markup:
    """Write what a page's script shows as JSON that can stand in a page."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 -- without < nothing ends the script element
