"""Time spent, by the processor and by the wall."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(kw_only=True)
class Spent:
    """Adds up sections of work."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    @contextmanager
    def section(self) -> Iterator[None]:
        """Count what happens within; processor time is that of all threads of the process."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.cpu_s += time.process_time() - cpu
        self.wall_s += time.perf_counter() - wall

    def less(self, other: Spent) -> Spent:
        """Return what is left without a part that was measured by itself."""
        return Spent(cpu_s=max(0.0, self.cpu_s - other.cpu_s), wall_s=max(0.0, self.wall_s - other.wall_s))
