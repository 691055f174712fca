"""Executor limits from flags and environment: each reaches the executor, and a wrong one stops it with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import cli
from wait_for_me_app.callbacks import DEFAULT_PATIENCE, Patience, Registry
from wait_for_me_app.executor import process as executor
from wait_for_me_app.executor.options import ExecutorOptions, options_from
from wait_for_me_app.settings import Settings

VARIABLES = {
    "THREADS": "3",
    "TASKS": "4",
    "PROCESSES": "5",
    "MAX_IN_FLIGHT": "6",
    "PENDING_FIRES": "70",
    "STOP_GRACE_SECONDS": "0.5",
    "UNKNOWN_CALLBACK_SECONDS": "9",
    "STARTS_WITHOUT_END": "10",
    "ATTEMPTS": "11",
    "TIMEOUT_SECONDS": "12.5",
    "FIRST_WAIT_SECONDS": "13",
    "LONGEST_WAIT_SECONDS": "14",
    "METRICS_PORT": "9309",
}
WANTED = ExecutorOptions(
    threads=3,
    tasks=4,
    processes=5,
    max_in_flight=6,
    pending_fires=70,
    stop_grace_ms=500,
    patience_ms=9_000,
    starts_without_end=10,
    callbacks=Patience(attempts=11, timeout_in_seconds=12.5, first_wait_in_seconds=13, longest_wait_in_seconds=14),
)


def read(**variables: str) -> Settings:
    """Return the settings of an environment."""
    return Settings.from_environment({f"WAIT_FOR_ME_EXECUTOR_{name}": text for name, text in variables.items()})


def test_what_nobody_sets_is_the_executors_own_default() -> None:
    """Two places say them, and they agree."""
    assert options_from(read()) == ExecutorOptions()
    assert ExecutorOptions().callbacks == DEFAULT_PATIENCE
    assert read().executor_metrics_port == 0


def test_every_variable_reaches_the_executor() -> None:
    """With its unit."""
    settings = read(**VARIABLES)
    assert options_from(settings) == WANTED
    assert settings.executor_metrics_port == 9309


def test_every_flag_reaches_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """And wins over its variable."""
    given: list[Any] = []
    monkeypatch.setattr(executor, "run", lambda settings: given.append(settings) or 0)
    monkeypatch.setenv("WAIT_FOR_ME_EXECUTOR_THREADS", "99")
    flags = [f"--{name.lower().replace('_', '-').removesuffix('-seconds')}={text}" for name, text in VARIABLES.items()]
    assert cli.main(["executor", *flags]) == 0
    assert options_from(given[0]) == WANTED
    assert given[0].executor_metrics_port == 9309


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("THREADS", "0", "from 1 to 1000"),
        ("TASKS", "many", "no whole number"),
        ("PROCESSES", "-1", "from 1 to 1000"),
        ("MAX_IN_FLIGHT", "0", "from 1 to 1000000"),
        ("PENDING_FIRES", "1", "from 10 to"),
        ("STOP_GRACE_SECONDS", "soon", "no number"),
        ("STOP_GRACE_SECONDS", "nan", "no number"),
        ("STOP_GRACE_SECONDS", "-1", "Write seconds from 0"),
        ("UNKNOWN_CALLBACK_SECONDS", "1e9", "Write seconds from 0"),
        ("STARTS_WITHOUT_END", "0", "from 1 to"),
        ("ATTEMPTS", "0", "from 1 to"),
        ("TIMEOUT_SECONDS", "100000", "Write seconds from 0"),
        ("FIRST_WAIT_SECONDS", "4000", "Lower the first or raise the second"),
        ("METRICS_PORT", "70000", "from 0 to 65535"),
    ],
)
def test_a_wrong_value_stops_it_with_its_name_and_what_to_write(name: str, text: str, said: str) -> None:
    """Before anything is asked of Kafka."""
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: text})
    assert f"WAIT_FOR_ME_EXECUTOR_{name}" in str(caught.value)
    assert said in str(caught.value)


def test_defaults_fill_what_callbacks_leave_open_whenever_they_were_registered() -> None:
    """A module may be imported before the settings are known; what a callback says itself stands."""
    registry = Registry()
    registry.callback("open")(lambda: None)
    registry.callback("own", attempts=2, timeout_in_seconds=1)(lambda: None)
    registry.settle(WANTED.callbacks)
    left_open, own = registry.find("open"), registry.find("own")
    assert left_open is not None
    assert own is not None
    assert (left_open.policy.attempts, left_open.time_limit_ms, left_open.policy.first_wait_ms) == (11, 12_500, 13_000)
    assert (own.policy.attempts, own.time_limit_ms, own.policy.longest_wait_ms) == (2, 1_000, 14_000)


def test_defaults_that_a_callback_cannot_live_with_are_refused() -> None:
    """All attempts have to fit into the time that outcomes are kept."""
    registry = Registry()
    registry.callback("x")(lambda: None)
    with pytest.raises(ConfigurationError, match="longer than 7 days"):
        registry.settle(
            Patience(attempts=1000, timeout_in_seconds=60, first_wait_in_seconds=1, longest_wait_in_seconds=3600)
        )
