"""The handlers of the API: read what was asked, ask the cluster, answer with a document. Input is checked here, once, against the table."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

import msgspec
from aiohttp import web

from wait_for_me import AsyncWaitForMe
from wait_for_me.commands import MAX_KEY_BYTES
from wait_for_me.errors import DeliveryFailed, InvalidCommand, NotReady
from wait_for_me.producing import Receipt
from wait_for_me_app import version
from wait_for_me_app.metrics import exposition, worker_samples
from wait_for_me_app.web import operations as ops
from wait_for_me_app.web import waiting
from wait_for_me_app.web.cluster import Cluster, Here
from wait_for_me_app.web.documents import (
    About,
    Accepted,
    AddBody,
    DeadLetterList,
    FireList,
    FireView,
    Group,
    GroupList,
    Health,
    History,
    PartitionList,
    RemoveBody,
    StatsAnswer,
    WorkerList,
    encode,
)
from wait_for_me_app.web.limits import SECONDS_TO_ASK
from wait_for_me_app.web.operations import Operation
from wait_for_me_app.web.problems import Refusal, not_found
from wait_for_me_app.web.recent import Recent
from wait_for_me_app.web.resending import Resender
from wait_for_me_app.web.stream import Stream

audit = logging.getLogger("wait_for_me_app.audit")

LARGEST_BODY_BYTES: Final = 262_144
STUCK_AFTER_S: Final = 30.0
API: Final = "/api/v1"
_FIRE_ID = re.compile(r"fire_[0-9a-f-]{36}")
_LETTER_ID = re.compile(r"(commands|fires):[0-9]{1,5}:[0-9]{1,18}")


class Api:
    """One method an operation, named as in the table."""

    def __init__(self, here: Here, cluster: Cluster, recent: Recent, stream: Stream, resender: Resender) -> None:
        self._here, self._cluster, self._recent, self._stream, self._resender = here, cluster, recent, stream, resender
        self._settings = here.parts.settings
        self._client: AsyncWaitForMe | None = None

    async def close(self) -> None:
        """Close what was opened."""
        if self._client is not None:
            await self._client.close(timeout=2)
        await self._cluster.close()

    # -- groups

    async def list_groups(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._cluster.groups(_query(request)))

    async def get_group(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._cluster.group(group_key_of(request)))

    async def get_history(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._cluster.history(group_key_of(request)))

    async def add_participant(self, request: web.Request) -> web.StreamResponse:
        group_key = group_key_of(request)
        body = await read_body(request, AddBody)
        params = body.execute_after_waiting_params
        fields = {
            name: getattr(body, name) for name in body.__struct_fields__ if name != "execute_after_waiting_params"
        }
        sending = self._sender().add_participant(
            group_key=group_key, execute_after_waiting_params=params, headers=_trace_of(request), **fields
        )
        return self._accepted(request, "add", group_key, await _sent(sending))

    async def remove_wait(self, request: web.Request) -> web.StreamResponse:
        group_key = group_key_of(request)
        body = await read_body(request, RemoveBody) if request.can_read_body else RemoveBody()
        sending = self._sender().remove_wait(
            group_key, reason=body.reason, event_id=body.event_id, headers=_trace_of(request)
        )
        return self._accepted(request, "remove", group_key, await _sent(sending))

    def _accepted(self, request: web.Request, action: str, group_key: str, receipt: Receipt) -> web.Response:
        _audit(request, action, group_key=group_key, partition=receipt.partition, offset=receipt.offset)
        accepted = Accepted(
            topic=receipt.topic, partition=receipt.partition, offset=receipt.offset, event_id=receipt.event_id
        )
        return answer(accepted, status=202)

    def _sender(self) -> AsyncWaitForMe:
        if self._client is None:
            settings = self._settings
            self._client = AsyncWaitForMe(
                settings.bootstrap_servers, prefix=settings.prefix, kafka=dict(settings.kafka), timeout=10
            )
        return self._client

    # -- what happened

    async def list_fires(self, request: web.Request) -> web.StreamResponse:
        reason, text, limit = (
            _choice(request, "reason", ops.FIRE_REASONS, "any"),
            _text(request, "q").casefold(),
            _limit(request),
        )
        await self._catch_up()
        found = [
            fire
            for fire in self._recent.fires()
            if reason in ("any", fire.reason)
            and (not text or text in fire.group_key.casefold() or text in fire.fire_id)
        ]
        return answer(FireList(fires=tuple(found[:limit]), window=self._recent.window()))

    async def get_fire(self, request: web.Request) -> web.StreamResponse:
        fire_id = request.match_info["fire_id"]
        if not _FIRE_ID.fullmatch(fire_id):
            raise Refusal(400, "bad_fire_id", "A fire's id is fire_ and a UUID. Take it from /api/v1/fires.")
        await self._catch_up()
        fire = self._recent.fire(fire_id)
        if fire is None:
            raise not_found("No recent fire has this id; older ones are in the fires topic only.")
        return answer(fire)

    async def list_dead_letters(self, request: web.Request) -> web.StreamResponse:
        limit = _limit(request)
        await self._catch_up()
        return answer(
            DeadLetterList(dead_letters=tuple(self._recent.dead_letters()[:limit]), window=self._recent.window())
        )

    async def retry_dead_letter(self, request: web.Request) -> web.StreamResponse:
        letter_id = _letter_id_of(request)
        receipt = await asyncio.to_thread(self._resender.send_again, letter_id)
        _audit(request, "retry", dead_letter=letter_id)
        return answer(receipt, status=202)

    async def discard_dead_letter(self, request: web.Request) -> web.StreamResponse:
        letter_id = _letter_id_of(request)
        await asyncio.to_thread(self._resender.discard, letter_id)
        _audit(request, "discard", dead_letter=letter_id)
        return web.Response(status=204)

    async def _catch_up(self) -> None:
        """Wait, a moment at most, until the ends of the topics have been read once."""
        self._recent.want()
        with suppress(TimeoutError):
            async with asyncio.timeout(2.5):
                while not self._recent.window().is_caught_up:
                    await asyncio.sleep(0.05)

    # -- the deployment

    async def list_partitions(self, request: web.Request) -> web.StreamResponse:
        del request
        return answer(await self._cluster.partitions())

    async def list_workers(self, request: web.Request) -> web.StreamResponse:
        del request
        return answer(await self._cluster.workers())

    async def get_stats(self, request: web.Request) -> web.StreamResponse:
        del request
        return answer(await self._cluster.stats())

    async def get_about(self, request: web.Request) -> web.StreamResponse:
        del request
        settings = self._settings
        return answer(
            About(
                version=version(),
                worker=settings.worker_id,
                prefix=settings.prefix,
                partitions=settings.partitions,
                read_only=settings.web_read_only,
                payloads_hidden=settings.web_hide_payloads,
                demo=settings.demo_broker,
            )
        )

    async def stream(self, request: web.Request) -> web.StreamResponse:
        return await self._stream.serve(request)

    # -- between workers

    async def local_groups(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._here.groups(_query(request)))

    async def local_numbers(self, request: web.Request) -> web.StreamResponse:
        del request
        return answer(await self._here.numbers())

    async def local_group(self, request: web.Request) -> web.StreamResponse:
        group_key = group_key_of(request)
        return answer(await self._here.group(self._cluster.local_lane(group_key), group_key))

    async def local_history(self, request: web.Request) -> web.StreamResponse:
        group_key = group_key_of(request)
        return answer(await self._here.history(self._cluster.local_lane(group_key), group_key))

    # -- health and metrics

    async def livez(self, request: web.Request) -> web.StreamResponse:
        del request
        return answer(Health(status="ok", worker=self._settings.worker_id))

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        del request
        parts = self._here.parts
        lanes = len(parts.lanes())
        if not parts.is_ready():
            why = "lanes are being taken over: restoring, or the group is rebalancing"
            return answer(Health(status="unavailable", worker=self._settings.worker_id, why=why), status=503)
        if (stuck := parts.counters.longest_run_s()) > STUCK_AFTER_S:
            why = f"a run has been under way for {stuck:.0f} s: Kafka does not acknowledge"
            return answer(
                Health(status="unavailable", worker=self._settings.worker_id, why=why, lanes=lanes), status=503
            )
        return answer(Health(status="ok", worker=self._settings.worker_id, lanes=lanes))

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        del request
        self._recent.want()
        parts = self._here.parts
        samples = worker_samples(
            counters=parts.counters,
            totals=self._here.totals,
            readings=await self._here.readings(),
            is_ready=parts.is_ready(),
            taken_over_in_seconds=parts.taken_over_in_seconds(),
            ticks_sent=parts.ticks_sent(),
            now_ms=parts.now_ms(),
            version=version(),
        )
        return web.Response(
            text=exposition(samples), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        del request
        from wait_for_me_app.web.openapi import text

        return web.Response(text=text(OPERATIONS), content_type="application/json")


# -- reading requests


def group_key_of(request: web.Request) -> str:
    """Return the group's name, from the path as it was sent or from the query; raise Refusal if it cannot be one."""
    if "group_key" in request.match_info:
        raw = request.rel_url.raw_path.removeprefix(f"{API}/groups/").partition("/")[0].encode()
    else:
        found = [
            part.partition("=")[2]
            for part in request.rel_url.raw_query_string.split("&")
            if part.partition("=")[0] == "group_key"
        ]
        if len(found) != 1:
            raise Refusal(400, "group_key_required", "Name one group: ?group_key=NAME, percent-encoded.")
        raw = found[0].replace("+", " ").encode()
    try:
        name = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Refusal(400, "bad_group_key", "The group's name is no UTF-8. Percent-encode its UTF-8 bytes.") from None
    if not 1 <= len(name.encode()) <= MAX_KEY_BYTES or any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in name):
        raise Refusal(
            400,
            "bad_group_key",
            f"A group's name has 1 to {MAX_KEY_BYTES} bytes and no control characters. Correct it.",
        )
    return name


