"""Any worker answers for any group: it asks the one that has it.

Who has what is known without a service of its own: each worker announces the address of its web with its membership of the consumer
group (Faust's `canonical_url`), and the group's leader tells every member who got which partition. That is the idea of Faust's
router, of which nothing else is used.

The address carries the worker's name behind a `#`, so that two workers whose addresses are alike are still two, and a wrong one is noticed.

A worker that does not answer is named, with its partitions, in every list. An answer counts only for partitions that the asked worker says it
has, so a wrong or an old address can make a list shorter, never wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from wait_for_me.partitioner import partition_for
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.commands_log import CommandsLogCheck
from wait_for_me_app.core.fires import rfc3339
from wait_for_me_app.lane import Lane
from wait_for_me_app.metrics import Counters, LaneReading, LaneTotals
from wait_for_me_app.settings import Settings
from wait_for_me_app.web import waiting
from wait_for_me_app.web.access import PEER_HEADER, peer_signature
from wait_for_me_app.web.documents import (
    Coverage,
    Group,
    GroupList,
    History,
    Local,
    Partition,
    PartitionList,
    Silent,
    Stats,
    StatsAnswer,
    Worker,
    WorkerList,
)
from wait_for_me_app.web.fire_views import ms_of
from wait_for_me_app.web.history import read_history
from wait_for_me_app.web.problems import Refusal, not_found

log = logging.getLogger(__name__)

PATIENCE_S: Final = 2.0
PATIENCE_FOR_HISTORY_S: Final = 15.0
LARGEST_ANSWER_BYTES: Final = 16 << 20
ENDS_ARE_FRESH_S: Final = 1.0
ANSWERS_ARE_FRESH_S: Final = 0.5
NO_WEB: Final = "web-off.invalid"

Owners = Mapping[str, tuple[int, ...]]
"""Partitions by the address of their worker."""


@dataclass(kw_only=True)
class Parts:
    """What the web reads of its worker, and nothing that it could change."""

    settings: Settings
    lanes: Callable[[], Mapping[int, Lane]]
    is_ready: Callable[[], bool]
    taken_over_in_seconds: Callable[[], float]
    ticks_sent: Callable[[], int]
    clock: BrokerClock
    look_at_log: Callable[[], CommandsLogCheck]
    owners: Callable[[], Owners]
    standbys: Callable[[], Mapping[str, tuple[int, ...]]] = dict
    counters: Counters

    def now_ms(self) -> int:
        """Return the broker's time, or this machine's while the broker's is not known."""
        known = self.clock.now_ms(time.monotonic() * 1000)
        return time.time_ns() // 1_000_000 if known is None else known


