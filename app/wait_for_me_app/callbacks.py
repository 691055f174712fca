"""The callbacks that an executor may run: names in a registry. Nothing that came over the wire is ever imported or
evaluated.

    from wait_for_me_app.callbacks import callback

    @callback("cloudfront.invalidate", attempts=5, timeout_in_seconds=30)
    def invalidate(distribution, path, *, fire):
        cdn.invalidate(distribution, path, idempotency_key=fire.fire_id)

A callback is run at least once for each fire: a process can die after it has returned and before that is known. Whoever
must not do a thing twice hands `fire.fire_id` on as the idempotency key; it is the same at every attempt.

Parameters come from the add: a list is positional, an object is keyword arguments, any other JSON is one argument. A
parameter named `fire` receives the fire itself and cannot be given over the wire.

A callback may ask for more than attempts and a time limit: `concurrency` and `per_second` bound it, `in_order` runs the
fires of one group one after the other, `process` runs it where it can be killed.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from importlib import metadata
from types import ModuleType
from typing import Any, Final, Literal, TypeVar

from wait_for_me.errors import ConfigurationError, InvalidCommand
from wait_for_me.fires import Fire
from wait_for_me.validation import check_callback
from wait_for_me_app.core.retry import RetryPolicy

ENTRY_POINT_GROUP: Final = "wait_for_me.callbacks"
LONGEST_SPAN_MS: Final = 7 * 24 * 3_600_000
"""All attempts together must fit into this, because outcomes are kept that much longer than the fires."""
MAX_TIMEOUT_SECONDS: Final = 24 * 3600.0

_FIRE: Final = "fire"
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_Function = TypeVar("_Function", bound=Callable[..., Any])


Kind = Literal["thread", "task", "process"]
"""Where an attempt runs: a plain function in a thread, an async one on the loop, a marked one in a process of its own."""


class BadParameters(Exception):
    """The parameters of a fire do not fit the callback's signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A callback with its arguments, ready to run."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> Any:
        """Run it; an async function gives back its coroutine."""
        return self.function(*self.args, **self.kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long a callback is tried; None where it leaves that to the executor."""

    attempts: int | None = None
    timeout_in_seconds: float | None = None
    first_wait_in_seconds: float | None = None
    longest_wait_in_seconds: float | None = None

    def filled(self, defaults: Patience) -> Patience:
        """Return the same with what is left open taken from the defaults."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(defaults, **{name: value for name, value in own.items() if value is not None})


DEFAULT_PATIENCE: Final = Patience(
    attempts=10, timeout_in_seconds=60.0, first_wait_in_seconds=1.0, longest_wait_in_seconds=3600.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One registered function and how it is to be run."""

    name: str
    function: Callable[..., Any]
    kind: Kind
    time_limit_ms: int
    policy: RetryPolicy
    asked: Patience
    """What the callback itself says about that."""
    concurrency: int | None = None
    """Attempts at once in one executor; None leaves it to the slots."""
    per_second: float | None = None
    """Attempts that begin in a second in one executor; None is as many as come."""
    in_order: bool = False
    """Whether the fires of one group are run one after the other, in the order in which they fired."""
    signature: inspect.Signature
    """Without the parameter `fire`."""
    fire_at: int | None
    """Where `fire` stands among the positional parameters; None when it is keyword-only or not taken at all."""
    takes_fire: bool

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        return self.kind == "task"

    def with_defaults(self, defaults: Patience) -> Callback:
        """Return the same with what it leaves open as the executor has it."""
        patience = self.asked.filled(defaults)
        return replace(
            self, time_limit_ms=_checked_limit(self.name, patience), policy=_checked_policy(self.name, patience)
        )

    def bind(self, fire: Fire) -> Call:
        """Return the call for a fire, or raise BadParameters; nothing is run."""
        args, kwargs = _arguments(fire.execute_after_waiting_params)
        if _FIRE in kwargs and self.takes_fire:
            raise BadParameters("the parameter `fire` is filled by the executor: give it another name in the add")
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadParameters(
                f"{self.name}{self.signature} cannot take the parameters ({error}): send what its signature asks for"
            ) from error
        return self._with_fire(bound.args, bound.kwargs, fire)

    def _with_fire(self, args: tuple[Any, ...], kwargs: dict[str, Any], fire: Fire) -> Call:
        if not self.takes_fire:
            return Call(function=self.function, args=args, kwargs=kwargs)
        if self.fire_at is not None and self.fire_at < len(args):
            return Call(
                function=self.function, args=(*args[: self.fire_at], fire, *args[self.fire_at :]), kwargs=kwargs
            )
        return Call(function=self.function, args=args, kwargs={**kwargs, _FIRE: fire})


def _arguments(params: Any) -> tuple[list[Any], dict[str, Any]]:
    if params is None:  # null for an optional field is the same as absent
        return [], {}
    if isinstance(params, dict):
        return [], params
    return (params if isinstance(params, list) else [params]), {}


@dataclass(kw_only=True)
class Registry:
    """The callbacks of one executor, by name."""

    _by_name: dict[str, Callback] = field(default_factory=dict)

    def callback(
        self,
        name: str,
        *,
        attempts: int | None = None,
        timeout_in_seconds: float | None = None,
        first_wait_in_seconds: float | None = None,
        longest_wait_in_seconds: float | None = None,
        concurrency: int | None = None,
        per_second: float | None = None,
        in_order: bool = False,
        process: bool = False,
    ) -> Callable[[_Function], _Function]:
        """Register the decorated function under `name` and leave it as it is.

        What is not given is the executor's default: 10 attempts of 60 s, waits of 1 s to an hour. `attempts` counts the
        first one too; with 1, a callback whose process died is not run again. An async function is cancelled after
        `timeout_in_seconds`. A plain one cannot be: the attempt counts as failed and its thread is waited for. With
        `process` it runs in a child process, which is killed then.
        """
        asked = Patience(
            attempts=attempts,
            timeout_in_seconds=timeout_in_seconds,
            first_wait_in_seconds=first_wait_in_seconds,
            longest_wait_in_seconds=longest_wait_in_seconds,
        )

        def register(function: _Function) -> _Function:
            made = _make_callback(name, function, asked, is_process=process)
            self.add(replace(made, **_checked_bounds(name, concurrency, per_second), in_order=in_order))
            return function

        return register

    def add(self, callback: Callback) -> None:
        """Add a callback; a name that is taken is refused."""
        taken = self._by_name.get(callback.name)
        if taken is not None:
            raise ConfigurationError(
                f"two callbacks are named {callback.name!r}: {_where(taken.function)} and {_where(callback.function)}. "
                "Rename one, or import its module only once."
            )
        self._by_name[callback.name] = callback

    def find(self, name: str) -> Callback | None:
        """Return the callback of that name, or None."""
        return self._by_name.get(name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Callback]:
        return iter(self._by_name.values())

    def settle(self, defaults: Patience) -> None:
        """Give the callbacks what they leave open, and make sure that those for a child process can be found there."""
        for callback in list(self):
            if callback.kind == "process":
                _check_picklable(callback)
            self._by_name[callback.name] = callback.with_defaults(defaults)

    def holds(self, function: object) -> bool:
        """Return whether this very function is registered, under whatever name."""
        return any(callback.function is function for callback in self)


DEFAULT_REGISTRY: Final = Registry()
"""Where `@callback` puts what it decorates."""

callback = DEFAULT_REGISTRY.callback


def load(
    registry: Registry,
    modules: Iterable[str],
    entry_points: Iterable[metadata.EntryPoint] | None = None,
    defaults: Patience = DEFAULT_PATIENCE,
) -> Registry:
    """Import the operator's modules and what installed packages offer under `wait_for_me.callbacks`.

    An entry point names a module that registers its callbacks, or a function; one that is not decorated is registered
    under the entry point's own name. An executor without any callback is refused: it could only set every fire aside.
    """
    for name in modules:
        _import(name)
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points:
        _take_entry_point(registry, entry_point)
    if not len(registry):
        raise ConfigurationError(
            "no callback is registered: name a module with --callbacks (WAIT_FOR_ME_CALLBACKS) that uses "
            "`from wait_for_me_app.callbacks import callback`"
        )
    registry.settle(defaults)
    return registry


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(
            f"the module {name} of callbacks cannot be found: check its name, and that its folder is on PYTHONPATH"
        ) from error


def _take_entry_point(registry: Registry, entry_point: metadata.EntryPoint) -> None:
    found = entry_point.load()
    if isinstance(found, ModuleType) or registry.holds(found):
        return
    if not callable(found):
        raise ConfigurationError(
            f"the entry point {entry_point.name} = {entry_point.value} is neither a module nor a function: fix its package"
        )
    registry.callback(entry_point.name)(found)


def _make_callback(name: str, function: Callable[..., Any], asked: Patience, *, is_process: bool) -> Callback:
    signature = _checked_signature(_checked_name(name, function), function)
    taken = signature.parameters.get(_FIRE)
    names = [parameter.name for parameter in signature.parameters.values() if parameter.kind in _POSITIONAL]
    patience = asked.filled(DEFAULT_PATIENCE)
    return Callback(
        name=name,
        function=function,
        kind=_checked_kind(name, function, is_process=is_process),
        time_limit_ms=_checked_limit(name, patience),
        policy=_checked_policy(name, patience),
        asked=asked,
        signature=signature.replace(parameters=[p for p in signature.parameters.values() if p is not taken]),
        fire_at=names.index(_FIRE) if _FIRE in names else None,
        takes_fire=taken is not None,
    )


def _checked_kind(name: str, function: Callable[..., Any], *, is_process: bool) -> Kind:
    if not is_process:
        return "task" if _is_async(function) else "thread"
    if _is_async(function):
        raise ConfigurationError(
            f"{name}: an async function can be cancelled as it is. Remove process=True, or `async`."
        )
    if getattr(function, "__module__", "__main__") == "__main__" or "<" in getattr(function, "__qualname__", "<"):
        raise ConfigurationError(
            f"{name}: a child process cannot import {_where(function)}. Define it at the top of a module, or remove "
            "process=True."
        )
    return "process"


def _check_picklable(callback: Callback) -> None:
    """A function travels to the child as its module and name, so these must lead back to it."""
    try:
        pickle.dumps(callback.function)
    except Exception as error:
        raise ConfigurationError(
            f"{callback.name}: a child process would not find {_where(callback.function)} ({error}). Let @callback be the "
            "outermost decorator, or remove process=True."
        ) from error


def _checked_bounds(name: str, concurrency: int | None, per_second: float | None) -> dict[str, Any]:
    if concurrency is not None and concurrency < 1:
        raise ConfigurationError(f"{name}: concurrency is {concurrency}. Give 1 or more.")
    if per_second is not None and not (math.isfinite(per_second) and per_second > 0):
        raise ConfigurationError(f"{name}: per_second is {per_second}. Give a number above 0, such as 0.5.")
    return {"concurrency": concurrency, "per_second": per_second}


def _checked_name(name: str, function: Callable[..., Any]) -> str:
    try:
        return check_callback("the name of a callback", name)
    except InvalidCommand as error:
        raise ConfigurationError(f"{_where(function)} cannot be registered: {error}") from error


def _checked_signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature; refuse functions whose call does nothing, or whose `fire` cannot be filled."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{name}: calling a generator runs nothing of it. Remove the `yield` from {_where(function)}."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: {_where(function)} has no signature ({error}). Wrap it in a function."
        ) from error
    taken = signature.parameters.get(_FIRE)
    if taken is not None and taken.kind not in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    ):
        raise ConfigurationError(
            f"{name}: the parameter `fire` of {_where(function)} cannot be passed by keyword. Make it a plain parameter."
        )
    return signature


def _checked_limit(name: str, patience: Patience) -> int:
    timeout_s = patience.timeout_in_seconds
    assert timeout_s is not None
    if not 0 < timeout_s <= MAX_TIMEOUT_SECONDS:
        raise ConfigurationError(
            f"{name}: timeout_in_seconds is {timeout_s}. Give more than 0 and at most 86400 (a day)."
        )
    return max(1, round(timeout_s * 1000))


def _checked_policy(name: str, patience: Patience) -> RetryPolicy:
    attempts, first_s, longest_s = patience.attempts, patience.first_wait_in_seconds, patience.longest_wait_in_seconds
    assert attempts is not None
    assert first_s is not None
    assert longest_s is not None
    try:
        policy = RetryPolicy(
            attempts=attempts, first_wait_ms=round(first_s * 1000), longest_wait_ms=round(longest_s * 1000)
        )
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    if policy.longest_span_ms(_checked_limit(name, patience)) > LONGEST_SPAN_MS:
        raise ConfigurationError(
            f"{name}: {attempts} attempts can take longer than 7 days, after which outcomes may be forgotten. "
            "Lower attempts, timeout_in_seconds or longest_wait_in_seconds."
        )
    return policy


def _is_async(function: Callable[..., Any]) -> bool:
    """Look through partials and callable objects, as a call would."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _where(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"
