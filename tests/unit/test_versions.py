"""The worker starts with the libraries that it was written for, and with nothing else."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust.streams
import pytest

from wait_for_me_app.faust_lanes import versions
from wait_for_me_app.faust_lanes.app import create_app
from wait_for_me_app.faust_lanes.versions import WRITTEN_FOR, UnfitInstallation, check_classes, check_versions


def test_what_is_installed_here_is_what_it_was_written_for() -> None:
    """Otherwise nothing that these tests say holds."""
    check_versions()


@pytest.mark.parametrize("name", WRITTEN_FOR)
def test_another_version_is_refused_with_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them: their insides are replaced."""
    monkeypatch.setattr(versions, "version", lambda asked: "9.9.9" if asked == name else WRITTEN_FOR[asked])
    with pytest.raises(UnfitInstallation) as caught:
        check_versions()
    assert str(caught.value).endswith(f"was written for exactly: pip install {name}=={WRITTEN_FOR[name]}")


def test_a_missing_package_is_refused_like_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are wrong are named at once."""

    def missing(_name: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(versions, "version", missing)
    with pytest.raises(UnfitInstallation) as caught:
        check_versions()
    assert all(f"{name}=={wanted}" in str(caught.value) for name, wanted in WRITTEN_FOR.items())


def test_the_packaging_asks_for_the_same_versions() -> None:
    """What pip installs and what the worker accepts are written in two places."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    wanted = [one for one in project["project"]["optional-dependencies"]["app"] if "==" in one]
    assert wanted == [f"{name}=={version}" for name, version in WRITTEN_FOR.items()]


@pytest.fixture
async def app(tmp_path: Path) -> Any:
    """A worker's app, with its table; nothing is connected."""
    one = create_app(
        app_id="t",
        partitions=4,
        data_directory=tmp_path,
        session_timeout_ms=10_000,
        standby_replicas=0,
        commands_topic="t.commands",
        fetch_properties={},
        logging_config={"version": 1, "incremental": True},
        faust_settings={"broker": "lanes://127.0.0.1:1"},
    )
    one.Table("groups", key_type=bytes, value_type=bytes, partitions=4)
    yield one
    one.consumer._thread.thread_loop.close()  # type: ignore[attr-defined]


async def test_faust_uses_the_classes_of_this_package(app: Any) -> None:
    """Transport, consumer, table manager, recovery and store."""
    check_classes(app)


@pytest.mark.parametrize("part", ["transport", "consumer", "tables"])
async def test_a_stock_class_in_place_of_one_of_ours_is_refused(app: Any, part: str) -> None:
    """Stock Faust loses events: better not to start."""

    class Stock:
        recovery = app.tables.recovery

        def values(self) -> Any:
            return app.tables.values()

    parts: dict[str, Any] = {"transport": app.transport, "consumer": app.consumer, "tables": app.tables}
    other = SimpleNamespace(**{**parts, part: Stock()})
    with pytest.raises(UnfitInstallation, match=r"is Stock, not Lane.*; reinstall kafka-wait-for-me\[app\]"):
        check_classes(other)


async def test_faust_without_its_compiled_parts_is_refused(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, ten times slower, and nobody would know why."""
    monkeypatch.setattr(faust.streams, "_CStreamIterator", None)
    with pytest.raises(UnfitInstallation, match="reinstall it from a binary wheel"):
        check_classes(app)


def test_an_app_is_not_made_with_other_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check comes before anything is built."""
    monkeypatch.setattr(versions, "version", lambda _name: "0")
    with pytest.raises(UnfitInstallation):
        create_app(
            app_id="t",
            partitions=1,
            data_directory=tmp_path,
            session_timeout_ms=1,
            standby_replicas=0,
            commands_topic="t",
            fetch_properties={},
            logging_config={},
            faust_settings={},
        )
