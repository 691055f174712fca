"""The proxy's faults, with an echo server behind it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.ports import Ports
from chaos.proxy import Link, ProxyThread

SOON_S = 0.25


_clients: list[asyncio.StreamWriter] = []
_echoing: set[asyncio.Task[None]] = set()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.current_task()
    assert task is not None
    _echoing.add(task)
    task.add_done_callback(_echoing.discard)
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def echo_behind_a_link() -> AsyncIterator[Link]:
    """A link on a free port, with an echo server as its broker."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    link = Link(0, server.sockets[0].getsockname()[1])
    await link.start()
    try:
        yield link
    finally:
        for writer in _clients:
            writer.close()
        _clients.clear()
        await link.stop()
        server.close()
        await asyncio.gather(*_echoing, return_exceptions=True)


async def connect(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect through a link."""
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    _clients.append(writer)
    return reader, writer


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"hello") -> bytes:
    """Send something and return what comes back."""
    writer.write(data)
    return await reader.readexactly(len(data))


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Return whether nothing comes for a moment, not even an end."""
    try:
        await asyncio.wait_for(reader.read(1), SOON_S)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


async def is_reset(reader: asyncio.StreamReader) -> bool:
    """Return whether the connection ends soon without an answer."""
    try:
        return await asyncio.wait_for(reader.read(1), 2) == b""
    except ConnectionResetError:
        return True


async def test_an_open_link_forwards_both_ways() -> None:
    """What is sent comes back, large things too."""
    async with echo_behind_a_link() as link:
        assert await answer(*await connect(link), b"x" * 300_000) == b"x" * 300_000


async def test_a_slow_link_delivers_everything_late() -> None:
    """In pieces, whole and in order."""
    async with echo_behind_a_link() as link:
        link.set_mode("slow")
        data = bytes(range(256)) * 40
        assert await answer(*await connect(link), data) == data


async def test_a_cut_link_resets_what_is_there_and_who_comes() -> None:
    """And lets everybody in again when it is healed."""
    async with echo_behind_a_link() as link:
        reader, writer = await connect(link)
        await answer(reader, writer)
        link.set_mode("cut")
        assert await is_reset(reader)
        newcomer, _ = await connect(link)
        assert await is_reset(newcomer)
        link.set_mode("open")
        assert await answer(*await connect(link)) == b"hello"


async def test_a_stalled_link_delivers_when_it_is_healed() -> None:
    """Nothing is lost and nobody is told; it only takes long."""
    async with echo_behind_a_link() as link:
        reader, writer = await connect(link)
        await answer(reader, writer)
        link.set_mode("stall")
        writer.write(b"late")
        assert await is_silent(reader)
        link.set_mode("open")
        assert await reader.readexactly(4) == b"late"


@pytest.mark.parametrize("mode", ["half_open", "deaf"])
async def test_a_half_open_or_deaf_link_is_silent_until_it_is_reset(mode: str) -> None:
    """The worker hears nothing, not even that the broker is gone, until the end of the fault."""
    async with echo_behind_a_link() as link:
        reader, writer = await connect(link)
        await answer(reader, writer)
        link.set_mode(mode)
        writer.write(b"into the dark")
        assert await is_silent(reader)
        newcomer, newcomers_writer = await connect(link)
        newcomers_writer.write(b"too")
        assert await is_silent(newcomer)
        link.set_mode("open")
        assert await is_reset(reader)
        assert await is_reset(newcomer)
        assert await answer(*await connect(link)) == b"hello"


async def test_a_link_without_a_broker_resets() -> None:
    """As a host does on which nobody listens."""
    async with echo_behind_a_link() as link:
        link.target = Ports().take()
        reader, _ = await connect(link)
        assert await is_reset(reader)


def test_the_thread_serves_links_by_worker_and_broker() -> None:
    """A fault on one worker's way leaves the other's alone; closing ends all."""
    ports = Ports()
    target = socket.create_server(("127.0.0.1", 0))
    behind = target.getsockname()[1]
    proxy = ProxyThread([("w1", 1, ports.take(), behind), ("w2", 1, ports.take(), behind)])
    try:
        proxy.set_mode("w1", [1], "cut")
        until = time.monotonic() + 5
        while proxy.links["w1", 1].mode != "cut":
            assert time.monotonic() < until
        assert proxy.links["w2", 1].mode == "open"
        with socket.create_connection(("127.0.0.1", proxy.links["w2", 1].port), timeout=5):
            accepted, _ = target.accept()
            accepted.close()
        proxy.heal()
    finally:
        proxy.close()
        proxy.close()
        target.close()


def test_ports_are_handed_out_once() -> None:
    """Below those that the system gives to others."""
    ports = Ports()
    taken = [ports.take() for _ in range(50)]
    assert len(set(taken)) == 50
    assert max(taken) < 32_768
