"""The tests' own machinery: nothing that a test starts outlives it, and a missing Kafka is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kafka_broker
from kafka_broker import KafkaBroker, NoKafka, write_configuration
from processes import Running, wait_until

HERE = Path(__file__).resolve().parent.parent
SLEEP = "import os, subprocess, sys, time; print('pid', os.getpid(), flush=True); time.sleep(60)"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Running]:
    process = Running([sys.executable, "-c", SLEEP], log=tmp_path / "sleeper.log")
    process.wait_for_output("pid")
    yield process
    process.close()


def test_what_a_test_starts_dies_with_it_even_when_pytest_is_killed(tmp_path: Path) -> None:
    """The starter gets SIGKILL, so it cannot clean up; the leash does."""
    script = (
        f"import sys, time; sys.path.insert(0, {str(HERE)!r}); from pathlib import Path; from processes import Running; "
        f"one = Running([sys.executable, '-c', {SLEEP!r}], log=Path({str(tmp_path / 'child.log')!r})); "
        "print(one.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        child = int(starter.stdout.readline())
        assert is_alive(child)
        starter.kill()
    wait_until(lambda: not is_alive(child), 10)


def test_the_process_id_is_the_commands_own_and_its_exit_code_comes_through(sleeper: Running) -> None:
    """Tests send signals to the worker itself, not to the leash that holds it."""
    assert f"pid {sleeper.pid}" in sleeper.output()
    assert sleeper.exit_code is None
    assert sleeper.kill() == -signal.SIGKILL


def test_a_signal_to_what_has_just_ended_is_no_error(tmp_path: Path) -> None:
    """Its leash has taken its exit code and not told it yet."""
    process = Running([sys.executable, "-c", ""], log=tmp_path / "log")
    process.wait()
    process._exit_code = None
    process._leash.poll = lambda: None  # type: ignore[method-assign]
    process.signal(signal.SIGTERM)
    del process._leash.poll  # type: ignore[method-assign]
    process.close()


def test_stop_asks_first(sleeper: Running) -> None:
    """SIGTERM is what a supervisor sends; a process that obeys is not killed."""
    assert sleeper.stop() == -signal.SIGTERM
    sleeper.close()  # safe to repeat


def test_waiting_for_a_text_that_never_comes_shows_what_came_instead(tmp_path: Path) -> None:
    """A failing test must say what the process said."""
    process = Running([sys.executable, "-c", "print('other'); raise SystemExit(3)"], log=tmp_path / "log")
    with pytest.raises(AssertionError, match=r"ended with 3 and never said 'hello':\nother"):
        process.wait_for_output("hello")
    process.close()


def test_without_java_the_reason_names_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason is what a developer reads in the list of skipped tests."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoKafka, match=r"install Java 17 or newer, or set WAIT_FOR_ME_TEST_BOOTSTRAP"):
        KafkaBroker(tmp_path).start()


def test_an_old_java_is_named_with_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kafka 4 would fail with a class file version that tells nobody anything."""
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(NoKafka, match=r"`java -version` says: openjdk version \"11"):
        KafkaBroker(tmp_path).start()


def test_without_maven_and_without_jars_the_reason_names_maven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Maven is needed once; later runs use the cache."""
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"21\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kafka_broker, "CACHE", tmp_path / "cache")
    with pytest.raises(NoKafka, match="install Maven"):
        KafkaBroker(tmp_path).start()


def test_a_brokers_configuration_takes_further_properties(tmp_path: Path) -> None:
    """A test that needs another broker says how it differs."""
    path = write_configuration(tmp_path, 1234, 1235, {"log.retention.check.interval.ms": "100"})
    lines = path.read_text().splitlines()
    assert "listeners=PLAINTEXT://127.0.0.1:1234,CONTROLLER://127.0.0.1:1235" in lines
    assert lines[-1] == "log.retention.check.interval.ms=100"
    assert not any("$" in line for line in lines)
