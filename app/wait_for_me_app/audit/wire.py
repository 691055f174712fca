"""Reads one command from a record by itself: strict JSON, the caps, CloudEvents, and the place of a key.

Danger: the standard library is lenient where the rules are strict (NaN, lone surrogates, any depth, integers that it
refuses to read for their length), and it forgets how a value was written, while params must travel as they were
written. Both are made good here, by hand, and nothing is shared with the codec that the worker uses. An audit reads
millions of records, so each check first asks the cheap question that clears the common record.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, Protocol

MAX_VALUE_BYTES, MAX_PARAMS_BYTES, MAX_DEPTH, MAX_SECONDS = 262144, 65536, 32, 30 * 86400
_CLOUD_TYPES = {f"waitforme.{kind}.v1": kind for kind in ("add", "remove", "tick")}
_KINDS = tuple(_CLOUD_TYPES.values())
_PARAMS = "execute_after_waiting_params"
_SETTINGS = (
    "number_of_participants_in_group",
    "execute_after_waiting",
    "wait_time_in_seconds",
    "max_wait_in_seconds",
    "linger_in_seconds",
)
_NEEDS = {"add": {"participant_key", "group_key", *_SETTINGS[:3]}, "remove": {"group_key"}}
_SPACES = (" ", "\t", "\n", "\r")
_SPACE = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_COMMA_OR_END = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_MAY_BE_BIG = re.compile(r"[0-9][eE]|[0-9]{300}")  # a number that could overflow; spares all others the look
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
SHORTEST_LONG_INTEGER = 4301  # digits; see _integer
KNOWN_SETTINGS_MAX = 500
Settings = tuple[int, str, bytes, int, "int | None", int]  # N, callback, params, then ms: wait, max_wait, linger
_NO_SETTINGS: Settings = (0, "", b"", 0, None, 0)


class Record(Protocol):
    """One record of the commands topic, as any Kafka client can give it; timestamp type 1 is LogAppendTime."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(slots=True)
class Command:
    """One command that may be obeyed; a tick has neither key nor settings, a remove no settings."""

    kind: str
    group_key: str = ""
    participant_key: str = ""
    event_id: str | None = None
    settings: Settings = _NO_SETTINGS


@dataclass(slots=True)
class Members:
    """The members of a JSON object, the last of a name winning, and the text that it was read from."""

    values: dict[str, Any]
    text: str
    start: int = 0

    def written(self, name: str) -> str:
        """Give the text that a member's value was written as."""
        text, quoted = self.text, f'"{name}"'
        if "\\" in text or text.count(quoted) != 1:  # it may stand elsewhere, or be spelt another way
            return _written(text, self.start)[name]
        start = text.index(quoted) + len(quoted) + 1
        if text[start - 1] != ":" or text[start] in _SPACES:
            return _written(text, self.start)[name]
        return text[start : _read(text, start)[1]]


class Refused(Exception):
    """The record cannot be obeyed, for the reason that `code` names."""

    def __init__(self, code: str, stage: str) -> None:
        super().__init__(code)
        self.code, self.stage = code, stage


def read_command(record: Record, headers: dict[str, bytes]) -> Command:
    """Read and check one command; the first fault found is the one that is named."""
    kind, ids, members = _unwrapped(record.value, headers)
    if kind == "tick":
        return Command(kind)
    values = members.values
    if None in values.values():
        values = {name: value for name, value in values.items() if value is not None}
    if not _NEEDS[kind] <= values.keys():
        raise Refused("missing_field", "validate")
    participant_key = _name(values["participant_key"], 256) if kind == "add" else ""
    group_key = _name(values["group_key"], 256)
    settings = _settings(values, members) if kind == "add" else _NO_SETTINGS
    event_id = _name(values["event_id"], 128) if "event_id" in values else _event_id(ids)
    if kind == "remove":
        _text(values.get("reason", ""), 1024)
    if not record.key:
        raise Refused("null_key", "validate")
    if record.key != group_key.encode():
        raise Refused("key_mismatch", "validate")
    return Command(kind, group_key, participant_key, event_id, settings)


