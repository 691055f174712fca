"""The demo as a user runs it: the command itself, with its real worker, executor and web servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_broker import free_port
from processes import Running, wait_until

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "wait_for_me_app", "demo")
EXPECTED = '{"complete": 1, "timeout": 1, "removed": 1, "callbacks_run": 2, "duplicates": 0}'


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The caller's environment, with a temporary directory of its own so that what is left behind can be seen."""
    return {**os.environ, "TMPDIR": str(tmp_path), "WAIT_FOR_ME_BOOTSTRAP_SERVERS": "must-not-be-used:9092"}


@pytest.fixture
def started(tmp_path: Path, environment: dict[str, str]) -> Iterator[Running]:
    """A demo whose output goes to a file."""
    demo = Running(COMMAND, log=tmp_path / "demo.log", env=environment)
    yield demo
    demo.close()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_using(directory: Path) -> set[int]:
    """Return the processes whose environment or arguments name the demo's directory."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{directory}/wait-for-me-demo-".encode() in told:
            found.add(int(entry.name))
    return found


def test_the_demo_plays_its_story_and_counts_it(tmp_path: Path, environment: dict[str, str]) -> None:
    """One complete, one timeout, one removed, two callbacks, no duplicate; the JSON is all that stdout gets."""
    begun = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "--json"], env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert (done.returncode, done.stdout) == (0, EXPECTED + "\n"), done.stderr
    assert "\x1b" not in done.stderr
    assert json.loads(done.stdout)["duplicates"] == 0
    assert re.search(r"fires +\d:\d+ +deploy-41 +fired: complete", done.stderr)
    assert re.search(r"fires +\d:\d+ +deploy-42 +fired: timeout, 1 missing", done.stderr)
    assert re.search(r"commands +\d:\d+ +deploy-43 +removed: rolled back by web-6", done.stderr)
    assert list(tmp_path.iterdir()) == [], "the demo left something behind"
    assert time.monotonic() - begun < 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_nothing_behind(number: signal.Signals, started: Running, tmp_path: Path) -> None:
    """Ctrl-C, a supervisor's SIGTERM and even SIGKILL end every child and remove the temporary directory."""
    wait_until(lambda: len(children_using(tmp_path)) >= 8, 60, started.tail)
    children = children_using(tmp_path)
    started.signal(number)
    assert started.wait(30) == (-number if number == signal.SIGKILL else 128 + number), started.tail()
    wait_until(lambda: not any(is_running(pid) for pid in children), 20)
    wait_until(lambda: not list(tmp_path.glob("wait-for-me-demo-*")), 20)


def test_a_demo_that_is_kept_serves_its_page_until_ctrl_c(tmp_path: Path, environment: dict[str, str]) -> None:
    """The last line says where; what was played can be seen there; the end is no failure and leaves nothing."""
    log = tmp_path.with_suffix(".log")
    kept = Running([*COMMAND, "--keep", "--port", str(free_port())], log=log, env=environment)
    try:
        kept.wait_for_output("Ctrl-C ends the demo", 100)
        url = re.findall(r"http://\S+/ui/", kept.output())[-1]
        with urllib.request.urlopen(f"{url.removesuffix('ui/')}api/v1/fires", timeout=10) as answer:
            fired = {fire["group_key"]: fire["reason"] for fire in json.loads(answer.read())["fires"]}
        assert (fired["deploy-41"], fired["deploy-42"]) == ("complete", "timeout")
        kept.signal(signal.SIGINT)
        assert kept.wait(30) == 0
    finally:
        kept.close()
    assert list(tmp_path.iterdir()) == [], "the demo left something behind"


def test_a_demo_whose_worker_dies_says_so_and_shows_what_it_printed(started: Running, tmp_path: Path) -> None:
    """A failed child ends the demo with exit code 1, its name and the end of its log."""
    wait_until(lambda: bool(workers(tmp_path)), 60, started.tail)
    os.kill(workers(tmp_path).pop(), signal.SIGKILL)
    assert started.wait(30) == 1
    assert re.search(
        r"The demo failed: worker \(process \d+\) was ended by SIGKILL\. It printed last:", started.output()
    )


def workers(directory: Path) -> set[int]:
    """Return the demo's worker: a child that runs Faust."""
    return {pid for pid in children_using(directory) if b"faust" in Path(f"/proc/{pid}/cmdline").read_bytes()}
