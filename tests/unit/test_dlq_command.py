"""`wait-for-me dlq` against a broker inside librdkafka: what is listed, sent, remembered and refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from wait_for_me.errors import DeliveryFailed, NotReady
from wait_for_me_app import cli, logging_setup
from wait_for_me_app.dead_letters import dead_letter
from wait_for_me_app.dlq import post
from wait_for_me_app.dlq.copies import Copy
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.settings import Settings

Run = Callable[..., "tuple[int, str, str]"]
COMMANDS, FIRES = "wait-for-me.commands", "wait-for-me.fires"


class Kafka:
    """Writes dead letters as workers and executors do, and reads what came of them."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})
        for topic in (COMMANDS, FIRES, f"dlq.{COMMANDS}", f"dlq.{FIRES}"):
            self._producer.list_topics(topic, timeout=10)

    def set_aside(self, topic: str = FIRES, *, partition: int = 1, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "topic": topic,
            "partition": partition,
            "offset": 5,
            "key": b"deploy-42",
            "value": b'{"group_key":"deploy-42"}',
            "headers": [("traceparent", b"00-1")],
            "group": "g",
            "stage": "callback" if topic == FIRES else "validate",
            "code": "callback_failed" if topic == FIRES else "wrong_type",
            "message": "503",
            "delivery_count": 3,
            "fire_id": "fire_1" if topic == FIRES else None,
        }
        key, value, headers = dead_letter(**{**fields, **changes})
        self.write(f"dlq.{topic}", partition, key, value, headers)

    def write(self, topic: str, partition: int, key: Any, value: Any, headers: Any) -> None:
        self._producer.produce(topic, value, key, partition=partition, headers=headers)
        assert self._producer.flush(10) == 0

    def records(self, topic: str) -> list[tuple[int, bytes | None, bytes | None, dict[str, bytes]]]:
        """Return partition, key, value and headers of all records of a topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "test",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        found: list[tuple[int, bytes | None, bytes | None, dict[str, bytes]]] = []
        ended = 0
        while ended < 4:
            message = consumer.poll(10)
            assert message is not None
            error = message.error()
            if error is None:
                headers: Any = dict(message.headers() or ())
                found.append((message.partition() or 0, message.key(), message.value(), headers))
            else:
                assert error.code() == KafkaError._PARTITION_EOF
                ended += 1
        consumer.close()
        return found


@pytest.fixture
def kafka_inside(embedded_kafka: str) -> Kafka:
    return Kafka(embedded_kafka)


@pytest.fixture
def dlq(kafka_inside: Kafka, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one `dlq` command in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(logging_setup, "configure_logging", lambda _settings: None)  # pytest's own stays

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(("dlq", *arguments, "-b", kafka_inside.servers))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def ids(said: str) -> list[str]:
    return [line.split()[0] for line in said.splitlines()]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_both_topics_are_listed_a_line_each_and_filtered(kafka_inside: Kafka, dlq: Run) -> None:
    """Data on stdout; that there is none is said on stderr."""
    assert dlq("list") == (0, "", "no dead letters\n")
    kafka_inside.set_aside()
    kafka_inside.set_aside(COMMANDS, partition=2)
    code, out, err = dlq("list")
    assert (code, sorted(ids(out)), err) == (0, ["commands:2:0", "fires:1:0"], "")
    assert "callback/callback_failed" in out
    assert ids(dlq("list", "--from", "commands")[1]) == ["commands:2:0"]
    assert ids(dlq("list", "--stage", "callback", "--code", "callback_failed")[1]) == ["fires:1:0"]
    assert ids(dlq("list", "--fire-id", "fire_1", "--since", "1h")[1]) == ["fires:1:0"]
    assert dlq("list", "--group", "other") == (0, "", "no dead letters fit\n")


def test_lists_are_json_or_json_lines_on_request(kafka_inside: Kafka, dlq: Run) -> None:
    """For scripts."""
    kafka_inside.set_aside()
    kafka_inside.set_aside()
    assert [one["id"] for one in json.loads(dlq("list", "-o", "json")[1])] == ["fires:1:0", "fires:1:1"]
    lines = [json.loads(line) for line in dlq("list", "-o", "jsonl")[1].splitlines()]
    assert lines[0]["origin"] == {"family": "kafka", "topic": FIRES, "partition": 1, "offset": 5, "group": "g"}


def test_one_letter_is_shown_whole(kafka_inside: Kafka, dlq: Run) -> None:
    """With headers and value; one that is not there is said to be missing."""
    kafka_inside.set_aside()
    code, out, _ = dlq("show", "fires:1:0")
    assert code == 0
    assert f"came from   {FIRES}[1]@5, headers of kafka" in out
    assert "header      traceparent: 00-1" in out
    (shown,) = json.loads(dlq("show", "fires:1:0", "-o", "json")[1])
    assert shown["value"] == {"text": '{"group_key":"deploy-42"}'}
    code, out, err = dlq("show", "fires:1:0", "fires:1:7", "fires:99:0", "-o", "jsonl")
    assert (code, len(out.splitlines())) == (ExitCode.NOT_FOUND, 1)
    assert "no open dead letter fires:1:7, fires:99:0" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("show", "fires"),
        ("list", "--since", "soon"),
        ("list", "--from", "outcomes"),
        ("retry", "-y"),
        ("discard", "-y"),
        ("retry", "-y", "--all", "--stage", "callback"),
        ("retry", "-y", "--all", "fires:1:0"),
    ],
)
def test_what_is_not_understood_is_wrong_usage(dlq: Run, arguments: tuple[str, ...]) -> None:
    """Above all, an action on nothing in particular, or on everything and something."""
    code, out, err = dlq(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "Usage:" in err


# --- acting ----------------------------------------------------------------------------------------------------------


def test_a_retried_fire_goes_back_as_it_was_with_who_and_when(
    kafka_inside: Kafka, dlq: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """To its own partition; the letter is open no longer, and the log has a line about it."""
    kafka_inside.set_aside()
    with caplog.at_level(logging.INFO, "wait_for_me_app.dlq"):
        code, out, _ = dlq("retry", "fires:1:0", "-y", "--by", "ann")
    assert (code, out) == (0, f"fires:1:0 retried: {FIRES} partition 1 offset 0\n")
    ((partition, key, value, headers),) = kafka_inside.records(FIRES)
    assert (partition, key, value) == (1, b"deploy-42", b'{"group_key":"deploy-42"}')
    assert headers.keys() == {"traceparent", "wfm_retried_by", "wfm_retried_at"}
    assert headers["wfm_retried_by"] == b"ann"
    (line,) = [record for record in caplog.records if record.message == "dead_letter_retried"]
    assert {"letter": "fires:1:0", "by": "ann", "fire_id": "fire_1", "copy_offset": 0}.items() <= vars(line).items()
    assert dlq("list") == (0, "", "no dead letters\n")
    assert ids(dlq("list", "--handled")[1]) == ["fires:1:0"]


def test_a_retried_command_goes_where_its_key_belongs(kafka_inside: Kafka, dlq: Run) -> None:
    """By murmur2, wherever it was set aside."""
    from wait_for_me.partitioner import partition_for

    for partition in range(4):
        kafka_inside.set_aside(COMMANDS, partition=partition)
    assert dlq("retry", "--from", "commands", "-y")[0] == 0
    assert {one[0] for one in kafka_inside.records(COMMANDS)} == {partition_for(b"deploy-42", 4)}


def test_what_is_handled_is_handled_once(kafka_inside: Kafka, dlq: Run) -> None:
    """A second run finds nothing; naming the letter is an error, and changes nothing."""
    kafka_inside.set_aside()
    kafka_inside.set_aside(COMMANDS)
    assert dlq("retry", "--all", "-y")[0] == 0
    assert dlq("retry", "--all", "-y") == (0, "", "no open dead letters fit\n")
    code, out, err = dlq("retry", "fires:1:0", "-y")
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "Nothing was changed" in err
    assert len(kafka_inside.records(FIRES)) == 1


def test_a_letter_that_comes_later_is_open(kafka_inside: Kafka, dlq: Run) -> None:
    """Also behind a marker, and if it is the same fire that has died again."""
    kafka_inside.set_aside()
    dlq("retry", "--all", "-y")
    kafka_inside.set_aside()
    assert ids(dlq("list")[1]) == ["fires:1:2"]


def test_a_discarded_letter_is_listed_no_more_and_nothing_is_sent(
    kafka_inside: Kafka, dlq: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in its topic until Kafka deletes it; behind it lies who has discarded it."""
    kafka_inside.set_aside()
    kafka_inside.set_aside()
    with caplog.at_level(logging.INFO, "wait_for_me_app.dlq"):
        assert dlq("discard", "fires:1:1", "-y", "--by", "ann")[:2] == (0, "fires:1:1 discarded\n")
    assert ids(dlq("list")[1]) == ["fires:1:0"]
    assert kafka_inside.records(FIRES) == []
    *_, (partition, key, value, headers) = kafka_inside.records(f"dlq.{FIRES}")
    assert (partition, key, value, headers["wfm_handled_offsets"], headers["wfm_handled_by"]) == (
        1,
        None,
        None,
        b"1",
        b"ann",
    )
    assert [record.message for record in caplog.records] == ["dead_letter_discarded"]


