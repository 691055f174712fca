"""What librdkafka delivers, as the records that lanes fold."""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from wait_for_me_app.faust_lanes.intake import FetchedRecord, sizes_of

log = logging.getLogger(__name__)


Fetched = dict[int, tuple[list[FetchedRecord], list[int]]]
"""Records and the bytes of each, by partition."""


def sorted_by_partition(messages: Sequence[Any]) -> tuple[Fetched, list[tuple[Any, Any]]]:
    """Return the messages as records by partition, and those that are errors, each with its error."""
    by_partition: dict[int, list[FetchedRecord]] = {}
    errors: list[tuple[Any, Any]] = []
    for message in messages:
        error = message.error()
        if error is not None:
            errors.append((error, message))
            continue
        kind, timestamp_ms = message.timestamp()
        kind = 1 if kind == TIMESTAMP_LOG_APPEND_TIME else 0
        key, value, headers = message.key(), message.value(), _headers(message)
        record = FetchedRecord(message.offset(), timestamp_ms, kind, key, value, headers)
        partition = message.partition()
        records = by_partition.get(partition)
        if records is None:
            by_partition[partition] = [record]
        else:
            records.append(record)
    return {partition: (records, sizes_of(records)) for partition, records in by_partition.items()}, errors


def _headers(message: Any) -> Sequence[tuple[str, bytes]]:
    """Return a record's headers; one whose names are not text counts as having none, because no record may end the worker.

    confluent-kafka then returns a result with an error set. A plain method call, once the interpreter has specialised it, lets that
    error come up at the next call, wherever that is; `methodcaller` has it raised here.
    """
    try:
        return _read_headers(message) or ()
    except (SystemError, UnicodeDecodeError):
        log.warning("headers_unreadable", extra={"partition": message.partition(), "offset": message.offset()})
        return ()


_read_headers: Final = operator.methodcaller("headers")
