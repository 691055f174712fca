"""A real Apache Kafka (KRaft, one node) from Maven artifacts, for tests and for `make kafka`.

    python tests/kafka_broker.py            a broker on 127.0.0.1:9092 in the foreground, data in .kafka/data

The jars are fetched once into `.kafka/lib`. Needs Java 17 or newer, and Maven for the first run. A broker that tests
start lives on a leash: it cannot outlive the process that started it, however that ends.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import os
import re
import shutil
import socket
import string
import subprocess
import sys
import uuid
from pathlib import Path

from processes import Running, wait_until

REPOSITORY = Path(__file__).resolve().parent.parent
BROKER_FILES = REPOSITORY / "tests" / "broker"
CACHE = Path(os.environ.get("WAIT_FOR_ME_TEST_KAFKA_CACHE") or REPOSITORY / ".kafka")
OLDEST_JAVA = 17
# A small heap, the smallest collector and the quick compiler: a test broker starts often and is never busy for long.
JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


class NoKafka(Exception):
    """No broker can be started here; the message says what is missing."""


class KafkaBroker:
    """One broker on a leash. `start` returns when it answers."""

    def __init__(self, directory: Path, *, port: int | None = None, properties: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.log = directory / "broker.log"
        self._properties = properties or {}
        self._running: Running | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the Java process."""
        assert self._running is not None, "the broker is not running: call start()"
        return self._running.pid

    def start(self) -> None:
        """Start it, on the data that it had before if there is any, and wait until it serves."""
        classpath = f"{jars()}/*"
        configuration = self.directory / "server.properties"
        if not configuration.exists():
            write_configuration(self.directory, self.port, free_port(), self._properties)
            format_storage(classpath, configuration)
        command = ["java", *JVM_OPTIONS, "-cp", classpath, "kafka.Kafka", str(configuration)]
        self._running = Running(command, log=self.log)
        wait_until(self._answers_or_died, 60, lambda: self.log.read_text(errors="replace")[-2000:])
        if self._running.exit_code is not None:
            raise RuntimeError(f"the broker ended with {self._running.exit_code}:\n{self._running.tail()}")

    def stop(self) -> None:
        """End it in order."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._running is not None, "the broker is not running: call start()"
        self._running.kill()
        self.stop()

    def wait(self) -> None:
        """Return when it ends by itself."""
        while self._running is not None and self._running.exit_code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.wait(timeout=3600)

    def _answers_or_died(self) -> bool:
        assert self._running is not None
        return self._running.exit_code is not None or answers(self.bootstrap_servers)


def answers(bootstrap_servers: str) -> bool:
    """Return whether a broker there serves metadata."""
    host, _, port = bootstrap_servers.partition(",")[0].rpartition(":")
    try:  # a closed port is told at once; librdkafka would retry it for seconds
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        return bool(
            AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}).list_topics(timeout=5).brokers
        )
    except KafkaException:
        return False


def free_port() -> int:
    """Return a loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def jars() -> Path:
    """Return the folder with Kafka's jars; fetch them with Maven the first time."""
    _require_java()
    lib, pom = CACHE / "lib", BROKER_FILES / "pom.xml"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests may start at once
        stamp = lib / "pom.xml"
        if not stamp.exists() or stamp.read_bytes() != pom.read_bytes():
            _fetch_jars(pom, lib)
            shutil.copyfile(pom, stamp)
    return lib


def _require_java() -> None:
    if shutil.which("java") is None:
        raise NoKafka(f"no `java` on the PATH: install Java {OLDEST_JAVA} or newer, or set WAIT_FOR_ME_TEST_BOOTSTRAP")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise NoKafka(f"Kafka needs Java {OLDEST_JAVA} or newer, and `java -version` says: {said.strip()[:80]}")


def _fetch_jars(pom: Path, lib: Path) -> None:
    if shutil.which("mvn") is None:
        raise NoKafka("no `mvn` on the PATH to fetch Kafka with: install Maven, or set WAIT_FOR_ME_TEST_BOOTSTRAP")
    shutil.rmtree(lib, ignore_errors=True)
    command = ["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise NoKafka(f"Maven could not fetch Kafka: {(done.stdout + done.stderr).strip()[-600:]}")


def write_configuration(directory: Path, port: int, controller_port: int, extra: dict[str, str]) -> Path:
    """Fill in the template; a property given here wins over the template's."""
    directory.mkdir(parents=True, exist_ok=True)
    template = string.Template((BROKER_FILES / "server.properties").read_text(encoding="utf-8"))
    text = template.substitute(port=port, controller_port=controller_port, data=directory / "data")
    lines = [f"{name}={value}\n" for name, value in extra.items()]
    path = directory / "server.properties"
    path.write_text("".join([text, *lines]), encoding="utf-8")
    return path


def format_storage(classpath: str, configuration: Path) -> None:
    """Give the data folder its cluster id, which KRaft needs before the first start."""
    cluster_id = base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never a leading dash
    tool = ["java", *JVM_OPTIONS, "-cp", classpath, "kafka.tools.StorageTool", "format", "--standalone"]
    command = [*tool, "--ignore-formatted", "-t", cluster_id, "-c", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-1000:]}")


def main() -> int:
    """Run a broker in the foreground until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A real Kafka broker in the foreground.")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data", type=Path, default=CACHE / "data", help="kept from one run to the next")
    options = parser.parse_args()
    broker = KafkaBroker(options.data, port=options.port)
    if answers(broker.bootstrap_servers):
        sys.stderr.write(f"Something already serves Kafka at {broker.bootstrap_servers}. Stop it, or give --port.\n")
        return 1
    try:
        broker.start()
        sys.stderr.write(f"Kafka at {broker.bootstrap_servers}, data in {options.data}. Ctrl-C stops it.\n")
        broker.wait()
    except NoKafka as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopping.\n")
    finally:
        broker.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