async def read_body(request: web.Request, kind: type[Any]) -> Any:
    """Return the body as the class that it must be; raise Refusal for anything else."""
    if request.content_type != "application/json":
        raise Refusal(415, "not_json", "Send JSON, and say so: Content-Type: application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(415, "encoded_body", "The body is compressed. Send it as it is, without Content-Encoding.")
    try:
        async with asyncio.timeout(SECONDS_TO_ASK):
            raw = await request.read()
    except TimeoutError:
        raise Refusal(
            408, "body_too_slow", f"The body did not arrive within {SECONDS_TO_ASK:g} s. Send it again."
        ) from None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal(400, "bad_body", f"The body is not what is wanted: {error}. See /openapi.json.") from None


async def _sent(sending: Any) -> Receipt:
    try:
        receipt: Receipt = await sending
        return receipt
    except InvalidCommand as error:
        raise Refusal(400, error.code, error.message) from error
    except (NotReady, DeliveryFailed) as error:
        raise Refusal(503, "not_delivered", str(error), headers={"Retry-After": "2"}) from error


def _query(request: web.Request) -> waiting.Query:
    cursor = request.query.get("cursor")
    return waiting.Query(
        text=_text(request, "q"),
        state=_choice(request, "state", ops.LIST_STATES, "waiting"),
        limit=_limit(request),
        after=waiting.read_cursor(cursor) if cursor else None,
    )


def _letter_id_of(request: web.Request) -> str:
    letter_id = unquote(request.match_info["id"])
    if not _LETTER_ID.fullmatch(letter_id):
        raise Refusal(
            400,
            "bad_dead_letter_id",
            "A dead letter's id is commands or fires, its partition and its offset, such as commands:3:17. Take it from /api/v1/dead-letters.",
        )
    return letter_id


def _text(request: web.Request, name: str) -> str:
    text = request.query.get(name, "")
    if len(text) > ops.MAX_TEXT:
        raise Refusal(400, "text_too_long", f"{name} may have {ops.MAX_TEXT} characters. Search for less.")
    return text


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= waiting.LONGEST_PAGE):
        raise Refusal(
            400, "bad_limit", f"limit is a whole number from 1 to {waiting.LONGEST_PAGE}. Use cursor for what follows."
        )
    return int(text)


