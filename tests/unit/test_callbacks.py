"""The registry of callbacks, and how parameters from the wire meet a signature."""

from __future__ import annotations

import builtins
import functools
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_world import fire_value
from wait_for_me.codec import decode_fire
from wait_for_me.errors import ConfigurationError
from wait_for_me.fires import Fire
from wait_for_me_app.callbacks import BadParameters, Callback, Registry, load


@pytest.fixture
def registry() -> Registry:
    """A registry of its own, so that tests do not meet."""
    return Registry()


def fire_with(params: Any) -> Fire:
    """Return a fire with these parameters."""
    return decode_fire(fire_value(params=params))


def registered(function: Callable[..., Any], **options: Any) -> Callback:
    """Return the function as a registered callback."""
    registry = Registry()
    registry.callback("it", **options)(function)
    found = registry.find("it")
    assert found is not None
    return found


def called(function: Callable[..., Any], params: Any) -> Any:
    """Bind the parameters of a fire to the function, and call it."""
    return registered(function).bind(fire_with(params))()


# --- parameters ------------------------------------------------------------------------------------------------------


def test_a_list_is_positional_parameters() -> None:
    """The elements of a list are the arguments, in order."""
    assert called(lambda *args: args, ["E1", "/*"]) == ("E1", "/*")


def test_an_object_is_keyword_arguments() -> None:
    """The members of an object are arguments by name."""
    assert called(lambda *, a, b: (a, b), {"b": 2, "a": 1}) == (1, 2)


@pytest.mark.parametrize("value", ["text", 5, 1.5, True, False])
def test_any_other_json_is_one_positional_parameter(value: Any) -> None:
    """A text or a number is one argument."""
    assert called(lambda *args: args, value) == (value,)


@pytest.mark.parametrize("nothing", [[], {}, None])
def test_nothing_is_no_parameters(nothing: Any) -> None:
    """An empty list, an empty object and null mean a call without arguments."""
    assert called(lambda *args, **kwargs: (args, kwargs), nothing) == ((), {})


def test_the_fire_fills_a_parameter_of_that_name_wherever_it_stands() -> None:
    """`fire` may be first, last, in the middle, keyword-only or after a star; positional parameters pass around it."""

    def first(fire: Fire, a: int, b: int = 0) -> Any:
        return fire.group_key, a, b

    def middle(a: int, fire: Fire, *rest: int) -> Any:
        return fire.group_key, a, rest

    def last(a: int, b: int, fire: Fire) -> Any:
        return fire.group_key, a, b

    def by_keyword(a: int, b: int = 0, *, fire: Fire) -> Any:
        return fire.group_key, a, b

    assert called(first, [1, 2]) == ("deploy-42", 1, 2)
    assert called(first, {"a": 1}) == ("deploy-42", 1, 0)
    assert called(middle, [1, 2, 3]) == ("deploy-42", 1, (2, 3))
    assert called(middle, [1]) == ("deploy-42", 1, ())
    assert called(last, [1, 2]) == ("deploy-42", 1, 2)
    assert called(by_keyword, [1]) == ("deploy-42", 1, 0)


def test_a_function_without_a_parameter_fire_does_not_get_it() -> None:
    """Open keyword arguments are the add's, not the executor's."""
    assert called(lambda **kwargs: kwargs, {"fire": "from the add"}) == {"fire": "from the add"}


json_values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
names = st.sampled_from(["a", "b", "c", "fire"])


@given(st.lists(json_values, max_size=4) | st.dictionaries(names, json_values, max_size=4))
def test_parameters_fit_exactly_when_a_call_with_them_would(params: Any) -> None:
    """Binding refuses what Python would refuse, and passes on what Python would pass."""

    def function(a: Any, b: Any = "default", *, c: Any = "other") -> Any:
        return a, b, c

    try:
        expected = function(*params) if isinstance(params, list) else function(**params)
    except TypeError:
        with pytest.raises(BadParameters):
            called(function, params)
    else:
        assert called(function, params) == expected