def partition_of(key: bytes, partitions: int) -> int:
    """Give the partition that Java's producer picks for a key: murmur2, sign bit cleared, modulo."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def _unwrapped(value: bytes | None, headers: dict[str, bytes]) -> tuple[str, list[Any], Members]:
    """Give kind, the event_ids from outside the command object (best first), and that object's members."""
    if value is None:
        raise Refused("null_value", "decode")
    if len(value) > MAX_VALUE_BYTES:
        raise Refused("too_large", "decode")
    if not headers:
        members = _object(value, MAX_DEPTH + 1)
        return _plain_kind(members), [], members
    media_type = _media_type(headers)
    resent_id = headers.get("wfm_event_id")
    if media_type == b"application/cloudevents+json":
        kind, event_id, members = _structured(_object(value, MAX_DEPTH + 2))
        return kind, [event_id, resent_id], members
    if media_type.startswith(b"application/cloudevents"):
        raise Refused("bad_cloudevent", "validate")
    if "ce_specversion" in headers:
        about = {"specversion": _attribute(headers, "ce_specversion"), "type": _attribute(headers, "ce_type")}
        kind, event_id = _cloud_kind(about), _attribute(headers, "ce_id")
        members = _object(value, MAX_DEPTH + 1)
        return _agreed(kind, members), [event_id, resent_id], members
    members = _object(value, MAX_DEPTH + 1)
    return _plain_kind(members), [resent_id], members


def _media_type(headers: dict[str, bytes]) -> bytes:
    found = [value for name, value in headers.items() if name.lower() == "content-type"]
    return found[-1].split(b";")[0].strip().lower() if found else b""


def _structured(envelope: Members) -> tuple[str, Any, Members]:
    event = envelope.values
    if "data" not in event:
        raise Refused("bad_cloudevent", "validate")
    kind, event_id = _cloud_kind(event), event.get("id")
    if not isinstance(event["data"], dict):
        raise Refused("not_an_object", "decode")
    if not isinstance(event_id, str | None):
        raise Refused("bad_cloudevent", "validate")
    members = Members(event["data"], envelope.written("data"))
    return _agreed(kind, members), event_id, members


def _attribute(headers: dict[str, bytes], name: str) -> str | None:
    try:
        return headers[name].decode() if name in headers else None
    except UnicodeDecodeError:
        raise Refused("bad_cloudevent", "validate") from None


def _cloud_kind(about: dict[str, Any]) -> str:
    if about.get("specversion") != "1.0" or not isinstance(about.get("type"), str):
        raise Refused("bad_cloudevent", "validate")
    if about["type"] not in _CLOUD_TYPES:
        raise Refused("unknown_type", "validate")
    return _CLOUD_TYPES[about["type"]]


def _agreed(kind: str, members: Members) -> str:
    """Give the kind that the CloudEvent names, if the command itself names none or the same."""
    if members.values.get("type") not in (None, kind):
        raise Refused("bad_cloudevent", "validate")
    return kind


def _plain_kind(members: Members) -> str:
    kind = members.values.get("type")
    if kind is None:
        raise Refused("missing_field", "validate")
    if not isinstance(kind, str):
        raise Refused("wrong_type", "validate")
    if kind not in _KINDS:
        raise Refused("unknown_type", "validate")
    return kind


def _event_id(candidates: list[Any]) -> str | None:
    for candidate in candidates:
        if candidate is not None:
            try:
                return _name(candidate.decode() if isinstance(candidate, bytes) else candidate, 128)
            except UnicodeDecodeError:
                raise Refused("not_utf8", "decode") from None
    return None


def _settings(values: dict[str, Any], members: Members) -> Settings:
    """Give the settings of an add; a million adds share a few, so they are checked once and kept once."""
    params = members.written(_PARAMS) if _PARAMS in values else "[]"
    given = params, *map(values.get, _SETTINGS)
    known = given, *map(type, given)  # 1, 1.0 and true are equal, and not all of them are right
    try:
        settings = _known_settings.get(known)
    except TypeError:  # a list or an object, where neither may be
        return _checked_settings(values, params)
    if settings is None:
        settings = _checked_settings(values, params)
        if len(_known_settings) >= KNOWN_SETTINGS_MAX:
            _known_settings.clear()
        _known_settings[known] = settings
    return settings


_known_settings: dict[tuple[Any, ...], Settings] = {}


