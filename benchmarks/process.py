"""A system under measurement: its process on a leash, and what it costs, sampled from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil  # type: ignore[import-untyped]

from benchmarks import place  # noqa: F401 - makes the test suite's modules importable

from processes import Running  # isort: skip

_SAMPLE_SECONDS: Final = 0.1
_LOOK_FOR_CHILDREN_EVERY: Final = 10


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a process and its children have used by one moment."""

    at_ms: float
    """By the machine's clock, which the broker stamps records with, too."""
    cpu_seconds: float
    rss_bytes: int


class Died(Exception):
    """A system ended while it was measured."""


class Measured:
    """A running system; `samples` grow until it is stopped."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.started_at_ms = time.time() * 1000
        self._running = Running(command, log=log, env=environment)
        self.pid = self._running.pid
        self.samples: list[Sample] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What it prints."""
        return self._running.log

    def require_alive(self) -> None:
        """Raise Died, with what it printed last, if it has ended."""
        if (code := self._running.exit_code) is not None:
            raise Died(f"it ended with {code}:\n{self._running.tail(15)}")

    def stop(self) -> None:
        """Ask it to end, insist after a while."""
        self._stop_sampling()
        self._running.close()

    def kill(self) -> float:
        """End it as a power cut would; return when, in milliseconds."""
        self._stop_sampling()
        at_ms = time.time() * 1000
        self._running.kill()
        return at_ms

    # -- what it has cost

    def cpu_seconds_at(self, at_ms: float) -> float:
        """Return what it had used by the first sample at or after a moment."""
        return next((one.cpu_seconds for one in self.samples if one.at_ms >= at_ms), self.samples[-1].cpu_seconds)

    @property
    def peak_rss_mib(self) -> float:
        """The largest resident set of any sample."""
        return max(one.rss_bytes for one in self.samples) / (1 << 20)

    @property
    def rss_mib(self) -> float:
        """The resident set now."""
        return self.samples[-1].rss_bytes / (1 << 20)

    def _stop_sampling(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample_until_stopped(self) -> None:
        family: list[psutil.Process] = []
        turn = 0
        while not self._stopped.is_set():
            with suppress(psutil.NoSuchProcess):
                if turn % _LOOK_FOR_CHILDREN_EVERY == 0:
                    parent = psutil.Process(self.pid)
                    family = [parent, *parent.children(recursive=True)]
                self.samples.append(_sample(family))
            turn += 1
            self._stopped.wait(_SAMPLE_SECONDS)


def _sample(family: Sequence[psutil.Process]) -> Sample:
    at_ms, cpu, rss = time.time() * 1000, 0.0, 0
    for process in family:
        with process.oneshot():
            times = process.cpu_times()
            cpu += times.user + times.system
            rss += process.memory_info().rss
    return Sample(at_ms=at_ms, cpu_seconds=cpu, rss_bytes=rss)
