"""Asks a worker over HTTP with nothing but the standard library, so that a look costs no time to import."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from wait_for_me.errors import ConfigurationError, NotReady, WaitForMeError
from wait_for_me_app.settings import Settings

TIMEOUT_S = 20.0
LARGEST_BYTES = 32 << 20


class NotFound(WaitForMeError):
    """What was asked for does not exist."""


class Server:
    """A worker's API."""

    def __init__(self, settings: Settings, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._token, self._timeout_s = settings.server.rstrip("/"), settings.web_token, timeout_s

    def get(self, path: str) -> Any:
        """Return the document at an address; raise what the exit codes know."""
        return self.ask(path)[1]

    def ask(self, path: str, *, accept: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """Return status and document; a status that is not accepted is raised."""
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        request = urllib.request.Request(f"{self._url}{path}", headers=headers)  # noqa: S310  # Settings lets http(s) through only
        try:
            with _OPENER.open(request, timeout=self._timeout_s) as answer:
                return answer.status, _json(answer.read(LARGEST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                document = _json(error.read(LARGEST_BYTES))
            if error.code in accept:
                return error.code, document
            raise self._as_ours(error.code, document) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise NotReady(
                f"No worker answers at {self._url} ({reason}). Start one (wait-for-me worker), or name another with --server or WAIT_FOR_ME_SERVER."
            ) from error

    def _as_ours(self, status: int, document: Any) -> WaitForMeError:
        detail = (
            str(document.get("detail") or f"The worker answered {status}.")
            if isinstance(document, dict)
            else f"The worker answered {status}."
        )
        if status == 404:
            return NotFound(detail)
        if status in (401, 403, 421):
            return ConfigurationError(detail)
        return NotReady(detail) if status in (429, 502, 503, 504) else WaitForMeError(detail)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A worker never redirects its API; whoever does must not get the token."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return {}


def quoted(name: str) -> str:
    """Percent-encode a name for a query."""
    return quote(name, safe="")
