"""Settings: read once, checked once, secrets hidden, and a typing error never silent."""

from __future__ import annotations

import ast
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import settings as module
from wait_for_me_app.settings import VARIABLE_NAMES, Settings, settings_or_exit

PACKAGE = Path(module.__file__).parent


def read(**variables: str) -> Settings:
    return Settings.from_environment({f"WAIT_FOR_ME_{name}": value for name, value in variables.items()})


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(**variables)
    return str(caught.value)


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Nothing set: a local broker, twelve partitions, three copies."""
    settings = Settings.from_environment({})
    assert settings.bootstrap_servers == "localhost:9092"
    assert (settings.prefix, settings.partitions, settings.replication_factor) == ("wait-for-me", 12, 3)
    assert (settings.session_timeout_ms, settings.standby_replicas) == (10_000, 0)
    assert not settings.unsafe
    assert not settings.demo_broker


def test_every_variable_reaches_its_setting() -> None:
    """Each name of the environment is read into the field of the same meaning."""
    settings = read(
        BOOTSTRAP_SERVERS="a:1,b:2",
        PREFIX="staging",
        DATA_DIR="/data",
        WORKER_ID="w7",
        PARTITIONS="4",
        REPLICATION_FACTOR="1",
        UNSAFE="yes",
        DEMO_BROKER="0",
        SESSION_TIMEOUT_MS="6000",
        STANDBY_REPLICAS="1",
        CALLBACKS="one, two.three",
        LOG_FORMAT="JSON",
        LOG_LEVEL="Debug",
    )
    assert settings == Settings(
        bootstrap_servers="a:1,b:2",
        prefix="staging",
        data_dir=Path("/data"),
        worker_id="w7",
        partitions=4,
        replication_factor=1,
        unsafe=True,
        session_timeout_ms=6000,
        standby_replicas=1,
        callbacks=("one", "two.three"),
        log_format="json",
        log_level="debug",
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    """Compose files and charts spell "no value" as an empty one."""
    assert read(PARTITIONS="", PREFIX="").partitions == 12


def test_an_override_wins_over_the_environment_and_none_is_no_override() -> None:
    """Flags are handed in as overrides; one that was not given is None."""
    settings = Settings.from_environment({"WAIT_FOR_ME_PARTITIONS": "4"}, partitions=6, prefix=None)
    assert (settings.partitions, settings.prefix) == (6, "wait-for-me")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PARTITIONS": "four"}, "WAIT_FOR_ME_PARTITIONS is 'four'"),
        ({"PARTITIONS": "0"}, "from 1 to 10000"),
        ({"REPLICATION_FACTOR": "0", "UNSAFE": "1"}, "WAIT_FOR_ME_REPLICATION_FACTOR is 0"),
        ({"SESSION_TIMEOUT_MS": "10"}, "WAIT_FOR_ME_SESSION_TIMEOUT_MS is 10"),
        ({"STANDBY_REPLICAS": "-1"}, "WAIT_FOR_ME_STANDBY_REPLICAS is -1"),
        ({"UNSAFE": "maybe"}, "Write WAIT_FOR_ME_UNSAFE=1 or WAIT_FOR_ME_UNSAFE=0"),
        ({"BOOTSTRAP_SERVERS": "kafka"}, "is no HOST:PORT"),
        ({"BOOTSTRAP_SERVERS": "kafka:9092,"}, "is no HOST:PORT"),
        ({"BOOTSTRAP_SERVERS": "kafka:99999"}, "is no HOST:PORT"),
        ({"PREFIX": "white space"}, "WAIT_FOR_ME_PREFIX"),
        ({"WORKER_ID": "../up"}, "cannot name a directory"),
        ({"LOG_FORMAT": "xml"}, "Write one of: text, json"),
        ({"LOG_LEVEL": "loud"}, "Write one of: debug, info"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_to_write(variables: dict[str, str], said: str) -> None:
    """The message names the variable and ends with the remedy."""
    assert said in refusal(**variables)


def test_addresses_with_a_protocol_or_in_ipv6_are_accepted() -> None:
    """librdkafka takes both forms, so the settings do too."""
    assert read(BOOTSTRAP_SERVERS="PLAINTEXT://kafka:9092,[::1]:9093").bootstrap_servers.endswith("9093")


def test_an_unknown_variable_is_an_error_that_names_the_likely_one() -> None:
    """A misspelt setting would run with a default that nobody chose."""
    assert "Did you mean WAIT_FOR_ME_PARTITIONS?" in refusal(PARTITION="4")
    assert "Known names: WAIT_FOR_ME_BOOTSTRAP_SERVERS" in refusal(COLOUR="red")


def test_variables_of_the_tests_and_of_others_are_left_alone() -> None:
    """WAIT_FOR_ME_TEST_* is the test suite's, and what does not start with WAIT_FOR_ME_ is not ours."""
    assert Settings.from_environment({"WAIT_FOR_ME_TEST_X": "1", "PATH": "/bin"}) == Settings.from_environment({})


