"""Who may ask, and who may act. Pure functions over a request's headers.

    loopback, no token     everybody on this machine; the Host must name this machine, or any web page could read it by DNS rebinding
    a token is set         `Authorization: Bearer TOKEN`, or Basic with the token as password, which is a browser's login
    another worker         a signature made with the token, never the token itself: an address in the group's metadata is not a friend

A browser acts only for our own page: a request that says it comes from one must come from our origin and carry our header. JSON bodies and
no CORS answers do the rest.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from wait_for_me_app.settings import Settings, is_loopback
from wait_for_me_app.web.problems import Refusal

PEER_HEADER: Final = "X-Wait-For-Me-Peer"
PAGE_HEADER: Final = "X-Wait-For-Me"
PEER_CLOCKS_MAY_DIFFER_S: Final = 300
OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/healthz"})
"""Probes carry no token, and learn nothing that a port scan would not tell."""

Headers = Mapping[str, str]


def check_asker(settings: Settings, headers: Headers, *, path: str, target: str, now_s: float) -> None:
    """Raise Refusal unless the request may look; `target` is path and query as they were sent."""
    if path in OPEN_PATHS:
        return
    if not settings.web_token:
        _check_host(settings, headers)
    elif not (has_token(settings.web_token, headers) or _is_peer(settings.web_token, headers, target, now_s)):
        raise Refusal(
            401,
            "token_required",
            "Send the token of this deployment (WAIT_FOR_ME_WEB_TOKEN) as `Authorization: Bearer TOKEN`, or log in with any name "
            "and the token as password.",
            headers={"WWW-Authenticate": 'Basic realm="WaitForMe", charset="UTF-8"'},
        )


def _check_host(settings: Settings, headers: Headers) -> None:
    host = headers.get("Host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    announced = urlsplit(settings.web_url).hostname if settings.web_url else None
    if not (is_loopback(name) or name == announced):
        raise Refusal(
            421,
            "unknown_host",
            "This worker answers to this machine only. Ask it as 127.0.0.1 or localhost, or set WAIT_FOR_ME_WEB_TOKEN and "
            "WAIT_FOR_ME_WEB_HOST to serve others.",
        )


def has_token(token: str, headers: Headers) -> bool:
    """Return whether the request carries the token, compared in constant time."""
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(_bytes(given.strip()), token.encode())
    if scheme.lower() == "basic":
        try:
            _name, _, password = b64decode(given.strip(), validate=True).partition(b":")
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(password, token.encode())
    return False


def peer_signature(token: str, target: str, now_s: float) -> str:
    """Sign a question to another worker."""
    moment = str(int(now_s))
    return f"{moment}:{_sign(token, moment, target)}"


def _is_peer(token: str, headers: Headers, target: str, now_s: float) -> bool:
    moment, _, signature = headers.get(PEER_HEADER, "").partition(":")
    if not (moment.isascii() and moment.isdigit() and len(moment) < 12):
        return False
    fresh = abs(int(moment) - now_s) <= PEER_CLOCKS_MAY_DIFFER_S
    return hmac.compare_digest(_bytes(signature), _sign(token, moment, target).encode()) and fresh


def _sign(token: str, moment: str, target: str) -> str:
    return hmac.new(token.encode(), f"GET {moment} {target}".encode(), hashlib.sha256).hexdigest()


def check_actor(settings: Settings, headers: Headers) -> None:
    """Raise Refusal unless the request may act, as a browser's or as a service's."""
    if settings.web_read_only:
        raise Refusal(
            403, "read_only", "This worker shows and does not act. Unset WAIT_FOR_ME_WEB_READ_ONLY, or send to Kafka."
        )
    if settings.web_token and not has_token(settings.web_token, headers):
        raise Refusal(403, "token_required", "A worker's signature may look, not act. Send the token.")
    if not _comes_from_a_browser(headers):
        return
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    is_own_origin = origin is None or _netloc(origin) == headers.get("Host")
    if site not in (None, "same-origin") or not is_own_origin or PAGE_HEADER not in headers:
        raise Refusal(
            403,
            "foreign_page",
            f"Another site's page asked for this. Act from this worker's own page, or from a program with the header {PAGE_HEADER}.",
        )


def _bytes(text: str) -> bytes:
    """Return a header as it came: what was no UTF-8 is in the text as lone surrogates."""
    return text.encode(errors="surrogateescape")


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None


def _comes_from_a_browser(headers: Headers) -> bool:
    return any(name in headers for name in ("Origin", "Sec-Fetch-Site", "Cookie"))
