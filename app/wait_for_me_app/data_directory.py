"""One worker, one data directory: the lock that keeps a second worker out.

Two workers on one directory would fight over RocksDB's own lock and fail with a message that names neither of them. So the
directory is claimed before Faust starts, under a file lock that the kernel drops when the process dies, however it dies;
the process id in the file is there for the message, never for the decision.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.settings import exit_with_remedy

LOCK_NAME = "worker.lock"


def claim(directory: Path) -> None:
    """Take the directory for this process until it ends; if another has it, say which and exit with 78.

    It exits by itself because it is called while Faust imports the worker, where nobody of ours could catch anything. Claiming
    again in the same process is fine, also after an exec: `wait-for-me worker` claims, then becomes Faust's worker, which claims
    as well because it may have been started without the command line.
    """
    try:
        _take(directory)
    except ConfigurationError as error:
        exit_with_remedy(error)


def _take(directory: Path) -> None:
    descriptor = _open(directory / LOCK_NAME)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        if holder != str(os.getpid()):
            _refuse(directory, holder)
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(descriptor, True)  # survives the exec; never closed, because closing would drop the lock


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {path.parent} cannot be used: {error.strerror}. "
            "Make it writable, or name another with --data-dir (WAIT_FOR_ME_DATA_DIR)."
        ) from error


def _refuse(directory: Path, holder: str) -> None:
    raise ConfigurationError(
        f"The data directory {directory} belongs to the running worker with process id {holder or 'unknown'}. "
        "End that one, or give this worker its own --id or --data-dir."
    )
