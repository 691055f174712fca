"""What can happen to a worker's store while the worker is down."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Final

_FILES: Final = {"flip_sst": "*.sst", "flip_manifest": "MANIFEST-*", "flip_wal": "*.log"}
FLIPPED: Final = 16


def damage(kind: str, data_directory: Path, rng: random.Random) -> str:
    """Wipe the store, or flip bytes in one file of one partition; return what was done."""
    rows = data_directory / "rows"
    if kind == "wipe":
        shutil.rmtree(rows, ignore_errors=True)
        return "the store is gone"
    files = sorted(path for path in rows.rglob(_FILES[kind]) if path.stat().st_size > 0)
    if not files:
        return f"nothing: there was no {_FILES[kind]}"
    path = rng.choice(files)
    flip(path, rng)
    return f"{FLIPPED} bytes of {path.relative_to(rows)} flipped"


def flip(path: Path, rng: random.Random) -> None:
    """Invert some bytes of a file, each somewhere else."""
    content = bytearray(path.read_bytes())
    for place in rng.sample(range(len(content)), min(FLIPPED, len(content))):
        content[place] ^= 0xFF
    path.write_bytes(content)
