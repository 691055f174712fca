"""Places where a test may have the process die, by name; in production they do nothing.

    K1 a run is decided, nothing is sent        K4 fires are safe, rows are not       K3 rows are safe, the local store is not
    K6 the local store is written, the run is not acknowledged                          K7 amid a restore
    K8 amid handing lanes over                  K9 a deadline has passed, its tick is not sent
    X1..X5 in the executor: before the attempt is recorded; recorded, not started; done, outcome not written;
           outcome written, offset not committed; retry or dead letter sent, not acknowledged

Armed with WAIT_FOR_ME_TEST_CRASH_AT=NAME:COUNT (die at the COUNT-th pass) and a file to note the hit in,
WAIT_FOR_ME_TEST_CRASH_LOG; refused unless WAIT_FOR_ME_TEST_BUILD=1 says that this is a test.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from wait_for_me.errors import ConfigurationError

POINTS = frozenset({"K1", "K3", "K4", "K6", "K7", "K8", "K9", "X1", "X2", "X3", "X4", "X5"})


def _armed() -> tuple[str, int] | None:
    text = os.environ.get("WAIT_FOR_ME_TEST_CRASH_AT")
    if not text:
        return None
    name, _, count = text.partition(":")
    passes = int(count or 1) if (count or "1").isdecimal() else 0
    if name not in POINTS or passes < 1 or os.environ.get("WAIT_FOR_ME_TEST_BUILD") != "1":
        raise ConfigurationError(
            f"WAIT_FOR_ME_TEST_CRASH_AT={text} would kill this process on purpose and is for tests only; unset it "
            f"(tests also set WAIT_FOR_ME_TEST_BUILD=1 and use one of {', '.join(sorted(POINTS))})"
        )
    return name, passes


_at = _armed()
_passes = 0


def crash_point(name: str) -> None:
    """Die here by SIGKILL if a test has armed this point; otherwise do nothing."""
    if _at is not None and name == _at[0]:
        _count_down()


def _count_down() -> None:
    global _passes
    assert _at is not None
    _passes += 1
    if _passes >= _at[1]:
        _die(_at[0])


def _die(name: str) -> NoReturn:
    if path := os.environ.get("WAIT_FOR_ME_TEST_CRASH_LOG"):
        with open(path, "a") as hits:
            hits.write(f"{name} {os.getpid()}\n")
            hits.flush()
            os.fsync(hits.fileno())
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
