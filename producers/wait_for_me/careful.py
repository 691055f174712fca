"""Decodes one command by the book: slow, complete, able to say what is wrong. The codec's fast path falls back to it.

The rule: this file alone defines what is valid. The fast path may only accept what this would accept, with the same
result; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Raw

from .cloudevents import Headers, open_envelope
from .commands import (
    MAX_DEPTH,
    MAX_EVENT_ID_BYTES,
    MAX_KEY_BYTES,
    MAX_PARAMS_BYTES,
    MAX_REASON_BYTES,
    MAX_RECORD_BYTES,
    NO_PARAMS,
    REQUIRED_TO_ADD,
    Add,
    Command,
    Remove,
    Tick,
)
from .errors import InvalidCommand
from .json_text import read_any, read_object, read_scalar
from .validation import (
    check_callback,
    check_name,
    check_participants,
    check_positive_seconds,
    check_record_key,
    check_seconds,
    check_text,
    missing,
    wrong_type,
)

EVENT_ID_HEADER: Final = "wfm_event_id"
"""Carries the event_id of a re-routed add that had none; a value's own event_id stands above it."""

_PARAMS: Final = "execute_after_waiting_params"


def decode_carefully(key: bytes | None, value: bytes | None, headers: Headers) -> Command:
    """Return the command, or raise InvalidCommand with a stable code and the remedy."""
    envelope = open_envelope(_sized(value), headers)
    members = read_object(envelope.data, MAX_DEPTH + 1)  # one level is the command itself
    kind = _kind(members, envelope.kind)
    if kind == "tick":
        return Tick()
    given = {name: raw for name, raw in members.items() if raw != _NULL}
    event_id = _event_id(given, envelope.event_id, headers)
    command = _add(given, event_id) if kind == "add" else _remove(given, event_id)
    check_record_key(key, command.group_key)
    return command


_NULL: Final = Raw(b"null")


def _sized(value: bytes | None) -> bytes:
    if value is None:
        raise InvalidCommand("null_value", "the record has no value: send a command as a JSON object")
    if len(value) > MAX_RECORD_BYTES:
        raise InvalidCommand("too_large", f"the value has {len(value)} bytes: send at most {MAX_RECORD_BYTES}")
    return value


def _kind(members: dict[str, Raw], said_outside: str | None) -> str:
    """Return add, remove or tick; the envelope and the object may both say it, and must then agree."""
    remedy = 'set it to "add", "remove" or "tick"'
    kind = read_scalar("type", members["type"]) if "type" in members else None
    if kind is None:
        if said_outside is None:
            raise InvalidCommand("missing_field", f"type is required: {remedy}")
        return said_outside
    if not isinstance(kind, str):
        raise wrong_type("type", kind, remedy)
    if said_outside not in (None, kind):
        raise InvalidCommand(
            "bad_cloudevent", f"the event's type says {said_outside}, its data {kind[:100]!r}: make them agree"
        )
    if kind not in ("add", "remove", "tick"):
        raise InvalidCommand("unknown_type", f"type {kind[:100]!r} is not known: {remedy}")
    return kind


def _event_id(given: dict[str, Raw], from_envelope: str | None, headers: Headers) -> str | None:
    candidate: Any = from_envelope
    if "event_id" in given:
        candidate = read_scalar("event_id", given["event_id"])
    elif candidate is None:
        candidate = _event_id_header(headers)
    return None if candidate is None else check_name("event_id", candidate, MAX_EVENT_ID_BYTES)


def _event_id_header(headers: Headers) -> str | None:
    found = [value for name, value in headers if name == EVENT_ID_HEADER and value is not None]
    try:
        return found[-1].decode() if found else None
    except UnicodeDecodeError as error:
        raise InvalidCommand("not_utf8", f"the header {EVENT_ID_HEADER} is not UTF-8: encode it as UTF-8") from error


def _add(given: dict[str, Raw], event_id: str | None) -> Add:
    _require(given, REQUIRED_TO_ADD)
    value: dict[str, Any] = {
        name: read_scalar(name, given[name]) for name in (*REQUIRED_TO_ADD, *_OPTIONAL_SPANS) if name in given
    }
    return Add(
        participant_key=check_name("participant_key", value["participant_key"], MAX_KEY_BYTES),
        group_key=check_name("group_key", value["group_key"], MAX_KEY_BYTES),
        number_of_participants_in_group=check_participants(
            "number_of_participants_in_group", value["number_of_participants_in_group"]
        ),
        execute_after_waiting=check_callback("execute_after_waiting", value["execute_after_waiting"]),
        wait_time_in_seconds=check_positive_seconds("wait_time_in_seconds", value["wait_time_in_seconds"]),
        max_wait_in_seconds=_optional(check_positive_seconds, "max_wait_in_seconds", value),
        linger_in_seconds=_optional(check_seconds, "linger_in_seconds", value),
        raw_params=_params(given),
        event_id=event_id,
    )


_OPTIONAL_SPANS: Final = ("max_wait_in_seconds", "linger_in_seconds")


def _remove(given: dict[str, Raw], event_id: str | None) -> Remove:
    _require(given, ("group_key",))
    reason = (
        check_text("reason", read_scalar("reason", given["reason"]), MAX_REASON_BYTES) if "reason" in given else None
    )
    group_key = check_name("group_key", read_scalar("group_key", given["group_key"]), MAX_KEY_BYTES)
    return Remove(group_key=group_key, reason=reason, event_id=event_id)


def _require(given: dict[str, Raw], names: tuple[str, ...]) -> None:
    absent = [name for name in names if name not in given]
    if absent:
        raise missing(absent)


def _optional(check: Callable[[str, object], float], name: str, value: dict[str, Any]) -> float | None:
    return check(name, value[name]) if name in value else None


def _params(given: dict[str, Raw]) -> Raw:
    """Return the params as they came. They are decoded once, so that none enters which no executor could read."""
    if _PARAMS not in given:
        return NO_PARAMS
    raw = given[_PARAMS]
    size = memoryview(raw).nbytes
    if size > MAX_PARAMS_BYTES:
        raise InvalidCommand(
            "too_large", f"{_PARAMS} has {size} bytes: send at most {MAX_PARAMS_BYTES}, or a reference"
        )
    read_any(_PARAMS, raw)
    return raw
