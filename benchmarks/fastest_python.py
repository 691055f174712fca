"""Prints the quickest Python on this machine that can hold the measurements. Needs nothing but the standard library.

Builds of one release differ by a third: those of distributions and container images are optimised with a profile, those that a
version manager compiles on the spot usually are not. Java and RocksDB are measured as optimised builds, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
_FOLDERS = (*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin")
_TRIAL = """
import ensurepip, os, sys, sysconfig, time, venv
assert sys.version_info >= (3, 11)
os.stat(sysconfig.get_path("include") + "/Python.h")
class Thing:
    def __init__(self, number): self.number = number
    def next(self): return Thing(self.number + 1)
def work():
    begun, thing, seen = time.process_time(), Thing(0), {}
    for _ in range(200_000):
        thing = thing.next()
        seen[b"%d" % (thing.number & 1023)] = (thing.number, str(thing.number))
    return time.process_time() - begun
print(min(work() for _ in range(5)))
"""


def seconds(python: str) -> float | None:
    """Return how long it takes for a little of everything; None if it is too old, or has no `venv` or no headers."""
    done = subprocess.run([python, "-I", "-c", _TRIAL], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def candidates() -> list[str]:
    """Return the interpreters that can be found, each once."""
    found = [shutil.which(name, path=folder) for name in _NAMES for folder in _FOLDERS]
    return list({os.path.realpath(one): one for one in found if one}.values())


def main() -> int:
    """Print the path of the quickest; return 1 if there is none."""
    times = [(taken, python) for python in candidates() if (taken := seconds(python)) is not None]
    if not times:
        sys.stderr.write("No Python 3.11 or newer with venv and headers: install python3-venv and python3-dev\n")
        return 1
    sys.stdout.write(min(times)[1] + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
