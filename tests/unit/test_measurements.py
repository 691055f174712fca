"""The measurements use the product's own parts: what they take from it by name must be there."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def names_taken_from_the_product(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything that a file imports from the product."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("wait_for_me", "wait_for_me_app"):
            yield from ((str(node.module), one.name) for one in node.names)


@pytest.mark.parametrize("name", sorted(str(one.relative_to(ROOT)) for one in (ROOT / "benchmarks").rglob("*.py")))
def test_what_a_measurement_imports_is_there(name: str) -> None:
    """Their own tests need a plotter and a profiler, and so do not run with these."""
    for module_name, taken in names_taken_from_the_product(ROOT / name):
        assert hasattr(importlib.import_module(module_name), taken), f"{module_name} has no {taken}"
