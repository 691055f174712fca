"""The live stream: a snapshot, then what changes, as server-sent events with ids.

One pump looks for all listeners, twice a second and only while there are some. Events stand in one bounded log; a listener is a place in it, so a slow
one costs no memory: whoever has fallen behind the log, or comes back with an id that is no longer in it, gets a new snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from wait_for_me_app.web.cluster import Cluster
from wait_for_me_app.web.documents import Group, encode
from wait_for_me_app.web.problems import Refusal
from wait_for_me_app.web.recent import Recent
from wait_for_me_app.web.waiting import Query

log = logging.getLogger(__name__)

INTERVAL_S: Final = 0.5
HEARTBEAT_S: Final = 5.0
BEAT: Final = b"event: beat\ndata: {}\n\n"
"""By it a listener knows silence from a worker that hangs. It has no id: it is nothing to resume from."""
WRITE_S: Final = 20.0
LISTENERS: Final = 32
EVENTS_KEPT: Final = 512
GROUPS_SHOWN: Final = 100
RECENT_SHOWN: Final = 100


class EventLog:
    """Events by number, the newest few hundred of them."""

    def __init__(self, boot: str | None = None) -> None:
        self._boot = boot or uuid.uuid4().hex[:8]
        self._events: deque[tuple[int, bytes]] = deque(maxlen=EVENTS_KEPT)
        self.last = 0

    def append(self, kind: str, data: Any) -> None:
        """Add an event."""
        self.last += 1
        self._events.append((self.last, self.write(kind, data, self.last)))

    def write(self, kind: str, data: Any, number: int) -> bytes:
        """Return an event as it is sent; JSON has no line breaks of its own."""
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (self._boot.encode(), number, kind.encode(), encode(data))

    def after(self, number: int) -> list[bytes] | None:
        """Return the events behind a place, or None where some of them are gone."""
        if number == self.last:
            return []
        if not self._events or number < self._events[0][0] - 1 or number > self.last:
            return None
        return [written for one, written in self._events if one > number]

    def place_of(self, last_event_id: str) -> int | None:
        """Return the place that an id means, or None if it is of another boot or no id of ours."""
        boot, _, number = last_event_id.partition("-")
        return (
            int(number) if boot == self._boot and number.isascii() and number.isdigit() and len(number) < 16 else None
        )


class Stream:
    """Serves listeners and pumps events for them."""

    def __init__(self, cluster: Cluster, recent: Recent) -> None:
        self._cluster, self._recent = cluster, recent
        self._log = EventLog()
        self._listeners = 0
        self._moved = asyncio.Condition()
        self._pump: asyncio.Task[None] | None = None
        self._is_over = False
        self._news: dict[tuple[str, str], None] = {}
        self._shown: dict[str, Group] = {}
        self._state: dict[str, Any] = {}

    def tell(self, kind: str, name: str) -> None:
        """Note that a fire or a dead letter is new or has changed; called on the loop."""
        if self._listeners and len(self._news) < EVENTS_KEPT:
            self._news[kind, name] = None

    async def close(self) -> None:
        """Let every listener go."""
        self._is_over = True
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
        async with self._moved:
            self._moved.notify_all()

    # -- listeners

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send events until the listener leaves."""
        if self._listeners >= LISTENERS:
            raise Refusal(
                503,
                "too_many_listeners",
                f"{LISTENERS} viewers listen already. Close one, or ask /api/v1/groups.",
                headers={"Retry-After": "10"},
            )
        self._listeners += 1
        try:
            return await self._serve(request)
        finally:
            self._listeners -= 1

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self._recent.want()
        if self._pump is None or self._pump.done():
            await self._look(first=True)
            self._pump = asyncio.get_running_loop().create_task(self._run())
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):
            await self._send(response, b"retry: 1000\n\n" + BEAT)
            await self._follow(response, self._log.place_of(request.headers.get("Last-Event-ID", "")))
        return response

    async def _follow(self, response: web.StreamResponse, place: int | None) -> None:
        while not self._is_over:
            events = None if place is None else self._log.after(place)
            place = self._log.last
            if events is None:
                await self._send(response, self._log.write("snapshot", self._snapshot(), place))
            elif events:
                await self._send(response, b"".join(events))
            else:
                await self._wait_or_beat(response, place)

    async def _wait_or_beat(self, response: web.StreamResponse, place: int) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT_S), self._moved:
                await self._moved.wait_for(lambda: self._log.last != place or self._is_over)
        except TimeoutError:
            self._recent.want()
            await self._send(response, BEAT)

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(WRITE_S):
            await response.write(data)

    # -- the pump

    async def _run(self) -> None:
        while self._listeners and not self._is_over:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001  # a look that fails is followed by another
                log.warning("stream_look_failed", extra={"error": repr(error)})

    async def _look(self, *, first: bool = False) -> None:
        listed, counted = await asyncio.gather(self._cluster.groups(Query(limit=GROUPS_SHOWN)), self._cluster.stats())
        shown = {group.group_key: group for group in listed.groups}
        changed = [group for name, group in shown.items() if self._shown.get(name) != group]
        gone = [name for name in self._shown if name not in shown]
        meta, stats = listed.meta, {"stats": counted.stats, "window": self._recent.window()}
        coverage = (meta.workers_known, meta.workers_answered, meta.missing_partitions, meta.silent, meta.is_complete)
        before = self._state
        self._shown = shown
        self._state = {"meta": meta, "coverage": coverage, "more": listed.next_cursor is not None, **stats}
        if first:
            return
        if changed or gone or coverage != before.get("coverage"):
            self._log.append("groups", {"changed": changed, "gone": gone, "meta": meta, "more": self._state["more"]})
        if any(stats[name] != before.get(name) for name in stats):
            self._log.append("stats", {**stats, "now_ms": meta.now_ms})
        self._append_news()
        async with self._moved:
            self._moved.notify_all()

    def _append_news(self) -> None:
        news, self._news = self._news, {}
        for kind, name in news:
            document = self._recent.fire(name) if kind == "fire" else self._recent.dead_letter(name)
            if document is not None:
                self._log.append(kind, document)

    def _snapshot(self) -> dict[str, Any]:
        return {
            "groups": list(self._shown.values()),
            "meta": self._state.get("meta"),
            "more": self._state.get("more", False),
            "stats": self._state.get("stats"),
            "window": self._recent.window(),
            "fires": self._recent.fires()[:RECENT_SHOWN],
            "dead_letters": self._recent.dead_letters()[:RECENT_SHOWN],
        }
