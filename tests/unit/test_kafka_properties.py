"""librdkafka's properties from the environment: nothing dropped in silence, no secret in a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from wait_for_me.errors import ConfigurationError
from wait_for_me.kafka_properties import (
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    for_consumer,
    for_producer,
    properties_from_environment,
    redacted,
)


def read(**variables: str) -> dict[str, str]:
    return properties_from_environment({f"WAIT_FOR_ME_{name}": value for name, value in variables.items()})


def test_an_empty_environment_means_a_broker_on_this_machine() -> None:
    """The address is always there."""
    assert read() == {"bootstrap.servers": "localhost:9092"}


def test_names_are_librdkafkas_in_capitals_with_underscores() -> None:
    """Any property, whatever it is called."""
    assert read(KAFKA_SECURITY_PROTOCOL="sasl_ssl", KAFKA_SASL_USERNAME="u", KAFKA_LOG_LEVEL="0") == {
        "security.protocol": "sasl_ssl",
        "sasl.username": "u",
        "log_level": "0",  # the one name that has an underscore itself
        "bootstrap.servers": "localhost:9092",
    }


def test_other_variables_are_left_alone() -> None:
    """Also those that only look alike."""
    assert properties_from_environment({"KAFKA_ACKS": "1", "WAIT_FOR_ME_KAFKAX": "1", "PATH": "x"}) == read()


def test_an_empty_variable_counts_as_not_set() -> None:
    """Compose files and charts spell "no value" like that."""
    assert read(KAFKA_SASL_USERNAME="", BOOTSTRAP_SERVERS="", KAFKA_BOOTSTRAP_SERVERS="") == read()


@pytest.mark.parametrize(
    "variables",
    [
        {"BOOTSTRAP_SERVERS": "a:1"},
        {"KAFKA_BOOTSTRAP_SERVERS": "a:1"},
        {"KAFKA_METADATA_BROKER_LIST": "a:1"},
        {"BOOTSTRAP_SERVERS": "a:1", "KAFKA_BOOTSTRAP_SERVERS": "a:1"},
    ],
    ids=str,
)
def test_the_address_may_be_given_under_each_of_its_names(variables: dict[str, str]) -> None:
    """And twice, if it is the same."""
    assert read(**variables)["bootstrap.servers"] == "a:1"


def test_two_addresses_are_refused() -> None:
    """Which one counts is not for us to guess."""
    with pytest.raises(ConfigurationError, match=r"'a:1', 'b:2'.*WAIT_FOR_ME_BOOTSTRAP_SERVERS alone"):
        read(BOOTSTRAP_SERVERS="a:1", KAFKA_BOOTSTRAP_SERVERS="b:2")


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    """The one line break that editors add is dropped; those of a certificate stay."""
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "pem").write_text("-----BEGIN\nabc\n-----END\n\n")
    (tmp_path / "dos").write_bytes(b"s3cret\r\n")
    found = read(
        KAFKA_SASL_PASSWORD_FILE=str(tmp_path / "password"),
        KAFKA_SSL_KEY_PEM_FILE=str(tmp_path / "pem"),
        KAFKA_SSL_KEY_PASSWORD_FILE=str(tmp_path / "dos"),
    )
    assert found["sasl.password"] == found["ssl.key.password"] == "s3cret"
    assert found["ssl.key.pem"] == "-----BEGIN\nabc\n-----END\n"


def test_properties_whose_own_name_ends_with_file_take_a_path() -> None:
    """librdkafka has three of them."""
    found = read(
        KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE="/run/token", KAFKA_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE="/k"
    )
    assert found["sasl.oauthbearer.assertion.file"] == "/run/token"
    assert found["sasl.oauthbearer.assertion.private.key.file"] == "/k"


def test_a_secret_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Absent, a directory, or not text: the variable is named."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "binary"):
        with pytest.raises(ConfigurationError, match=r"WAIT_FOR_ME_KAFKA_SASL_PASSWORD_FILE.*name a readable file"):
            read(KAFKA_SASL_PASSWORD_FILE=str(path))


def test_a_property_given_twice_is_an_error(tmp_path: Path) -> None:
    """In the environment and as a file."""
    (tmp_path / "password").write_text("b")
    with pytest.raises(ConfigurationError, match=r"sasl\.password is set twice.*unset one"):
        read(KAFKA_SASL_PASSWORD="a", KAFKA_SASL_PASSWORD_FILE=str(tmp_path / "password"))


def test_each_kind_of_client_gets_what_is_meant_for_it() -> None:
    """librdkafka would only warn on standard error about the rest."""
    properties = {"acks": "all", "group.id": "g", "client.id": "c"}
    assert for_producer(properties) == {"acks": "all", "client.id": "c"}
    assert for_consumer(properties) == {"group.id": "g", "client.id": "c"}


VALID: dict[str, str] = {
    "acks": "all",
    "auto.offset.reset": "latest",
    "compression.codec": "gzip",
    "compression.level": "1",
    "compression.type": "gzip",
    "group.protocol": "classic",
    "group.protocol.type": "consumer",
    "isolation.level": "read_committed",
    "offset.store.method": "broker",
    "partition.assignment.strategy": "range",
    "partitioner": "murmur2",
    "queue.buffering.backpressure.threshold": "1",
    "queuing.strategy": "fifo",
    "request.required.acks": "all",
    **dict.fromkeys(["auto.commit.enable", "check.crcs", "delivery.report.only.error", "enable.auto.commit"], "false"),
    **dict.fromkeys(["enable.auto.offset.store", "enable.gapless.guarantee", "enable.idempotence"], "false"),
    "enable.partition.eof": "false",
}


@pytest.mark.parametrize(("make", "names"), [(Producer, CONSUMER_ONLY), (Consumer, PRODUCER_ONLY)])
def test_the_lists_of_names_are_librdkafkas(
    make: Any, names: frozenset[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """It warns about each name that is given to a client of the other kind, which is why ours does not get it."""
    for name in sorted(names):
        base = {"bootstrap.servers": "127.0.0.1:1", "log_level": 4, "group.id": "g"}
        kept = for_producer(base) if make is Producer else base
        make({**kept, name: VALID.get(name, "10000")})
        assert f"will be ignored by this {make.__name__.lower()} instance" in capfd.readouterr().err, name


def test_secrets_are_stars_in_a_log() -> None:
    """Passwords, keys and tokens by any of their names; the rest can be read."""
    secrets = [
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.key.pem",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.jaas.config",
    ]
    shown = redacted(dict.fromkeys(secrets, "s3cret") | {"sasl.username": "u", "linger.ms": 5})
    assert {shown[name] for name in secrets} == {"****"}
    assert (shown["sasl.username"], shown["linger.ms"]) == ("u", "5")
