"""A slot is the place of one worker or executor: whatever ends its process, the keeper starts the next one.

A slot may have a chain of steps. Each is one life that ends at a named crash point; what ends otherwise is tried again, twice. Every end
is noted with its cause: our kill, a crash point, an exit code with the last error that the process logged.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from chaos.damage import damage
from chaos.fault_log import FaultLog
from chaos.plan import Step
from processes import Running

_LOOK_EVERY_S: Final = 0.05
_AT_LEAST_BETWEEN_S: Final = 0.3
_ENDS_OF_A_LOOP: Final = 3
_TRIES: Final = 3
_LONGEST_ROUND_S: Final = 15.0
READY: Final = {"worker": "worker_ready", "executor": "executor_started"}


@dataclass(kw_only=True)
class Slot:
    """One place for a process."""

    name: str
    role: str
    command: Sequence[str]
    environment: Mapping[str, str]
    home: Path
    data_directory: Path | None = None
    wanted: bool = False
    process: Running | None = None
    chain: deque[Step] = field(default_factory=deque)
    step: Step | None = None
    """The step that the process which runs now has been started for."""
    tries: int = 0
    together: bool = False
    """Whether the lives of its chain begin when those of the other slots do."""
    begun: int = 0
    ended: int = 0
    """How many lives of the chain have begun and ended."""
    unhit: list[Step] = field(default_factory=list)
    ended_by: str = ""
    """Why the process is going to end, when it is our doing."""
    start_at: float = 0.0
    lives: int = 0
    last_reason: str = ""
    ends_alike: int = 0
    """How many lives in a row have ended by themselves with code 70 and for one reason."""

    @property
    def crash_log(self) -> Path:
        """Where a process notes at which point it dies."""
        return self.home / f"{self.name}.hits"

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and self.process.exit_code is None

    @property
    def is_ready(self) -> bool:
        """Whether a process runs, has nothing to die at, and serves."""
        if not self.is_up or self.step is not None or self.chain:
            return False
        assert self.process is not None
        return READY[self.role] in self.process.output()

    def partitions(self) -> list[int]:
        """Return the lanes that the worker has taken over last, from its log."""
        for line in reversed(self.process.output().splitlines() if self.process else []):
            if '"lanes_taken_over"' in line:
                return list(json.loads(line)["active"])
        return []

    def launch(self) -> None:
        """Start its next life."""
        extra = {}
        if self.step is not None:
            extra = {
                "WAIT_FOR_ME_TEST_BUILD": "1",
                "WAIT_FOR_ME_TEST_CRASH_AT": f"{self.step.point}:{self.step.passes}",
                "WAIT_FOR_ME_TEST_CRASH_LOG": str(self.crash_log),
            }
        self.lives += 1
        self.ended_by = ""
        log = self.home / f"{self.name}-{self.lives:03d}.log"
        self.process = Running(self.command, log=log, env={**self.environment, **extra})


class Keeper:
    """Watches all slots in a thread, starts what has ended, and notes why it has."""

    def __init__(self, slots: Mapping[str, Slot], fault_log: FaultLog, *, seed: int) -> None:
        self.slots = slots
        self.hits: Counter[str] = Counter()
        self.sigkills = 0
        self.strange: list[str] = []
        """Ends that nothing explains: any other exit code than a crash, a stop, or the two that say `start me again`."""
        self.exits: Counter[str] = Counter()
        self._log = fault_log
        self._random = random.Random(f"keeper {seed}")
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Watch no more, and end every process."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(20)
        for slot in self.slots.values():
            if slot.process is not None:
                slot.process.kill() if slot.is_up else None
                slot.process.close()

    # -- what the conductor does

    def keep(self, name: str, wanted: bool) -> None:
        """Have a slot filled, or leave it empty when its process ends."""
        with self._lock:
            self.slots[name].wanted = wanted

    def kill(self, name: str, why: str) -> dict[str, Any] | None:
        """SIGKILL a slot's process; return the note of it, or None if there is none to kill."""
        slot = self.slots[name]
        with self._lock:
            if not slot.is_up:
                return None
            lanes = slot.partitions() if slot.role == "worker" else []
            event = self._log.note("sigkill", slot=name, why=why, partitions=lanes)
            self._signal(slot, signal.SIGKILL, "sigkill")
            self.sigkills += 1
            return event

    def stop(self, name: str) -> None:
        """Ask a slot's process to end, and wait; one that does not is killed, and that is strange."""
        slot = self.slots[name]
        with self._lock:
            process = slot.process
            if process is None or not slot.is_up:
                return
            self._log.note("sigterm", slot=name)
            self._signal(slot, signal.SIGTERM, "sigterm")
        give_up_at = time.monotonic() + 30
        while process.exit_code is None and time.monotonic() < give_up_at:
            time.sleep(0.05)
        if process.exit_code is None:
            self.strange.append(
                f"{name} did not end within 30 s of SIGTERM: its stacks are at the end of {process.log.name}"
            )
            self._tell_where_it_stands(process)
            self.kill(name, "did not end on SIGTERM")

    def _tell_where_it_stands(self, process: Running) -> None:
        """Have a process that hangs write the stacks of its threads into its log: PYTHONFAULTHANDLER does that on SIGABRT."""
        process.signal(signal.SIGABRT)
        give_up_at = time.monotonic() + 5
        while process.exit_code is None and time.monotonic() < give_up_at:
            time.sleep(0.05)

    def pause(self, name: str, seconds: float) -> bool:
        """Stop a slot's process for that long (SIGSTOP), then let it go on; return whether the same one was there all the time."""
        slot = self.slots[name]
        with self._lock:
            process = slot.process
            if process is None or not slot.is_up or slot.step is not None:
                return False
            self._log.note("sigstop", slot=name, seconds=seconds, partitions=slot.partitions())
            slot.ended_by = "zombie"
            process.signal(signal.SIGSTOP)
        self._stopped.wait(seconds)
        there = process.exit_code is None
        process.signal(signal.SIGCONT)
        self._log.note("sigcont", slot=name, was_there=there)
        return there

    def begin_chain(self, name: str, steps: Sequence[Step], *, together: bool = False) -> bool:
        """Have a slot live through these steps, from the next moment on; return whether there is somebody to do so.

        `together` with the other slots that have a chain: the next lives begin when the last one of these has ended, so that the group
        waits for all the dead at once. A life that lasts too long is not waited for.
        """
        slot = self.slots[name]
        with self._lock:
            if not slot.wanted:
                return False
            slot.chain.extend(steps)
            slot.together, slot.begun, slot.ended = together, 0, 0
            if slot.is_up and slot.step is None:
                self.kill(name, "to be started again for a crash point")
            return True

    def is_in_chain(self, name: str) -> bool:
        """Whether a slot still has steps to live through."""
        slot = self.slots[name]
        return bool(slot.chain or slot.step)

    def end_chain(self, name: str) -> list[Step]:
        """Give up what is left of a slot's chain; return the steps that did not come to their end."""
        slot = self.slots[name]
        with self._lock:
            left = [*slot.unhit, *([slot.step] if slot.step else []), *slot.chain]
            slot.unhit, slot.chain = [], deque()
            if slot.step is not None:
                slot.step = None
                if slot.is_up:
                    self.kill(name, "its crash point did not come")
            return left

    def _signal(self, slot: Slot, number: signal.Signals, why: str) -> None:
        slot.ended_by = why
        if slot.process is not None:
            slot.process.signal(number)

    # -- what it does by itself

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY_S):
            for slot in self.slots.values():
                with self._lock:
                    try:
                        self._look(slot)
                    except OSError as error:  # a process that could not be started is started at the next look
                        self.strange.append(f"{slot.name}: {error}")

    def _look(self, slot: Slot) -> None:
        if slot.process is not None and slot.process.exit_code is not None:
            self._judge_end(slot, slot.process)
            slot.process.close()
            slot.process = None
            slot.start_at = time.monotonic() + _AT_LEAST_BETWEEN_S
        if slot.process is None and slot.wanted and time.monotonic() >= slot.start_at and self._is_its_turn(slot):
            self._next_life(slot)

    def _is_its_turn(self, slot: Slot) -> bool:
        if not (slot.together and slot.chain) or time.monotonic() > slot.start_at + _LONGEST_ROUND_S:
            return True
        others = [
            one for one in self.slots.values() if one.together and one.role == slot.role and (one.chain or one.step)
        ]
        return all(one.ended >= slot.begun for one in others)

    def _next_life(self, slot: Slot) -> None:
        if slot.chain:
            slot.step = slot.chain.popleft()
            slot.begun += 1
            if slot.step.meanwhile and slot.data_directory is not None:
                done = damage(slot.step.meanwhile, slot.data_directory, self._random)
                self._log.note("damage", slot=slot.name, kind=slot.step.meanwhile, done=done)
        slot.launch()
        point = f"{slot.step.point}:{slot.step.passes}" if slot.step else None
        self._log.note("start", slot=slot.name, life=slot.lives, crash_at=point)

    def _judge_end(self, slot: Slot, process: Running) -> None:
        code = process.exit_code
        slot.ended += slot.step is not None
        if slot.step is not None and self._has_hit(slot, process.pid):
            self.hits[slot.step.point] += 1
            self.sigkills += 1
            lanes = slot.partitions() if slot.role == "worker" else []
            self._log.note(
                "crash_point", slot=slot.name, point=slot.step.point, passes=slot.step.passes, partitions=lanes
            )
            self.exits["crash point"] += 1
            slot.step, slot.tries, slot.ends_alike = None, 0, 0
            return
        self._note_exit(slot, process, code)
        if slot.step is not None:
            self._try_again(slot)

    def _try_again(self, slot: Slot) -> None:
        assert slot.step is not None
        slot.tries += 1
        if slot.tries < _TRIES:
            slot.chain.appendleft(replace(slot.step, meanwhile=""))
        else:
            slot.unhit.append(slot.step)
            slot.tries = 0
        slot.step = None

    def _note_exit(self, slot: Slot, process: Running, code: int | None) -> None:
        reason = last_error(process.output())
        told = code == -signal.SIGABRT  # `stop` has named it already
        # Told to end before it could have said anything: Python has no handler yet.
        unborn = code == -signal.SIGTERM and not process.output()
        in_order = slot.ended_by == "sigterm" and (code == 0 or unborn)
        expected = slot.ended_by == "sigkill" or in_order or code in (70, 75) or told
        self.exits[slot.ended_by if slot.ended_by and code != 70 else f"exit {code}: {reason[:60]}"] += 1
        if slot.ended_by == "sigkill":
            slot.ends_alike = 0
            return
        self._note_loop(slot, process, reason if code == 70 else "")
        self._log.note("exit", slot=slot.name, life=slot.lives, code=code, reason=reason[:400], after=slot.ended_by)
        if not expected:
            self.strange.append(
                f"{process.log.name} ended with {code} after {slot.ended_by or 'nothing'}: {reason[:300]}"
            )

    def _note_loop(self, slot: Slot, process: Running, reason: str) -> None:
        """A process that ends may be started again; one that ends at every start for the same reason never heals."""
        slot.ends_alike = slot.ends_alike + 1 if reason and reason == slot.last_reason else 1
        slot.last_reason = reason
        if slot.ends_alike == _ENDS_OF_A_LOOP:
            self.strange.append(f"{process.log.name} ended for the same reason {_ENDS_OF_A_LOOP} times: {reason[:300]}")

    def _has_hit(self, slot: Slot, pid: int) -> bool:
        if not slot.crash_log.exists():
            return False
        return any(line.split()[1:] == [str(pid)] for line in slot.crash_log.read_text().splitlines())


