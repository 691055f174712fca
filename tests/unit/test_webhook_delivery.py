"""Deliveries to real servers: what is sent, what an answer does, and what is never reached."""

from __future__ import annotations

import asyncio
import base64
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from executor_world import fire_id_of, fire_value
from wait_for_me.codec import decode_fire
from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.webhooks import delivery
from wait_for_me_app.webhooks.answers import DeliveryRefused
from wait_for_me_app.webhooks.configuration import Endpoint
from wait_for_me_app.webhooks.delivery import Delivery, ForbiddenAddress, deliver_to

NEW = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()
VALUE = fire_value("deploy.finished", {"ü": 1})
FIRE = decode_fire(VALUE)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """A server on a loopback port that remembers what it was sent."""

    def __init__(self, answer: Handler) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self._answer = answer
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener, ssl_context=tls).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        return await self._answer(request)


Serve = Callable[..., Awaitable[Receiver]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start receivers; they end with the test."""
    started: list[Receiver] = []

    async def start(answer: Handler | int = 204, tls: ssl.SSLContext | None = None, **headers: str) -> Receiver:
        async def plain(_request: web.Request) -> web.StreamResponse:
            assert isinstance(answer, int)
            return web.Response(status=answer, headers={name.replace("_", "-"): text for name, text in headers.items()})

        receiver = Receiver(plain if isinstance(answer, int) else answer)
        started.append(receiver)
        await receiver.start(tls)
        return receiver

    yield start
    for receiver in started:
        await receiver.stop()


def endpoint(url: str, **changes: Any) -> Endpoint:
    """Return an endpoint for development."""
    settings: dict[str, Any] = {
        "name": "deploy.finished",
        "url": url,
        "host": "localhost",
        "secrets": (NEW, OLD),
        "timeout_s": 5.0,
        "attempts": 3,
        "first_wait_s": 1.0,
        "longest_wait_s": 10.0,
        "allow_private": True,
        "ca_file": None,
    }
    return Endpoint(**{**settings, **changes})


def to(receiver: Receiver, **changes: Any) -> Delivery:
    return Delivery(endpoint(f"http://localhost:{receiver.port}/hook?token=s3cret", **changes))


# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_the_fire_is_posted_as_it_was_written_and_signed_with_each_secret(serve: Serve) -> None:
    """So that a receiver with the new secret, and one with the old one, can verify it; and nobody else."""
    receiver = await serve()
    await to(receiver).deliver(FIRE)
    ((request, body),) = receiver.requests
    assert (request.method, request.path_qs, body) == ("POST", "/hook?token=s3cret", VALUE)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == fire_id_of(VALUE)
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(body, dict(request.headers))["fire_id"] == fire_id_of(VALUE)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, dict(request.headers))


async def test_a_repeated_attempt_has_the_same_id_and_body(serve: Serve) -> None:
    """The receiver needs no other key to notice a copy."""
    receiver = await serve()
    await to(receiver).deliver(FIRE)
    await to(receiver).deliver(FIRE)
    (first, body), (second, copy) = receiver.requests
    assert body == copy
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_the_callback_takes_any_parameters(serve: Serve) -> None:
    """They are in the fire; the endpoint judges them."""
    receiver = await serve()
    callback = deliver_to(endpoint(f"http://localhost:{receiver.port}/"))
    await callback("E1", 2, fire=FIRE)
    await callback(path="/*", fire=FIRE)
    assert len(receiver.requests) == 2


# --- what an answer does ---------------------------------------------------------------------------------------------


async def test_a_redirect_is_a_failure_and_not_followed(serve: Serve) -> None:
    """It would lead past the checks of the address."""
    inner = await serve()
    outer = await serve(302, location=f"http://localhost:{inner.port}/secret")
    with pytest.raises(DeliveryRefused, match="redirects are not followed"):
        await to(outer).deliver(FIRE)
    assert inner.requests == []


async def test_an_endpoint_that_asks_for_time_gets_it(serve: Serve) -> None:
    """Its Retry-After reaches the executor."""
    receiver = await serve(503, retry_after="77")
    with pytest.raises(RetryAfter) as caught:
        await to(receiver).deliver(FIRE)
    assert caught.value.seconds == 77


async def test_an_endpoint_that_is_gone_is_not_called_again(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """410: this fire and all later ones are set aside with a code of their own, and the log says so once."""
    receiver = await serve(410)
    one = to(receiver)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(SetAside, match="is off until the executor is restarted") as caught:
                await one.deliver(FIRE)
            assert caught.value.code == "endpoint_gone"
    assert len(receiver.requests) == 1
    assert [record.message for record in caplog.records] == ["webhook_gone"]


async def test_an_immense_answer_is_cut_and_does_not_change_the_verdict(serve: Serve) -> None:
    """A gigabyte, of which the endpoint gets rid of a few buffers; the status says that it has taken the fire."""
    wrote = asyncio.Event()
    sent = 0

    async def immense(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(headers={"content-length": str(2**30)})
        await answer.prepare(request)
        try:
            for _ in range(2**14):
                await answer.write(bytes(2**16))
                sent += 2**16
        finally:
            wrote.set()
        return answer

    receiver = await serve(immense)
    await to(receiver).deliver(FIRE)
    await asyncio.wait_for(wrote.wait(), 10)
    assert sent < 2**26


async def test_an_answer_that_never_ends_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status has said enough."""
    monkeypatch.setattr(delivery, "ANSWER_SECONDS", 0.05)
    over = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"x")
        await over.wait()
        return answer

    receiver = await serve(endless)
    await asyncio.wait_for(to(receiver).deliver(FIRE), 4)
    over.set()


