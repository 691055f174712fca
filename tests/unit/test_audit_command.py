"""`wait-for-me audit` against a broker inside librdkafka: exit codes, the text, the JSON, and two processes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from wait_for_me.errors import ConfigurationError, NotReady
from wait_for_me_app import cli, logging_setup
from wait_for_me_app.audit.findings import Finding, Report
from wait_for_me_app.audit.reference import fold_partition
from wait_for_me_app.auditing import command, deployment, topic_reader
from wait_for_me_app.exit_codes import ExitCode

Run = Callable[..., "tuple[int, str, str]"]
COMMANDS, FIRES = "wait-for-me.commands", "wait-for-me.fires"
TOPIC_ID = uuid.uuid5(uuid.NAMESPACE_URL, f"kafka-topic:{COMMANDS}")
NOON_MS = 1_795_521_600_000
TOPICS = (COMMANDS, FIRES, f"dlq.{COMMANDS}", f"dlq.{FIRES}", "wait-for-me.outcomes", "wait-for-me-groups-changelog")
ALLOWANCE = {"p50": None, "p99": None, "max": None}


class Kafka:
    """Writes topics as a worker does, with times of its own, since this broker has none."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})
        for topic in TOPICS:
            self._producer.list_topics(topic, timeout=10)

    def write(
        self, topic: str, key: bytes | None, value: bytes | None, *, partition: int = 0, at_ms: int = NOON_MS
    ) -> None:
        """Append one record."""
        self._producer.produce(topic, value, key, partition=partition, timestamp=at_ms)
        assert self._producer.flush(10) == 0

    def complete(self, group: str, *, fires: bool = True, partition: int = 0) -> None:
        """Add the only participant of a group, and have it fire."""
        add = {"type": "add", "group_key": group, "participant_key": "p", "number_of_participants_in_group": 1,
               "execute_after_waiting": "c", "wait_time_in_seconds": 60}  # fmt: skip
        value = json.dumps(add).encode()
        self.write(COMMANDS, group.encode(), value, partition=partition)
        record = topic_reader.AuditedRecord(0, NOON_MS, 0, group.encode(), value, ())
        place: dict[str, Any] = {
            "topic_id": TOPIC_ID,
            "partition": partition,
            "partitions": 4,
            "trust_create_time": True,
        }
        if fires:
            for _, key, fire in fold_partition([record], **place).fires:
                self.write(FIRES, key, fire, partition=partition, at_ms=NOON_MS + 5)


def groups() -> dict[int, str]:
    """Return a group for each of four partitions."""
    from wait_for_me.partitioner import partition_for

    found: dict[int, str] = {}
    for number in range(100):
        found.setdefault(partition_for(f"g{number}".encode(), 4), f"g{number}")
    return found


