"""The modules that a wheel may compile: written so that they mean the same both ways.

`make test-compiled` runs the tests of these modules on a compiled wheel.
"""

from __future__ import annotations

import ast
import importlib
import os
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_HOOK = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
MODULES: list[str] = _HOOK["wheel"]["hooks"]["custom"]["compiled"]


@pytest.mark.parametrize("path", MODULES)
def test_a_compiled_module_defines_no_structs(path: str) -> None:
    """The compiler drops what a class is given in its parentheses (`tag`, `frozen`, `gc`): a fire would lose its type."""
    classes = [node for node in ast.walk(ast.parse((REPOSITORY / path).read_text())) if isinstance(node, ast.ClassDef)]
    assert [one.name for one in classes if one.keywords or "Struct" in ast.unparse(ast.Tuple(one.bases))] == []


@pytest.mark.parametrize("path", MODULES)
@pytest.mark.skipif(os.environ.get("WAIT_FOR_ME_TEST_COMPILED") != "1", reason="the packages are not compiled")
def test_it_is_the_compiled_one_that_is_tested(path: str) -> None:
    """Otherwise the run would prove nothing."""
    name = ".".join(Path(path).with_suffix("").parts[1:])
    assert (importlib.import_module(name).__file__ or "").endswith(".so")
