"""Dead letters as lines, as a page of text, and as JSON.

The danger: a letter can hold anything, control characters for the terminal included. So text is escaped, and cut where
it is long.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from wait_for_me_app.dlq.letters import Letter, json_members

_MESSAGE_CHARACTERS: Final = 100
_VALUE_CHARACTERS: Final = 2_000


def line(letter: Letter) -> str:
    """Return a letter as one line: id, time, stage and code, group, message."""
    origin = letter.origin
    what = f"{escaped(origin.stage or '-')}/{escaped(origin.code or '-')}"
    return (
        f"{letter.id:<16} {moment(letter.at_ms)}  {what:<28} {escaped(letter.group_key or '-'):<24} "
        f"{escaped(origin.message or '', _MESSAGE_CHARACTERS)}"
    ).rstrip()


def page(letter: Letter) -> Iterable[str]:
    """Return all there is to know of a letter, a line each."""
    origin = letter.origin
    place = f"{origin.topic}[{origin.partition}]@{origin.offset}"
    yield f"id          {letter.id}"
    yield f"set aside   {moment(letter.at_ms)}"
    yield f"came from   {escaped(place)}, headers of {origin.family}"
    yield f"group       {escaped(letter.group_key or '-')}"
    yield f"stage/code  {escaped(origin.stage or '-')}/{escaped(origin.code or '-')}"
    yield f"message     {escaped(origin.message or '-')}"
    yield f"fire_id     {escaped(origin.fire_id or '-')}"
    yield f"deliveries  {origin.deliveries if origin.deliveries is not None else '-'}"
    for name, value in letter.headers:
        yield f"header      {escaped(name)}: {escaped_bytes(value)}"
    yield f"key         {escaped_bytes(letter.key)}"
    yield f"value       {letter.size} bytes: {escaped_bytes(letter.value)}"


def members(letter: Letter) -> dict[str, Any]:
    """Return all of a letter for JSON; bytes that are no text as base64."""
    return {
        **json_members(letter),
        "headers": [{"name": name, **_either(value)} for name, value in letter.headers],
        "key": _either(letter.key),
        "value": _either(letter.value),
    }


def moment(ms: int) -> str:
    """Return a time in UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def escaped(text: str, characters: int = _VALUE_CHARACTERS) -> str:
    """Return text that is safe in a terminal and in a log: one line, nothing that steers, not too long."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:characters])
    return shown if len(text) <= characters else f"{shown}…"


def escaped_bytes(value: bytes | None) -> str:
    """Return bytes as text, as far as they are."""
    if value is None:
        return "(null)"
    cut = value[: _VALUE_CHARACTERS + 1]
    return escaped(cut.decode(errors="backslashreplace"))


def _either(value: bytes | None) -> dict[str, Any]:
    try:
        return {"text": None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value or b"").decode()}