async def test_an_endpoint_that_hangs_is_given_up_in_time(serve: Serve) -> None:
    """And the message says nothing of the URL."""
    over = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    receiver = await serve(hang)
    with pytest.raises(DeliveryRefused, match=r"no answer within 0\.2 s") as caught:
        await to(receiver, timeout_s=0.2).deliver(FIRE)
    assert "s3cret" not in str(caught.value)
    over.set()


async def test_nobody_there_is_a_failure(serve: Serve) -> None:
    """Like any other, and it says which host."""
    receiver = await serve()
    await receiver.stop()
    with pytest.raises(DeliveryRefused, match="Cannot connect to host localhost") as caught:
        await to(receiver).deliver(FIRE)
    assert "s3cret" not in str(caught.value)


async def test_something_that_speaks_no_http_is_a_failure() -> None:
    """It closes the connection instead of answering."""

    async def rude(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(DeliveryRefused, match=r"POST to deploy\.finished: "):
        await Delivery(endpoint(f"http://localhost:{port}/hook?token=s3cret")).deliver(FIRE)
    server.close()


# --- what is never reached -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_a_host_that_leads_inside_is_refused_before_anything_is_sent(serve: Serve, host: str) -> None:
    """By name, and as an address that the file's checks had somehow let pass."""
    receiver = await serve()
    one = Delivery(endpoint(f"http://{host}:{receiver.port}/", allow_private=False))
    with pytest.raises(SetAside, match="is not a public address: correct the host") as caught:
        await one.deliver(FIRE)
    assert caught.value.code == "forbidden_address"
    assert receiver.requests == []


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "10.0.0.1"])
async def test_a_name_that_resolves_inside_gives_no_address_at_all(address: str) -> None:
    """The metadata of a cloud machine, and loopback in disguise."""
    with pytest.raises(ForbiddenAddress, match="which is not a public address"):
        await delivery._Resolver(allow_private=False).resolve(address, 443)


async def test_one_bad_address_among_good_ones_spoils_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever controls a zone could otherwise wait until the bad one is tried."""

    async def two(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", ("93.184.216.34", 443)), (socket.AF_INET, 1, 6, "", ("10.0.0.1", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
    with pytest.raises(ForbiddenAddress, match=r"hooks\.example\.com is at 10\.0\.0\.1"):
        await delivery._Resolver(allow_private=False).resolve("hooks.example.com", 443)


async def test_a_proxy_of_the_environment_is_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name itself."""
    proxy, receiver = await serve(500), await serve()
    monkeypatch.setenv("http_proxy", f"http://localhost:{proxy.port}")
    await to(receiver).deliver(FIRE)
    assert (len(proxy.requests), len(receiver.requests)) == (0, 1)


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `localhost` that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def server_tls(certificate: tuple[Path, Path], seen: list[str | None]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    return context


async def test_the_original_name_is_used_for_tls_and_for_the_host_header(
    serve: Serve, certificate: tuple[Path, Path]
) -> None:
    """Although the connection goes to the address that was judged."""
    seen: list[str | None] = []
    receiver = await serve(tls=server_tls(certificate, seen))
    one = Delivery(endpoint(f"https://localhost:{receiver.port}/", ca_file=str(certificate[0])))
    await one.deliver(FIRE)
    assert seen == ["localhost"]
    assert receiver.requests[0][0].host == f"localhost:{receiver.port}"


async def test_a_certificate_that_nobody_vouches_for_is_a_failure(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """Whoever answers at the address must be who the name says."""
    receiver = await serve(tls=server_tls(certificate, []))
    with pytest.raises(DeliveryRefused, match="certificate"):
        await Delivery(endpoint(f"https://localhost:{receiver.port}/")).deliver(FIRE)
    assert receiver.requests == []
