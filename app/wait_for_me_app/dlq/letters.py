"""A dead letter, and what its headers say of its origin. Pure.

Four families of names are read, because other tools write into the same topics or move letters about: Kafka's own
(KIP-1191), which is ours too, Kafka Streams (KIP-1034), Kafka Connect, and Spring. Where one name occurs twice the last
counts: it was added last. Spring writes numbers as big-endian bytes, all others as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

Box = Literal["commands", "fires"]
BOXES: Final[tuple[Box, ...]] = ("commands", "fires")
Headers = tuple[tuple[str, bytes | None], ...]
Family = Literal["kafka", "streams", "connect", "spring", "unknown"]

BRIEF_VALUE_BYTES: Final = 2_048
FAMILY_PREFIXES: Final = ("__dlq.errors.", "__streams.errors.", "__connect.errors.", "kafka_dlt-")
TRUNCATED: Final = "wfm_truncated_bytes"
_LARGEST_PARTITION: Final = 1_000_000
_LARGEST_OFFSET: Final = 2**61  # eight digits of text, read as a number, are beyond it


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a letter came from and why it was set aside, as far as its headers say."""

    family: Family = "unknown"
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    group: str | None = None
    deliveries: int | None = None
    stage: str | None = None
    code: str | None = None
    """A stable code of ours, or the name of a foreign exception."""
    message: str | None = None
    fire_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A record of a dead letter topic."""

    box: Box
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    size: int
    """Bytes of the whole value."""
    group_key: str | None
    origin: Origin

    @property
    def id(self) -> str:
        """How the letter is named on the command line."""
        return f"{self.box}:{self.partition}:{self.offset}"

    def brief(self) -> Letter:
        """Return the letter without headers and with the beginning of its value only: thousands fit into memory."""
        return replace(self, value=None if self.value is None else self.value[:BRIEF_VALUE_BYTES], headers=())


def letter(
    box: Box, partition: int, offset: int, at_ms: int, key: bytes | None, value: bytes | None, headers: Headers
) -> Letter:
    """Return a record as a letter."""
    return Letter(
        box=box,
        partition=partition,
        offset=offset,
        at_ms=at_ms,
        key=key,
        value=value,
        headers=headers,
        size=len(value or b""),
        group_key=_group_key(key, value),
        origin=origin_of(headers),
    )


class _Named(msgspec.Struct):
    group_key: str


def _group_key(key: bytes | None, value: bytes | None) -> str | None:
    """Return the group that the value names; the key's text if it names none."""
    try:
        return msgspec.json.decode(value or b"", type=_Named).group_key
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None if key is None else key.decode(errors="replace")


def origin_of(headers: Headers) -> Origin:
    """Return what headers of any of the four families say; our own additions count in each."""
    named = {name: value or b"" for name, value in headers}
    origin = next(
        (read(named) for prefix, read in _FAMILIES if any(name.startswith(prefix) for name in named)), Origin()
    )
    return replace(
        origin,
        stage=_text(named, "wfm_stage") or origin.stage,
        code=_text(named, "wfm_error") or origin.code,
        fire_id=_text(named, "wfm_fire_id"),
    )


def _kafka(named: Mapping[str, bytes]) -> Origin:
    return Origin(
        family="kafka",
        topic=_text(named, "__dlq.errors.topic"),
        partition=_number(named, "__dlq.errors.partition"),
        offset=_number(named, "__dlq.errors.offset"),
        group=_text(named, "__dlq.errors.group"),
        deliveries=_number(named, "__dlq.errors.delivery.count"),
        message=_text(named, "__dlq.errors.message"),
    )


def _streams(named: Mapping[str, bytes]) -> Origin:
    return Origin(
        family="streams",
        topic=_text(named, "__streams.errors.topic"),
        partition=_number(named, "__streams.errors.partition"),
        offset=_number(named, "__streams.errors.offset"),
        code=_text(named, "__streams.errors.exception"),
        message=_text(named, "__streams.errors.message"),
    )


def _connect(named: Mapping[str, bytes]) -> Origin:
    return Origin(
        family="connect",
        topic=_text(named, "__connect.errors.topic"),
        partition=_number(named, "__connect.errors.partition"),
        offset=_number(named, "__connect.errors.offset"),
        group=_text(named, "__connect.errors.connector.name"),
        stage=_text(named, "__connect.errors.stage"),
        code=_text(named, "__connect.errors.exception.class.name"),
        message=_text(named, "__connect.errors.exception.message"),
    )


def _spring(named: Mapping[str, bytes]) -> Origin:
    return Origin(
        family="spring",
        topic=_text(named, "kafka_dlt-original-topic"),
        partition=_big_endian(named.get("kafka_dlt-original-partition"), 4, _LARGEST_PARTITION),
        offset=_big_endian(named.get("kafka_dlt-original-offset"), 8, _LARGEST_OFFSET),
        group=_text(named, "kafka_dlt-original-consumer-group"),
        code=_text(named, "kafka_dlt-exception-cause-fqcn") or _text(named, "kafka_dlt-exception-fqcn"),
        message=_text(named, "kafka_dlt-exception-message"),
    )


_FAMILIES: Final[tuple[tuple[str, Callable[[Mapping[str, bytes]], Origin]], ...]] = tuple(
    zip(FAMILY_PREFIXES, (_kafka, _streams, _connect, _spring), strict=True)
)


def _text(named: Mapping[str, bytes], name: str) -> str | None:
    value = named.get(name)
    return None if value is None else value.decode(errors="replace")


def _number(named: Mapping[str, bytes], name: str) -> int | None:
    return _digits(named.get(name))


def _digits(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) <= 19 else None


def _big_endian(value: bytes | None, width: int, largest: int) -> int | None:
    """Return a number of Spring's; one that is text after all would be absurdly large as bytes."""
    if value is not None and len(value) == width and (number := int.from_bytes(value, "big")) <= largest:
        return number
    return _digits(value)


def json_members(one: Letter) -> dict[str, Any]:
    """Return a letter as members of a JSON object, without its headers."""
    origin = one.origin
    return {
        "id": one.id,
        "at_ms": one.at_ms,
        "group_key": one.group_key,
        "stage": origin.stage,
        "code": origin.code,
        "message": origin.message,
        "fire_id": origin.fire_id,
        "deliveries": origin.deliveries,
        "origin": {
            "family": origin.family,
            "topic": origin.topic,
            "partition": origin.partition,
            "offset": origin.offset,
            "group": origin.group,
        },
        "size": one.size,
    }
