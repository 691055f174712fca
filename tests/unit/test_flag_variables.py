"""Every flag has a variable, its help names it, and it is read."""

from __future__ import annotations

import json
import re
from typing import Self

import pytest

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import cli as module
from wait_for_me_app.cli import cli, main
from wait_for_me_app.flag_variables import give_variables, options_of, refuse_unknown
from wait_for_me_app.settings import COMMAND_LINE_PREFIXES, VARIABLE_NAMES

NAMED = re.compile(r"\[(WAIT_FOR_ME_[A-Z_]+)\]")


def test_the_help_of_every_flag_names_a_variable_that_is_read() -> None:
    """A setting's, or one that click reads; every command is walked, so a new flag cannot be forgotten."""
    flags = list(options_of(cli))
    assert len(flags) > 100
    for path, option in flags:
        where = f"{' '.join(path)} {option.opts[-1]}"
        (variable,) = NAMED.findall(option.help or "")
        assert variable in VARIABLE_NAMES or option.envvar == variable, where


def test_a_variable_has_the_words_of_its_command_and_its_flag() -> None:
    """Whoever knows the flag knows the variable; none is a setting's, and none but the output belongs to two flags."""
    given = [option.envvar for _, option in options_of(cli) if option.envvar]
    own = [name for name in given if name != "WAIT_FOR_ME_OUTPUT"]
    assert "WAIT_FOR_ME_GROUPS_LIST_STATE" in own
    assert "WAIT_FOR_ME_ADD_MAX_WAIT" in own
    assert len(own) == len(set(own))
    assert not set(own) & set(VARIABLE_NAMES)
    unknown = [name for name in own if not str(name).startswith(COMMAND_LINE_PREFIXES)]
    assert unknown == [], "add the command to COMMAND_LINE_PREFIXES in settings.py"


def test_giving_them_twice_changes_nothing() -> None:
    """The help says it once."""
    before = [option.help for _, option in options_of(cli)]
    assert give_variables(cli) == frozenset()
    assert [option.help for _, option in options_of(cli)] == before


def test_a_misspelt_one_is_refused_with_the_likely_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would otherwise be ignored in silence."""
    with pytest.raises(ConfigurationError, match="Did you mean WAIT_FOR_ME_WATCH_TIMEOUT"):
        refuse_unknown({"WAIT_FOR_ME_WATCH_TIMOUT": "3"}, {"WAIT_FOR_ME_WATCH_TIMEOUT"})
    with pytest.raises(ConfigurationError, match="--help"):
        refuse_unknown({"WAIT_FOR_ME_DLQ_ZZZZ": "3"}, set())
    refuse_unknown({"WAIT_FOR_ME_DEMO_BROKER": "1", "HOME": "/"}, set())
    monkeypatch.setenv("WAIT_FOR_ME_ADD_WAITT", "60")
    assert main(["healthcheck"]) == 78
    assert "WAIT_FOR_ME_ADD_WAIT?" in capsys.readouterr().err


class _Client:
    """Takes what `add` sends."""

    def __init__(self) -> None:
        self.added: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def add_participant(self, **fields: object) -> object:
        self.added = fields
        return type("Receipt", (), {"topic": "t", "partition": 0, "offset": 1, "event_id": "e"})()


def test_variables_are_read_and_a_flag_wins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Required flags may come from the environment; a flag that repeats takes a line each."""
    client = _Client()
    monkeypatch.setattr(module, "_client", lambda _settings: client)
    for name, value in {"OF": "6", "WAIT": "60", "DO": "c", "PARAM": '"a b"\n{"x": 1}', "JSON": "1"}.items():
        monkeypatch.setenv(f"WAIT_FOR_ME_ADD_{name}", value)
    assert main(["add", "g", "p", "--of", "3"]) == 0
    assert client.added["number_of_participants_in_group"] == 3
    assert client.added["wait_time_in_seconds"] == 60
    assert client.added["execute_after_waiting_params"] == ["a b", {"x": 1}]
    assert json.loads(capsys.readouterr().out)["event_id"] == "e"


def test_a_variable_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, as for the flag, with the variable's name."""
    monkeypatch.setenv("WAIT_FOR_ME_GROUPS_LIST_STATE", "sleeping")
    assert main(["groups", "list"]) == 2
    assert "WAIT_FOR_ME_GROUPS_LIST_STATE" in capsys.readouterr().err
