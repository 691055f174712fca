"""What goes wrong over HTTP, as `application/problem+json` (RFC 9457). Every problem has a stable code and ends with what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from wait_for_me_app.web.documents import Problem, encode

CONTENT_TYPE: Final = "application/problem+json"
SECURITY_HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer: a browser may do nothing with it but show our page."""


class Refusal(Exception):
    """A request that is answered with a problem document."""

    def __init__(self, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = headers or {}

    @property
    def document(self) -> Problem:
        """The problem as it is sent."""
        return Problem(
            type=f"urn:wait-for-me:problem:{self.code}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            code=self.code,
        )

    def response(self) -> web.Response:
        """Return the answer."""
        body = encode(self.document)
        return web.Response(status=self.status, body=body, content_type=CONTENT_TYPE, headers=self.headers)


def not_found(what: str) -> Refusal:
    """There is no such thing here."""
    return Refusal(404, "not_found", what)


def from_http(error: web.HTTPException) -> Refusal:
    """Turn what aiohttp refuses by itself into a problem document."""
    details = {
        404: ("not_found", "There is nothing at this address. GET /openapi.json lists what there is."),
        405: ("method_not_allowed", "This address does not take this method. GET /openapi.json lists what it takes."),
        413: ("body_too_large", "The body is larger than any command may be (256 KiB). Send less."),
    }
    code, detail = details.get(error.status, ("bad_request", error.reason or "The request cannot be understood."))
    allow = error.headers.get("Allow")
    return Refusal(error.status, code, detail, headers={"Allow": allow} if allow else None)
