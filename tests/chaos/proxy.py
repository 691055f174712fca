"""A TCP proxy with faults, one link for each way from a worker to a broker.

    open        forwards
    slow        forwards late and in small pieces
    cut         resets what is connected, and whoever connects
    stall       holds what is sent, both ways, and delivers it at the end: a network that was away for a while
    half_open   the broker's side is closed and the worker's side is not told; what it sends goes nowhere until the end, when it is reset
    deaf        what the worker sends arrives, what the broker answers does not; reset at the end

Everything runs on one event loop in a thread of its own; `ProxyThread` is what other threads talk to.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final

FAULTS: Final = ("slow", "cut", "stall", "half_open", "deaf")
_CHUNK: Final = 65_536
_SLICE: Final = 1_400
_LATEST_S: Final = 0.15


class Link:
    """One listening port and the broker behind it."""

    def __init__(self, port: int, target: int, *, seed: int = 0) -> None:
        self.port, self.target = port, target
        self.mode = "open"
        self._changed = asyncio.Event()
        self._pairs: set[_Pair] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; port 0 takes any."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and everything that goes through it."""
        if self._server is not None:
            self._server.close()
        self.set_mode("cut")
        while self._serving:
            self._reset()
            await asyncio.sleep(0.01)

    def set_mode(self, mode: str) -> None:
        """Begin a fault, or end it with `open`."""
        before, self.mode = self.mode, mode
        if mode == "cut" or before in ("half_open", "deaf"):
            self._reset()
        elif mode == "half_open":
            for pair in list(self._pairs):
                pair.broker.close()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve_until_it_ends(reader, writer)
        finally:
            self._serving.discard(task)

    async def _serve_until_it_ends(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            _abort(writer)
            return
        try:
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _abort(writer)
            return
        pair = _Pair(writer, broker_writer)
        self._pairs.add(pair)
        ways = [
            asyncio.create_task(self._forward(reader, broker_writer, answers=False)),
            asyncio.create_task(self._forward(broker_reader, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._pairs.discard(pair)
            _abort(writer)
            _abort(broker_writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(_CHUNK):
            while self.mode == "stall":
                await self._changed.wait()
            if self.mode == "half_open" or (self.mode == "deaf" and answers):
                continue
            if self.mode == "slow":
                await self._trickle(data, writer)
            else:
                writer.write(data)
                await writer.drain()
        while self.mode == "half_open" and answers:
            await self._changed.wait()

    async def _trickle(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), _SLICE):
            await asyncio.sleep(self._random.random() * _LATEST_S if start == 0 else 0.001)
            writer.write(data[start : start + _SLICE])
            await writer.drain()

    def _reset(self) -> None:
        for pair in list(self._pairs):
            _abort(pair.worker)
            _abort(pair.broker)


@dataclass(frozen=True, eq=False)
class _Pair:
    worker: asyncio.StreamWriter
    broker: asyncio.StreamWriter


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a host does that has forgotten the connection."""
    with contextlib.suppress(OSError):
        if (raw := writer.get_extra_info("socket")) is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ProxyThread:
    """All links, on an event loop in a thread."""

    def __init__(self, ways: Iterable[tuple[str, int, int, int]], *, seed: int = 0) -> None:
        """Take ways as (worker, broker, port to listen on, port of the broker's listener for that worker)."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.links: dict[tuple[str, int], Link] = {}
        for worker, broker, port, target in ways:
            link = self.links[worker, broker] = Link(port, target, seed=seed + port)
            self._run(link.start())

    def set_mode(self, worker: str, brokers: Iterable[int], mode: str) -> None:
        """Begin a fault on a worker's way to some brokers, or end it with `open`."""
        for broker in brokers:
            self._loop.call_soon_threadsafe(self.links[worker, broker].set_mode, mode)

    def heal(self) -> None:
        """Open every link."""
        for link in self.links.values():
            if link.mode != "open":
                self._loop.call_soon_threadsafe(link.set_mode, "open")

    def close(self) -> None:
        """End the thread and all connections."""
        if self._loop.is_closed():
            return
        for link in self.links.values():
            self._run(link.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, job: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(job, self._loop).result(10)
