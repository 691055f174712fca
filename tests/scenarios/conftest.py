"""The option that accepts a change of behaviour."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what the reference says into the transcripts")


@pytest.fixture
def rewrite(pytestconfig: pytest.Config) -> bool:
    """Whether transcripts are to be written instead of compared."""
    return bool(pytestconfig.getoption("--rewrite", default=False))
