"""Dead letters of one partition: about which record each is, and why; their own bytes only as a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .wire import Record


class Letter(NamedTuple):
    """What a dead letter says of the record that it is about."""

    offset: int
    code: str
    stage: str
    print: int
    is_cut: bool
    key: bytes | None


class Origin(NamedTuple):
    """Where the record lay that a dead letter is about."""

    topic: str
    partition: int
    offset: int


@dataclass(kw_only=True)
class Letters:
    """Dead letters of commands, by the offset of the command."""

    by_offset: dict[int, Letter] = field(default_factory=dict)
    apply_failed: set[int] = field(default_factory=set)
    oldest_ms: int = 1 << 62
    foreign: int = 0
    count: int = 0


def fingerprint(record: Record) -> int:
    """Return a number that differs when key or value do; it means something in this process only."""
    return hash((record.key, record.value))


def read_letters(records: Iterable[Record], topic: str, partition: int) -> Letters:
    """Read the dead letters of the commands of one partition; a copy of a letter adds nothing."""
    letters = Letters()
    for record in records:
        headers = {name: value for name, value in record.headers if value is not None}
        letters.oldest_ms = min(letters.oldest_ms, record.timestamp_ms)
        if "wfm_handled" in headers:  # a marker: somebody has dealt with letters before it
            continue
        letters.count += 1
        origin = origin_of(headers)
        if origin is None or (origin.topic, origin.partition) != (topic, partition):
            letters.foreign += "wfm_error" not in headers
            continue
        code, stage = _word(headers, "wfm_error"), _word(headers, "wfm_stage")
        if code == "apply_failed":
            letters.apply_failed.add(origin.offset)
        is_cut = "wfm_truncated_bytes" in headers
        letter = Letter(record.offset, code, stage, fingerprint(record), is_cut, record.key)
        letters.by_offset.setdefault(origin.offset, letter)
    return letters


def origin_of(headers: dict[str, bytes]) -> Origin | None:
    """Return what a letter is about, or None if its headers do not say so in this project's way."""
    partition, offset = headers.get("__dlq.errors.partition", b""), headers.get("__dlq.errors.offset", b"")
    if not (partition.isdigit() and offset.isdigit() and len(offset) <= 19):
        return None
    return Origin(_word(headers, "__dlq.errors.topic"), int(partition), int(offset))


def _word(headers: dict[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode(errors="replace")
