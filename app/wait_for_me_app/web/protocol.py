"""What comes over a connection and is no request that aiohttp can read: answered like every other problem, and no noise in the log.

aiohttp would echo what was sent as plain text and write a traceback each time, so that whoever reaches the port could fill a
worker's log. Bodies are not unpacked either: a compressed one is refused by its header (`api.py`), so it can be no bomb.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web

from wait_for_me_app.web.limits import SECONDS_BETWEEN
from wait_for_me_app.web.problems import SECURITY_HEADERS, Refusal

log = logging.getLogger(__name__)

OPTIONS: Final[dict[str, Any]] = {"access_log": None, "keepalive_timeout": SECONDS_BETWEEN, "auto_decompress": False}


class Protocol(web.RequestHandler):
    """aiohttp's protocol of one connection."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what cannot be read with a problem document; the connection ends."""
        log.debug("web_request_unreadable", extra={"remote": request.remote, "error": repr(exc or message)[:200]})
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, so no other can be sent")
        refusal = Refusal(
            status if 400 <= status < 500 else 400,
            "bad_request",
            "What was sent is no HTTP/1.1 request with a head of at most 8 KiB. Send one; there is no TLS here.",
            headers=SECURITY_HEADERS,
        )
        response = refusal.response()
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **fields: Any) -> None:
        """Note what ended a connection: a line, because it says nothing of this worker."""
        log.info("web_connection_failed", extra={"error": repr(fields.get("exc_info"))[:200]})
