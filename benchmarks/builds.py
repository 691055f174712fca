"""Makes the peers runnable: Kafka Streams with Maven, Quix Streams in a virtual environment. Built once, then kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.place import BUILD, PEERS, VENVS, say

QUIX_VERSION: Final = "3.28.1"
QUIX_PYTHON: Final = VENVS / "quix" / "bin" / "python"

_KAFKA_STREAMS: Final = PEERS / "kafka_streams"
_KAFKA_STREAMS_BUILT: Final = BUILD / "kafka_streams"


class Missing(Exception):
    """A peer cannot be had on this machine; the message says why."""


def kafka_streams() -> None:
    """Compile the Kafka Streams peer unless its sources are what was compiled last."""
    stamp, sources = _KAFKA_STREAMS_BUILT / "sources.sha256", _fingerprint(_KAFKA_STREAMS)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == sources:
        return
    if shutil.which("mvn") is None:
        raise Missing("no `mvn` on the PATH to build Kafka Streams with: install Maven and Java 17")
    say("building Kafka Streams ...")
    shutil.rmtree(_KAFKA_STREAMS_BUILT, ignore_errors=True)
    goals = ["package", "dependency:copy-dependencies", f"-DoutputDirectory={_KAFKA_STREAMS_BUILT / 'lib'}"]
    _run(["mvn", "-B", "-q", "-f", str(_KAFKA_STREAMS / "pom.xml"), *goals], "Kafka Streams cannot be built")
    stamp.write_text(sources, encoding="utf-8")


def kafka_streams_classpath() -> str:
    """Return where Java finds the peer and its libraries."""
    return os.pathsep.join((str(_KAFKA_STREAMS_BUILT / "classes"), str(_KAFKA_STREAMS_BUILT / "lib" / "*")))


def quix_streams() -> None:
    """Install Quix Streams unless that version is there."""
    stamp = VENVS / "quix" / "installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == QUIX_VERSION:
        return
    say("installing Quix Streams ...")
    _run([sys.executable, "-m", "venv", str(VENVS / "quix")], "no virtual environment can be made")
    pip = [str(QUIX_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, f"quixstreams=={QUIX_VERSION}"], "Quix Streams cannot be installed")
    stamp.write_text(QUIX_VERSION, encoding="utf-8")


def _fingerprint(directory: Path) -> str:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _run(command: Sequence[str], otherwise: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise Missing(f"{otherwise}: {(done.stdout + done.stderr).strip()[-600:]}")
