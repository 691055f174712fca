"""Runs worker processes side by side, as a deployment does, and ends with the first that ends: `python -m benchmarks.side_by_side 2`.

Each has a folder of its own below WAIT_FOR_ME_DATA_DIR.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(count: int) -> int:
    """Start the workers; on SIGTERM, or when one has ended, end all."""
    home = Path(os.environ["WAIT_FOR_ME_DATA_DIR"])
    command = [sys.executable, "-m", "wait_for_me_app", "worker"]
    workers = [
        subprocess.Popen(command, env={**os.environ, "WAIT_FOR_ME_DATA_DIR": str(home / str(number))})
        for number in range(count)
    ]
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    while not stopping and all(worker.poll() is None for worker in workers):
        time.sleep(0.1)
    for worker in workers:
        worker.terminate()
    return max(abs(worker.wait(30)) for worker in workers)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
