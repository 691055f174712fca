"""One real Kafka for a session of measurements: own ports, own data in a temporary folder, gone when the session ends.

It is the test suite's broker with Kafka's own start-up options instead of those that make tests start quickly: a compiler that
stops at the first tier would make every system look equally slow.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks import place  # noqa: F401 - makes the test suite's modules importable

from kafka_broker import answers, format_storage, free_port, jars, write_configuration  # isort: skip
from processes import Running, wait_until  # isort: skip

_JVM_OPTIONS: Final = (  # those of bin/kafka-server-start.sh
    "-Xms1G",
    "-Xmx1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_PROPERTIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "num.network.threads": "3",
        "num.io.threads": "8",
        "log.segment.delete.delay.ms": "1000",  # a deleted topic gives its disk back at once
    }
)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A broker that answers."""

    bootstrap_servers: str
    directory: Path
    """Everything that a session writes is below it."""
    pid: int

    def log_bytes(self, topic: str) -> int:
        """Return what the records of a topic take on this broker's disk."""
        segments = (self.directory / "broker" / "data").glob(f"{topic}-[0-9]*/*.log")
        return sum(segment.stat().st_size for segment in segments)


@contextmanager
def running_broker(extra: Mapping[str, str] | None = None) -> Iterator[Broker]:
    """Start a broker, yield it, and leave nothing of it behind."""
    directory = Path(tempfile.mkdtemp(prefix="wait-for-me-bench-"))
    try:
        yield from _serve(directory, {**_PROPERTIES, **(extra or {})})
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _serve(directory: Path, properties: dict[str, str]) -> Iterator[Broker]:
    port, home, classpath = free_port(), directory / "broker", f"{jars()}/*"
    configuration = write_configuration(home, port, free_port(), properties)
    format_storage(classpath, configuration)
    running = Running(["java", *_JVM_OPTIONS, "-cp", classpath, "kafka.Kafka", str(configuration)], log=home / "log")
    try:
        address = f"127.0.0.1:{port}"
        wait_until(lambda: running.exit_code is not None or answers(address), 60, running.tail)
        if running.exit_code is not None:
            raise RuntimeError(f"the broker ended with {running.exit_code}:\n{running.tail()}")
        yield Broker(bootstrap_servers=address, directory=directory, pid=running.pid)
    finally:
        running.close()
