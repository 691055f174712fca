"""Fixtures that every test may use.

    kafka            address of a real Kafka: one for the whole run. Tests with it get the marker `kafka`.
    embedded_kafka   address of the broker inside librdkafka: quick, one worker, proves no guarantee.
    deployment       a fresh prefix on the real Kafka with its topics made, and helpers to run worker and executor.

Where the real Kafka comes from, in this order: WAIT_FOR_ME_TEST_BOOTSTRAP names one; else Java and Maven bring one; else
the tests that need it are skipped with the reason, or fail with it when WAIT_FOR_ME_TEST_REQUIRE_KAFKA=1.

WAIT_FOR_ME_TEST_COMPILED=1 says that the packages come from a compiled wheel (`make test-compiled`).
"""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kafka_broker import KafkaBroker, NoKafka
from processes import Running

_REQUIRE_KAFKA = "WAIT_FOR_ME_TEST_REQUIRE_KAFKA"
_BOOTSTRAP = "WAIT_FOR_ME_TEST_BOOTSTRAP"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real Kafka by what it uses, so that nobody can forget the marker; leave out what a compiled wheel cannot do."""
    if os.environ.get("WAIT_FOR_ME_TEST_COMPILED") == "1":
        items[:] = [item for item in items if item.get_closest_marker("interpreted") is None]
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own WAIT_FOR_ME_* out of the tests."""
    for name in [name for name in os.environ if name.startswith("WAIT_FOR_ME_") and "_TEST_" not in name]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap servers of a real Kafka, shared by the whole run."""
    if given := os.environ.get(_BOOTSTRAP):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="wait-for-me-kafka-", ignore_cleanup_errors=True) as directory:
        broker = KafkaBroker(Path(directory))
        try:
            broker.start()
        except NoKafka as reason:
            if os.environ.get(_REQUIRE_KAFKA) == "1":
                pytest.fail(f"{_REQUIRE_KAFKA}=1, and {reason}")
            pytest.skip(f"no real Kafka: {reason}")
        yield broker.bootstrap_servers
        broker.stop()


@pytest.fixture
def embedded_kafka() -> Iterator[str]:
    """Bootstrap servers of a broker inside librdkafka: 4 partitions a topic, CreateTime, gone with the test."""
    from confluent_kafka import Producer

    owner = Producer({"bootstrap.servers": "x", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    del owner


class Deployment:
    """One prefix on the real Kafka, its settings and the processes that a test starts for it."""

    def __init__(self, bootstrap_servers: str, directory: Path, *, partitions: int = 4) -> None:
        from wait_for_me_app.settings import Settings
        from wait_for_me_app.topics import admin_client

        self.directory = directory
        self.settings = Settings(
            bootstrap_servers=bootstrap_servers,
            prefix=f"t-{uuid.uuid4().hex[:10]}",
            partitions=partitions,
            replication_factor=1,
            unsafe=True,
            data_dir=directory / "data",
            worker_id="w1",
        )
        self.admin = admin_client(self.settings)
        self.processes: list[Running] = []

    def create_topics(self) -> None:
        """Make the topics as `wait-for-me topics create` does."""
        from wait_for_me_app import topics

        topics.apply(self.settings, topics.plan(self.settings, {}), self.admin)

    def environment(self, **extra: str) -> dict[str, str]:
        """Return this deployment's settings as a child process reads them, without anybody else's."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("WAIT_FOR_ME_")}
        return {**own, **self.settings.environment(), **extra}

    def start(self, *arguments: str, name: str = "process", env: Mapping[str, str] | None = None) -> Running:
        """Start `wait-for-me` with these arguments; it ends with the test at the latest."""
        log = self.directory / f"{name}-{len(self.processes)}.log"
        command = [sys.executable, "-m", "wait_for_me_app", *arguments]
        process = Running(command, log=log, env=self.environment(**(env or {})))
        self.processes.append(process)
        return process

    def start_worker(self, worker_id: str = "w1", **env: str) -> Running:
        """Start a worker with a data directory of its own; the same id finds the same directory again."""
        directory = str(self.directory / "data" / worker_id)
        return self.start("worker", "--id", worker_id, "--data-dir", directory, name=f"worker-{worker_id}", env=env)

    def start_executor(self, *modules: str, name: str = "executor", **env: str) -> Running:
        """Start an executor that imports these modules of callbacks."""
        callbacks = [argument for module in modules for argument in ("--callbacks", module)]
        return self.start("executor", *callbacks, name=name, env=env)

    def close(self) -> None:
        """End what still runs and remove the topics."""
        for process in self.processes:
            process.close()
        names = [name for name in self.admin.list_topics(timeout=10).topics if self.settings.prefix in name]
        for answer in self.admin.delete_topics(names).values() if names else ():
            answer.exception(timeout=30)


@pytest.fixture
def deployment(kafka: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """A deployment of its own: fresh prefix, 4 partitions, one replica, topics made."""
    one = Deployment(kafka, tmp_path)
    request.node.stash[_DEPLOYMENT] = one
    try:
        one.create_topics()
        yield one
    finally:
        one.close()


_DEPLOYMENT = pytest.StashKey[Deployment]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Show, with a failure, what the test's processes printed last."""
    report = yield
    if report.failed and (one := item.stash.get(_DEPLOYMENT, None)) is not None:
        for process in one.processes:
            report.sections.append((f"{process.log.name} (exit code {process.exit_code})", process.tail()))
    return report
