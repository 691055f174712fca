"""All settings in one frozen object, read from the environment once, at the edge.

Rule: nothing else in this package reads an environment variable. A wrong value stops the process before it touches
Kafka, with the name of the variable and what to write instead; an unknown `WAIT_FOR_ME_*` name is an error too,
because a misspelt setting that is silently ignored runs with a default that nobody chose.

Danger: `kafka` holds passwords. They are hidden in `repr`, so a settings object may be logged; the mapping may not.
"""

from __future__ import annotations

import math
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from wait_for_me.commands import MAX_SECONDS
from wait_for_me.errors import ConfigurationError
from wait_for_me.kafka_properties import properties_from_environment, redacted
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.exit_codes import ExitCode

_PREFIX = "WAIT_FOR_ME_"
_KAFKA_PREFIX = "WAIT_FOR_ME_KAFKA_"
_TEST_PREFIX = "WAIT_FOR_ME_TEST_"  # the test suite's own; no process of ours reads them

COMMAND_LINE_PREFIXES = tuple(
    f"{_PREFIX}{command}_"
    for command in ("ADD", "AUDIT", "DEMO", "DLQ", "FIRES", "GROUPS", "HEALTHCHECK", "REMOVE", "TOPICS", "WATCH")
)
"""Flags that are no settings have variables too; the command line reads and checks them (`flag_variables.py`)."""
_OTHERS = (_KAFKA_PREFIX, _TEST_PREFIX, *COMMAND_LINE_PREFIXES)

