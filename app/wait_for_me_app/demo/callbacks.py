"""The callbacks of the demo's executor, which any executor may use to try things out.

In the demo each run leaves a line in a witness file, which is what runs and duplicates are counted from. The outcomes topic
says what the executor believes; the witness says what was really done.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from wait_for_me import Fire
from wait_for_me_app.callbacks import callback
from wait_for_me_app.demo.board import Run
from wait_for_me_app.demo.scenario import CALLBACK, CHECK_CALLBACK

log = logging.getLogger(__name__)

WITNESS_VARIABLE: Final = "DEMO_WITNESS_FILE"
CDN_TAKES_SECONDS: Final = 0.03


@callback(CALLBACK)
def invalidate(distribution: str, path: str = "/*", *, fire: Fire) -> None:
    """Act as a CDN would: take a moment, and do it."""
    time.sleep(CDN_TAKES_SECONDS)
    log.info("invalidated distribution=%s path=%s group=%s fire=%s", distribution, path, fire.group_key, fire.fire_id)
    if file := os.environ.get(WITNESS_VARIABLE):
        bear_witness(Path(file), Run(fire.group_key, fire.fire_id))


@callback(CHECK_CALLBACK)
def check() -> None:
    """Do nothing: that it was run is what the demo wants to see."""


def bear_witness(file: Path, run: Run) -> None:
    """Append one line in one write, so that lines of several processes never mix."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(run) + b"\n")
    finally:
        os.close(descriptor)


def read_witness(file: Path) -> tuple[Run, ...]:
    """Return all runs; none if no callback has run."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return tuple(msgspec.json.decode(line, type=Run) for line in lines)
