"""What a dead letter looks like: the record as it came, and in its headers where it came from and why it was set aside. Pure.

Header names of the first family are Kafka's own (KIP-1191); the `wfm_` ones are this project's. All values are UTF-8 text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

LARGEST_VALUE_BYTES: Final = 262_144
LARGEST_MESSAGE_CHARACTERS: Final = 2_000

DeadLetter = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def dead_letter(
    *,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    group: str,
    stage: str,
    code: str,
    message: str,
    delivery_count: int,
    fire_id: str | None = None,
) -> DeadLetter:
    """Return the record to append: key, value and headers as they came, then origin and reason.

    A value above 256 KiB is cut to that; `wfm_truncated_bytes` then says how much is missing and `wfm_sha256` what the whole was.
    """
    kept, cut = _cut(value)
    fields = {
        "__dlq.errors.topic": topic,
        "__dlq.errors.partition": str(partition),
        "__dlq.errors.offset": str(offset),
        "__dlq.errors.group": group,
        "__dlq.errors.delivery.count": str(delivery_count),
        "__dlq.errors.message": message[:LARGEST_MESSAGE_CHARACTERS],
        "wfm_stage": stage,
        "wfm_error": code,
        **({"wfm_fire_id": fire_id} if fire_id else {}),
        **cut,
    }
    return key, kept, [*headers, *((name, text.encode()) for name, text in fields.items())]


def _cut(value: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    if value is None or len(value) <= LARGEST_VALUE_BYTES:
        return value, {}
    missing = len(value) - LARGEST_VALUE_BYTES
    return value[:LARGEST_VALUE_BYTES], {
        "wfm_truncated_bytes": str(missing),
        "wfm_sha256": hashlib.sha256(value).hexdigest(),
    }