def _checked_settings(values: dict[str, Any], params: str) -> Settings:
    expected = values["number_of_participants_in_group"]
    if (not isinstance(expected, int) and expected not in (math.inf, -math.inf)) or isinstance(expected, bool):
        raise Refused("wrong_type", "validate")
    if not 1 <= expected <= 100_000:
        raise Refused("out_of_range", "validate")
    callback = _text(values["execute_after_waiting"], MAX_VALUE_BYTES)
    if not callback:
        raise Refused("empty", "validate")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", callback):
        raise Refused("bad_callback_name", "validate")
    wait_ms = _milliseconds(values["wait_time_in_seconds"], zero=False)
    _check_params(values.get(_PARAMS), params)
    max_wait, linger = values.get("max_wait_in_seconds"), values.get("linger_in_seconds")
    max_wait_ms = None if max_wait is None else _milliseconds(max_wait, zero=False)
    linger_ms = wait_ms if linger is None else _milliseconds(linger, zero=True)
    return expected, callback, params.encode(), wait_ms, max_wait_ms, linger_ms


def _check_params(value: Any, text: str) -> None:
    if len(text.encode()) > MAX_PARAMS_BYTES:
        raise Refused("too_large", "decode")
    if _depth(text) > MAX_DEPTH:
        raise Refused("too_deep", "decode")
    if _MAY_BE_BIG.search(text):
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:  # an infinity: a number that no reader of the fire could hold
            raise Refused("out_of_range", "validate") from None


def _milliseconds(seconds: Any, *, zero: bool) -> int:
    """Round up to whole milliseconds; a float counts as the shortest decimal that names it, so 1.1 is 1100."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise Refused("wrong_type", "validate")
    if not 0 <= seconds <= MAX_SECONDS or (seconds == 0 and not zero):
        raise Refused("out_of_range", "validate")
    if isinstance(seconds, int):
        return seconds * 1000
    return int((Decimal(repr(seconds)) * 1000).to_integral_value(ROUND_CEILING))


def _name(value: Any, cap: int) -> str:
    if type(value) is str and 0 < len(value) <= cap and value.isascii() and value.isprintable():
        return value
    name = _text(value, cap)
    if not name:
        raise Refused("empty", "validate")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", name):  # exactly Unicode's category Cc
        raise Refused("control_character", "validate")
    return name


def _text(value: Any, cap: int) -> str:
    if not isinstance(value, str):
        raise Refused("wrong_type", "validate")
    if len(value.encode()) > cap:
        raise Refused("too_long", "validate")
    return value


def _object(value: bytes, max_depth: int) -> Members:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Refused("not_utf8", "decode") from None
    if text[:1] == "{" and "\\" not in text and len(text) < SHORTEST_LONG_INTEGER and not _depth(text):
        with suppress(ValueError):  # the long way says exactly what is wrong
            plain, end = _read_short(text, 0)
            if end == len(text):
                return Members(plain, text)
    if _depth(text) > max_depth:
        raise Refused("too_deep", "decode")
    try:
        return _only_object(text)
    except ValueError:
        raise Refused("not_json", "decode") from None


def _only_object(text: str) -> Members:
    start = _past_space(text, 0)
    value, end = _read(text, start)
    if _past_space(text, end) != len(text):
        raise ValueError("more text after the value")
    if _has_lone_surrogate(text):
        raise Refused("not_utf8", "decode")
    if not isinstance(value, dict):
        raise Refused("not_an_object", "decode")
    return Members(value, text, start)


def _written(text: str, start: int) -> dict[str, str]:
    """Give the text of each member of the object that begins at `start`; it has been read before, so it is right."""
    texts: dict[str, str] = {}
    at, after = _past_space(text, start + 1), None
    while after is None or after[1] == ",":
        name, end = _read(text, at)
        colon = _COLON.match(text, end)
        assert colon
        value_at = colon.end()
        _, end = _read(text, value_at)
        texts[name] = text[value_at:end]
        after = _COMMA_OR_END.match(text, end)
        assert after
        at = after.end()
    return texts


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> float:
    # Beyond 4,300 digits Python refuses (a setting of the process!): too big for a reader, as a float beyond 1e308 is.
    # Where an integer counts, 40 digits are out of range as surely as 4,000.
    return int(digits[:40]) if len(digits.lstrip("-")) <= 4300 else math.inf


_read = json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer).raw_decode
_read_short = json.JSONDecoder(parse_constant=_no_constant).raw_decode  # for texts too short for an integer that long


def _has_lone_surrogate(text: str) -> bool:
    high_end = -1  # where an escaped first half ended, while its second half is still missing
    for escape in _ESCAPE.finditer(text) if "\\u" in text else ():
        code = int(escape[1], 16) if escape[1] else 0
        low = 0xDC00 <= code <= 0xDFFF
        paired = low and escape.start() == high_end
        if low != paired or (high_end >= 0) != paired:
            return True
        high_end = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    return high_end >= 0


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0  # not worth counting: it cannot be too deep
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