def test_kafka_properties_come_through_under_librdkafkas_names(tmp_path: Path) -> None:
    """`WAIT_FOR_ME_KAFKA_*` is any librdkafka property, and `_FILE` reads a secret from a file."""
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = read(KAFKA_SASL_USERNAME="me", KAFKA_SASL_PASSWORD_FILE=str(secret), BOOTSTRAP_SERVERS="k:1")
    assert dict(settings.kafka) == {"sasl.username": "me", "sasl.password": "hunter2"}
    assert settings.librdkafka(client_id="x") == {
        "bootstrap.servers": "k:1",
        "sasl.username": "me",
        "sasl.password": "hunter2",
        "client.id": "x",
    }


def test_secrets_do_not_show_in_the_representation() -> None:
    """Settings may be logged; passwords may not."""
    shown = repr(read(KAFKA_SASL_PASSWORD="hunter2", KAFKA_SSL_KEY_PEM="-----KEY", KAFKA_SASL_USERNAME="me"))
    assert "hunter2" not in shown
    assert "-----KEY" not in shown
    assert "sasl.password" in shown
    assert "'me'" in shown


def test_a_property_that_is_also_a_setting_has_one_value() -> None:
    """bootstrap.servers and session.timeout.ms may be given by either name, and must not disagree."""
    settings = read(KAFKA_BOOTSTRAP_SERVERS="k:1", KAFKA_SESSION_TIMEOUT_MS="7000")
    assert (settings.bootstrap_servers, settings.session_timeout_ms, dict(settings.kafka)) == ("k:1", 7000, {})
    assert "disagree" in refusal(SESSION_TIMEOUT_MS="8000", KAFKA_SESSION_TIMEOUT_MS="7000")
    assert "WAIT_FOR_ME_KAFKA_SESSION_TIMEOUT_MS is 'x'" in refusal(KAFKA_SESSION_TIMEOUT_MS="x")
    assert "address" in refusal(BOOTSTRAP_SERVERS="a:1", KAFKA_BOOTSTRAP_SERVERS="b:1")


def test_fewer_than_three_copies_need_the_word_unsafe() -> None:
    """Two copies allow one acknowledgement only, so one death loses an add: that must be said aloud."""
    assert "set WAIT_FOR_ME_UNSAFE=1" in refusal(REPLICATION_FACTOR="2")
    assert read(REPLICATION_FACTOR="1", UNSAFE="1").min_insync_replicas == 1
    assert read(REPLICATION_FACTOR="1", DEMO_BROKER="1").min_insync_replicas == 1


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, 1), (2, 1), (3, 2), (5, 2)])
def test_two_copies_must_be_in_sync_wherever_three_exist(replicas: int, in_sync: int) -> None:
    """min.insync.replicas is the replication factor minus one, between 1 and 2."""
    assert Settings(replication_factor=replicas, unsafe=True).min_insync_replicas == in_sync


def test_each_worker_has_a_data_directory_of_its_own() -> None:
    """By default it is named after the worker; a given one is taken as it is."""
    assert Settings(worker_id="w1").data_directory == Path("wait-for-me-data/w1")
    assert Settings(worker_id="w1", data_dir=Path("/data")).data_directory == Path("/data")


def test_the_default_worker_id_can_name_a_directory() -> None:
    """It is made from the host's name, whatever that contains."""
    assert Settings.from_environment({}).worker_id


def test_settings_survive_the_way_through_a_child_processs_environment() -> None:
    """`environment()` is what the command line hands to the Faust process."""
    settings = Settings(prefix="p", partitions=4, data_dir=Path("/d"), worker_id="w", callbacks=("a", "b"))
    assert Settings.from_environment(settings.environment()) == settings


def test_settings_are_frozen_to_the_bottom() -> None:
    """Nothing changes after the start, the Kafka properties included."""
    settings = Settings(kafka={"client.id": "x"})
    with pytest.raises(FrozenInstanceError):
        settings.partitions = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.kafka["client.id"] = "y"  # type: ignore[index]
    assert hash(settings) == hash(Settings(kafka={"client.id": "x"}))


def test_every_field_but_the_kafka_properties_has_a_variable() -> None:
    """A setting that cannot be set from outside is a constant in disguise."""
    named = {attribute for attribute, _ in module._VARIABLES.values()}
    assert {one.name for one in fields(Settings)} - {"kafka"} == named


def test_a_wrong_setting_ends_a_process_with_78_and_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """What Faust imports cannot be caught by us, so it exits by itself."""
    with pytest.raises(SystemExit) as caught:
        settings_or_exit({"WAIT_FOR_ME_PARTITIONS": "x"})
    assert caught.value.code == 78
    assert "such as WAIT_FOR_ME_PARTITIONS=12" in capsys.readouterr().err


def test_only_the_settings_and_the_edges_read_the_environment() -> None:
    """One place reads WAIT_FOR_ME_*; others read names that are not settings of ours."""
    allowed = {"settings.py", "cli.py", "crash_points.py", "show.py", "callbacks.py"}
    readers = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers <= allowed


def test_every_variable_is_a_setting_of_this_project() -> None:
    """The names are part of the contract with whoever deploys."""
    assert all(name.startswith("WAIT_FOR_ME_") for name in VARIABLE_NAMES)
