"""The demo's children end with it, however it ends, and a failed one tells what it printed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wait_for_me_app.demo import reaper
from wait_for_me_app.demo.children import Child, ChildDied, Children
from wait_for_me_app.demo.interruption import Interrupted, Interruption

WAIT_FOR_INPUT = "import sys; print('ready', flush=True); sys.stdin.read()"
SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


def start(children: Children, name: str, code: str, *, pipe: bool = False) -> Child:
    return children.start(name, (sys.executable, "-I", "-S", "-c", code), os.environ, pipe=pipe)


def until(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_at, f"it did not happen that {what}"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """A zombie that only waits for its parent to look is gone too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_leaving_the_context_ends_children_and_removes_their_directory() -> None:
    """Neither a process nor a file stays behind."""
    with Children() as children:
        child = start(children, "worker", SLEEP)
        directory = children.directory
        assert directory.is_dir()
        assert child.light == "up"
    assert not child.is_alive
    assert child.light == "ended"
    assert not directory.exists()


def test_a_child_that_ignores_being_asked_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not depend on a child's good will."""
    monkeypatch.setattr("wait_for_me_app.demo.children.GRACE_SECONDS", 0.2)
    with Children() as children:
        child = start(children, "worker", f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP}")
        until(lambda: child.tail() == "ready", "the child is up")
    assert is_gone(child.pid)


def test_what_a_child_started_ends_with_it() -> None:
    """A child leads its own process group, and the whole group ends."""
    code = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True); {SLEEP}"
    )
    with Children() as children:
        child = start(children, "executor", code)
        until(lambda: child.tail().count("ready") == 2, "both are up")
        grandchild = next(int(line) for line in child.tail().splitlines() if line.isdigit())
    until(lambda: is_gone(grandchild), "the grandchild is gone")


def test_a_child_that_dies_is_reported_with_its_last_words() -> None:
    """Whoever runs the demo sees which process failed, how, and what it said."""
    with Children() as children:
        child = start(children, "worker", "raise SystemExit('no such topic')")
        until(lambda: not child.is_alive, "the child has ended")
        with pytest.raises(ChildDied, match=r"(?s)worker \(process \d+\) ended with exit code 1\..*no such topic"):
            children.check()
        assert child.light == "died"


def test_a_child_that_a_signal_ended_is_reported_by_the_signals_name() -> None:
    """`-9` would say less than SIGKILL."""
    with Children() as children:
        child = start(children, "executor", SLEEP)
        child.signal(signal.SIGKILL)
        until(lambda: not child.is_alive, "the child has ended")
        with pytest.raises(ChildDied, match="was ended by SIGKILL"):
            children.check()


def test_a_child_that_was_killed_on_purpose_is_no_failure() -> None:
    """The story kills a web server; that must not end the show."""
    with Children() as children:
        child = start(children, "web-4", WAIT_FOR_INPUT, pipe=True)
        children.kill("web-4")
        until(lambda: not child.is_alive, "the child has ended")
        children.check()
        child.tell(b"nobody reads this")
        assert child.light == "died"


def test_a_child_is_told_lines_through_its_pipe() -> None:
    """What is told arrives as a line."""
    with Children() as children:
        child = start(children, "web-1", "print('told', input(), flush=True)", pipe=True)
        child.tell(b"refresh")
        until(lambda: child.tail() == "told refresh", "the line has arrived")


def test_telling_a_child_without_a_pipe_is_an_error() -> None:
    """The mistake is named, with the remedy."""
    with Children() as children, pytest.raises(ValueError, match="start it with pipe=True"):
        start(children, "worker", SLEEP).tell(b"refresh")


def test_children_end_even_if_the_demo_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives the demo no chance to tidy up; the reaper does."""
    code = (
        "import os, sys, time\n"
        "from wait_for_me_app.demo.children import Children\n"
        "children = Children()\n"
        f"child = children.start('worker', [sys.executable, '-I', '-S', '-c', {SLEEP!r}], os.environ)\n"
        "print(child.pid, children.directory, flush=True)\n"
        "time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        pid, directory = demo.stdout.readline().split()
        demo.kill()
    until(lambda: is_gone(int(pid)), "the child is gone")
    until(lambda: not Path(directory).exists(), "the directory is gone")


def test_the_reaper_ends_only_what_was_not_waited_for() -> None:
    """A process id that has been waited for may belong to somebody else by now."""
    assert reaper.left_over(["+10\n", "+11\n", "-10\n", "+12\n", "-12\n", "+12\n"]) == {11, 12}


def test_a_signal_is_obeyed_between_steps() -> None:
    """The signal is noted when it comes and raised when asked for; afterwards the old handler is back."""
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        interruption.obey()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM") as caught:
            interruption.obey()
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
