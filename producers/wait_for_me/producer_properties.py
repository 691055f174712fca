"""The properties of our producer, and which of them nobody may change.

The danger: a service that sets `acks=1` or another partitioner loses adds or splits groups, and notices weeks
later. So what would break a guarantee is refused when the client is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .errors import ConfigurationError
from .kafka_properties import DEFAULT_BOOTSTRAP_SERVERS, for_producer
from .partitioner import PARTITIONER

_GUARANTEES: Final = {"enable.idempotence": True, "acks": "all", "partitioner": PARTITIONER}
_ALLOWED: Final = {
    "enable.idempotence": ("true",),
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "partitioner": (PARTITIONER, "murmur2"),  # they differ for records without a key only, and ours have one
    "delivery.report.only.error": ("false",),
}
_REFUSED: Final = {
    "transactional.id": "to send inside a transaction, use a producer of your own and wait_for_me.codec.encode_command",
    "on_delivery": "use the receipt that the call returns",
    "logger": "listen to the logger wait_for_me.kafka",
}


def producer_properties(
    bootstrap_servers: str | None, kafka: Mapping[str, Any] | None, timeout: float
) -> dict[str, Any]:
    """Return librdkafka's properties for a client of ours, or refuse what would break a guarantee."""
    given = for_producer(kafka or {})
    for name, value in given.items():
        _check_guarantee(name, value)
    defaults = {
        "client.id": "wait-for-me-client",
        "linger.ms": 0,  # a call waits for its record; batches form by themselves while requests are under way
        "topic.metadata.propagation.max.ms": 5000,  # that a topic does not exist is told within the timeout
        **_message_timeout(given, timeout),
    }
    kept = {
        name: value for name, value in given.items() if name not in ("metadata.broker.list", "request.required.acks")
    }
    return {**defaults, **kept, **_GUARANTEES, "bootstrap.servers": choose_servers(bootstrap_servers, given)}


def choose_servers(bootstrap_servers: str | None, kafka: Mapping[str, Any]) -> str:
    """Return Kafka's address, which may be given as an argument or as a property but not as two different things."""
    given = {bootstrap_servers, kafka.get("bootstrap.servers"), kafka.get("metadata.broker.list")} - {None}
    if len(given) > 1:
        raise ConfigurationError(f"Kafka's address is given as {sorted(map(str, given))}: give it once")
    servers = given.pop() if given else DEFAULT_BOOTSTRAP_SERVERS
    if not isinstance(servers, str) or not servers.strip():
        raise ConfigurationError(f"Kafka's address is {servers!r}: give it as host:port, several separated by commas")
    return servers


def check_timeout(timeout: object) -> float:
    """Return `timeout` if a call can wait that long."""
    if isinstance(timeout, (int, float)) and 0 < timeout <= 900:
        return timeout
    raise ConfigurationError(f"the timeout is {timeout!r}: make it more than 0 and at most 900 seconds")


def _message_timeout(given: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """librdkafka gives up when the caller does, so that a call that failed is not sent behind its back later."""
    if {"message.timeout.ms", "delivery.timeout.ms"} & given.keys():
        return {}
    return {"message.timeout.ms": max(1, int(timeout * 1000))}


def _check_guarantee(name: str, value: Any) -> None:
    if name in _REFUSED or name.endswith("_cb"):
        remedy = _REFUSED.get(name, "listen to the logger wait_for_me.kafka, the client has callbacks of its own")
        raise ConfigurationError(f"{name} cannot be set: {remedy}")
    allowed = _ALLOWED.get(name)
    if allowed and str(value).lower() not in allowed:
        raise ConfigurationError(
            f"{name}={value} would break a guarantee: leave it out, or set it to {' or '.join(allowed)}"
        )
