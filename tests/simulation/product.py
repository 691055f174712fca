"""Puts doubles into the product's modules while a simulation runs: clock, coroutines, Kafka clients, disk and crash points.

Nothing that decides or acts is replaced, with one exception: `Fold.apply` is made to raise at one made-up command, since a fold
that never raises never shows what happens then. Limits (how many records a run has, when a batch is full) become a schedule's
options, because at their real size no small schedule reaches them.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import wait_for_me_app.core.fold as fold_module
from simulation import disk, executors, kafka, workload
from simulation.plan import Options
from simulation.tasks import Asyncio, ThreadLock
from wait_for_me_app import lane, lanes, restore, sweep
from wait_for_me_app.audit import reference
from wait_for_me_app.faust_lanes import intake, outlet
from wait_for_me_app.storage import working_set


class Running:
    """Which process is running now; the doubles in the product's modules ask it."""

    process: Any = None


class Time:
    """Stands for the module `time`."""

    @staticmethod
    def monotonic() -> float:
        return float(Running.process.monotonic_ms() / 1000)

    @staticmethod
    def time_ns() -> int:
        return int(Running.process.wall_ms() * 1_000_000)


def _passes(point: str) -> None:
    Running.process.passes(point)


def _raising(apply: Any) -> Any:
    """Let the fold raise at one made-up command."""

    def apply_or_raise(self: fold_module.Fold, record: Any) -> None:
        if record.value == workload.RAISES:
            raise RuntimeError("the fold raises here on purpose")
        apply(self, record)

    return apply_or_raise


class CountedLane(lane.Lane):
    """A lane; how many there have been limits how many copies a fire may have."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        Running.process.world.loads[self.identity.partition] += 1


_asyncio = Asyncio(lambda: Running.process)
_reads: dict[tuple[Any, ...], Any] = {}


def _remember(read: Any) -> Any:
    """Let the reference read equal records once: reading is a function of the record alone."""

    def reading(record: Any, headers: dict[str, bytes]) -> Any:
        known = (record.key, record.value, tuple(headers.items()))
        found = _reads.get(known)
        if found is None:
            try:
                found = read(record, headers)
            except reference.Refused as refused:
                found = refused
            if len(_reads) < 200_000:
                _reads[known] = found
        if isinstance(found, reference.Refused):
            raise found.with_traceback(None)
        return found

    return reading


def _doubles() -> Iterator[tuple[Any, str, Any]]:
    for module in (lane, lanes, sweep):
        yield module, "asyncio", _asyncio
    for module in (lanes, outlet):
        yield module, "time", Time
    for module in (lane, lanes, sweep, restore):
        yield module, "crash_point", _passes
    yield from executors.doubles()
    yield restore, "Consumer", kafka.Consumer
    yield lanes, "threading", SimpleNamespace(Lock=ThreadLock)
    yield lanes, "Lane", CountedLane
    yield lanes, "open_store", disk.open_store
    yield fold_module.Fold, "apply", _raising(fold_module.Fold.apply)
    yield reference, "read_command", _remember(reference.read_command)


@contextmanager
def doubles() -> Iterator[None]:
    """Keep the doubles in place for a while; not for use from two threads."""
    found = list(_doubles())
    before = [(place, name, getattr(place, name)) for place, name, _ in [*found, *_limits(Options())]]
    for place, name, double in found:
        setattr(place, name, double)
    was_disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(was_disabled)
        for place, name, value in before:
            setattr(place, name, value)


def _limits(options: Options) -> Iterator[tuple[Any, str, Any]]:
    yield lane, "WorkingSet", lambda store, hot_rows: working_set.WorkingSet(store, hot_rows=options.hot_rows)
    yield outlet, "BATCH_TARGET_BYTES", options.batch_bytes
    yield intake, "RUN_MAX_RECORDS", options.run_records
    yield lane, "CLOSINGS_A_SLICE", options.closings_a_slice
    yield working_set, "DELETIONS_A_RUN", options.deletions_a_run
    yield working_set, "INLINE_ARRIVALS", options.inline_arrivals
    yield fold_module, "INLINE_ARRIVALS", options.inline_arrivals
    yield restore, "BATCH_RECORDS", options.restore_records


def set_limits(options: Options) -> None:
    """Give the product the limits of one schedule."""
    for place, name, value in _limits(options):
        setattr(place, name, value)


def set_limits_for_peace(options: Options) -> None:
    """Let what is left be done in few runs: the small limits have had their chance."""
    set_limits(replace(options, run_records=4096, deletions_a_run=2000, closings_a_slice=1500))
