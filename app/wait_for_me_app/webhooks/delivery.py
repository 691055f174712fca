"""Signs a fire and posts it, once. The only file of this folder that knows aiohttp.

The order that leaves no gap: resolve, judge every address, connect to exactly these. The host's name is used for TLS
and the Host header only. Where aiohttp does not ask the resolver, because it takes a host for an address already, the
address is judged when its socket is made; so nothing is connected to that has not been judged.

Each delivery has a connection of its own. One that is kept would outlive the judgement on its address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from wait_for_me.codec import encode_fire
from wait_for_me.errors import ConfigurationError
from wait_for_me.fires import Fire
from wait_for_me_app import version
from wait_for_me_app.callback_errors import SetAside
from wait_for_me_app.webhooks.addresses import is_public
from wait_for_me_app.webhooks.answers import DeliveryRefused, error_for, gone
from wait_for_me_app.webhooks.configuration import Endpoint

log = logging.getLogger(__name__)

LARGEST_ANSWER_BYTES: Final = 64 * 1024
ANSWER_SECONDS: Final = 2.0
_CHUNK_BYTES: Final = 8 * 1024

Deliver = Callable[..., Coroutine[Any, Any, None]]


class ForbiddenAddress(Exception):
    """A host leads to an address that is not public."""


def deliver_to(endpoint: Endpoint) -> Deliver:
    """Return the callback that posts fires to an endpoint. Its parameters are free: they are in the fire."""
    delivery = Delivery(endpoint)

    async def webhook(*_params: Any, fire: Fire, **_named: Any) -> None:
        await delivery.deliver(fire)

    return webhook


class Delivery:
    """One endpoint, and whether it is gone."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._signers = tuple(Webhook(secret) for secret in endpoint.secrets)
        self._tls = _tls(endpoint)
        self._is_gone = False

    async def deliver(self, fire: Fire) -> None:
        """Post a fire; return if the endpoint has taken it, else raise what the executor is to make of it."""
        name = self._endpoint.name
        if self._is_gone:
            raise gone(name)
        try:
            status, retry_after = await self._post(encode_fire(fire), fire.fire_id)
        except ForbiddenAddress as error:
            raise SetAside(f"POST to {name}: {error}", "forbidden_address") from None
        except TimeoutError:
            raise DeliveryRefused(f"POST to {name}: no answer within {self._endpoint.timeout_s:g} s") from None
        except aiohttp.ClientError as error:  # without its own text where that could hold the URL
            said = str(error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            raise DeliveryRefused(f"POST to {name}: {said}") from None
        self._judge(status, retry_after)

    def _judge(self, status: int, retry_after: str | None) -> None:
        if status == 410 and not self._is_gone:
            self._is_gone = True
            remedy = "its fires become dead letters until the executor is restarted"
            log.error(
                "webhook_gone", extra={"callback": self._endpoint.name, "host": self._endpoint.host, "why": remedy}
            )
        error = error_for(self._endpoint.name, status, retry_after, datetime.now(UTC))
        if error is not None:
            raise error

    async def _post(self, body: bytes, fire_id: str) -> tuple[int, str | None]:
        async with (
            self._session() as session,
            session.post(
                self._endpoint.url, data=body, headers=self._headers(body, fire_id), allow_redirects=False
            ) as answer,
        ):
            await _let_finish(answer)
            return answer.status, answer.headers.get("retry-after")

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(allow_private=self._endpoint.allow_private),
            socket_factory=_judging_sockets(allow_private=self._endpoint.allow_private),
            use_dns_cache=False,
            force_close=True,
            ssl=self._tls,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._endpoint.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nothing of the body is looked at
            trust_env=False,  # a proxy would resolve the name once more
            read_bufsize=_CHUNK_BYTES,
        )

    def _headers(self, body: bytes, fire_id: str) -> dict[str, str]:
        """Return the headers of Standard Webhooks: the id is the same at each attempt, the time is not."""
        now, text = datetime.now(UTC), body.decode()
        return {
            "content-type": "application/json",
            "user-agent": f"wait-for-me/{version()}",
            "webhook-id": fire_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signer.sign(fire_id, now, text) for signer in self._signers),
        }


async def _let_finish(answer: aiohttp.ClientResponse) -> None:
    """Let the endpoint write its answer to the end, if that is short; cut it off if not. The status is known by now."""
    unread = LARGEST_ANSWER_BYTES
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            while unread > 0 and (chunk := await answer.content.read(_CHUNK_BYTES)):
                unread -= len(chunk)
    if not answer.content.at_eof():
        answer.close()


class _Resolver(AbstractResolver):
    """Resolves a host once, and gives back either addresses that may all be connected to, or none."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return all addresses of a host, or raise ForbiddenAddress if one of them is not public."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        for _, _, _, _, address in found:
            _judge_address(host, str(address[0]), allow_private=self._allow_private)
        return [_resolved(host, port, kind, protocol, address) for kind, _, protocol, _, address in found]

    async def close(self) -> None:
        """Nothing is kept."""


def _resolved(
    host: str, port: int, family: socket.AddressFamily, protocol: int, address: tuple[Any, ...]
) -> ResolveResult:
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=str(address[0]), port=port, family=family, proto=protocol, flags=numeric)


def _judging_sockets(*, allow_private: bool) -> Callable[[tuple[Any, ...]], socket.socket]:
    """Return a maker of sockets that refuses to make one for an address that may not be reached."""

    def make(target: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = target
        _judge_address(str(address[0]), str(address[0]), allow_private=allow_private)
        return socket.socket(family, kind, protocol)

    return make


def _judge_address(host: str, address: str, *, allow_private: bool) -> None:
    if not allow_private and not is_public(address):
        raise ForbiddenAddress(
            f"{host} is at {address}, which is not a public address: correct the host, or set allow_private = true"
        )


def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if endpoint.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=endpoint.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"webhook {endpoint.name}: ca_file cannot be used ({error}). Name a file of certificates in PEM."
        ) from error
