"""Logs: one record a line on stderr, for people or for machines, with fields."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from wait_for_me_app.logging_setup import JsonFormatter, TextFormatter, logging_config
from wait_for_me_app.settings import Settings


def record(**extra: object) -> logging.LogRecord:
    made = logging.getLogger("wait_for_me_app.lane").makeRecord(
        "wait_for_me_app.lane", logging.WARNING, __file__, 1, "took over %s", ("3",), None, extra=extra or None
    )
    made.created = 1_764_000_000.5
    return made


def test_a_line_for_people_has_time_level_logger_message_and_fields() -> None:
    """Times are UTC, whatever the machine's zone."""
    line = TextFormatter().format(record(partition=3))
    assert line == "2025-11-24T16:00:00.500Z warning wait_for_me_app.lane: took over 3 partition=3"


def test_a_line_for_machines_is_one_json_object() -> None:
    """What JSON does not know is written as text instead of failing the log call."""
    members = json.loads(JsonFormatter().format(record(partition=3, key=b"\xff")))
    assert members == {
        "timestamp": "2025-11-24T16:00:00.500Z",
        "level": "warning",
        "logger": "wait_for_me_app.lane",
        "message": "took over 3",
        "partition": 3,
        "key": "b'\\xff'",
    }


HOSTILE = "g\n2026 error forged\x1b[2J\x9b31m\u202e\u2028\U000e0001"


def test_a_name_cannot_forge_a_line_or_command_the_terminal() -> None:
    """Group keys come from strangers: what is no printable character is written out."""
    line = TextFormatter().format(record(group_key=HOSTILE))
    assert line.isprintable()
    assert "group_key=g\\n2026 error forged\\x1b[2J\\x9b31m\\u202e\\u2028\\U000e0001" in line
    as_json = JsonFormatter().format(record(group_key=HOSTILE))
    assert as_json.isprintable()
    assert json.loads(as_json)["group_key"] == HOSTILE


def test_a_message_of_several_lines_keeps_them_indented() -> None:
    """Libraries write such messages; only the first line begins as a record does."""
    made = record()
    made.msg, made.args = "one\ntwo\x1b", ()
    assert TextFormatter().format(made).splitlines()[1:] == ["    two\\x1b"]


def test_a_traceback_stays_with_its_record() -> None:
    """Below the line for people; inside the one line for machines."""
    made = record()
    try:
        raise ValueError("boom")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert TextFormatter().format(made).splitlines()[-1] == "ValueError: boom"
    text = JsonFormatter().format(made)
    assert "\n" not in text
    assert json.loads(text)["traceback"].endswith("ValueError: boom")


def stderr_of(level: str, script: str) -> list[str]:
    prepare = (
        "import logging; from wait_for_me_app.logging_setup import configure_logging; "
        f"from wait_for_me_app.settings import Settings; configure_logging(Settings(log_format='json', log_level='{level}')); "
    )
    done = subprocess.run([sys.executable, "-c", prepare + script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line)["message"] for line in done.stderr.splitlines()]


SPEAK = (
    "[logging.getLogger(name).{level}('{level} of ' + name) for name in ('wait_for_me_app.x', 'aiokafka.y', 'else')]"
)


def test_the_whole_process_logs_to_stderr_in_the_format_of_the_settings() -> None:
    """Libraries included, and stdout stays empty for data."""
    assert stderr_of("debug", SPEAK.format(level="debug")) == [
        "debug of wait_for_me_app.x",
        "debug of aiokafka.y",
        "debug of else",
    ]


def test_at_info_the_kafka_libraries_are_heard_from_warnings_on() -> None:
    """They narrate every step, and would bury what an operator looks for."""
    assert stderr_of("info", SPEAK.format(level="info")) == ["info of wait_for_me_app.x", "info of else"]
    assert "warning of aiokafka.y" in stderr_of("info", SPEAK.format(level="warning"))


def test_faust_gets_the_same_configuration() -> None:
    """Given as `logging_config`, it keeps Faust from installing its own handlers."""
    assert logging_config(Settings(log_level="debug"))["root"] == {"level": "DEBUG", "handlers": ["stderr"]}
