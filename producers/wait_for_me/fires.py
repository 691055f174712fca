"""The wire schema of a fire: what the worker writes, once per round, and the executor and subscribers read.

The rule of this file: the order of the fields is the order of the keys on the wire, and every field is a function
of the log, so two copies of one fire are equal byte for byte. Times are RFC 3339 text, as written;
`datetime.fromisoformat` reads them. A reader treats an unknown `reason` as fired, and ignores fields it does not
know.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from .commands import NO_PARAMS

FIRE_VERSION: Final = 1


class Arrival(Struct, frozen=True, gc=False, kw_only=True):
    """One participant, and the stream time of its first arrival in the round."""

    participant_key: str
    at: str


class Fire(Struct, frozen=True, kw_only=True, tag="fire", tag_field="type"):
    """One round of a group has ended and its callback is to run; `fire_id` is the idempotency key."""

    fire_id: str
    group_key: str
    reason: str
    number_of_participants_in_group: int
    arrived_count: int
    missing_count: int
    arrived: tuple[Arrival, ...]
    arrived_truncated: bool
    conflict_count: int
    execute_after_waiting: str
    raw_params: Raw = field(default=NO_PARAMS, name="execute_after_waiting_params")
    wait_time_in_seconds: int | float
    opened_at: str
    last_add_at: str
    deadline_at: str
    fired_at: str
    partition: int
    opened_offset: int
    closed_offset: int
    version: int = FIRE_VERSION

    @property
    def execute_after_waiting_params(self) -> Any:
        """The params of the newest add: a list is positional, an object is keyword arguments. Decoded at each call."""
        return msgspec.json.decode(self.raw_params)

    @property
    def params_bytes(self) -> bytes:
        """The params as JSON, byte for byte as the add's producer wrote them."""
        return bytes(self.raw_params)
