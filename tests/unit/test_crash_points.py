"""Crash points: silent in production, deadly in tests, and refused where it is not said that this is a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wait_for_me_app import crash_points

PASS_THEM = """
import sys
from wait_for_me_app.crash_points import crash_point
for name in sys.argv[1:]:
    crash_point(name)
    print(name, flush=True)
"""


def run(*names: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Pass the points in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WAIT_FOR_ME_")}
    return subprocess.run(
        [sys.executable, "-c", PASS_THEM, *names],
        check=False,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def armed(at: str, **env: str) -> dict[str, str]:
    """The environment of a test."""
    return {"WAIT_FOR_ME_TEST_CRASH_AT": at, "WAIT_FOR_ME_TEST_BUILD": "1", **env}


def test_nothing_is_armed_here() -> None:
    """Nor in production: the points are calls that do nothing."""
    for name in crash_points.POINTS:
        crash_points.crash_point(name)


def test_an_armed_point_kills_the_process_at_the_pass_that_was_asked_for(tmp_path: Path) -> None:
    """By SIGKILL, so that nothing is flushed or closed; other points let it pass; the hit is noted."""
    hits = tmp_path / "hits"
    done = run("K1", "K3", "K1", "K3", **armed("K3:2", WAIT_FOR_ME_TEST_CRASH_LOG=str(hits)))
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["K1", "K3", "K1"])
    assert hits.read_text().startswith("K3 ")


def test_without_a_count_it_is_the_first_pass() -> None:
    """And without a log it is not noted."""
    done = run("K4", **armed("K4"))
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_a_count_that_is_not_reached_kills_nobody() -> None:
    """A test that asks for too much sees its process live."""
    done = run("K4", "K4", **armed("K4:3"))
    assert (done.returncode, done.stdout.split()) == (0, ["K4", "K4"])


@pytest.mark.parametrize(
    "env",
    [
        {"WAIT_FOR_ME_TEST_CRASH_AT": "K1"},
        {"WAIT_FOR_ME_TEST_CRASH_AT": "K1", "WAIT_FOR_ME_TEST_BUILD": "0"},
        {"WAIT_FOR_ME_TEST_CRASH_AT": "K1", "WAIT_FOR_ME_TEST_BUILD": "yes"},
        {"WAIT_FOR_ME_TEST_CRASH_AT": "K99", "WAIT_FOR_ME_TEST_BUILD": "1"},
        {"WAIT_FOR_ME_TEST_CRASH_AT": "K1:soon", "WAIT_FOR_ME_TEST_BUILD": "1"},
        {"WAIT_FOR_ME_TEST_CRASH_AT": "K1:0", "WAIT_FOR_ME_TEST_BUILD": "1"},
    ],
    ids=["no test build", "zero", "yes", "unknown point", "no number", "never"],
)
def test_a_point_is_refused_outside_tests_and_when_it_makes_no_sense(env: dict[str, str]) -> None:
    """The process does not start, and the message says what to unset."""
    done = run("K1", **env)
    assert done.returncode == 1
    assert "ConfigurationError" in done.stderr
    assert "is for tests only; unset it" in done.stderr


def test_an_empty_setting_is_no_setting() -> None:
    """As a compose file writes what it does not want."""
    assert run("K1", WAIT_FOR_ME_TEST_CRASH_AT="").returncode == 0


@pytest.mark.parametrize("point", sorted(crash_points.POINTS))
def test_every_point_is_passed_somewhere(point: str) -> None:
    """A point that nothing passes would let a crash test pass that tests nothing."""
    source = Path(crash_points.__file__).parent
    texts = [path.read_text() for path in source.rglob("*.py") if path.name != "crash_points.py"]
    assert any(f'crash_point("{point}")' in text for text in texts)
