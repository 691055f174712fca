"""A fire's JSON, field by field."""

from __future__ import annotations

import msgspec


class ArrivedValue(msgspec.Struct, gc=False):
    """A participant, and when it was heard of first."""

    participant_key: str
    at: str


class FireValue(msgspec.Struct, gc=False, tag="fire", tag_field="type"):
    """The wire's field order (the order of this class) is part of the format."""

    fire_id: str
    group_key: str
    reason: str
    number_of_participants_in_group: int
    arrived_count: int
    missing_count: int
    arrived: list[ArrivedValue]
    arrived_truncated: bool
    conflict_count: int
    execute_after_waiting: str
    execute_after_waiting_params: msgspec.Raw
    wait_time_in_seconds: int | float
    opened_at: str
    last_add_at: str
    deadline_at: str
    fired_at: str
    partition: int
    opened_offset: int
    closed_offset: int
    version: int