def _choice(request: web.Request, name: str, choices: tuple[str, ...], default: str) -> str:
    value = request.query.get(name, default)
    if value not in choices:
        raise Refusal(400, f"bad_{name}", f"{name} is one of: {', '.join(choices)}.")
    return value


def _trace_of(request: web.Request) -> list[tuple[str, bytes]] | None:
    """Carry the caller's W3C trace context into the record's headers."""
    found = [
        (name, request.headers[name].encode("ascii", "ignore")[:512])
        for name in ("traceparent", "tracestate")
        if name in request.headers
    ]
    return found or None


def answer(document: Any, *, status: int = 200) -> web.Response:
    """Return a document as JSON."""
    return web.Response(status=status, body=encode(document), content_type="application/json")


def _audit(request: web.Request, action: str, **fields: object) -> None:
    scheme = request.headers.get("Authorization", "none").partition(" ")[0].lower()
    audit.info("web_action", extra={"action": action, "remote": request.remote, "login": scheme, **fields})


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(name="list_groups", method="GET", path=f"{API}/groups", summary="Groups by nearest deadline, of all workers.",
              answers={200: GroupList}, parameters=(ops.TEXT, ops.STATE, ops.LIMIT, ops.CURSOR)),
    Operation(name="get_group", method="GET", path=f"{API}/groups/{{group_key}}", summary="One group: who has come, how many are missing, until when.",
              answers={200: Group}, problems=(404, 504), parameters=(ops.GROUP_IN_PATH,)),
    Operation(name="get_group_by_query", method="GET", path=f"{API}/group", summary="The same, for any name.",
              answers={200: Group}, problems=(404, 504), parameters=(ops.GROUP_IN_QUERY,)),
    Operation(name="get_history", method="GET", path=f"{API}/groups/{{group_key}}/events", summary="The group's log, judged again.",
              answers={200: History}, problems=(504,), parameters=(ops.GROUP_IN_PATH,)),
    Operation(name="get_history_by_query", method="GET", path=f"{API}/group/events", summary="The same, for any name.",
              answers={200: History}, problems=(504,), parameters=(ops.GROUP_IN_QUERY,)),
    Operation(name="add_participant", method="POST", path=f"{API}/groups/{{group_key}}/participants", summary="Tell that a participant has arrived; answered once Kafka has it.",
              answers={202: Accepted}, parameters=(ops.GROUP_IN_PATH,), problems=(408,), body=AddBody, acts=True),
    Operation(name="add_participant_by_query", method="POST", path=f"{API}/group/participants", summary="The same, for any name.",
              answers={202: Accepted}, parameters=(ops.GROUP_IN_QUERY,), problems=(408,), body=AddBody, acts=True),
    Operation(name="remove_wait", method="DELETE", path=f"{API}/groups/{{group_key}}", summary="End the group's wait without a fire.",
              answers={202: Accepted}, parameters=(ops.GROUP_IN_PATH,), problems=(408,), body=RemoveBody, acts=True),
    Operation(name="remove_wait_by_query", method="DELETE", path=f"{API}/group", summary="The same, for any name.",
              answers={202: Accepted}, parameters=(ops.GROUP_IN_QUERY,), problems=(408,), body=RemoveBody, acts=True),
    Operation(name="list_fires", method="GET", path=f"{API}/fires", summary="Recent fires, newest first, with what became of them.",
              answers={200: FireList}, parameters=(ops.TEXT, ops.REASON, ops.LIMIT), tag="fires"),
    Operation(name="get_fire", method="GET", path=f"{API}/fires/{{fire_id}}", summary="One recent fire.",
              answers={200: FireView}, problems=(404,), parameters=(ops.FIRE_ID,), tag="fires"),
    Operation(name="list_dead_letters", method="GET", path=f"{API}/dead-letters", summary="Recent dead letters, newest first.",
              answers={200: DeadLetterList}, parameters=(ops.LIMIT,), tag="dead letters"),
    Operation(name="retry_dead_letter", method="POST", path=f"{API}/dead-letters/{{id}}/retry", summary="Send what was set aside once more, as it came; a fire runs again.",
              answers={202: Accepted}, problems=(404, 409), parameters=(ops.LETTER_ID,), acts=True, tag="dead letters"),
    Operation(name="discard_dead_letter", method="DELETE", path=f"{API}/dead-letters/{{id}}", summary="Mark a dead letter as dealt with.",
              answers={204: None}, problems=(404,), parameters=(ops.LETTER_ID,), acts=True, tag="dead letters"),
    Operation(name="list_partitions", method="GET", path=f"{API}/partitions", summary="Every partition: its worker, lag, and next deadline.",
              answers={200: PartitionList}, tag="deployment"),
    Operation(name="list_workers", method="GET", path=f"{API}/workers", summary="The workers of the deployment.", answers={200: WorkerList}, tag="deployment"),
    Operation(name="get_stats", method="GET", path=f"{API}/stats", summary="Counters over all workers.", answers={200: StatsAnswer}, tag="deployment"),
    Operation(name="get_about", method="GET", path=f"{API}/about", summary="Release, prefix, and what this worker allows.", answers={200: About}, tag="deployment"),
    Operation(name="stream", method="GET", path=f"{API}/stream", summary="Server-sent events: snapshot, then what changes; resumes by Last-Event-ID.",
              answers={200: "text"}, content_type="text/event-stream", tag="deployment"),
    Operation(name="livez", method="GET", path="/livez", summary="The event loop turns.", answers={200: Health}, tag="health"),
    Operation(name="readyz", method="GET", path="/readyz", summary="Lanes are restored, fed, and make progress.", answers={200: Health, 503: Health}, tag="health"),
    Operation(name="healthz", method="GET", path="/healthz", summary="The same as /readyz.", answers={200: Health, 503: Health}, tag="health"),
    Operation(name="metrics", method="GET", path="/metrics", summary="Prometheus metrics.", answers={200: "text"}, content_type="text/plain", tag="health"),
    Operation(name="openapi", method="GET", path="/openapi.json", summary="This description.", answers={200: "json"}, tag="deployment"),
)  # fmt: skip

BETWEEN_WORKERS: Final[dict[str, str]] = {
    f"{API}/local/groups": "local_groups",
    f"{API}/local/numbers": "local_numbers",
    f"{API}/local/group": "local_group",
    f"{API}/local/history": "local_history",
}
"""What workers ask one another; not a part of the described API, and it may change with any release."""

_SAME_AS: Final = {"healthz": "readyz"}


def handler_of(api: Api, operation: Operation) -> ops.Handler:
    """Return the method that answers an operation."""
    name = operation.name.removesuffix("_by_query")
    handler: ops.Handler = getattr(api, _SAME_AS.get(name, name))
    return handler
