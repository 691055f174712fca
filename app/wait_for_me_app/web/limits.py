"""How much one asker, and all of them, may have: requests a second, requests at once, connections, and time to say what they want.

The loop that answers here is the loop that folds; whoever is refused costs it a few microseconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from wait_for_me_app.web.problems import Refusal

REQUESTS_A_SECOND: Final = 40.0
BURST: Final = 120.0
REQUESTS_AT_ONCE: Final = 64
CONNECTIONS: Final = 256
SECONDS_TO_ASK: Final = 10.0
"""For the head of a request on a new connection; also how long a body may take."""
SECONDS_BETWEEN: Final = 75.0
ADDRESSES: Final = 4096


class Allowance:
    """A token bucket for each address; the addresses that asked last are remembered."""

    def __init__(self, now_s: Callable[[], float], *, rate: float = REQUESTS_A_SECOND, burst: float = BURST) -> None:
        self._now_s, self._rate, self._burst = now_s, rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Count a request; raise Refusal if there were too many."""
        now_s = self._now_s()
        left, since_s = self._left.pop(address, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._rate)
        self._left[address] = (max(0.0, left - 1), now_s)
        while len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        if left < 1:
            raise Refusal(
                429,
                "too_many_requests",
                f"More than {self._rate:g} requests a second came from your address. Wait a second; use /api/v1/stream instead of asking again.",
                headers={"Retry-After": "1"},
            )


class Gate(asyncio.Protocol):
    """Stands before aiohttp's protocol: refuses connections above the limit and ends those that do not ask."""

    def __init__(self, connections: Connections, inner: Any) -> None:
        self._connections, self._inner = connections, inner
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None  # uvloop’s are none of asyncio’s classes

    def connection_made(self, transport: Any) -> None:
        """Let a connection in, if there is room."""
        self._transport = transport
        if len(self._connections.open) >= self._connections.at_most:
            transport.abort()
            return
        self._connections.open[self._inner] = self
        self._inner.connection_made(transport)
        self.expect_request_within(SECONDS_TO_ASK)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self._inner in self._connections.open:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        result: bool | None = self._inner.eof_received()
        return result

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        self.request_has_come()
        if self._connections.open.pop(self._inner, None) is not None:
            self._inner.connection_lost(exc)

    def expect_request_within(self, seconds: float) -> None:
        """End the connection unless a whole head of a request comes in time."""
        self.request_has_come()
        if self._transport is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def request_has_come(self) -> None:
        """Let a request take its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connections:
    """All connections of a server; `make` is its protocol factory."""

    def __init__(self, make_inner: Callable[[], Any], *, at_most: int = CONNECTIONS) -> None:
        self.open: dict[Any, Gate] = {}
        self.at_most = at_most
        self._make_inner = make_inner

    def make(self) -> Gate:
        """Return the protocol of a new connection."""
        return Gate(self, self._make_inner())
