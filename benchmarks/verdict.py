"""Whether a system answered rightly: every group fired, once or in equal copies, for the right reason, with the right members.

What is judged is the whole fires topic, read after the system has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from benchmarks.load import Load

_COMPLETE: Final = "complete"
_NAMED_AT_LEAST: Final = 1000
"""Larger groups need not name everybody."""


class WrongAnswer(Exception):
    """The fires are not those that the commands ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a fire says, whoever wrote it."""

    group_key: str
    reason: str
    members: list[str]
    count: int
    """How many members it has; it may name fewer of them when they are very many."""


Reader = Callable[[bytes], Answer]
"""Reads the value of one system's fire."""


class _OurMember(msgspec.Struct):
    participant_key: str


class _OurFire(msgspec.Struct):
    group_key: str
    reason: str
    arrived: list[_OurMember]
    arrived_count: int


class _PeersFire(msgspec.Struct):
    group_key: str
    reason: str
    participants: list[str]


_decode_ours = msgspec.json.Decoder(_OurFire).decode
_decode_peers = msgspec.json.Decoder(_PeersFire).decode


def read_ours(value: bytes) -> Answer:
    """Read a fire of this project."""
    fire = _decode_ours(value)
    members = [member.participant_key for member in fire.arrived]
    return Answer(group_key=fire.group_key, reason=fire.reason, members=members, count=fire.arrived_count)


def read_peers(value: bytes) -> Answer:
    """Read a fire as the peers of this folder write it."""
    fire = _decode_peers(value)
    return Answer(group_key=fire.group_key, reason=fire.reason, members=fire.participants, count=len(fire.participants))


@dataclass(kw_only=True)
class Fires:
    """The fires of one measurement: when each group's first one was appended."""

    first_at_ms: dict[bytes, int] = field(default_factory=dict)
    copies: int = 0

    def times(self, load: Load) -> list[int]:
        """Return the times of a load's fires."""
        mark = load.name.encode() + b"-"
        return [at_ms for key, at_ms in self.first_at_ms.items() if key.startswith(mark)]


def judge(records: Iterable[Any], loads: Iterable[Load], read: Reader) -> Fires:
    """Check every fire against the loads; raise WrongAnswer at the first that is wrong, or for what is missing."""
    wanted = {load.key(group): load for load in loads for group in range(load.groups)}
    fires, values = Fires(), dict[bytes, int]()  # a hash stands for the bytes
    for record in records:
        key, value, at_ms = record.key(), record.value(), record.timestamp()[1]
        if key in values:
            _check_copy(key, values[key], hash(value))
            fires.copies += 1
            fires.first_at_ms[key] = min(at_ms, fires.first_at_ms[key])
            continue
        _check(key, read(value), wanted)
        values[key], fires.first_at_ms[key] = hash(value), at_ms
    if missing := len(wanted) - len(values):
        example = next(key for key in wanted if key not in values)
        raise WrongAnswer(f"{missing} of {len(wanted)} groups never fired, such as {example!r}")
    return fires


def _check(key: bytes | None, answer: Answer, wanted: Mapping[bytes, Load]) -> None:
    load = wanted.get(key) if key is not None else None
    if load is None or key is None or answer.group_key.encode() != key:
        raise WrongAnswer(f"a fire for {answer.group_key!r} under the key {key!r}, which nobody asked for")
    if answer.reason != _COMPLETE:
        raise WrongAnswer(f"{answer.group_key} fired by {answer.reason!r} although all its participants came")
    named, members = frozenset(answer.members), load.members()
    all_named = len(answer.members) == len(named) == min(_NAMED_AT_LEAST, load.participants)
    if answer.count != load.participants or not all_named or not named <= members:
        raise WrongAnswer(f"{answer.group_key} fired for {answer.count} members: {answer.members[:10]} ...")


def _check_copy(key: bytes, first: int, second: int) -> None:
    if first != second:
        raise WrongAnswer(f"{key!r} fired twice, with different fires")
