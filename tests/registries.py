"""Callback modules for tests: two modules may name the same callback, but a process has one default registry."""

from __future__ import annotations

import importlib
from types import ModuleType

from wait_for_me_app.callbacks import DEFAULT_REGISTRY, Registry


def load_alone(module_name: str) -> tuple[ModuleType, Registry]:
    """Import a module of callbacks, and return it with what it registered; the default registry stays as it was."""
    names = DEFAULT_REGISTRY._by_name
    before = dict(names)
    names.clear()
    try:
        return importlib.import_module(module_name), Registry(_by_name=dict(names))
    finally:
        names.clear()
        names.update(before)
