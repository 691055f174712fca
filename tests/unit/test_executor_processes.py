"""Callbacks in child processes: they are really killed, with what they have started, and the executor goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import process_callbacks
from executor_world import Process, World, fire_id_of, fire_value
from processes import wait_until
from wait_for_me.codec import decode_fire
from wait_for_me.errors import ConfigurationError
from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.callbacks import Call, Registry
from wait_for_me_app.executor.child_ends import Ending, FailedElsewhere, ProcessDied, encode_ending, error_in
from wait_for_me_app.executor.effects import Start
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.runner import Ended, Runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner with two child processes."""
    runner = Runner(threads=1, processes=2)
    yield runner
    runner.close()


def start(runner: Runner, token: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Start an attempt in a child process."""
    runner.start(Start(token=token, call=Call(function=function, args=args, kwargs=kwargs), kind="process"))


def ended(runner: Runner, count: int = 1) -> list[Ended]:
    """Wait for so many attempts to end."""
    found: list[Ended] = []

    def enough() -> bool:
        found.extend(runner.take_ended())
        return len(found) >= count

    wait_until(enough, 20, lambda: f"ended so far: {found}")
    return found


def pids(folder: Path, count: int = 1) -> list[int]:
    """Wait for so many processes to have written their ids; return these."""
    wait_until(lambda: len(list(folder.iterdir())) >= count, 20, lambda: str(list(folder.iterdir())))
    return [int(path.name) for path in folder.iterdir()]


def is_running(pid: int) -> bool:
    """Return whether a process is there and is no zombie."""
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def test_it_runs_in_another_process_which_is_used_again(runner: Runner, tmp_path: Path) -> None:
    """To start one takes a tenth of a second; that is paid once."""
    for token in range(3):
        start(runner, token, process_callbacks.write_pid, str(tmp_path))
        assert ended(runner) == [(token, None)]
    (pid,) = pids(tmp_path)
    assert pid != os.getpid()


def test_the_fire_comes_over(runner: Runner, tmp_path: Path) -> None:
    """With all that it says."""
    fire = decode_fire(fire_value("x"))
    start(runner, 1, process_callbacks.tell_fire_id, str(tmp_path), fire=fire)
    assert ended(runner) == [(1, None)]
    assert [path.name for path in tmp_path.iterdir()] == [fire.fire_id]


def test_a_hanging_callback_is_killed_with_what_it_has_started_and_the_next_one_runs(
    runner: Runner, tmp_path: Path
) -> None:
    """Its end comes at once, so its slot is free again."""
    start(runner, 1, process_callbacks.hang, str(tmp_path))
    hanging = pids(tmp_path, 2)
    assert all(map(is_running, hanging))
    runner.cancel(1)
    ((token, error),) = ended(runner)
    assert (token, type(error)) == (1, ProcessDied)
    wait_until(lambda: not any(map(is_running, hanging)), 10, lambda: str(hanging))
    start(runner, 2, process_callbacks.leave)
    start(runner, 3, process_callbacks.fail, "x")
    assert {token for token, _ in ended(runner, 2)} == {2, 3}


def test_what_a_callback_raises_comes_over_as_what_the_executor_knows(runner: Runner) -> None:
    """The kind and the text of anything; the two that say more, as they are."""
    start(runner, 1, process_callbacks.fail, "it broke \ud800")
    start(runner, 2, process_callbacks.ask_for_time, 120)
    start(runner, 3, process_callbacks.give_up)
    start(runner, 4, process_callbacks.leave)
    found = dict(ended(runner, 4))
    assert isinstance(found[1], FailedElsewhere)
    assert str(found[1]) == "ValueError: it broke ?"
    assert "in fail" in found[1].__notes__[0]
    assert isinstance(found[2], RetryAfter)
    assert found[2].wait_ms == 120_000
    assert isinstance(found[3], SetAside)
    assert found[3].code == "bad_parameters"
    assert str(found[4]) == "SystemExit: 3"


def test_a_process_that_dies_is_told_with_how_it_did_and_replaced(runner: Runner, tmp_path: Path) -> None:
    """A crash in a C library ends a child, not the executor."""
    start(runner, 1, process_callbacks.die)
    ((_, error),) = ended(runner)
    assert isinstance(error, ProcessDied)
    assert "exit code 86" in str(error)
    start(runner, 2, process_callbacks.hang, str(tmp_path))
    hanging = pids(tmp_path, 2)
    (leader,) = (pid for pid in hanging if os.getpgid(pid) == pid)
    os.kill(leader, signal.SIGKILL)
    assert "signal SIGKILL" in str(ended(runner)[0][1])
    wait_until(lambda: not any(map(is_running, hanging)), 10, lambda: str(hanging))
    start(runner, 3, process_callbacks.write_pid, str(tmp_path))
    assert ended(runner) == [(3, None)]


def test_what_cannot_travel_is_a_failure(runner: Runner) -> None:
    """The child is not even asked."""
    start(runner, 1, lambda: None)
    ((_, error),) = ended(runner)
    assert error is not None


def test_killing_what_has_ended_or_never_began_does_nothing(runner: Runner, tmp_path: Path) -> None:
    """The order to kill may cross the news of the end."""
    runner.cancel(99)
    start(runner, 1, process_callbacks.write_pid, str(tmp_path))
    assert ended(runner) == [(1, None)]
    runner.cancel(1)
    start(runner, 2, process_callbacks.write_pid, str(tmp_path))
    assert ended(runner) == [(2, None)]


def test_closing_kills_what_runs(runner: Runner, tmp_path: Path) -> None:
    """A stopped executor leaves nothing behind."""
    start(runner, 1, process_callbacks.hang, str(tmp_path))
    hanging = pids(tmp_path, 2)
    runner.close()
    wait_until(lambda: not any(map(is_running, hanging)), 10, lambda: str(hanging))


def test_children_die_with_an_executor_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives it no time to say so: the pipe that it holds ends."""
    program = textwrap.dedent(
        f"""
        import time
        import process_callbacks
        from wait_for_me_app.callbacks import Call
        from wait_for_me_app.executor.effects import Start
        from wait_for_me_app.executor.runner import Runner
        call = Call(function=process_callbacks.hang, args=({str(tmp_path)!r},), kwargs={{}})
        Runner(threads=1).start(Start(token=1, call=call, kind="process"))
        time.sleep(600)
        """
    )
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}) as executor:
        try:
            hanging = pids(tmp_path, 2)
        finally:
            executor.kill()
    wait_until(lambda: not any(map(is_running, hanging)), 10, lambda: str(hanging))


