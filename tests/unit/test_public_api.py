"""The public surface: what `__all__` promises is there, typed, explained, and light to import."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import wait_for_me

MODULES = sorted(module.name for module in pkgutil.iter_modules(wait_for_me.__path__))


def loaded_after(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has after this statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(finished.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import wait_for_me",
        "from wait_for_me import *",
        "from wait_for_me import WaitForMe, AsyncWaitForMe, Receipt, subscribe",
        *(f"import wait_for_me.{module}" for module in MODULES),
    ],
)
def test_importing_loads_no_librdkafka_and_nothing_of_the_worker(statement: str) -> None:
    """A service that only needs the schema pays for the schema; a client loads librdkafka when it is made."""
    heavy = {"confluent_kafka", "wait_for_me_app", "faust", "mode", "rocksdict", "aiokafka", "aiohttp", "click"}
    assert not loaded_after(statement) & heavy


def test_the_package_itself_loads_not_even_the_schema() -> None:
    """`import wait_for_me` for its errors costs the errors."""
    assert "msgspec" not in loaded_after("import wait_for_me; wait_for_me.InvalidCommand; wait_for_me.add_participant")


def test_every_public_name_is_there_sorted_and_explained() -> None:
    """The list is the promise."""
    assert wait_for_me.__all__ == sorted(wait_for_me.__all__)
    for name in wait_for_me.__all__:
        public = getattr(wait_for_me, name)
        assert inspect.getdoc(public), f"{name} has no docstring"
        assert public.__name__ == name
        assert name in dir(wait_for_me)


def test_every_public_method_is_explained() -> None:
    """In one sentence at least, for the help of an editor."""
    for owner in (wait_for_me.WaitForMe, wait_for_me.AsyncWaitForMe, wait_for_me.Subscription, wait_for_me.Fire):
        for name, member in inspect.getmembers(owner):
            if not name.startswith("_") and callable(member):
                assert inspect.getdoc(member), f"{owner.__name__}.{name} has no docstring"


def test_nothing_public_is_left_out_of_the_list() -> None:
    """Every error has its place in it, and no name besides is offered by accident."""
    errors = importlib.import_module("wait_for_me.errors")
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {name for name in tree if not name.startswith("_")} <= set(wait_for_me.__all__)
    offered = {
        name for name, value in vars(wait_for_me).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert offered - {"annotations", "import_module", "TYPE_CHECKING", "Any"} <= set(wait_for_me.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'add_particpant'"):
        wait_for_me.add_particpant  # noqa: B018


@pytest.mark.parametrize("method", ["add_participant", "remove_wait", "wait_fired", "wait_done"])
def test_all_three_ways_to_call_have_one_signature(method: str) -> None:
    """The function of the module, the method, and the awaited method."""

    def parameters(function: object) -> list[tuple[str, object, object, object]]:
        found = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        return [(p.name, p.kind, p.default, p.annotation) for p in found if p.name != "self"]

    ways = [getattr(owner, method) for owner in (wait_for_me, wait_for_me.WaitForMe, wait_for_me.AsyncWaitForMe)]
    assert parameters(ways[0]) == parameters(ways[1]) == parameters(ways[2])


def test_adding_takes_keywords_only_and_the_gems_names_first() -> None:
    """A call of the gem can be copied over."""
    parameters = inspect.signature(wait_for_me.add_participant).parameters
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert list(parameters)[:6] == [
        "participant_key",
        "group_key",
        "number_of_participants_in_group",
        "execute_after_waiting",
        "execute_after_waiting_params",
        "wait_time_in_seconds",
    ]


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    """PEP 561."""
    assert (Path(wait_for_me.__file__).parent / "py.typed").exists()


@pytest.mark.interpreted
@pytest.mark.parametrize("module", MODULES)
def test_every_module_states_its_rule(module: str) -> None:
    """In its docstring."""
    assert (importlib.import_module(f"wait_for_me.{module}").__doc__ or "").strip()
