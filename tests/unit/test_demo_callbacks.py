"""The demo's callbacks leave a witness of each run, and work without one outside the demo."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from registries import load_alone
from wait_for_me import Fire
from wait_for_me.codec import decode_fire
from wait_for_me_app.demo.board import Run
from wait_for_me_app.demo.scenario import CALLBACK, CALLBACK_PARAMS, CHECK_CALLBACK

callbacks, REGISTRY = load_alone("wait_for_me_app.demo.callbacks")
WITNESS_VARIABLE, read_witness = callbacks.WITNESS_VARIABLE, callbacks.read_witness


def fire(callback: str, params: list[str]) -> Fire:
    value = {
        "type": "fire",
        "fire_id": "fire_1",
        "group_key": "deploy-1",
        "reason": "complete",
        "number_of_participants_in_group": 1,
        "arrived_count": 1,
        "missing_count": 0,
        "arrived": [],
        "arrived_truncated": False,
        "conflict_count": 0,
        "execute_after_waiting": callback,
        "execute_after_waiting_params": params,
        "wait_time_in_seconds": 6,
        **dict.fromkeys(("opened_at", "last_add_at", "deadline_at", "fired_at"), "2026-11-24T02:10:00.120Z"),
        **dict.fromkeys(("partition", "opened_offset", "closed_offset"), 0),
    }
    return decode_fire(msgspec.json.encode(value))


def run(name: str, params: list[str]) -> None:
    """Run a callback as the executor does: by its name, with the parameters of a fire."""
    found = REGISTRY.find(name)
    assert found is not None
    found.bind(fire(name, params))()


def test_each_run_is_witnessed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one fire are two lines, so that a duplicate shows."""
    monkeypatch.setenv(WITNESS_VARIABLE, str(tmp_path / "witness"))
    for _ in range(2):
        run(CALLBACK, list(CALLBACK_PARAMS))
    assert read_witness(tmp_path / "witness") == (Run("deploy-1", "fire_1"),) * 2


def test_without_a_witness_file_the_callback_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any executor may use these callbacks to try things out."""
    monkeypatch.delenv(WITNESS_VARIABLE, raising=False)
    run(CALLBACK, ["E1"])


def test_the_check_leaves_no_witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks are not part of the story, so they are not counted."""
    monkeypatch.setenv(WITNESS_VARIABLE, str(tmp_path / "witness"))
    run(CHECK_CALLBACK, [])
    assert read_witness(tmp_path / "witness") == ()
