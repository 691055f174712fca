"""Turns the arguments of a call into a record that the worker will accept, or refuses with the gem's words.

The rule: nothing is sent that the codec would refuse. So the finished record is decoded once more before it leaves,
and params are held to JSON's own types, because a NaN or a date that quietly becomes something else is found out
only when the callback runs.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw

from .codec import decode_command, encode_command
from .commands import (
    MAX_DEPTH,
    MAX_EVENT_ID_BYTES,
    MAX_KEY_BYTES,
    MAX_REASON_BYTES,
    NO_PARAMS,
    REQUIRED_TO_ADD,
    Add,
    Remove,
)
from .errors import InvalidCommand
from .validation import (
    check_callback,
    check_name,
    check_participants,
    check_positive_seconds,
    check_seconds,
    check_text,
    missing,
    wrong_type,
)

_PARAMS: Final = "execute_after_waiting_params"
_MAX_HEADER_BYTES: Final = 64 * 1024

HeaderValue = str | bytes
HeadersToSend = Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What goes to Kafka."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    event_id: str


def add_record(
    *,
    participant_key: str | None,
    group_key: str | None,
    number_of_participants_in_group: int | None,
    execute_after_waiting: str | None,
    execute_after_waiting_params: Any,
    wait_time_in_seconds: float | None,
    max_wait_in_seconds: float | None,
    linger_in_seconds: float | None,
    event_id: str | None,
    headers: HeadersToSend | None,
) -> Record:
    """Return the record of one add, checked."""
    _require(REQUIRED_TO_ADD, locals())
    command = Add(
        participant_key=check_name("participant_key", participant_key, MAX_KEY_BYTES),
        group_key=check_name("group_key", group_key, MAX_KEY_BYTES),
        number_of_participants_in_group=check_participants(
            "number_of_participants_in_group", number_of_participants_in_group
        ),
        execute_after_waiting=check_callback("execute_after_waiting", execute_after_waiting),
        raw_params=_params(execute_after_waiting_params),
        wait_time_in_seconds=check_positive_seconds("wait_time_in_seconds", wait_time_in_seconds),
        max_wait_in_seconds=_optional_wait("max_wait_in_seconds", max_wait_in_seconds),
        linger_in_seconds=None if linger_in_seconds is None else check_seconds("linger_in_seconds", linger_in_seconds),
        event_id=_event_id(event_id),
    )
    return _record(command, headers)


def remove_record(
    *, group_key: str | None, reason: str | None, event_id: str | None, headers: HeadersToSend | None
) -> Record:
    """Return the record of one remove, checked."""
    _require(("group_key",), locals())
    command = Remove(
        group_key=check_name("group_key", group_key, MAX_KEY_BYTES),
        event_id=_event_id(event_id),
        reason=None if reason is None else check_text("reason", reason, MAX_REASON_BYTES),
    )
    return _record(command, headers)


def _require(names: Iterable[str], arguments: Mapping[str, object]) -> None:
    absent = [name for name in names if arguments[name] in (None, "")]
    if absent:
        raise missing(absent)


def _optional_wait(name: str, value: object) -> float | None:
    return None if value is None else check_positive_seconds(name, value)


def _event_id(given: str | None) -> str:
    """Return the name of this send: the caller's, who may be sending again, or a new one."""
    return str(uuid.uuid4()) if given is None else check_name("event_id", given, MAX_EVENT_ID_BYTES)


def _record(command: Add | Remove, headers: HeadersToSend | None) -> Record:
    key, value, pairs = command.group_key.encode(), encode_command(command), _headers(headers)
    decode_command(key, value, pairs)
    return Record(key=key, value=value, headers=pairs, event_id=str(command.event_id))


def _headers(given: HeadersToSend | None) -> list[tuple[str, bytes]]:
    pairs = given.items() if isinstance(given, Mapping) else given or ()
    return [_header(name, value) for name, value in pairs]


def _header(name: object, value: object) -> tuple[str, bytes]:
    if not isinstance(name, str) or not isinstance(value, (str, bytes)):
        raise InvalidCommand("wrong_type", f"the header {name!r} is not text: make it a string with a string or bytes")
    if name.startswith("wfm_"):
        raise InvalidCommand("wrong_type", f"the header {name!r} is the worker's: begin its name with something else")
    what = f"the header {name!r}"
    check_text(what, name, _MAX_HEADER_BYTES)
    return name, value if isinstance(value, bytes) else check_text(what, value, _MAX_HEADER_BYTES).encode()


def _params(value: Any) -> Raw:
    """Return the params as JSON; a msgspec.Raw is JSON already and travels as it is."""
    if value is None:
        return NO_PARAMS
    if not isinstance(value, Raw):
        _check_json(value, MAX_DEPTH)
    try:
        if isinstance(value, Raw):
            msgspec.json.decode(value)  # or it could end this field and begin others
            return value
        return Raw(msgspec.json.encode(value, enc_hook=_plain))
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise InvalidCommand("not_json", f"{_PARAMS} cannot be JSON ({error}): send text instead") from error


def _plain(value: Any) -> str | int | float:
    """Return the plain value of a subclass of str, int or float, as frameworks make them."""
    if isinstance(value, str):
        return value.encode().decode()
    return int(value) if isinstance(value, int) else float(value)


def _check_json(value: Any, levels_left: int) -> None:
    """Refuse what JSON has no type for; msgspec would turn it into text, or a NaN into null."""
    match value:
        case None | bool() | int() | str():
            return
        case float():
            _check_number(value)
        case list() | tuple():
            _check_members(value, levels_left)
        case dict():
            _check_members(value.values(), levels_left)
            for key in value:
                if not isinstance(key, str):
                    raise wrong_type(f"a key {key!r} in {_PARAMS}", key, "make it a string")
        case _:
            raise wrong_type(f"a value in {_PARAMS}", value, "send text, numbers, lists and dicts of them")


def _check_number(value: float) -> None:
    if not math.isfinite(value):
        raise InvalidCommand("out_of_range", f"{_PARAMS} has {value}, which JSON cannot say: leave it out")


def _check_members(values: Iterable[Any], levels_left: int) -> None:
    if not levels_left:
        raise InvalidCommand("too_deep", f"{_PARAMS} nests deeper than {MAX_DEPTH} levels: flatten it")
    for value in values:
        _check_json(value, levels_left - 1)