_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
LOG_FORMATS = ("text", "json")
DEFAULT_WEB_PORT = 6066
DEFAULT_LONGEST_GROUP_WAIT_SECONDS = 7 * 86_400.0
OUTPUTS = ("text", "json", "jsonl")
LOG_LEVELS = ("debug", "info", "warning", "error")
_WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOST_AND_PORT = re.compile(r"(?:[A-Z]+://)?(?:\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]/]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that a process of this project can be told, checked when it is built."""

    bootstrap_servers: str = "localhost:9092"
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Further librdkafka properties by their own names; `bootstrap.servers` is not among them."""
    prefix: str = "wait-for-me"
    data_dir: Path | None = None
    worker_id: str = field(default_factory=lambda: _default_worker_id())
    partitions: int = 12
    replication_factor: int = 3
    unsafe: bool = False
    """Lets a development cluster through: one replica, `min.insync.replicas` 1."""
    demo_broker: bool = False
    """The broker embedded in librdkafka: CreateTime is let through and topics are not checked."""
    session_timeout_ms: int = 10_000
    standby_replicas: int = 0
    callbacks: tuple[str, ...] = ()
    """Modules that the executor imports so that they register their callbacks."""
    webhooks: Path | None = None
    """TOML file of callbacks that are webhooks."""
    log_format: str = "text"
    log_level: str = "info"
    web_host: str = "127.0.0.1"
    """Where a worker serves its page, its API and its health. Beyond loopback it needs a token."""
    web_port: int = DEFAULT_WEB_PORT
    """0 turns the web off. Where the port is taken, the next free one of ten is used."""
    web_url: str = ""
    """How other workers reach this one's web, if not at its host and port; a name that resolves for them, behind no proxy."""
    web_token: str = field(default="", repr=False)
    web_read_only: bool = False
    web_hide_payloads: bool = False
    """Keeps parameters and dead letters' bytes out of page and API."""
    server: str = "http://127.0.0.1:6066"
    """The worker that the command line asks about groups; any one answers for all."""
    output: str = "text"
    """How the command line writes what it was asked for."""
    longest_group_wait_seconds: float = DEFAULT_LONGEST_GROUP_WAIT_SECONDS
    """The longest that groups of this deployment wait; commands must be kept as long. A promise of yours, not a limit."""
    executor_threads: int = 16
    """Attempts of plain functions that an executor runs at once; the next two likewise."""
    executor_tasks: int = 256
    executor_processes: int = 4
    executor_max_in_flight: int | None = None
    """Attempts of any kind at once; None is what the three kinds have together."""
    executor_pending_fires: int = 20_000
    """Fires in an executor's memory at which it reads no more."""
    executor_stop_grace_seconds: float = 10.0
    """How long a stop waits for attempts that run."""
    executor_unknown_callback_seconds: float = 600.0
    """How long a fire waits for somebody who knows its callback."""
    executor_starts_without_end: int = 3
    """Attempts that may end with the death of their process; after so many the fire is a dead letter."""
    executor_attempts: int = 10
    """What a callback has that does not say it itself; the next three likewise."""
    executor_timeout_seconds: float = 60.0
    executor_first_wait_seconds: float = 1.0
    executor_longest_wait_seconds: float = 3600.0
    executor_metrics_port: int = 0
    """Where an executor serves its health and its metrics, on this machine only; 0 is nowhere."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kafka", MappingProxyType(dict(self.kafka)))
        _check(self)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read `WAIT_FOR_ME_*`; an override that is not None (a flag) wins over its variable.

        >>> Settings.from_environment({"WAIT_FOR_ME_PARTITIONS": "4"}, prefix="staging").partitions
        4
        """
        environ = _with_token_from_file(os.environ if environ is None else environ)
        _refuse_unknown_names(environ)
        given = {name: environ[name] for name in _VARIABLES if environ.get(name)}  # empty counts as not set
        chosen = {_VARIABLES[name][0]: _VARIABLES[name][1](name, text) for name, text in given.items()}
        kafka = properties_from_environment(environ)
        chosen["bootstrap_servers"] = kafka.pop("bootstrap.servers")
        kafka.pop("metadata.broker.list", None)  # its other name; a difference has been refused
        _adopt_session_timeout(chosen, kafka)
        return cls(
            **{**chosen, "kafka": kafka, **{name: value for name, value in overrides.items() if value is not None}}
        )

    @property
    def topics(self) -> TopicNames:
        """Names of the topics and groups of this deployment."""
        return TopicNames(self.prefix)

    @property
    def min_insync_replicas(self) -> int:
        """Copies that must have a record before Kafka acknowledges it: 2, or what the replication factor allows."""
        return min(2, max(1, self.replication_factor - 1))

    @property
    def data_directory(self) -> Path:
        """Where this worker keeps its store; one directory a worker, because RocksDB cannot be opened twice."""
        return self.data_dir if self.data_dir is not None else Path("wait-for-me-data") / self.worker_id

    def librdkafka(self, **properties: str | int | bool) -> dict[str, str | int | bool]:
        """Return a configuration for confluent-kafka: the operator's properties, then those given here on top.

        What is for the other kind of client, see `wait_for_me.kafka_properties.for_consumer` and `for_producer`. Names are written with `_` for `.`, as in the environment: `librdkafka(client_id="topics")`.
        """
        own = {name.replace("_", "."): value for name, value in properties.items()}
        return {"bootstrap.servers": self.bootstrap_servers, **self.kafka, **own}

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process read these same settings."""
        return {
            name: text for name, (attribute, _) in _VARIABLES.items() if (text := _as_text(getattr(self, attribute)))
        }

    def __repr__(self) -> str:
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        shown["kafka"] = redacted(self.kafka)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def settings_or_exit(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings, or print what is wrong and what to do on stderr and exit with 78.

    For a process whose start nobody of ours can catch, such as a module that Faust imports.
    """
    try:
        return Settings.from_environment(environ, **overrides)
    except ConfigurationError as error:
        exit_with_remedy(error)


def exit_with_remedy(error: Exception) -> NoReturn:
    """End the process with the code for a wrong configuration; a restart would not help."""
    sys.stderr.write(f"wait-for-me: {error}\n")
    raise SystemExit(int(ExitCode.BAD_CONFIGURATION))


# --- reading ---------------------------------------------------------------------------------------------------------


def _text(_name: str, value: str) -> str:
    return value.strip()


def _integer(name: str, value: str) -> int:
    try:
        return int(value.strip())
    except ValueError:
        raise ConfigurationError(
            f"{name} is {value!r}, which is no whole number. Write digits only, such as {name}=12."
        ) from None


def _number(name: str, value: str) -> float:
    try:
        number = float(value.strip())
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{name} is {value!r}, which is no number. Write one such as {name}=2.5.")
    return number


def _boolean(name: str, value: str) -> bool:
    word = value.strip().lower()
    if word not in _YES | _NO:
        raise ConfigurationError(f"{name} is {value!r}, which is neither yes nor no. Write {name}=1 or {name}=0.")
    return word in _YES


def _path(_name: str, value: str) -> Path:
    return Path(value).expanduser()


def _lower(_name: str, value: str) -> str:
    return value.strip().lower()


def _modules(_name: str, value: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[,\s]+", value) if part)


_VARIABLES: Mapping[str, tuple[str, Callable[[str, str], Any]]] = MappingProxyType(
    {
        "WAIT_FOR_ME_BOOTSTRAP_SERVERS": ("bootstrap_servers", _text),
        "WAIT_FOR_ME_PREFIX": ("prefix", _text),
        "WAIT_FOR_ME_DATA_DIR": ("data_dir", _path),
        "WAIT_FOR_ME_WORKER_ID": ("worker_id", _text),
        "WAIT_FOR_ME_PARTITIONS": ("partitions", _integer),
        "WAIT_FOR_ME_REPLICATION_FACTOR": ("replication_factor", _integer),
        "WAIT_FOR_ME_UNSAFE": ("unsafe", _boolean),
        "WAIT_FOR_ME_DEMO_BROKER": ("demo_broker", _boolean),
        "WAIT_FOR_ME_SESSION_TIMEOUT_MS": ("session_timeout_ms", _integer),
        "WAIT_FOR_ME_STANDBY_REPLICAS": ("standby_replicas", _integer),
        "WAIT_FOR_ME_CALLBACKS": ("callbacks", _modules),
        "WAIT_FOR_ME_WEBHOOKS": ("webhooks", _path),
        "WAIT_FOR_ME_LOG_FORMAT": ("log_format", _lower),
        "WAIT_FOR_ME_LOG_LEVEL": ("log_level", _lower),
        "WAIT_FOR_ME_WEB_HOST": ("web_host", _text),
        "WAIT_FOR_ME_WEB_PORT": ("web_port", _integer),
        "WAIT_FOR_ME_WEB_URL": ("web_url", _text),
        "WAIT_FOR_ME_WEB_TOKEN": ("web_token", _text),
        "WAIT_FOR_ME_WEB_READ_ONLY": ("web_read_only", _boolean),
        "WAIT_FOR_ME_WEB_HIDE_PAYLOADS": ("web_hide_payloads", _boolean),
        "WAIT_FOR_ME_SERVER": ("server", _text),
        "WAIT_FOR_ME_OUTPUT": ("output", _lower),
        "WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS": ("longest_group_wait_seconds", _number),
        "WAIT_FOR_ME_EXECUTOR_THREADS": ("executor_threads", _integer),
        "WAIT_FOR_ME_EXECUTOR_TASKS": ("executor_tasks", _integer),
        "WAIT_FOR_ME_EXECUTOR_PROCESSES": ("executor_processes", _integer),
        "WAIT_FOR_ME_EXECUTOR_MAX_IN_FLIGHT": ("executor_max_in_flight", _integer),
        "WAIT_FOR_ME_EXECUTOR_PENDING_FIRES": ("executor_pending_fires", _integer),
        "WAIT_FOR_ME_EXECUTOR_STOP_GRACE_SECONDS": ("executor_stop_grace_seconds", _number),
        "WAIT_FOR_ME_EXECUTOR_UNKNOWN_CALLBACK_SECONDS": ("executor_unknown_callback_seconds", _number),
        "WAIT_FOR_ME_EXECUTOR_STARTS_WITHOUT_END": ("executor_starts_without_end", _integer),
        "WAIT_FOR_ME_EXECUTOR_ATTEMPTS": ("executor_attempts", _integer),
        "WAIT_FOR_ME_EXECUTOR_TIMEOUT_SECONDS": ("executor_timeout_seconds", _number),
        "WAIT_FOR_ME_EXECUTOR_FIRST_WAIT_SECONDS": ("executor_first_wait_seconds", _number),
        "WAIT_FOR_ME_EXECUTOR_LONGEST_WAIT_SECONDS": ("executor_longest_wait_seconds", _number),
        "WAIT_FOR_ME_EXECUTOR_METRICS_PORT": ("executor_metrics_port", _integer),
    }
)
VARIABLE_NAMES = tuple(_VARIABLES)


_TOKEN, _TOKEN_FILE = "WAIT_FOR_ME_WEB_TOKEN", "WAIT_FOR_ME_WEB_TOKEN_FILE"


def _with_token_from_file(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Put the content of WAIT_FOR_ME_WEB_TOKEN_FILE in the token's place."""
    path = environ.get(_TOKEN_FILE)
    rest = {name: value for name, value in environ.items() if name != _TOKEN_FILE}
    if not path:
        return rest
    if environ.get(_TOKEN):
        raise ConfigurationError(f"{_TOKEN} and {_TOKEN_FILE} are both set. Remove one of them.")
    try:
        return {**rest, _TOKEN: Path(path).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{_TOKEN_FILE} cannot be read ({error}). Name a readable text file.") from error


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def _default_worker_id() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-._") or "worker"


def _refuse_unknown_names(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith(_PREFIX) or name.startswith(_OTHERS) or name in _VARIABLES:
            continue
        own_part = {known.removeprefix(_PREFIX): known for known in _VARIABLES}  # the common part would make all alike
        close = get_close_matches(name.removeprefix(_PREFIX), own_part, n=1, cutoff=0.6)
        remedy = f"Did you mean {own_part[close[0]]}?" if close else f"Known names: {', '.join(_VARIABLES)}."
        raise ConfigurationError(
            f"{name} is not a setting. {remedy} A Kafka property is written {_KAFKA_PREFIX}<NAME>."
        )


def _adopt_session_timeout(chosen: dict[str, Any], kafka: dict[str, str]) -> None:
    """Take the one librdkafka property that is a setting of ours too out of `kafka`, so that there is one value."""
    if (text := kafka.pop("session.timeout.ms", None)) is None:
        return
    value = _integer("WAIT_FOR_ME_KAFKA_SESSION_TIMEOUT_MS", text)
    if chosen.setdefault("session_timeout_ms", value) != value:
        raise ConfigurationError(
            "WAIT_FOR_ME_SESSION_TIMEOUT_MS and WAIT_FOR_ME_KAFKA_SESSION_TIMEOUT_MS disagree. Remove the second."
        )


# --- checking --------------------------------------------------------------------------------------------------------


def _check(settings: Settings) -> None:
    _check_bootstrap_servers(settings.bootstrap_servers)
    _check_names(settings)
    _check_ranges(settings)
    _check_choice("WAIT_FOR_ME_LOG_FORMAT", settings.log_format, LOG_FORMATS)
    _check_choice("WAIT_FOR_ME_LOG_LEVEL", settings.log_level, LOG_LEVELS)
    _check_choice("WAIT_FOR_ME_OUTPUT (--output)", settings.output, OUTPUTS)
    _check_durability(settings)
    _check_web(settings)
    _check_executor(settings)


def _check_bootstrap_servers(servers: str) -> None:
    for server in servers.split(","):
        match = _HOST_AND_PORT.fullmatch(server.strip())
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ConfigurationError(
                f"WAIT_FOR_ME_BOOTSTRAP_SERVERS has {server.strip()!r}, which is no HOST:PORT. "
                "Write one or more with commas, such as kafka-1:9092,kafka-2:9092."
            )


def _check_names(settings: Settings) -> None:
    TopicNames(settings.prefix)  # refuses what cannot begin a topic's name
    if not _WORKER_ID.fullmatch(settings.worker_id):
        raise ConfigurationError(
            f"WAIT_FOR_ME_WORKER_ID (--id) is {settings.worker_id!r}, which cannot name a directory. "
            "Use 1 to 128 of a-z A-Z 0-9 . _ - and start with a letter or digit."
        )


def _check_ranges(settings: Settings) -> None:
    _check_range("WAIT_FOR_ME_PARTITIONS", settings.partitions, 1, 10_000)
    _check_range("WAIT_FOR_ME_REPLICATION_FACTOR", settings.replication_factor, 1, 100)
    _check_range("WAIT_FOR_ME_SESSION_TIMEOUT_MS", settings.session_timeout_ms, 1_000, 1_800_000)
    _check_range("WAIT_FOR_ME_STANDBY_REPLICAS", settings.standby_replicas, 0, 10)
    if not 0 < settings.longest_group_wait_seconds <= MAX_SECONDS:
        raise ConfigurationError(
            f"WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS is {settings.longest_group_wait_seconds:g}. Write seconds above 0, and "
            f"at most {MAX_SECONDS}, which is the longest wait that an add may have."
        )


_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1|\[::1\]", re.IGNORECASE)
_HTTP_URL = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]+/?")
SHORTEST_TOKEN = 16


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the host."""
    return _LOOPBACK.fullmatch(host) is not None


def _check_web(settings: Settings) -> None:
    _check_range("WAIT_FOR_ME_WEB_PORT", settings.web_port, 0, 65_535)
    for name, url in (("WAIT_FOR_ME_WEB_URL", settings.web_url), ("WAIT_FOR_ME_SERVER (--server)", settings.server)):
        if url and not _HTTP_URL.fullmatch(url):
            raise ConfigurationError(f"{name} is {url!r}, which is no address. Write http://HOST:PORT.")
    if settings.web_token and (len(settings.web_token) < SHORTEST_TOKEN or not settings.web_token.isascii()):
        raise ConfigurationError(
            f"WAIT_FOR_ME_WEB_TOKEN is too easy to guess: use {SHORTEST_TOKEN} ASCII characters or more, such as the output of "
            "`openssl rand -hex 24`."
        )
    if settings.web_port and not settings.web_token and not is_loopback(settings.web_host):
        raise ConfigurationError(
            f"WAIT_FOR_ME_WEB_HOST is {settings.web_host}: beyond this machine the page and its API need a login. Set "
            "WAIT_FOR_ME_WEB_TOKEN or WAIT_FOR_ME_WEB_TOKEN_FILE, or WAIT_FOR_ME_WEB_PORT=0 to turn the web off."
        )


_DAY_SECONDS = 86_400


def _check_executor(settings: Settings) -> None:
    for name, low, high in (
        ("threads", 1, 1_000),
        ("tasks", 1, 100_000),
        ("processes", 1, 1_000),
        ("pending_fires", 10, 10_000_000),
        ("starts_without_end", 1, 1_000),
        ("attempts", 1, 1_000),
        ("metrics_port", 0, 65_535),
    ):
        _check_range(_executor_name(name), getattr(settings, f"executor_{name}"), low, high)
    if settings.executor_max_in_flight is not None:
        _check_range(_executor_name("max_in_flight"), settings.executor_max_in_flight, 1, 1_000_000)
    for name, high in (("stop_grace", 3_600), ("unknown_callback", 7 * _DAY_SECONDS), ("timeout", _DAY_SECONDS)):
        _check_seconds(f"{name}_seconds", getattr(settings, f"executor_{name}_seconds"), high)
    for name in ("first_wait_seconds", "longest_wait_seconds"):
        _check_seconds(name, getattr(settings, f"executor_{name}"), 7 * _DAY_SECONDS)
    if settings.executor_first_wait_seconds > settings.executor_longest_wait_seconds:
        raise ConfigurationError(
            f"{_executor_name('first_wait_seconds')} is above {_executor_name('longest_wait_seconds')}. Lower the first or "
            "raise the second."
        )


def _executor_name(name: str) -> str:
    return f"{_PREFIX}EXECUTOR_{name.upper()}"


def _check_seconds(name: str, value: float, high: int) -> None:
    if not 0 <= value <= high:
        raise ConfigurationError(f"{_executor_name(name)} is {value:g}. Write seconds from 0 to {high}.")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{name} is {value}. Write a whole number from {low} to {high}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} is {value!r}. Write one of: {', '.join(choices)}.")


def _check_durability(settings: Settings) -> None:
    if settings.replication_factor < 3 and not (settings.unsafe or settings.demo_broker):
        raise ConfigurationError(
            f"WAIT_FOR_ME_REPLICATION_FACTOR is {settings.replication_factor}: with fewer than 3 copies the death of one "
            "broker can lose an acknowledged add. Use 3, or set WAIT_FOR_ME_UNSAFE=1 on a cluster for development."
        )
