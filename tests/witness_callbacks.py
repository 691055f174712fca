"""Callbacks that leave a witness outside Kafka: one line in a file, synced to disk, when they begin and when they end.

What the executor believes is in the outcomes topic; what was really done is in the file that WAIT_FOR_ME_TEST_WITNESS
names.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from wait_for_me.fires import Fire
from wait_for_me_app.callbacks import callback

WITNESS = "WAIT_FOR_ME_TEST_WITNESS"


@dataclass(frozen=True)
class Line:
    """A callback began or ended."""

    what: str
    fire_id: str
    process: int
    at_ms: int


def note(what: str, fire: Fire) -> None:
    """Append a line; when this returns it is on the disk."""
    line = json.dumps([what, fire.fire_id, os.getpid(), time.time_ns() // 1_000_000]) + "\n"
    witness = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(witness, line.encode())
        os.fsync(witness)
    finally:
        os.close(witness)


def read(path: Path) -> list[Line]:
    """Return what has been witnessed so far; a last line that is half written is still to come."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Line(*json.loads(line)) for line in lines]


@callback("slow", timeout_in_seconds=2, first_wait_in_seconds=0.1)
def slow(seconds: float, fire: Fire) -> None:
    """Take that long."""
    note("begin", fire)
    time.sleep(seconds)
    note("end", fire)


@callback("slow.async", timeout_in_seconds=2, first_wait_in_seconds=0.1)
async def slow_async(seconds: float, fire: Fire) -> None:
    """Take that long, on the loop."""
    note("begin", fire)
    await asyncio.sleep(seconds)
    note("end", fire)


@callback("fails", timeout_in_seconds=1, attempts=5, first_wait_in_seconds=2, longest_wait_in_seconds=2)
def fails(times: int, fire: Fire) -> None:
    """Raise at the first so many attempts of a fire, whichever process makes them."""
    note("begin", fire)
    begun = [
        line
        for line in read(Path(os.environ[WITNESS]))
        if line == Line("begin", fire.fire_id, line.process, line.at_ms)
    ]
    if len(begun) <= times:
        raise ValueError(f"attempt {len(begun)} fails")
    note("end", fire)


@callback("kills.its.process", timeout_in_seconds=0.5)
def kills_its_process(fire: Fire) -> None:
    """End the process without a goodbye, as a crash in a C library would."""
    note("begin", fire)
    os._exit(86)


@callback("test.note")
def noted(fire: Fire) -> None:
    """Say that it has run."""
    note("note", fire)
