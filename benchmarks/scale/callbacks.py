"""The callbacks of the executor's scenario: they do nothing but note when they were started. Imported by the executor."""

from __future__ import annotations

import os
import struct
import threading
import time
from typing import Any, Final

from wait_for_me_app.callbacks import callback

ENTRY: Final = struct.Struct(">Qd")
"""The group's number and the moment, in milliseconds."""

_noted: list[tuple[int, float]] = []


@callback("bench.plain")
def plain(*, fire: Any) -> None:
    """Note the start of a plain function, which runs in a thread."""
    _noted.append((_number(fire), time.time() * 1000))


@callback("bench.async")
async def not_plain(*, fire: Any) -> None:
    """Note the start of an async function, which runs in the event loop."""
    _noted.append((_number(fire), time.time() * 1000))


def _number(fire: Any) -> int:
    return int(fire.group_key.rpartition("-")[2])


def _write_now_and_then(path: str) -> None:
    with open(path, "ab", buffering=0) as file:
        while True:
            time.sleep(0.2)
            count = len(_noted)
            file.write(b"".join(ENTRY.pack(*entry) for entry in _noted[:count]))
            del _noted[:count]


if path := os.environ.get("BENCH_CALLBACKS"):
    threading.Thread(target=_write_now_and_then, args=(path,), daemon=True).start()
