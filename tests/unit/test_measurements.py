"""The measurements use the product's own parts: what they take from it by name must be there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imports_of_the_product(path: Path) -> Iterator[str]:
    """Yield the statements by which a file takes something from the product."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("wait_for_me", "wait_for_me_app"):
            yield ast.unparse(node)


@pytest.mark.parametrize("name", sorted(one.name for one in (ROOT / "benchmarks").glob("*.py")))
def test_what_a_measurement_imports_is_there(name: str) -> None:
    """Their own tests need a plotter and a profiler, and so do not run with these."""
    for statement in imports_of_the_product(ROOT / "benchmarks" / name):
        exec(statement, {})
