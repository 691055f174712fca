"""The fault log: what was planned and what really happened, a JSON object a line, on the disk when `note` returns."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class FaultLog:
    """Appends lines from any thread."""

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def plan(self, line: dict[str, Any]) -> None:
        """Write what is to happen."""
        with self._lock:
            self._write({"plan": line})

    def note(self, what: str, **about: Any) -> dict[str, Any]:
        """Write what has happened, now; return it, so that its end can be noted with it in memory."""
        event = {"at_ms": time.time_ns() // 1_000_000, "what": what, **about}
        with self._lock:
            self.events.append(event)
            self._write(event)
        return event

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        if not self._file.closed:
            self._file.write(json.dumps(line, default=str) + "\n")
            self._file.flush()
