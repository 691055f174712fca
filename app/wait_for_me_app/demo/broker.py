"""The broker that librdkafka carries inside itself for its own tests. Good for a demo, never evidence for a guarantee.

It keeps 4 partitions a topic in memory, stamps nothing (CreateTime), compacts nothing and serves one worker. It lives as long as
the producer that owns it, in this process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from confluent_kafka import Producer

PARTITIONS: Final = 4


class EmbeddedBroker:
    """A broker on a loopback port of its own; it ends with this object."""

    def __init__(self) -> None:
        silent = logging.getLogger("wait_for_me_app.demo.broker")
        self._owner = Producer({"bootstrap.servers": "x", "test.mock.num.brokers": 1, "log_level": 0}, logger=silent)
        brokers = self._owner.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def make_topics(self, names: Iterable[str]) -> None:
        """Make each topic exist: asking for its metadata is enough here."""
        for name in names:
            self._owner.list_topics(name, timeout=10)
