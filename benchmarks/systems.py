"""The systems that do the same job, each as its users would run it: one process, its usual libraries, its usual settings."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from benchmarks import builds
from benchmarks.cluster import TOPIC_CONFIG, Cluster
from benchmarks.place import PEERS, REPOSITORY, clean_environment
from benchmarks.verdict import Answer, read_ours, read_peers

PARTITIONS: Final = 4


class System(ABC):
    """One contender; `name` is what it is called in the results."""

    name: ClassVar[str]
    label: ClassVar[str]
    load_share: ClassVar[float] = 1.0
    """How much of the backlog it gets, so that a slow one does not take the whole session."""

    def build(self) -> None:
        """Make it runnable; raise builds.Missing if that cannot be done here."""
        return

    def prepare(self, prefix: str, cluster: Cluster) -> None:
        """Make its topics of commands and fires, and what else it needs in Kafka and does not make itself."""
        for topic in ("commands", "fires"):
            cluster.create(f"{prefix}.{topic}", PARTITIONS, TOPIC_CONFIG)

    @abstractmethod
    def command(self, prefix: str, bootstrap_servers: str, directory: Path) -> Sequence[str]:
        """Return what to start; it reads PREFIX.commands from the beginning and writes PREFIX.fires."""

    def environment(self, prefix: str, bootstrap_servers: str, directory: Path) -> Mapping[str, str]:
        """Return the environment to start it in."""
        named = {"BENCH_PREFIX": prefix, "BENCH_BOOTSTRAP": bootstrap_servers, "BENCH_STATE": str(directory)}
        return {**clean_environment(), **named}

    def read(self, value: bytes) -> Answer:
        """Read one of its fires."""
        return read_peers(value)


class WaitForMe(System):
    """This project, with the settings of a development cluster."""

    name = "wait_for_me"
    label = "WaitForMe"

    def prepare(self, prefix: str, cluster: Cluster) -> None:
        create_our_topics(prefix, cluster.bootstrap_servers)

    def read(self, value: bytes) -> Answer:
        return read_ours(value)

    def command(self, prefix: str, bootstrap_servers: str, directory: Path) -> Sequence[str]:
        return [sys.executable, "-m", "wait_for_me_app", "worker"]

    def environment(self, prefix: str, bootstrap_servers: str, directory: Path) -> Mapping[str, str]:
        return {
            **clean_environment(),
            **our_settings(prefix, bootstrap_servers),
            "WAIT_FOR_ME_DATA_DIR": str(directory),
        }


class TwoWorkers(WaitForMe):
    """Two processes of this project on the same cores: what Kafka Streams' two threads are in one process."""

    name = "wait_for_me_two_workers"
    label = "WaitForMe, two workers"

    def command(self, prefix: str, bootstrap_servers: str, directory: Path) -> Sequence[str]:
        return [sys.executable, "-m", "benchmarks.side_by_side", "2"]

    def environment(self, prefix: str, bootstrap_servers: str, directory: Path) -> Mapping[str, str]:
        return {**super().environment(prefix, bootstrap_servers, directory), "PYTHONPATH": str(REPOSITORY)}


def our_settings(prefix: str, bootstrap_servers: str, partitions: int = PARTITIONS) -> dict[str, str]:
    """Return the settings of a deployment on a single broker."""
    return {
        "WAIT_FOR_ME_BOOTSTRAP_SERVERS": bootstrap_servers,
        "WAIT_FOR_ME_PREFIX": prefix,
        "WAIT_FOR_ME_PARTITIONS": str(partitions),
        "WAIT_FOR_ME_REPLICATION_FACTOR": "1",
        "WAIT_FOR_ME_UNSAFE": "1",
    }


def create_our_topics(prefix: str, bootstrap_servers: str, partitions: int = PARTITIONS) -> None:
    """Make the topics of a deployment that are missing, as its operator would."""
    environment = {**clean_environment(), **our_settings(prefix, bootstrap_servers, partitions)}
    command = [sys.executable, "-m", "wait_for_me_app", "topics", "create"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"the topics of {prefix} cannot be created: {done.stdout}{done.stderr}")


class KafkaStreams(System):
    """Kafka Streams with a caching store and two threads; the guarantee is the subclass's."""

    guarantee: ClassVar[str]

    def build(self) -> None:
        builds.kafka_streams()

    def command(self, prefix: str, bootstrap_servers: str, directory: Path) -> Sequence[str]:
        java = ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", builds.kafka_streams_classpath()]
        topics = [f"{prefix}.commands", f"{prefix}.fires"]
        return [*java, "bench.FanIn", bootstrap_servers, *topics, prefix, self.guarantee, "2", str(directory)]


class KafkaStreamsAtLeastOnce(KafkaStreams):
    name, label, guarantee = "kafka_streams_at_least_once", "Kafka Streams, at least once", "at_least_once"


class KafkaStreamsExactlyOnce(KafkaStreams):
    name, label, guarantee = "kafka_streams_exactly_once_v2", "Kafka Streams, exactly once", "exactly_once_v2"


class QuixStreams(System):
    """Quix Streams, at least once, in a virtual environment of its own because it pins another client."""

    name, label, load_share = "quix_streams", "Quix Streams", 0.3

    def build(self) -> None:
        builds.quix_streams()

    def command(self, prefix: str, bootstrap_servers: str, directory: Path) -> Sequence[str]:
        return [str(builds.QUIX_PYTHON), str(PEERS / "quix_fan_in.py")]


class StockFaust(System):
    """Faust as its manual shows it: one table, a record at a time."""

    name, label, load_share = "stock_faust", "stock Faust", 0.03

    def command(self, prefix: str, bootstrap_servers: str, directory: Path) -> Sequence[str]:
        module = ["-A", "benchmarks.peers.faust_fan_in", "-L", "uvloop"]
        return [sys.executable, "-m", "faust", *module, "worker", "-l", "warn", "--without-web"]

    def environment(self, prefix: str, bootstrap_servers: str, directory: Path) -> Mapping[str, str]:
        return {**super().environment(prefix, bootstrap_servers, directory), "PYTHONPATH": str(REPOSITORY)}


OURS: Final = WaitForMe()
TWO_OF_OURS: Final = TwoWorkers()
KAFKA_STREAMS: Final[tuple[System, ...]] = (KafkaStreamsAtLeastOnce(), KafkaStreamsExactlyOnce())
ALL: Final[tuple[System, ...]] = (OURS, TWO_OF_OURS, *KAFKA_STREAMS, QuixStreams(), StockFaust())