@pytest.mark.parametrize(("verb", "would"), [("retry", "be retried"), ("discard", "be discarded")])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(kafka_inside: Kafka, dlq: Run, verb: str, would: str) -> None:
    """Not even ask."""
    kafka_inside.set_aside()
    assert dlq(verb, "--all", "--dry-run") == (0, f"fires:1:0 would {would}\n", "")
    assert json.loads(dlq(verb, "--all", "--dry-run", "-o", "json")[1]) == [{"id": "fires:1:0", "would": would}]
    assert len(kafka_inside.records(f"dlq.{FIRES}")) == 1
    assert kafka_inside.records(FIRES) == []


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_it_asks_first_and_silence_means_no(
    kafka_inside: Kafka, dlq: Run, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """So that a script without -y does nothing by accident."""
    kafka_inside.set_aside()
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        code, out, err = dlq(verb, "--all")
    assert (code, out.strip()) == (130, "")
    assert "1 dead letters?" in err
    assert len(kafka_inside.records(f"dlq.{FIRES}")) == 1


def test_what_cannot_go_back_is_told_and_stays_open_while_the_rest_goes(kafka_inside: Kafka, dlq: Run) -> None:
    """The exit code says that not all was done."""
    kafka_inside.set_aside()
    kafka_inside.set_aside("wait-for-me.fires", value=b"x" * 300_000)
    kafka_inside.write(f"dlq.{FIRES}", 2, b"k", b"v", [("__dlq.errors.topic", b"__consumer_offsets")])
    code, out, err = dlq("retry", "--all", "-y")
    assert (code, ids(out)) == (ExitCode.FAILED, ["fires:1:0"])
    assert "fires:1:1 cannot be retried: only the beginning of its value was kept" in err
    assert "fires:2:0 cannot be retried: it came from '__consumer_offsets'" in err
    assert sorted(ids(dlq("list")[1])) == ["fires:1:1", "fires:2:0"]


def test_more_letters_than_fit_into_a_batch_are_all_sent(
    kafka_inside: Kafka, dlq: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is marked when Kafka has it."""
    monkeypatch.setattr(post, "_AT_ONCE", 2)
    for _ in range(5):
        kafka_inside.set_aside()
    code, out, _ = dlq("retry", "--all", "-y", "-o", "jsonl")
    assert code == 0
    assert [json.loads(line)["retried"]["offset"] for line in out.splitlines()] == [0, 1, 2, 3, 4]
    assert dlq("list")[1] == ""


# --- Kafka does not do as it should ----------------------------------------------------------------------------------


def test_without_kafka_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the code for try again."""
    monkeypatch.setattr(logging_setup, "configure_logging", lambda _settings: None)
    monkeypatch.setattr(post, "_CONTACT_SECONDS", 1.0)
    assert cli.main(("dlq", "list", "-b", "127.0.0.1:1")) == ExitCode.BROKER_OUT_OF_REACH
    assert "Kafka cannot be reached" in capsys.readouterr().err


def test_a_copy_that_kafka_refuses_leaves_its_letter_open(kafka_inside: Kafka) -> None:
    """It would be lost otherwise."""
    settings = Settings(bootstrap_servers=kafka_inside.servers)
    kafka_inside.set_aside()
    box = post.DeadLetters(settings)
    (one,) = box.find(post.Selection())
    nowhere = Copy(topic=FIRES, partition=77, key=b"k", value=b"v", headers=())
    with pytest.raises(DeliveryFailed, match="Kafka has taken 0 of 1 records"):
        list(box.send([(one, nowhere)], "ann", "now"))
    assert len(box.find(post.Selection())) == 1


def test_a_kafka_that_falls_silent_is_given_up(kafka_inside: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition whose end never comes would be waited for for ever."""
    monkeypatch.setattr(post, "_SILENCE_SECONDS", 0.1)
    consumer = post.DeadLetters(Settings(bootstrap_servers=kafka_inside.servers))._consumer()
    with pytest.raises(NotReady, match="Kafka has said nothing"):
        list(post._messages(consumer, 1))
    consumer.close()
