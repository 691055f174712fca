"""The caps of the contract, checked one value at a time, with a stable code and a remedy for each way to be wrong.

The client checks what it is about to send with these functions and the codec what it has received, so both refuse
the same things with the same words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Final

from .commands import MAX_CALLBACK_CHARACTERS, MAX_PARTICIPANTS, MAX_SECONDS
from .errors import InvalidCommand

_CALLBACK_NAME: Final = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_CALLBACK_CHARACTERS}}}")
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # the Unicode category Cc, which is closed


def missing(names: Iterable[str]) -> InvalidCommand:
    """Return the gem's complaint about required fields that are absent."""
    return InvalidCommand("missing_field", ", ".join(f"{name} is required" for name in names))


def wrong_type(name: str, value: object, remedy: str) -> InvalidCommand:
    """Return the complaint that `name` has a value of the wrong type."""
    return InvalidCommand("wrong_type", f"{name} is {_json_type(value)}: {remedy}")


def check_name(name: str, value: object, max_bytes: int) -> str:
    """Return `value` if it can name something: text, not empty, not too long, without control characters."""
    text = check_text(name, value, max_bytes)
    if not text:
        raise InvalidCommand("empty", f"{name} is empty: give it 1 to {max_bytes} bytes")
    if _CONTROL_CHARACTER.search(text):
        raise InvalidCommand("control_character", f"{name} {text!r} has a control character: leave it out")
    return text


def check_text(name: str, value: object, max_bytes: int) -> str:
    """Return `value` if it is text that can be written as UTF-8 within `max_bytes`."""
    if not isinstance(value, str):
        raise wrong_type(name, value, "make it a string")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise InvalidCommand("not_utf8", f"{name} has half of a surrogate pair: make it valid Unicode") from error
    if len(encoded) > max_bytes:
        raise InvalidCommand("too_long", f"{name} has {len(encoded)} bytes: shorten it to at most {max_bytes}")
    return encoded.decode()  # plain text, whatever subclass of str it came as


def check_callback(name: str, value: object) -> str:
    """Return `value` if it can be the name of a callback."""
    if not isinstance(value, str):
        raise wrong_type(name, value, "make it the name of a registered callback, a string")
    if not value:
        raise InvalidCommand("empty", f"{name} is empty: make it the name of a registered callback")
    if not _CALLBACK_NAME.fullmatch(value):
        allowed = f"use 1 to {MAX_CALLBACK_CHARACTERS} letters, digits, '_', '.', ':' or '-'"
        raise InvalidCommand("bad_callback_name", f"{name} {value[:200]!r} cannot name a callback: {allowed}")
    return value.encode().decode()


def check_participants(name: str, value: object) -> int:
    """Return `value` if a group can have that many participants."""
    beyond = isinstance(value, float) and math.isinf(value)  # a number that no double can hold is a number all the same
    if not beyond and (not isinstance(value, int) or isinstance(value, bool)):
        raise wrong_type(name, value, f"make it a whole number from 1 to {MAX_PARTICIPANTS}")
    if not isinstance(value, int) or not 1 <= value <= MAX_PARTICIPANTS:
        raise _out_of_range(name, f"a whole number from 1 to {MAX_PARTICIPANTS}")
    return int(value)


def check_positive_seconds(name: str, value: object) -> float:
    """Return `value` if a group can wait that long."""
    seconds = check_seconds(name, value)
    if not seconds > 0:
        raise _out_of_range(name, f"more than 0 and at most {MAX_SECONDS} seconds")
    return seconds


def check_seconds(name: str, value: object) -> float:
    """Return `value` if it is a finite span of at most 30 days; 0 is one."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong_type(name, value, "make it a number of seconds")
    if not 0 <= value <= MAX_SECONDS:  # which is false of a NaN too, and unlike math.isfinite bears any integer
        raise _out_of_range(name, f"at least 0 and at most {MAX_SECONDS} seconds")
    return int(value) if isinstance(value, int) else float(value)


def check_record_key(key: bytes | None, group_key: str) -> None:
    """Refuse a record whose key is not its group_key: it may be in another partition than its group."""
    remedy = "produce the record with the UTF-8 bytes of group_key as its key"
    if not key:
        raise InvalidCommand("null_key", f"the record has no key: {remedy}")
    if key != group_key.encode():
        raise InvalidCommand(
            "key_mismatch", f"the record's key {key[:300]!r} is not its group_key {group_key!r}: {remedy}"
        )


def _out_of_range(name: str, allowed: str) -> InvalidCommand:
    return InvalidCommand("out_of_range", f"{name} is out of range: make it {allowed}")


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "an array"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"
