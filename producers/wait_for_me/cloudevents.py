"""CloudEvents 1.0 on Kafka: finds the command inside the envelope, in binary and in structured mode.

A record is an event only if it says so (`ce_specversion`, or a content-type of CloudEvents); everything else is
bare JSON, which must go on working from any language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from msgspec import Raw

from .commands import MAX_DEPTH
from .errors import InvalidCommand
from .json_text import read_any, read_object

Headers = Sequence[tuple[str, bytes | None]]

KIND_OF_EVENT: Final = {"waitforme.add.v1": "add", "waitforme.remove.v1": "remove", "waitforme.tick.v1": "tick"}
_STRUCTURED: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A command's JSON with what was said about it outside: its kind and the id of the event, if any."""

    data: bytes
    kind: str | None = None
    event_id: str | None = None


def speaks_cloudevents(name: str, value: bytes | None) -> bool:
    """Tell whether this header makes its record a CloudEvent."""
    return name == "ce_specversion" or (_canonical(name) == "content-type" and _is_structured(value))


def open_envelope(value: bytes, headers: Headers) -> Envelope:
    """Return the command in `value`, which is bare JSON unless the headers say that it is a CloudEvent."""
    if not headers:
        return Envelope(data=value)
    by_name = {_canonical(name): header for name, header in headers if header is not None}
    if _is_structured(by_name.get("content-type")):
        return _open_structured(value, _text("content-type", by_name["content-type"]))
    if "ce_specversion" in by_name:
        return _open_binary(value, by_name)
    return Envelope(data=value)


def _canonical(name: str) -> str:
    """Kafka tells headers apart by case, but this one comes in two spellings."""
    return "content-type" if name == "Content-Type" else name


def _is_structured(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.strip().lower().startswith(b"application/cloudevents")


def _open_binary(value: bytes, by_name: dict[str, bytes]) -> Envelope:
    _check_version(_text("ce_specversion", by_name["ce_specversion"]))
    kind = _kind("ce_type", _text("ce_type", by_name["ce_type"]) if "ce_type" in by_name else None)
    event_id = _text("ce_id", by_name["ce_id"]) if "ce_id" in by_name else None
    return Envelope(data=value, kind=kind, event_id=event_id)


def _open_structured(value: bytes, content_type: str) -> Envelope:
    if content_type.partition(";")[0].strip().lower() != _STRUCTURED:
        _refuse(f"the content-type {content_type!r} is not understood", f"send {_STRUCTURED} or the binary mode")
    attributes = read_object(value, MAX_DEPTH + 2)  # one level for the envelope, one for the command
    _check_version(_attribute(attributes, "specversion"))
    kind = _kind("type", _attribute(attributes, "type"))
    if "data" not in attributes:
        _refuse("the event has no data", "put the command's JSON object in data, not in data_base64")
    return Envelope(data=bytes(attributes["data"]), kind=kind, event_id=_attribute(attributes, "id"))


def _attribute(attributes: dict[str, Raw], name: str) -> str | None:
    value = read_any(name, attributes[name]) if name in attributes else None
    if value is not None and not isinstance(value, str):
        _refuse(f"the attribute {name} is not a string", "make it one")
    return value


def _check_version(version: str | None) -> None:
    if version != "1.0":
        _refuse(f"the specversion is {version!r}", "send CloudEvents 1.0")


def _kind(name: str, event_type: str | None) -> str:
    if event_type is None:
        _refuse(f"the event has no {name}", f"set it to one of {', '.join(KIND_OF_EVENT)}")
    kind = KIND_OF_EVENT.get(event_type)
    if kind is None:
        known = ", ".join(KIND_OF_EVENT)
        raise InvalidCommand("unknown_type", f"{name} {event_type[:100]!r} is not known: set it to one of {known}")
    return kind


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        _refuse(f"the header {name} is not UTF-8", "encode it as UTF-8")


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise InvalidCommand("bad_cloudevent", f"{problem}: {remedy}")
