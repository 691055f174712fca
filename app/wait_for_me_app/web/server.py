"""The HTTP server inside a worker: routes, the order of checks, and a start that never keeps a worker from working.

Order of checks for every request: room (rate, requests at once), who asks, whether they may act, then the handler. Whatever is raised on the way is
answered as a problem document. Headers that keep a browser from doing anything but showing our page are on every answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from wait_for_me.errors import NotReady, WaitForMeError
from wait_for_me_app.settings import Settings
from wait_for_me_app.web import access
from wait_for_me_app.web.api import BETWEEN_WORKERS, LARGEST_BODY_BYTES, OPERATIONS, Api, handler_of
from wait_for_me_app.web.cluster import NO_WEB, Cluster, Here, Parts
from wait_for_me_app.web.limits import REQUESTS_AT_ONCE, SECONDS_BETWEEN, Allowance, Connections
from wait_for_me_app.web.problems import SECURITY_HEADERS, Refusal, from_http
from wait_for_me_app.web.protocol import OPTIONS, Protocol
from wait_for_me_app.web.recent import Recent
from wait_for_me_app.web.resending import Resender
from wait_for_me_app.web.stream import Stream

log = logging.getLogger(__name__)

PORTS_TRIED: Final = 10
STATIC: Final = Path(__file__).with_name("static")
CONTENT_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """A worker's web; started before it joins its group, so that others learn its address."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.settings = parts.settings
        self.url = f"http://{NO_WEB}/#{parts.settings.worker_id}"
        self._here = Here(parts)
        self._cluster = Cluster(self._here, own_url=lambda: self.url)
        self._recent = Recent(self.settings, parts.counters, own_partitions=lambda: set(parts.lanes()), news=self._tell)
        self._stream: Stream | None = None
        self._api: Api | None = None
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._allowance = Allowance(time.monotonic)
        self._at_once = 0
        self._connections: Connections | None = None

    # -- beginning and end

    async def start(self) -> None:
        """Serve, if the settings say so and a port is free; a worker without a page still works, so nothing is raised."""
        if not self.settings.web_port:
            return
        try:
            await self._start()
        except OSError as error:
            log.error(
                "web_not_started", extra={"error": str(error), "remedy": "free the port or set WAIT_FOR_ME_WEB_PORT"}
            )
            await self.stop()

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = Stream(self._cluster, self._recent)
        self._api = Api(
            self._here, self._cluster, self._recent, self._stream, Resender(self.settings, self.parts.now_ms)
        )
        self._runner = web.AppRunner(self._application(), shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(partial(Protocol, self._runner.server, loop=self._loop, **OPTIONS))
        self._server = await self._bind()
        port = self._server.sockets[0].getsockname()[1]
        address = announced_url(self.settings, port)
        self.url = f"{address}/#{self.settings.worker_id}"
        log.info("web_ready", extra={"url": f"{address}/ui/", "login": bool(self.settings.web_token)})

    async def _bind(self) -> asyncio.Server:
        """Take the port, or the next free one: several workers on a machine must not collide."""
        assert self._loop is not None
        assert self._connections is not None
        first = self.settings.web_port
        for port in range(first, min(first + PORTS_TRIED, 65_536)):
            try:
                return await self._loop.create_server(self._connections.make, self.settings.web_host, port, backlog=64)
            except OSError as error:
                last = error
                log.info("web_port_taken", extra={"port": port})
        raise last

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
        if self._stream is not None:
            await self._stream.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._api is not None:
            await self._api.close()
        await asyncio.to_thread(self._recent.stop)
        self._server = self._stream = self._runner = self._api = None

    def _tell(self, kind: str, name: str) -> None:
        """Pass news from the following thread to the loop."""
        loop, stream = self._loop, self._stream
        if loop is not None and stream is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stream.tell, kind, name)

    # -- routes

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST_BODY_BYTES)
        assert self._api is not None
        for operation in OPERATIONS:
            app.router.add_route(
                operation.method, operation.path, _marked(handler_of(self._api, operation), acts=operation.acts)
            )
        for path, name in BETWEEN_WORKERS.items():
            app.router.add_get(path, getattr(self._api, name), allow_head=False)
        app.router.add_get("/", _to_page)
        app.router.add_get("/ui", _to_page)
        app.router.add_get("/ui/", _file("index.html"))
        for file in sorted(STATIC.iterdir()):
            app.router.add_get(f"/ui/{file.name}", _file(file.name))
        app.on_response_prepare.append(_add_headers)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        gate = self._connections.open.get(request.protocol) if self._connections else None
        if gate is not None:
            gate.request_has_come()
        self._at_once += 1
        try:
            response = await self._answer(request, handler)
            status = response.status
        except Refusal as refusal:
            status, response = refusal.status, refusal.response()
        finally:
            self._at_once -= 1
            if gate is not None:
                gate.expect_request_within(SECONDS_BETWEEN)
        self._count(status)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
            return await handler(request)
        except web.HTTPRedirection as redirection:
            return redirection
        except web.HTTPException as error:
            raise from_http(error) from error
        except NotReady as error:
            raise Refusal(503, "kafka_out_of_reach", str(error), headers={"Retry-After": "2"}) from error
        except WaitForMeError as error:
            raise Refusal(502, "kafka_refused", str(error)) from error
        except (Refusal, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("web_request_failed", extra={"path": request.path[:200]})
            raise Refusal(
                500, "internal_error", "The worker could not answer; it goes on working. Its log says why."
            ) from error

    def _check(self, request: web.Request) -> None:
        if request.path not in access.OPEN_PATHS:  # a probe must not fail because a page asks much
            self._allowance.take(request.remote or "")
            if self._at_once > REQUESTS_AT_ONCE:
                raise Refusal(
                    503, "busy", "Too many requests are under way. Try again in a second.", headers={"Retry-After": "1"}
                )
        target = request.rel_url.raw_path_qs
        access.check_asker(self.settings, request.headers, path=request.path, target=target, now_s=time.time())
        if getattr(request.match_info.handler, "acts", False):
            access.check_actor(self.settings, request.headers)
        if request.match_info.http_exception is not None:
            raise request.match_info.http_exception

    def _count(self, status: int) -> None:
        answers, name = self.parts.counters.answers, f"{status // 100}xx"
        answers[name] = answers.get(name, 0) + 1


def announced_url(settings: Settings, port: int) -> str:
    """Return where others reach this worker's web."""
    if settings.web_url:
        return settings.web_url.rstrip("/")
    host = settings.web_host.strip("[]")
    if host in ("0.0.0.0", "::", ""):  # noqa: S104  # compared, not bound
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _marked(handler: Handler, *, acts: bool) -> Handler:
    async def marked(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    marked.acts = acts  # type: ignore[attr-defined]
    return marked


def _file(name: str) -> Handler:
    path = STATIC / name
    content_type, body = CONTENT_TYPES.get(path.suffix, "application/octet-stream"), path.read_bytes()

    async def serve(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=body, headers={"Content-Type": f"{content_type}; charset=utf-8", "Cache-Control": "no-cache"}
        )

    return serve


async def _to_page(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/ui/")


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "wait-for-me"
