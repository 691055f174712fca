"""The folds that must agree: the dumb reference, and the worker's.

`fold_adapter` (beside conftest.py) drives the worker's fold over a list of records. Its outcome has the reference's
attributes where it can; what it lacks (the word for each record, the rows as plain numbers) is not compared.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from wait_for_me_app.audit.reference import Outcome, fold_partition
from wait_for_me_app.audit.wire import Record

NAMES = ("reference", "core")


def named(name: str) -> Callable[..., Outcome]:
    """Give a fold by its name, or skip the test that asks for one that does not exist yet."""
    if name == "reference":
        return fold_partition
    if importlib.util.find_spec("fold_adapter") is None:
        pytest.skip("there is no fold_adapter.py, so there is no worker's fold to compare")
    return _core


def assert_agree(records: Sequence[Record], *, commit_every: int = 1, **place: Any) -> Outcome:
    """Fold with both; fires must be equal byte for byte, refusals and re-sends one for one."""
    expected, got = fold_partition(records, **place), named("core")(records, commit_every=commit_every, **place)
    assert got.fires == expected.fires
    assert got.rejected == expected.rejected
    assert got.rerouted == expected.rerouted
    assert got.stream_time_ms == expected.stream_time_ms
    assert got.verdicts == expected.verdicts
    return expected


def _core(records: Sequence[Record], *, commit_every: int = 1, **place: Any) -> Outcome:
    import fold_adapter

    got = fold_adapter.fold_with_core(records, commit_every=commit_every, **place)
    known = ("fires", "rejected", "rerouted", "stream_time_ms", "verdicts", "open_groups", "closed")
    own = {name: getattr(got, name) for name in known if getattr(got, name, None) is not None}
    return replace(fold_partition(records, **place), **own)
