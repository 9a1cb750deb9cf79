"""Where messages go: to people as text, or as a line of JSON each for Cloud Logging, which takes
`severity`, `message`, `time` and labels from it.

Light to import, as the first thing that any command does.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from types import TracebackType

from sssl.errors import ConfigError
from sssl.words import printable

FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LABELS = "logging.googleapis.com/labels"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def configure(command: str, level: str, log_format: str) -> None:
    """Set up messages of a command: from which level on, and for whom.

    Raises:
        ConfigError: there is no such level, or no such format; both may come from the environment.
    """
    level = level.upper()
    if level not in LEVELS:
        raise ConfigError(f"SSSL_LOG={level}: expected one of {', '.join(LEVELS)}")
    if log_format not in FORMATS:
        raise ConfigError(f"SSSL_LOG_FORMAT={log_format}: expected one of {', '.join(FORMATS)}")
    if log_format != "json":
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return
    from pipelines.terminal.console import alerts, console  # here: not all commands need them

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(command))
    logging.basicConfig(level=level, handlers=[handler])
    for terminal in (console, alerts):
        terminal.as_line = lambda severity, text: json_line(severity, text, {"command": command})
    sys.excepthook = _log_the_end


class JsonLines(logging.Formatter):
    """A record as a line of JSON; its `labels`, if it has any, are labels."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        labels = {"command": self._command, "logger": record.name, **getattr(record, "labels", {})}
        return json_line(record.levelname, text, labels, record.created)


def json_line(
    severity: str, text: str, labels: dict[str, str], created_s: float | None = None
) -> str:
    """Return a message as a line of JSON without what is secret in the URLs that it names."""
    from sssl.urls import without_secrets  # here: it loads fsspec, which some commands need not

    now = datetime.now(UTC) if created_s is None else datetime.fromtimestamp(created_s, UTC)
    line = {
        "severity": severity,
        "message": _URL.sub(lambda url: without_secrets(url.group()), text),
        "time": now.isoformat(timespec="milliseconds"),
        _LABELS: {name: printable(value) for name, value in labels.items()},
    }
    return json.dumps(line, ensure_ascii=False)


def _log_the_end(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    logging.getLogger("sssl").critical("%s", error, exc_info=(kind, error, where))
