"""Puts one mistake into a function of the product: a piece of its source is replaced, and the result takes its place.

A mutant that no longer fits the source is an error, so that a list of mutants cannot rot in silence.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

Change = tuple[Any, str, str, str]
"""Where a function is (a class or a module), its name, the text to look for in it, and the text to put there."""


class DoesNotFit(Exception):
    """The product has changed: the mutant must be written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake that the tests must notice."""

    name: str
    mistake: str
    changes: Sequence[Change]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Keep the mistake in the product for a while."""
        with ExitStack() as stack:
            for place, name, old, new in self.changes:
                stack.enter_context(_rewritten(place, name, old, new))
            yield


@contextmanager
def _rewritten(place: Any, name: str, old: str, new: str) -> Iterator[None]:
    before = inspect.getattr_static(place, name)
    setattr(place, name, _compiled(before, old, new))
    try:
        yield
    finally:
        setattr(place, name, before)


def _compiled(found: Any, old: str, new: str) -> Any:
    function = found.fget if isinstance(found, property) else found
    source = _sources.get(function) or textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise DoesNotFit(f"{function.__qualname__} has {source.count(old)} times {old!r}:\n{source}")
    source = source.replace(old, new)
    code = compile(source, f"<mutant of {function.__qualname__}>", "exec", __future__.annotations.compiler_flag)
    names: dict[str, Any] = {}
    exec(code, function.__globals__, names)
    mutant = names[function.__name__]
    _sources[mutant] = source
    return mutant


_sources: dict[Any, str] = {}
