"""The keeper of a chaos run: who ends is started again, and why it ended is known. Its processes are tiny, and real."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chaos.fault_log import FaultLog
from chaos.plan import Step
from chaos.slots import Keeper, Slot
from processes import wait_until

# Dies at its crash point when it has one, as a worker does; otherwise it says that it is ready, and waits.
DIES_OR_WAITS = """
import os, signal, sys, time
if point := os.environ.get("WAIT_FOR_ME_TEST_CRASH_AT"):
    with open(os.environ["WAIT_FOR_ME_TEST_CRASH_LOG"], "a") as hits:
        hits.write(f"{point.partition(':')[0]} {os.getpid()}\\n")
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("worker_ready", flush=True)
time.sleep(60)
"""
FAILS = "raise SystemExit('no reason')"
SAYS_NOTHING = "import time; time.sleep(60)"
IGNORES_ITS_POINT = "import time; print('worker_ready', flush=True); time.sleep(60)"


def slot(home: Path, name: str = "w1", code: str = DIES_OR_WAITS) -> Slot:
    """Return a slot for a tiny process."""
    return Slot(name=name, role="worker", command=[sys.executable, "-I", "-c", code], environment={}, home=home)


class World:
    """A keeper with its log."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, FaultLog(home / "fault-log")
        self.keeper = Keeper({}, self.log, seed=1)

    def keep(self, *slots: Slot) -> Mapping[str, Slot]:
        """Have these slots filled."""
        self.keeper.slots = {one.name: one for one in slots}
        for one in slots:
            self.keeper.keep(one.name, True)
        self.keeper.start()
        return self.keeper.slots

    def happened(self, what: str) -> int:
        """Return how often something has."""
        return sum(event["what"] == what for event in self.log.events)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A keeper whose processes end with the test."""
    one = World(tmp_path)
    yield one
    one.keeper.close()
    one.log.close()


def test_who_is_killed_is_started_again_and_the_kill_is_counted(world: World) -> None:
    """One life after the other, as long as the slot is wanted."""
    (one,) = world.keep(slot(world.home)).values()
    wait_until(lambda: one.is_ready, 10)
    assert world.keeper.kill("w1", "test") is not None
    wait_until(lambda: one.lives == 2 and one.is_ready, 10)
    assert world.keeper.sigkills == 1
    assert not world.keeper.strange


def test_a_chain_is_lived_through_point_by_point(world: World) -> None:
    """Each life ends at its point; the last one has none."""
    (one,) = world.keep(slot(world.home)).values()
    wait_until(lambda: one.is_ready, 10)
    world.keeper.begin_chain("w1", [Step(point="K1"), Step(point="K3")])
    wait_until(lambda: one.is_ready and not world.keeper.is_in_chain("w1"), 10)
    assert world.keeper.hits == {"K1": 1, "K3": 1}
    assert world.keeper.sigkills == 3  # the first one made room for the chain
    assert world.keeper.end_chain("w1") == []


def test_a_point_that_does_not_come_is_given_back(world: World) -> None:
    """The process is killed, and the step is owed."""
    (one,) = world.keep(slot(world.home, code=IGNORES_ITS_POINT)).values()
    wait_until(lambda: one.is_ready, 10)
    world.keeper.begin_chain("w1", [Step(point="K7"), Step(point="K8")])
    wait_until(lambda: one.step is not None and one.is_up, 10)
    assert [step.point for step in world.keeper.end_chain("w1")] == ["K7", "K8"]
    wait_until(lambda: one.is_ready, 10)
    assert world.keeper.hits == {}


def test_slots_that_die_together_begin_their_next_lives_together(world: World) -> None:
    """Whoever has died waits for the others."""
    slots = world.keep(slot(world.home, "w1"), slot(world.home, "w2")).values()
    wait_until(lambda: all(one.is_ready for one in slots), 10)
    for one in slots:
        world.keeper.begin_chain(one.name, [Step(point="K1"), Step(point="K4")], together=True)
    wait_until(lambda: all(one.is_ready for one in slots), 20)
    order = [event["point"] for event in world.log.events if event["what"] == "crash_point"]
    assert order == ["K1", "K1", "K4", "K4"]


def test_a_stop_in_order_is_not_strange(world: World) -> None:
    """SIGTERM, exit code 0, and nobody in the slot when it is not wanted any more."""
    (one,) = world.keep(slot(world.home)).values()
    wait_until(lambda: one.is_ready, 10)
    world.keeper.keep("w1", False)
    world.keeper.stop("w1")
    wait_until(lambda: world.happened("exit") == 1, 10)
    assert not one.is_up
    assert not world.keeper.strange


@pytest.mark.parametrize(("code", "strange"), [(SAYS_NOTHING, 0), (IGNORES_ITS_POINT, 1)], ids=["starting", "started"])
def test_a_stop_ends_without_a_code_only_what_is_still_starting(world: World, code: str, strange: int) -> None:
    """Python has no handler yet then; whoever has come further must end in order."""
    (one,) = world.keep(slot(world.home, code=code)).values()
    wait_until(lambda: one.is_up and (one.is_ready or not strange), 10)
    world.keeper.keep("w1", False)
    world.keeper.stop("w1")
    wait_until(lambda: world.happened("exit") == 1, 10)
    assert len(world.keeper.strange) == strange


def test_an_exit_that_nothing_explains_is_strange(world: World) -> None:
    """It is named with its code and its last words."""
    world.keep(slot(world.home, code=FAILS))
    wait_until(lambda: bool(world.keeper.strange), 10)
    assert "ended with 1 after nothing: no reason" in world.keeper.strange[0]


def test_ending_at_every_start_for_the_same_reason_is_strange(world: World) -> None:
    """Code 70 is a way to heal by a new start; a store that ends the worker each time heals nobody."""
    world.keep(slot(world.home, code="print('the store is damaged'); raise SystemExit(70)"))
    wait_until(lambda: bool(world.keeper.strange), 20, lambda: "it was taken for healing")
    assert "for the same reason 3 times: the store is damaged" in world.keeper.strange[0]


def test_a_zombie_goes_on_after_its_pause(world: World) -> None:
    """The same process, later."""
    (one,) = world.keep(slot(world.home)).values()
    wait_until(lambda: one.is_ready, 10)
    assert world.keeper.pause("w1", 0.1)
    assert one.is_up
    assert (world.happened("sigstop"), world.happened("sigcont")) == (1, 1)
