"""A process that runs callbacks for an executor, one at a time, until it is killed or its executor is gone. Runs in the
child.

The danger: a callback that outlives its executor, and then runs side by side with the attempt of a successor. So a thread
here holds the executor's leash, a pipe: when that ends, this process and everything it has started is killed.

Requests are pickles, because a function travels as its module and name. They come over a socket that only the executor
has; what comes back is JSON, since a callback might have tampered with this process.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.executor.child_ends import Ending, describe, encode_ending
from wait_for_me_app.logging_setup import configure_logging

log = logging.getLogger(__name__)


def main(given: str) -> None:
    """Serve until the executor closes the connection."""
    settings = json.loads(given)
    configure_logging(SimpleNamespace(**settings["logs"]))  # type: ignore[arg-type]  # the two settings that it asks for
    for descriptor in (settings["requests"], settings["leash"]):
        os.set_inheritable(descriptor, False)
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # a service manager tells every process; this one is the executor's to end
    threading.Thread(target=_hold_leash, args=(settings["leash"],), daemon=True).start()
    with Connection(settings["requests"]) as requests:
        while (request := _next(requests)) is not None:
            requests.send_bytes(encode_ending(_run(request)))


def _hold_leash(leash: int) -> None:
    os.read(leash, 1)  # nobody writes: it returns when the executor is gone
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _next(requests: Connection) -> bytes | None:
    try:
        return requests.recv_bytes()
    except (EOFError, OSError):
        return None


def _run(request: bytes) -> Ending:
    try:
        function, args, kwargs = pickle.loads(request)  # noqa: S301 - from our own executor
        function(*args, **kwargs)
    except RetryAfter as error:
        return Ending(how="retry_after", text=str(error), seconds=error.seconds)
    except SetAside as error:
        return Ending(how="set_aside", text=str(error), code=error.code)
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a callback is a failure of the callback like any other
        return Ending(how="failed", text=describe(error), traceback=_traceback(error))
    return Ending(how="done")


def _traceback(error: Any) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - a foreign exception's own __str__ may raise anything
        return ""