@given(st.lists(json_values, max_size=4))
def test_with_a_fire_in_front_the_rest_of_the_signature_works_as_before(params: list[Any]) -> None:
    """A `fire` in the signature changes nothing for the parameters around it."""

    def without(a: Any, b: Any = 1, *rest: Any) -> Any:
        return a, b, rest

    def with_fire(a: Any, fire: Fire, b: Any = 1, *rest: Any) -> Any:
        assert fire.group_key == "deploy-42"
        return a, b, rest

    try:
        expected = without(*params)
    except TypeError:
        with pytest.raises(BadParameters):
            called(with_fire, params)
    else:
        assert called(with_fire, params) == expected


def test_nobody_can_send_the_fire_over_the_wire() -> None:
    """An argument named `fire` is refused when the executor fills it."""
    with pytest.raises(BadParameters, match="give it another name"):
        called(lambda fire: fire, {"fire": {"fire_id": "forged"}})


def test_parameters_that_do_not_fit_are_told_apart_from_errors_of_the_callback() -> None:
    """BadParameters names the signature; the function is not entered."""
    entered: list[int] = []
    with pytest.raises(
        BadParameters, match=r"it\(a, b\) cannot take the parameters \(missing a required argument: 'b'\)"
    ):
        registered(lambda a, b: entered.append(1)).bind(fire_with(["only one"]))
    assert entered == []


# --- registering -----------------------------------------------------------------------------------------------------


def test_a_decorated_function_stays_as_it_is(registry: Registry) -> None:
    """The decorator returns the function itself, so it can be tested and called as before."""

    def function() -> int:
        return 5

    assert registry.callback("five")(function) is function
    assert [callback.name for callback in registry] == ["five"]


def test_two_callbacks_of_one_name_are_refused_with_the_remedy(registry: Registry) -> None:
    """Which of the two would run is not left to the order of imports."""
    registry.callback("x")(lambda: None)
    with pytest.raises(ConfigurationError, match=r"two callbacks are named 'x': .*lambda.* Rename one"):
        registry.callback("x")(lambda: None)


@pytest.mark.parametrize("name", ["", "two words", "a" * 129, "ü", "x\n", "a/b"])
def test_a_name_that_no_add_can_carry_is_refused(registry: Registry, name: str) -> None:
    """What the wire does not allow cannot be registered either."""
    with pytest.raises(ConfigurationError, match="cannot be registered"):
        registry.callback(name)(lambda: None)


def test_async_functions_are_known_in_every_shape() -> None:
    """A coroutine function, a partial of one, and an object with an async call all run on the loop."""

    async def plain() -> None: ...

    class Callable_:  # noqa: N801
        async def __call__(self) -> None: ...

    assert registered(plain).is_async
    assert registered(functools.partial(functools.partial(plain))).is_async
    assert registered(Callable_()).is_async
    assert not registered(lambda: None).is_async


def test_generators_are_refused(registry: Registry) -> None:
    """Calling one runs nothing, so it would be done without having done anything."""

    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> Any:
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(ConfigurationError, match="Remove the `yield`"):
            registry.callback("g")(function)


def test_a_fire_that_cannot_be_filled_is_refused(registry: Registry) -> None:
    """`fire` must be a plain or keyword-only parameter."""

    def positional_only(fire: Fire, /) -> None: ...

    def starred(*fire: Fire) -> None: ...

    for function in (positional_only, starred):
        with pytest.raises(ConfigurationError, match="Make it a plain parameter"):
            registry.callback("f")(function)


