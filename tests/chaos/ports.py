"""Ports below those that the system gives to outgoing connections, so that nobody takes a broker's port while it is down."""

from __future__ import annotations

import os
import socket
from typing import Final

_FIRST, _LAST = 20_000, 31_000
_STEP: Final = 7


class Ports:
    """Hands out loopback ports that nobody listens on, each once."""

    def __init__(self) -> None:
        self._next = _FIRST + os.getpid() * _STEP % (_LAST - _FIRST)

    def take(self) -> int:
        """Return the next free one."""
        for _ in range(_LAST - _FIRST):
            port = self._next
            self._next = port + 1 if port < _LAST else _FIRST
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise RuntimeError(f"no port from {_FIRST} to {_LAST} is free")