@pytest.fixture
def kafka_here(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """A deployment on the embedded broker, as the environment names it; without a changelog nothing has been folded."""
    monkeypatch.setenv("WAIT_FOR_ME_BOOTSTRAP_SERVERS", embedded_kafka)
    monkeypatch.setenv("WAIT_FOR_ME_DEMO_BROKER", "1")
    return Kafka(embedded_kafka)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(logging_setup, "configure_logging", lambda _settings: None)

    def one(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(("audit", *arguments))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return one


def test_a_clean_deployment_exits_with_0_and_says_so(kafka_here: Kafka, run: Run) -> None:
    """The last line is the verdict; what could not be judged is on stderr."""
    for partition, group in groups().items():
        kafka_here.complete(group, partition=partition)
    code, out, err = run()
    assert (code, out.splitlines()[-1]) == (ExitCode.OK, "clean")
    assert out.startswith(
        "4 commands of 4 groups: 4 fires expected, 4 found (4 complete, 0 by timeout, 0 copies, 0 pending)"
    )
    assert "worker_behind" in err


def test_a_missing_and_a_forged_fire_exit_with_1_and_say_where(kafka_here: Kafka, run: Run) -> None:
    """The text names place, group and fire, and ends with where to look."""
    kafka_here.complete(groups()[0], fires=False)
    kafka_here.write(FIRES, b"x\x1b[2J", b'{"fire_id":"fire_00000000-0000-5000-8000-000000000000"}')
    code, out, _ = run()
    assert code == ExitCode.FAILED
    assert f"overdue_fire {FIRES} 0 group {groups()[0]} fire_" in out
    assert f"ghost_fire {FIRES} 0 offset 0 group x\\x1b[2J fire_" in out
    assert out.splitlines()[-1].startswith("1 ghost_fire, 1 overdue_fire: see docs/reliability.md")


def test_json_is_exactly_one_object_with_stable_members(kafka_here: Kafka, run: Run) -> None:
    """For scripts and for tests of other projects."""
    kafka_here.complete(groups()[0], fires=False)
    code, out, _ = run("--json")
    document = json.loads(out)
    assert (code, out.count("\n"), document.pop("seconds") >= 0) == (ExitCode.FAILED, 1, True)
    finding = document.pop("findings")
    assert [(one["code"], one["topic"], one["partition"], one["group_key"]) for one in finding] == [
        ("overdue_fire", FIRES, 0, groups()[0])
    ]
    assert {one["code"] for one in document.pop("warnings")} == {"worker_behind"}
    assert document == {
        "verdict": "findings",
        "groups": 1,
        "fires": {"expected": 1, "found": 0, "copies": 0, "complete": 0, "timeout": 0, "pending": 0},
        "commands": 1,
        "outcomes": 0,
        "dead_letters": 0,
        "rows": 0,
        "counts": {"overdue_fire": 1},
        "lateness_ms": ALLOWANCE,
    }


def test_processes_of_their_own_find_the_same(kafka_here: Kafka, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions are judged apart and added up."""
    monkeypatch.setattr(deployment, "WORTH_A_PROCESS", 0)
    for partition, group in groups().items():
        kafka_here.complete(group, partition=partition, fires=partition != 2)
    code, out, _ = run("--json")
    document = json.loads(out)
    assert (code, document["counts"], document["commands"]) == (ExitCode.FAILED, {"overdue_fire": 1}, 4)


def test_the_grace_is_the_callers(kafka_here: Kafka, run: Run) -> None:
    """What is due since less than it is pending."""
    kafka_here.complete(groups()[0], fires=False)
    assert run("--settle", "1e12")[0] == ExitCode.OK


def test_outcomes_are_missed_when_a_flag_asks(kafka_here: Kafka, run: Run) -> None:
    """No executor has ever written one here, so by itself the audit does not."""
    kafka_here.complete(groups()[0])
    assert run("--json")[0] == ExitCode.OK
    code, out, _ = run("--json", "--outcomes")
    assert (code, json.loads(out)["counts"]) == (ExitCode.FAILED, {"unfinished_fire": 1})


def test_a_broker_out_of_reach_exits_with_75(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again later."""
    monkeypatch.setattr(topic_reader, "ANSWER_S", 1.0)
    code, out, err = run("-b", "127.0.0.1:1")
    assert (code, out, "Check WAIT_FOR_ME_BOOTSTRAP_SERVERS" in err) == (ExitCode.BROKER_OUT_OF_REACH, "", True)


def test_a_prefix_without_topics_exits_with_78(kafka_here: Kafka, run: Run) -> None:
    """Nothing to audit is not clean."""
    code, out, err = run("--prefix", "nobody")
    assert (code, out, "topics create" in err) == (ExitCode.BAD_CONFIGURATION, "", True)


def test_a_wrong_setting_exits_with_78(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every command does."""
    monkeypatch.setenv("WAIT_FOR_ME_PARTITION", "4")
    assert run()[0] == ExitCode.BAD_CONFIGURATION


def test_topics_that_are_missing_are_said_and_not_judged(embedded_kafka: str, run: Run) -> None:
    """Only the commands are a must."""
    producer = Producer({"bootstrap.servers": embedded_kafka, "log_level": 0})
    producer.list_topics("other.commands", timeout=10)
    producer.produce("other.commands", b"not json", b"g", partition=0)
    producer.flush(10)
    import os

    os.environ["WAIT_FOR_ME_DEMO_BROKER"] = "1"
    try:
        code, out, _ = run("--prefix", "other", "-b", embedded_kafka, "--json", "--settle", "0")
    finally:
        del os.environ["WAIT_FOR_ME_DEMO_BROKER"]
    document = json.loads(out)
    assert (code, document["commands"]) == (ExitCode.OK, 1)
    assert [one["code"] for one in document["warnings"]] == ["topic_missing"] * 5


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_reader_stops_at_its_bounds(kafka_here: Kafka) -> None:
    """What is appended later is not read; what lies before the first is not either."""
    for number in range(5):
        kafka_here.write(COMMANDS, b"g", b"%d" % number)
    reader = topic_reader.TopicReader({"bootstrap.servers": kafka_here.servers}, "g")
    assert reader.bounds(COMMANDS, 0) == (0, 5)
    assert [one.offset for one in reader.records(COMMANDS, 0, topic_reader.Bounds(1, 4))] == [1, 2, 3]
    assert list(reader.records(COMMANDS, 0, topic_reader.Bounds(5, 5))) == []
    assert len(list(reader.records(COMMANDS, 0, topic_reader.Bounds(0, 9)))) == 5  # the end of the log is an end too
    reader.close()


def test_a_partition_that_does_not_go_on_is_not_waited_for_forever(
    kafka_here: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leader is gone: that is no verdict."""
    monkeypatch.setattr(topic_reader, "TIMEOUT_S", 0.0)
    reader = topic_reader.TopicReader({"bootstrap.servers": kafka_here.servers}, "g")
    reader._consumer.close()

    class Silent:
        def assign(self, _partitions: Any) -> None:
            """Take it."""

        def consume(self, _count: int, _timeout: float) -> list[Any]:
            """Say nothing."""
            return []

    reader._consumer = Silent()
    with pytest.raises(NotReady, match="does not go on behind offset 2"):
        list(reader.records(COMMANDS, 0, topic_reader.Bounds(3, 9)))


@pytest.mark.parametrize(
    ("name", "kind"), [("TOPIC_AUTHORIZATION_FAILED", ConfigurationError), ("OFFSET_OUT_OF_RANGE", NotReady)]
)
def test_an_error_of_kafka_is_one_of_ours(name: str, kind: type[Exception]) -> None:
    """Whoever may not read must be allowed to; whoever cannot tries again."""
    from confluent_kafka import KafkaError

    code: int = getattr(KafkaError, name)
    assert type(topic_reader._unreadable("t", 0, KafkaError(code))) is kind


# --- text ------------------------------------------------------------------------------------------------------------


def test_few_of_many_findings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The counts are whole, and lateness is shown where there is any."""
    report = Report(lateness_ms=[3, 5])
    for number in range(50):
        report.found_one(Finding(code="lost_fire", topic="t", partition=0, offset=number, detail="x" * 1000))
    command._print(report, 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == command.SHOWN + 3
    assert lines[1] == "timeouts fired 3 ms late (median), 5 ms (p99), 5 ms (worst)"
    assert lines[-1].startswith("50 lost_fire: ")
    assert max(map(len, lines)) < 400
