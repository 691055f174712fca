"""Which errors a broker's death brings, and the election after it ends: whoever meets one asks again."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

PASSING: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,  # the connection that had the request was closed when the brokers changed
        # What brokers answer while leaders move; the client does not call it retriable everywhere.
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
    }
)


def is_passing(error: KafkaError, codes: frozenset[int] = PASSING) -> bool:
    """Return whether an error ends by itself: retriable, or one of these codes; a fatal one never does."""
    return not error.fatal() and (error.retriable() or error.code() in codes)
