"""Where things are: the repository, what is built, what is written. Importing this makes the test suite's broker importable."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

BENCHMARKS: Final = Path(__file__).resolve().parent
REPOSITORY: Final = BENCHMARKS.parent
BUILD: Final = BENCHMARKS / ".build"
VENVS: Final = BENCHMARKS / ".venvs"
RESULTS: Final = BENCHMARKS / "results"
PEERS: Final = BENCHMARKS / "peers"
DOCS: Final = REPOSITORY / "docs"

_TESTS: Final = str(REPOSITORY / "tests")
if _TESTS not in sys.path:
    sys.path.append(_TESTS)  # `kafka_broker` and `processes`: one way to start a broker is enough


def say(text: str = "") -> None:
    """Print a line for the person who is waiting."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def clean_environment() -> dict[str, str]:
    """Return this process's environment without settings of the project: nobody's own may leak into a measurement."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WAIT_FOR_ME_")}
