"""Functions that run in child processes: what they did is seen in files, what they are is seen in /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from wait_for_me_app.callback_errors import RetryAfter, SetAside


def write_pid(folder: str, *, fire: Any = None) -> None:
    """Leave a file with this process's id as its name."""
    (Path(folder) / str(os.getpid())).touch()


def hang(folder: str, *, fire: Any = None) -> None:
    """Write down who hangs, start somebody who hangs as well, and hang."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / str(child.pid)).touch()
    write_pid(folder)
    time.sleep(600)


def die(*, fire: Any = None) -> None:
    """End the process without a goodbye."""
    os._exit(86)


def fail(text: str, *, fire: Any = None) -> None:
    """Raise."""
    raise ValueError(text)


def leave(*, fire: Any = None) -> None:
    """Exit as a script would."""
    sys.exit(3)


def ask_for_time(seconds: float, *, fire: Any = None) -> None:
    """Ask to be tried later."""
    raise RetryAfter(seconds, "later")


def give_up(*, fire: Any = None) -> None:
    """Ask for the end."""
    raise SetAside("no such thing", "bad_parameters")


def tell_fire_id(folder: str, *, fire: Any) -> None:
    """Show that the fire has come over."""
    (Path(folder) / fire.fire_id).touch()
