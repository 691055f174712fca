"""The bytes of a fire: a function of the closed round alone, so that two copies of a fire are equal byte for byte."""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from wait_for_me_app.core.fire_value import ArrivedValue, FireValue
from wait_for_me_app.core.rows import Arrival, OpenRound

FIRE_VERSION: Final = 1
ARRIVED_MAX_BYTES: Final = 262_144
_SURELY_FITTING: Final = 100
"""So many names of 256 bytes, each escaped sixfold, are still below the limit: a list this short is not measured."""


_encode: Final = msgspec.json.Encoder().encode


class FireIds:
    """Names the rounds of one partition, each by the add that opened it (RFC 9562, version 5).

    The same as `uuid.uuid5(topic_id, f"{partition}:{opened_offset}")`, a third of the cost: it is needed for every fire. An id is
    equal in every copy, and never used again by a later round.
    """

    __slots__ = ("_hash",)

    def __init__(self, topic_id: uuid.UUID, partition: int) -> None:
        self._hash = hashlib.sha1(topic_id.bytes + b"%d:" % partition, usedforsecurity=False)

    def __call__(self, opened_offset: int) -> str:
        """Return the id of the fire of the round that this offset opened."""
        name = self._hash.copy()
        name.update(b"%d" % opened_offset)
        digits = name.hexdigest()
        return (
            f"fire_{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
        )


_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def encode_fire(
    *,
    fire_id: str,
    group_key: bytes,
    reason: str,
    row: OpenRound,
    arrivals: Iterable[Arrival],
    fired_at_ms: int,
    partition: int,
    closed_offset: int,
) -> bytes:
    """Return the fire's value; `arrivals` are the first to have come, at most as many as a fire may name."""
    arrived = [ArrivedValue(arrival.participant_key, rfc3339(arrival.at_ms)) for arrival in arrivals]
    named = arrived if len(arrived) <= _SURELY_FITTING else _fitting(arrived)
    fire = FireValue(
        fire_id,
        group_key.decode(),
        reason,
        row.number_of_participants,
        row.arrived_count,
        max(0, row.number_of_participants - row.arrived_count),
        named,
        len(named) < row.arrived_count,
        row.conflict_count,
        row.callback,
        msgspec.Raw(row.params),
        row.wait_ms // 1000 if row.wait_ms % 1000 == 0 else row.wait_ms / 1000,
        rfc3339(row.opened_at_ms),
        rfc3339(row.last_add_at_ms),
        rfc3339(row.deadline_ms),
        rfc3339(fired_at_ms),
        partition,
        row.opened_offset,
        closed_offset,
        FIRE_VERSION,
    )
    return _encode(fire)


def _fitting(arrived: list[ArrivedValue]) -> list[ArrivedValue]:
    """Cut the list so that its JSON stays within `ARRIVED_MAX_BYTES`."""
    size = 2
    for count, item in enumerate(arrived):
        size += len(_encode(item)) + (count > 0)
        if size > ARRIVED_MAX_BYTES:
            return arrived[:count]
    return arrived


@functools.lru_cache(maxsize=8192)  # records of one batch share their append time, so most times come again
def rfc3339(at_ms: int) -> str:
    """Write milliseconds since the epoch as UTC with exactly three fraction digits."""
    second = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{at_ms % 1000:03d}Z"
