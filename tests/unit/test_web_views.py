"""The command line's looks at groups and fires, against a web over lanes in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fakes import NOON_MS
from kafka_broker import free_port
from wait_for_me.partitioner import partition_for
from wait_for_me_app.cli import main
from wait_for_me_app.views.output import printable, span
from web_world import WebWorld, port_of, served, web_settings

TOKEN = "a-token-that-is-long-enough"


async def run(world: WebWorld, *arguments: str) -> int:
    """Run a command against a served world."""
    return await asyncio.to_thread(main, [*arguments, "--server", f"http://127.0.0.1:{port_of(world)}"])


async def test_groups_are_listed_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """A table, one JSON document, or a JSON line each; data on stdout only."""
    world = WebWorld(web_settings())
    await world.add("deploy-1", "web-1", of=3)
    await world.add("deploy-2", "web-1", at_ms=NOON_MS + 1, of=3)
    async with served(world):
        assert await run(world, "groups", "list") == 0
        table = capsys.readouterr().out
        assert await run(world, "groups", "list", "-o", "json") == 0
        document = json.loads(capsys.readouterr().out)
        assert await run(world, "groups", "list", "-o", "jsonl", "--search", "deploy-2") == 0
        lines = capsys.readouterr().out.splitlines()
    assert "deploy-1" in table
    assert "1/3" in table
    assert "(2 missing)" in table
    assert [one["group_key"] for one in document["groups"]] == ["deploy-1", "deploy-2"]
    assert [json.loads(line)["group_key"] for line in lines] == ["deploy-2"]


async def test_a_group_is_described_and_an_unknown_one_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts can tell."""
    world = WebWorld(web_settings())
    await world.add("a/b", "web-1", of=3)
    async with served(world):
        assert await run(world, "groups", "describe", "a/b") == 0
        assert "1 of 3, 2 missing" in capsys.readouterr().out
        assert await run(world, "groups", "describe", "nobody") == 3
        assert capsys.readouterr().out == ""


async def test_an_incomplete_list_says_what_is_not_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with the worker that did not answer."""
    world = WebWorld(web_settings(), (0, 1))
    async with served(world):
        world.owners = {world.web.url: (0, 1), f"http://127.0.0.1:{free_port()}/#w2": (2, 3)}
        assert await run(world, "groups", "list") == 0
    said = capsys.readouterr().err
    assert "#w2" in said
    assert "1 of 2 workers answered" in said


async def test_watch_ends_when_the_group_has_fired_or_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    """0 when it fired, 1 when it was removed, 4 when it took too long."""
    world = WebWorld(web_settings())
    await world.add("g", "web-1", of=2)
    async with served(world):
        assert await run(world, "watch", "g", "--until-fired", "--timeout", "0") == 4
        watching = asyncio.create_task(run(world, "watch", "g", "--until-fired", "--timeout", "20"))
        await asyncio.sleep(0.1)
        await world.add("g", "web-2", of=2)
        assert await watching == 0
    assert "g: complete, 2 of 2" in capsys.readouterr().out
    assert main(["watch", "--until-fired"]) == 2


async def test_healthcheck_tells_ready_from_not_ready_from_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """0, 1 and 75; --live asks the other question."""
    world = WebWorld(web_settings(), is_ready=False)
    async with served(world):
        assert await run(world, "healthcheck") == 1
        assert await run(world, "healthcheck", "--live") == 0
        world.is_ready = True
        assert await run(world, "healthcheck") == 0
    assert await run(world, "healthcheck") == 75
    assert "WAIT_FOR_ME_SERVER" in capsys.readouterr().err


async def test_the_token_comes_from_the_environment_and_without_it_is_78(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Never a flag: a command line can be read by everybody on the machine."""
    world = WebWorld(web_settings(web_token=TOKEN))
    async with served(world):
        assert await run(world, "groups", "list") == 78
        secret = tmp_path / "token"
        secret.write_text(f"{TOKEN}\n")
        monkeypatch.setenv("WAIT_FOR_ME_WEB_TOKEN_FILE", str(secret))
        assert await run(world, "groups", "list") == 0


async def test_a_name_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Direction marks and other invisible characters are legal in names, and written out."""
    name = "evil\u202egnp.exe"
    world = WebWorld(web_settings())
    await world.add(name, "p")
    async with served(world):
        for form in ("text", "json", "jsonl"):
            await run(world, "groups", "list", "-o", form)
            assert "\u202e" not in (said := capsys.readouterr().out)
            assert "evil\\u202egnp.exe" in said
    assert partition_for(name.encode(), 4) in world.lanes
    assert printable("a\x1b[31m\u2028") == "a\\x1b[31m\\u2028"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.05, "50 ms"), (5, "5 s"), (65, "1 min 5 s"), (120, "2 min"), (7260, "2 h 1 min"), (864000, "10 d")],
)
def test_lengths_of_time_are_written_as_people_say_them(seconds: float, said: str) -> None:
    """Short, with the two largest units."""
    assert span(seconds) == said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Something that names the command."""
    assert main(["completion", shell]) == 0
    assert "_WAIT_FOR_ME_COMPLETE" in capsys.readouterr().out
