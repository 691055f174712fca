"""Three real brokers (KRaft, brokers and controllers in one), each with a listener for every worker behind the proxy.

A worker's listener is advertised at the proxy's port, so all that a worker says to a broker goes through the link of these two.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from chaos.plan import BROKERS, EXTRA_WORKER, WORKERS
from chaos.ports import Ports
from kafka_broker import JVM_OPTIONS, answers, jars
from processes import Running, wait_until

PARTITIONS: Final = 6
PROXIED: Final = (*WORKERS, EXTRA_WORKER)
_START_S: Final = 90.0

_PROPERTIES: Final = """\
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
replica.lag.time.max.ms=10000
num.network.threads=1
num.io.threads=4
num.replica.fetchers=1
log.cleaner.dedupe.buffer.size=16777216
"""


class Broker:
    """One broker; its data outlives it."""

    def __init__(self, number: int, home: Path, ports: Ports) -> None:
        self.number, self.home = number, home
        self.port, self.controller_port = ports.take(), ports.take()
        self.worker_ports = {worker: (ports.take(), ports.take()) for worker in PROXIED}
        """By worker: where the proxy listens, and where the broker does."""
        self.process: Running | None = None

    @property
    def address(self) -> str:
        """Where it answers without the proxy."""
        return f"127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.exit_code is None

    def configure(self, voters: str, cluster_id: str) -> None:
        """Write its properties and format its disk."""
        self.home.mkdir(parents=True)
        (self.home / "server.properties").write_text("".join(self._lines(voters)), encoding="utf-8")
        tool = ["java", *JVM_OPTIONS, "-cp", f"{jars()}/*", "kafka.tools.StorageTool", "format", "-t", cluster_id]
        command = [*tool, "-c", str(self.home / "server.properties")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"broker {self.number} could not be formatted: {(done.stdout + done.stderr)[-800:]}")

    def _lines(self, voters: str) -> Sequence[str]:
        listeners = [f"PLAINTEXT://127.0.0.1:{self.port}"]
        advertised = list(listeners)
        for worker, (outside, inside) in self.worker_ports.items():
            listeners.append(f"{worker.upper()}://127.0.0.1:{inside}")
            advertised.append(f"{worker.upper()}://127.0.0.1:{outside}")
        names = ["PLAINTEXT", "CONTROLLER", *(worker.upper() for worker in self.worker_ports)]
        controller = f"CONTROLLER://127.0.0.1:{self.controller_port}"
        return (
            _PROPERTIES,
            f"node.id={self.number}\n",
            f"controller.quorum.voters={voters}\n",
            f"listeners={','.join([*listeners, controller])}\n",
            f"advertised.listeners={','.join(advertised)}\n",
            f"listener.security.protocol.map={','.join(f'{name}:PLAINTEXT' for name in names)}\n",
            f"log.dirs={self.home / 'data'}\n",
        )

    def start(self) -> None:
        """Start its process; `wait` says when it serves."""
        command = ["java", *JVM_OPTIONS, "-cp", f"{jars()}/*", "kafka.Kafka", str(self.home / "server.properties")]
        self.process = Running(command, log=self.home / "broker.log")

    def wait(self) -> None:
        """Wait until it serves."""
        process = self.process
        assert process is not None
        wait_until(lambda: process.exit_code is not None or answers(self.address), _START_S, process.tail)
        if process.exit_code is not None:
            raise RuntimeError(f"broker {self.number} ended with {process.exit_code}:\n{process.tail(20)}")

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.close()

    def close(self) -> None:
        """End it in a hurry; its data are not needed any more."""
        if self.process is not None:
            if self.process.exit_code is None:
                self.process.kill()
            self.process.close()


class Cluster:
    """The three of them."""

    def __init__(self, home: Path, ports: Ports) -> None:
        self.brokers = {number: Broker(number, home / f"broker-{number}", ports) for number in BROKERS}
        self._admin: Any = None

    @property
    def bootstrap_servers(self) -> str:
        """Where everybody connects who is not behind the proxy."""
        return ",".join(broker.address for broker in self.brokers.values())

    def bootstrap_servers_of(self, worker: str) -> str:
        """Where a worker connects."""
        return ",".join(f"127.0.0.1:{broker.worker_ports[worker][0]}" for broker in self.brokers.values())

    def ways(self) -> list[tuple[str, int, int, int]]:
        """Return what the proxy needs: worker, broker, its own port, the broker's port."""
        return [
            (worker, number, outside, inside)
            for number, broker in self.brokers.items()
            for worker, (outside, inside) in broker.worker_ports.items()
        ]

    def start(self) -> None:
        """Start all brokers and wait until each serves."""
        voters = ",".join(f"{one.number}@127.0.0.1:{one.controller_port}" for one in self.brokers.values())
        cluster_id = base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        jars()
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(lambda broker: broker.configure(voters, cluster_id), self.brokers.values()))
        for broker in self.brokers.values():
            broker.start()
        for broker in self.brokers.values():
            broker.wait()

    @property
    def admin(self) -> Any:
        """A client that asks about the cluster."""
        if self._admin is None:
            from confluent_kafka.admin import AdminClient

            self._admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        return self._admin

    def is_healthy(self) -> bool:
        """Whether every partition of every topic has all its replicas in sync."""
        if not all(broker.is_up for broker in self.brokers.values()):
            return False
        from confluent_kafka import KafkaException

        try:
            metadata = self.admin.list_topics(timeout=5)
        except KafkaException:
            return False
        partitions = [one for topic in metadata.topics.values() for one in topic.partitions.values()]
        return len(metadata.brokers) == len(self.brokers) and all(
            len(one.isrs) == len(one.replicas) for one in partitions
        )

    def leader_of(self, topic: str, partition: int) -> int:
        """Return the broker that leads a partition."""
        metadata = self.admin.list_topics(topic, timeout=10)
        return int(metadata.topics[topic].partitions[partition].leader)

    def coordinator_of(self, group: str) -> int:
        """Return the broker that coordinates a consumer group."""
        found = self.admin.describe_consumer_groups([group], request_timeout=10)[group].result()
        return int(found.coordinator.id)

    def close(self) -> None:
        """End all brokers."""
        for broker in self.brokers.values():
            broker.close()
