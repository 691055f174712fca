"""The bytes of a row's key, equal in the changelog and on disk.

    group        'G' | key length (2) | group key
    participant  'P' | key length (2) | group key | opened offset (8) | participant key
    arrival      'A' | key length (2) | group key | opened offset (8) | index (4)
    watermark    'W'
    strike       'S'

Numbers are big-endian, so the rows of one round stand together and arrivals stand in order.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = b"G"
PARTICIPANT: Final = b"P"
ARRIVAL: Final = b"A"
WATERMARK_KEY: Final = b"W"
STRIKE_KEY: Final = b"S"

_HEAD: Final = 3


def group_row_key(group_key: bytes) -> bytes:
    """Return the key of a group's row."""
    return GROUP + len(group_key).to_bytes(2, "big") + group_key


def group_key_of(row_key: bytes) -> bytes:
    """Return the group key inside the key of a group's, participant's or arrival's row."""
    return row_key[_HEAD : _HEAD + int.from_bytes(row_key[1:_HEAD], "big")]


def round_prefix(kind: bytes, group_key: bytes, opened_offset: int) -> bytes:
    """Return what the keys of one round's participants, or arrivals, start with."""
    return kind + len(group_key).to_bytes(2, "big") + group_key + opened_offset.to_bytes(8, "big")


def opened_offset_of(row_key: bytes) -> int:
    """Return the round inside the key of a participant's or arrival's row."""
    start = _HEAD + int.from_bytes(row_key[1:_HEAD], "big")
    return int.from_bytes(row_key[start : start + 8], "big")


def participant_row_key(group_key: bytes, opened_offset: int, participant_key: str) -> bytes:
    """Return the key of the row that says whether, and by which event, a participant has arrived."""
    return round_prefix(PARTICIPANT, group_key, opened_offset) + participant_key.encode()


def arrival_row_key(group_key: bytes, opened_offset: int, index: int) -> bytes:
    """Return the key of the row that says who was the `index`-th to arrive (counted from 0)."""
    return round_prefix(ARRIVAL, group_key, opened_offset) + index.to_bytes(4, "big")


def after(prefix: bytes) -> bytes:
    """Return the smallest key that is larger than every key with this prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])
