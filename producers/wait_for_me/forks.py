"""Keeps librdkafka handles out of forked children.

The danger: after a fork the child has the parent's handles but not the threads behind them. To use one waits for ever,
and merely to let the garbage collector free one ends the child with a segmentation fault. A handle that was carried
over a fork is therefore never freed: the child counts one reference too many on it, which costs some kilobytes once.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Owns a librdkafka handle."""

    def abandon_after_fork(self) -> None:
        """Give up every handle, lock and thread of the parent; called in the child, before anything else runs."""


_living: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch(owner: Forkable) -> None:
    """Call `owner.abandon_after_fork()` in every child that is forked while it lives."""
    _living.add(owner)


def never_free(handle: object) -> None:
    """Keep `handle` alive until the process ends, through the interpreter's own clean-up."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


def _abandon_all() -> None:
    for owner in list(_living):
        owner.abandon_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_abandon_all)