def last_error(output: str) -> str:
    """Return the last line of a log that says critical or error, and what it was about."""
    for line in reversed(output.splitlines()):
        if '"level": "critical"' in line or '"level": "error"' in line:
            try:
                members = json.loads(line)
            except ValueError:
                continue
            return f"{members.get('message')} {members.get('error') or members.get('seconds') or ''}".strip()
    return output.strip().splitlines()[-1][:200] if output.strip() else ""


def worker_slot(name: str, command: Sequence[str], environment: Mapping[str, str], home: Path) -> Slot:
    """Return the place of a worker, with a data directory of its own."""
    directory = home / f"data-{name}"
    own = {"WAIT_FOR_ME_WORKER_ID": name, "WAIT_FOR_ME_DATA_DIR": str(directory), "WAIT_FOR_ME_WEB_PORT": "0"}
    return Slot(
        name=name,
        role="worker",
        command=command,
        environment={**environment, **own},
        home=home,
        data_directory=directory,
    )


def executor_slot(name: str, command: Sequence[str], environment: Mapping[str, str], home: Path) -> Slot:
    """Return the place of an executor."""
    own = {"WAIT_FOR_ME_WORKER_ID": name}
    return Slot(name=name, role="executor", command=command, environment={**environment, **own}, home=home)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without anybody's WAIT_FOR_ME_*."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WAIT_FOR_ME_")}


SlotFactory = Callable[[str], Slot]