def test_nonsense_from_a_child_is_its_death() -> None:
    """A callback may have written into the connection."""
    assert isinstance(error_in(b"{}"), ProcessDied)
    assert isinstance(error_in(encode_ending(Ending(how="set_aside", code="no_such_code"))), ProcessDied)
    assert error_in(encode_ending(Ending(how="done"))) is None


# --- what the schedule makes of it -----------------------------------------------------------------------------------


def test_a_callback_whose_process_dies_is_tried_again_and_dead_after_three_deaths() -> None:
    """As if the whole executor had died of it; but nothing has to be waited out, and nothing else is lost."""
    registry = Registry()
    registry.callback("dies", attempts=10, first_wait_in_seconds=1, process=True)(process_callbacks.die)
    world = World(registry, ExecutorOptions(starts_without_end=3))
    value = fire_value("dies")
    world.write_fire(value)
    process = Process(world)
    process.read()
    for _ in range(3):
        process.settle(ProcessDied("exit code 86"))
        process.pass_time(5_000)
    assert len(world.begun) == 3
    (letter,) = world.letters(fire_id_of(value))
    assert letter["wfm_error"] == "callback_killed_process"
    assert "exit code 86" in letter["__dlq.errors.message"]


def test_a_callback_that_was_killed_at_its_limit_has_failed_with_a_code_of_its_own() -> None:
    """The kill is ordered, the failure is written, and the slot is free when the process is gone."""
    registry = Registry()
    registry.callback("hangs", attempts=1, timeout_in_seconds=2, process=True)(process_callbacks.die)
    world = World(registry, ExecutorOptions(processes=1))
    values = [fire_value("hangs"), fire_value("hangs")]
    for value in values:
        world.write_fire(value)
    process = Process(world)
    process.read()
    process.tick()
    process.deliver()
    process.tick()
    process.deliver()
    token = process.only_token
    process.pass_time(2_001)
    assert process.cancelled == {token}
    process.deliver()
    process.end(token, ProcessDied("signal SIGKILL"))
    assert world.letters(fire_id_of(values[0]))[0]["wfm_error"] == "callback_timeout"
    process.tick()
    process.deliver()
    assert process.running, "the next one has the slot"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [lambda: None, None], ids=["no name", "async"])
def test_functions_that_a_child_cannot_import_or_need_not_are_refused(function: Any) -> None:
    """When they are registered, with the remedy."""

    async def later() -> None: ...

    with pytest.raises(ConfigurationError, match=r"[Rr]emove process=True"):
        Registry().callback("x", process=True)(function or later)


def test_a_function_that_another_decorator_hides_is_refused_when_all_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module's name for it leads to something else."""
    registry = Registry()
    registry.callback("x", process=True)(process_callbacks.die)
    monkeypatch.setattr(process_callbacks, "die", lambda: None)
    with pytest.raises(ConfigurationError, match="outermost decorator"):
        registry.settle(ExecutorOptions().callbacks)
