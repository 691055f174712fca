"""A worker's web over lanes in memory: real HTTP on a real port, no Kafka."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from fakes import NOON_MS, TOPIC_ID, MemoryOutlet, add, new_lane
from kafka_broker import free_port
from wait_for_me.partitioner import partition_for
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.commands_log import CommandsLogCheck
from wait_for_me_app.lane import Lane
from wait_for_me_app.metrics import Counters
from wait_for_me_app.settings import Settings
from wait_for_me_app.web.cluster import Parts
from wait_for_me_app.web.server import Web

PARTITIONS = 4


@dataclass
class WebWorld:
    """One worker with lanes; others can be added to its owners."""

    settings: Settings
    partitions: tuple[int, ...] = tuple(range(PARTITIONS))
    outlet: MemoryOutlet = field(default_factory=MemoryOutlet)
    is_ready: bool = True
    owners: dict[str, tuple[int, ...]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lanes: dict[int, Lane] = {
            number: new_lane(self.outlet, partition=number, partitions=PARTITIONS) for number in self.partitions
        }
        self.counters = Counters()
        self.web = Web(
            Parts(
                settings=self.settings,
                lanes=lambda: self.lanes,
                is_ready=lambda: self.is_ready,
                taken_over_in_seconds=lambda: 0.5,
                ticks_sent=lambda: 3,
                clock=BrokerClock(),
                look_at_log=self.look_at_log,
                owners=lambda: self.owners,
                counters=self.counters,
            )
        )

    def look_at_log(self) -> CommandsLogCheck:
        """Describe the commands as they are folded: nothing waits."""
        ends = [self.offsets.get(number, 0) + 2 for number in range(PARTITIONS)]
        return CommandsLogCheck(
            topic="t.commands",
            topic_id=TOPIC_ID,
            partitions=PARTITIONS,
            first_offsets=[0] * PARTITIONS,
            end_offsets=ends,
        )

    async def add(self, group: str, participant: str, *, at_ms: int = NOON_MS, **more: Any) -> None:
        """Fold an add on the group's lane."""
        home = partition_for(group.encode(), PARTITIONS)
        offset = self.offsets[home] = self.offsets.get(home, -1) + 1
        await self.lanes[home].take([add(offset, at_ms, group, participant, **more)])


def web_settings(**more: Any) -> Settings:
    """Return settings for a web on a free port; nothing answers as Kafka."""
    own = {
        "bootstrap_servers": "127.0.0.1:1",
        "prefix": f"t-{uuid.uuid4().hex[:6]}",
        "partitions": PARTITIONS,
        "worker_id": "w1",
    }
    return Settings(**{**own, "replication_factor": 1, "unsafe": True, "web_port": free_port(), **more})


def port_of(world: WebWorld) -> int:
    """Return where it listens: a port that was free a moment ago may be taken, and the web then moves on."""
    server = world.web._server
    port: int = server.sockets[0].getsockname()[1] if server else world.settings.web_port
    return port


@asynccontextmanager
async def served(world: WebWorld) -> Any:
    """Serve a world and yield what asks it."""
    await world.web.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Asker(session, f"http://127.0.0.1:{port_of(world)}")
    finally:
        await world.web.stop()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


@dataclass
class Asker:
    """Asks a web over HTTP; the path goes out exactly as it is written."""

    session: aiohttp.ClientSession
    url: str

    async def __call__(self, path: str, method: str = "GET", **more: Any) -> Answer:
        """Send one request."""
        from yarl import URL

        async with self.session.request(
            method, URL(f"{self.url}{path}", encoded=True), allow_redirects=False, **more
        ) as response:
            return Answer(response.status, response.headers, await response.text())


REPOSITORY = Path(__file__).resolve().parent.parent