def test_a_function_without_a_signature_is_refused(registry: Registry) -> None:
    """What cannot be inspected cannot be checked against parameters."""
    with pytest.raises(ConfigurationError, match="Wrap it in a function"):
        registry.callback("type")(type)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"attempts": 0}, "give 1 to 1000"),
        ({"timeout_in_seconds": 0}, "Give more than 0"),
        ({"timeout_in_seconds": 86_401}, "at most 86400"),
        ({"timeout_in_seconds": float("nan")}, "Give more than 0"),
        ({"first_wait_in_seconds": 5, "longest_wait_in_seconds": 1}, "not above the longest"),
        ({"attempts": 1000}, "longer than 7 days"),
        ({"attempts": 8, "timeout_in_seconds": 86_400}, "longer than 7 days"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(registry: Registry, options: dict[str, Any], what: str) -> None:
    """Among them retries that would outlive what is known about them."""
    with pytest.raises(ConfigurationError, match=what):
        registry.callback("x", **options)(lambda: None)


def test_limits_are_kept_in_milliseconds() -> None:
    """Seconds in the decorator, whole milliseconds inside, never 0."""
    callback = registered(lambda: None, timeout_in_seconds=0.0001, first_wait_in_seconds=0.25, attempts=4)
    assert (callback.time_limit_ms, callback.policy.first_wait_ms, callback.policy.attempts) == (1, 250, 4)


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_operators_modules_register_what_they_decorate(
    module_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--callbacks my_callbacks` imports the module; its decorators fill the default registry."""
    registry = Registry()
    monkeypatch.setattr("wait_for_me_app.callbacks.callback", registry.callback)
    source = "from wait_for_me_app.callbacks import callback\n@callback('cdn.clear')\ndef clear(): ...\n"
    (module_folder / "my_callbacks.py").write_text(source)
    assert load(registry, ["my_callbacks"], []).find("cdn.clear") is not None


def test_a_module_that_is_not_there_is_refused_with_the_remedy(registry: Registry) -> None:
    """A typing error in --callbacks is no traceback."""
    for name in ("no_such_module_here", "no_such_package.callbacks"):
        with pytest.raises(ConfigurationError, match="cannot be found: check its name"):
            load(registry, [name], [])


def test_a_module_that_lacks_something_itself_shows_its_own_error(registry: Registry, module_folder: Path) -> None:
    """An import inside the module that fails is not taken for a missing module."""
    (module_folder / "half_installed.py").write_text("import boto3_is_not_here\n")
    with pytest.raises(ModuleNotFoundError, match="boto3_is_not_here"):
        load(registry, ["half_installed"], [])


def test_an_executor_without_callbacks_is_refused(registry: Registry) -> None:
    """It could only set every fire aside."""
    with pytest.raises(ConfigurationError, match="name a module with --callbacks"):
        load(registry, [], [])


class InstalledCallback:
    """An entry point whose object is given, as `importlib.metadata.EntryPoint` looks to its user."""

    def __init__(self, name: str, found: object) -> None:
        self.name = name
        self.value = "package:thing"
        self._found = found

    def load(self) -> object:
        """Return the object."""
        return self._found


def entry_points(*found: InstalledCallback) -> list[metadata.EntryPoint]:
    """Return them as the type that `load` asks for."""
    return found  # type: ignore[return-value]


def test_entry_points_bring_functions_modules_and_decorated_functions(registry: Registry) -> None:
    """A plain function is registered under the entry point's name, a decorated one under its own."""

    def plain() -> None: ...

    @registry.callback("own.name")
    def decorated() -> None: ...

    points = entry_points(
        InstalledCallback("plain", plain),
        InstalledCallback("decorated", decorated),
        InstalledCallback("module", ModuleType("m")),
    )
    load(registry, [], points)
    assert {callback.name for callback in registry} == {"plain", "own.name"}


def test_an_entry_point_that_is_no_function_is_refused(registry: Registry) -> None:
    """The package that offers it must be fixed."""
    with pytest.raises(ConfigurationError, match=r"the entry point x = package:thing .* fix its package"):
        load(registry, [], entry_points(InstalledCallback("x", 5)))


def test_installed_packages_are_asked(registry: Registry) -> None:
    """Without entry points given, those of `wait_for_me.callbacks` are read; here there are none."""
    registry.callback("x")(lambda: None)
    assert len(load(registry, [])) == 1


# --- P8 --------------------------------------------------------------------------------------------------------------

HOSTILE = ("os.system", "builtins.eval", "__import__", "os:system", "subprocess.Popen", "a.__class__.__mro__", "..")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_the_wire_resolves_to_nothing_but_what_was_registered(
    registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking a name up imports nothing and evaluates nothing."""
    registry.callback("harmless")(lambda: None)
    with monkeypatch.context() as watched:
        watched.setattr(os, "system", _refuse)
        watched.setattr(builtins, "eval", _refuse)
        watched.setattr(builtins, "__import__", _refuse)  # last: setattr itself imports
        found = registry.find(name)
    assert found is None


def _refuse(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("looking up a name must not run anything")