class Here:
    """What this worker knows by itself."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.totals = LaneTotals(parts.lanes)
        self._ends: tuple[float, tuple[int, ...]] = (-1e9, ())
        self._looking: asyncio.Lock = asyncio.Lock()

    async def groups(self, query: waiting.Query) -> Local:
        """Return the groups of this worker's lanes."""
        found, complete = await waiting.find(self.parts.lanes(), query, hide=self.parts.settings.web_hide_payloads)
        groups = tuple(group for _due, _key, group in found)
        return self._local(groups=groups, is_complete=complete)

    async def numbers(self) -> Local:
        """Return this worker's partitions and counters."""
        return self._local(partitions=tuple(map(self._partition, await self.readings())), stats=self.stats())

    def _local(self, **more: Any) -> Local:
        parts = self.parts
        known = more.pop("partitions", None) or tuple(
            Partition(partition=number, worker=parts.settings.worker_id, url=None) for number in sorted(parts.lanes())
        )
        return Local(worker=parts.settings.worker_id, is_ready=parts.is_ready(), partitions=known, **more)

    async def readings(self) -> list[LaneReading]:
        """Read every lane once."""
        lanes = dict(self.parts.lanes())
        deadlines = await asyncio.to_thread(waiting.next_deadlines(lanes))
        ends = await self._log_ends()
        return [
            LaneReading(
                partition=number,
                watermark=lane.watermark,
                next_deadline_ms=deadlines.get(number),
                waiting=lane.waiting,
                end_offset=ends[number] if number < len(ends) else None,
            )
            for number, lane in sorted(lanes.items())
        ]

    async def _log_ends(self) -> tuple[int, ...]:
        """Ask the brokers where the commands end, at most once a second; nothing where they do not answer."""
        async with self._looking:
            asked_at_s, ends = self._ends
            if time.monotonic() - asked_at_s < ENDS_ARE_FRESH_S:
                return ends
            try:
                async with asyncio.timeout(PATIENCE_S):
                    ends = tuple((await asyncio.to_thread(self.parts.look_at_log)).end_offsets)
            except Exception as error:  # noqa: BLE001  # whatever it is, the lag is unknown and everything else is not
                log.debug("log_ends_unknown", extra={"error": repr(error)})
                ends = ()
            self._ends = (time.monotonic(), ends)
            return ends

    def _partition(self, reading: LaneReading) -> Partition:
        lane = self.parts.lanes().get(reading.partition)
        next_ms = reading.next_deadline_ms
        return Partition(
            partition=reading.partition,
            worker=self.parts.settings.worker_id,
            url=None,
            watermark=reading.watermark,
            end_offset=reading.end_offset,
            lag=reading.lag,
            waiting=reading.waiting,
            next_deadline_at=None if next_ms is None else rfc3339(next_ms),
            stream_time_at=rfc3339(lane.fold.stream_time_ms) if lane is not None and lane.fold.stream_time_ms else None,
        )

    def stats(self) -> Stats:
        """Return this worker's counters."""
        totals = self.totals
        totals.look()
        return Stats(
            waiting=sum(lane.waiting for lane in self.parts.lanes().values()),
            opened=totals.sum("opened"),
            complete=totals.closed("complete"),
            timeout=totals.closed("timeout"),
            removed=totals.closed("removed"),
            late=totals.sum("late"),
            duplicates=totals.sum("duplicates"),
            conflicts=totals.sum("conflicts"),
            misplaced=totals.sum("rerouted"),
            dead_letters=totals.sum("rejected"),
            commands=totals.sum("records"),
        )

    async def group(self, lane: Lane, group_key: str) -> Group:
        """Return one group of a lane of this worker."""
        found = await waiting.describe(lane, group_key, hide=self.parts.settings.web_hide_payloads)
        if found is None:
            raise not_found(
                "Nothing is known of this group: it has never been added to, or its last round has been freed. Its history may still be in the log."
            )
        return found

    async def history(self, lane: Lane, group_key: str) -> History:
        """Return the history of a group of a lane of this worker."""
        row = await waiting.describe(lane, group_key, hide=True)
        opened_offset = None if row is None else row.opened_offset
        return await asyncio.to_thread(read_history, self.parts.settings, lane.identity, group_key, opened_offset)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What all workers said, and who said nothing."""

    answers: tuple[tuple[str, Local], ...]
    silent: tuple[Silent, ...]
    workers_known: int


class Cluster:
    """All workers of the deployment, this one among them."""

    def __init__(self, here: Here, *, own_url: Callable[[], str]) -> None:
        self.here, self._own_url = here, own_url
        self._parts = here.parts
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close connections to other workers."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- lists

    async def groups(self, query: waiting.Query) -> GroupList:
        """Return groups of all workers, nearest deadline first."""
        path = f"/api/v1/local/groups?state={query.state}&limit={query.limit}&q={quote(query.text, safe='')}" + (
            f"&cursor={waiting.cursor_of(*query.after)}" if query.after else ""
        )
        heard = await self._ask_all(path, self.here.groups(query))
        ranked = sorted((group for _url, local in heard.answers for group in local.groups), key=_rank)
        page, more = ranked[: query.limit], len(ranked) > query.limit
        return GroupList(
            groups=tuple(page),
            next_cursor=waiting.cursor_of(*_rank(page[-1])) if more and page else None,
            meta=self._coverage(heard, is_complete=all(local.is_complete for _url, local in heard.answers)),
        )

    async def stats(self) -> StatsAnswer:
        """Return the sums of all workers' counters."""
        heard = await self._ask_all("/api/v1/local/numbers", self.here.numbers())
        return StatsAnswer(stats=_sum(local.stats for _url, local in heard.answers), meta=self._coverage(heard))

    async def partitions(self) -> PartitionList:
        """Return every partition with its worker, whether it answered or not."""
        heard = await self._ask_all("/api/v1/local/numbers", self.here.numbers())
        owners = {number: url for url, numbers in self._owners().items() for number in numbers}
        standbys: dict[int, list[str]] = {number: [] for number in range(self._parts.settings.partitions)}
        for url, numbers in self._parts.standbys().items():
            for number in numbers:
                standbys.setdefault(number, []).append(url)
        known: dict[int, tuple[str | None, Partition]] = {
            one.partition: (url, one) for url, local in heard.answers for one in local.partitions
        }
        found: list[Partition] = []
        for number in range(self._parts.settings.partitions):
            nobody = Partition(partition=number, worker=None, url=None)
            owner, one = known.get(number, (owners.get(number), nobody))
            found.append(msgspec.structs.replace(one, url=owner, standbys=tuple(standbys[number])))
        return PartitionList(partitions=tuple(found), meta=self._coverage(heard))

    async def workers(self) -> WorkerList:
        """Return the workers of the consumer group."""
        heard = await self._ask_all("/api/v1/local/numbers", self.here.numbers())
        names = {url: local.worker for url, local in heard.answers}
        found = [
            Worker(
                url=url,
                worker=names.get(url),
                answered=url in names,
                partitions=numbers,
                is_this_one=url == self._own_url(),
            )
            for url, numbers in sorted(self._owners().items())
        ]
        return WorkerList(workers=tuple(found), meta=self._coverage(heard))

    # -- one group

    async def group(self, group_key: str) -> Group:
        """Return one group, from whoever has it."""
        lane = self._lane_of(group_key)
        if lane is not None:
            return await self.here.group(lane, group_key)
        found: Group = await self._ask_owner(group_key, "group", Group, PATIENCE_S)
        return found

    async def history(self, group_key: str) -> History:
        """Return a group's history, from whoever has it."""
        lane = self._lane_of(group_key)
        if lane is not None:
            return await self.here.history(lane, group_key)
        found: History = await self._ask_owner(group_key, "history", History, PATIENCE_FOR_HISTORY_S)
        return found

    def _lane_of(self, group_key: str) -> Lane | None:
        return self._parts.lanes().get(self.home_of(group_key))

    def home_of(self, group_key: str) -> int:
        """Return the partition where a group lives."""
        return partition_for(group_key.encode(), self._parts.settings.partitions)

    def local_lane(self, group_key: str) -> Lane:
        """Return the lane of a group that another worker has asked for."""
        lane = self._lane_of(group_key)
        if lane is None:
            raise Refusal(
                503,
                "not_mine",
                "The group's partition is not on this worker any more. Ask again in a moment.",
                headers={"Retry-After": "1"},
            )
        return lane

    async def _ask_owner(self, group_key: str, what: str, kind: type[Any], patience_s: float) -> Any:
        home = self.home_of(group_key)
        url = next((url for url, numbers in self._owners().items() if home in numbers and url != self._own_url()), None)
        if url is None:
            raise Refusal(
                503,
                "nobody_has_it",
                f"No worker has partition {home} right now, as in the seconds of a take-over. Ask again.",
                headers={"Retry-After": "2"},
            )
        try:
            return await self._ask(url, f"/api/v1/local/{what}?group_key={quote(group_key, safe='')}", kind, patience_s)
        except Refusal:
            raise
        except _NO_ANSWER as error:
            raise Refusal(
                504,
                "owner_silent",
                f"{_named(url)}, which has partition {home}, did not answer: {_why(error)}. Look whether it lives, and whether "
                "workers reach one another (WAIT_FOR_ME_WEB_URL).",
            ) from error

    # -- asking

    def _owners(self) -> Owners:
        return self._parts.owners() or {self._own_url(): tuple(sorted(self._parts.lanes()))}

    async def _ask_all(self, path: str, own: Any) -> Heard:
        others = [url for url in self._owners() if url != self._own_url()]
        questions = [self._ask(url, path, Local, PATIENCE_S) for url in others]
        mine, *answers = await asyncio.gather(own, *questions, return_exceptions=True)
        if isinstance(mine, BaseException):
            raise mine
        heard: list[tuple[str, Local]] = [(self._own_url(), mine)]
        silent: list[Silent] = []
        for url, answer in zip(others, answers, strict=True):
            if isinstance(answer, Local):
                heard.append((url, answer))
            else:
                silent.append(Silent(url=url, partitions=self._owners().get(url, ()), why=_why(answer)))
        return Heard(answers=tuple(heard), silent=tuple(silent), workers_known=1 + len(others))

    async def _ask(self, url: str, target: str, kind: type[Any], patience_s: float) -> Any:
        if NO_WEB in url:
            raise ConnectionRefusedError("its web is turned off: WAIT_FOR_ME_WEB_PORT=0")
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=True, trust_env=False)
        token = self._parts.settings.web_token
        headers = {PEER_HEADER: peer_signature(token, target, time.time())} if token else {}
        address, _, name = url.partition("#")
        async with (
            asyncio.timeout(patience_s),
            self._session.get(f"{address.rstrip('/')}{target}", headers=headers, allow_redirects=False) as answer,
        ):
            body = await _read(answer.content)
            if answer.status == 404:
                raise not_found(_detail(body))
            if answer.status != 200:
                raise ConnectionRefusedError(f"it answered {answer.status}: {_detail(body)}")
            said = msgspec.json.decode(body, type=kind)
        if isinstance(said, Local) and said.worker != name:
            raise ConnectionRefusedError(
                f"worker {said.worker} answers at the address of {name}: set WAIT_FOR_ME_WEB_URL on both"
            )
        return said

    def _coverage(self, heard: Heard, *, is_complete: bool = True) -> Coverage:
        present = {one.partition for _url, local in heard.answers if local.is_ready for one in local.partitions}
        missing = tuple(number for number in range(self._parts.settings.partitions) if number not in present)
        now_ms = self._parts.now_ms()
        return Coverage(
            workers_known=heard.workers_known,
            workers_answered=len(heard.answers),
            missing_partitions=missing,
            silent=heard.silent,
            is_complete=is_complete and not missing,
            now=rfc3339(now_ms),
            now_ms=now_ms,
        )


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            raise ConnectionRefusedError("its answer is larger than any answer of a worker")
    return bytes(body)


_NO_ANSWER = (OSError, TimeoutError, aiohttp.ClientError, msgspec.MsgspecError, asyncio.IncompleteReadError)


def _named(url: str) -> str:
    address, _, name = url.partition("/#")
    return f"Worker {name} at {address}" if name else f"The worker at {address}"


def _why(error: object) -> str:
    """Return what kept a worker from answering, as one says it; a library's own words only where there are no others."""
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE_S:g} s"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known here"
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)
        return "nobody listens there" if refused else error.os_error.strerror or "it cannot be reached"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return "it ended the connection"
    return (str(error) or type(error).__name__)[:200]


class _Detail(msgspec.Struct):
    detail: str = ""


def _detail(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Detail).detail
    except msgspec.MsgspecError:
        return "not in a form that this release knows"


def _rank(group: Group) -> tuple[int, str]:
    if group.deadline_ms is not None:
        return group.deadline_ms, group.group_key
    return (ms_of(group.frees_at) if group.frees_at else 0), group.group_key


def _sum(stats: Iterable[Stats]) -> Stats:
    everything = list(stats)
    names = Stats.__struct_fields__
    return Stats(**{name: sum(getattr(one, name) for one in everything) for name in names})
