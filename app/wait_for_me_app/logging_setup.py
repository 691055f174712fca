"""One log format for everything in the process: ours, Faust's, aiokafka's.

Rule: logs go to stderr, one record a line; standard output belongs to data. Fields are given as `extra={...}` and appear
as `name=value` after the message, or as members of the JSON object.
"""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wait_for_me_app.printable import printable, printable_json

if TYPE_CHECKING:
    from wait_for_me_app.settings import Settings

_LIBRARIES = ("aiokafka", "faust", "mode")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and its traceback below if it has one."""
        line = f"{_timestamp(record)} {record.levelname.lower():<7} {record.name}: {_indented(record.getMessage())}"
        fields = "".join(f" {name}={printable(str(value))}" for name, value in _fields(record).items())
        return f"{line}{fields}{_traceback(self, record)}"


class JsonFormatter(logging.Formatter):
    """A line for machines: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object; what JSON does not know is written as text."""
        members: dict[str, Any] = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if traceback := _traceback(self, record).strip():
            members["traceback"] = traceback
        return printable_json(json.dumps(members, ensure_ascii=False, default=str))


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return a `logging.config` dictionary; Faust takes it as `logging_config`, so that it does not install its own."""
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    level = settings.log_level.upper()
    libraries = "WARNING" if level == "INFO" else level  # at info they narrate every step of theirs
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.__stderr__"},
        },
        "loggers": {name: {"level": libraries} for name in _LIBRARIES},
        "root": {"level": level, "handlers": ["stderr"]},
    }


def configure_logging(settings: Settings) -> None:
    """Send all logs of this process to stderr in the format that the settings name."""
    logging.config.dictConfig(logging_config(settings))


def _indented(message: str) -> str:
    """Keep the lines of a library's message, but let none of them look like a record of its own."""
    return "\n    ".join(map(printable, message.splitlines()))


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "".join(f"\n{part}" for part in parts)
