"""What an endpoint's answer means for the fire. Pure: a status and a header in, an exception to raise out, or None.

2xx            done
410            the endpoint is gone: it is not called again, and its fires become dead letters at once
429, 503       with Retry-After: not before that; without: as the retry policy says
3xx            a failure like any other: a redirect would lead past the checks of the address
anything else  a failure; tried again as the retry policy says
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from wait_for_me_app.callback_errors import RetryAfter, SetAside

_LONGEST_SECONDS: Final = 7 * 24 * 3600.0
_DIGITS: Final = 12


class DeliveryRefused(Exception):
    """The endpoint has answered, and not with success."""


def error_for(name: str, status: int, retry_after: str | None, now: datetime) -> Exception | None:
    """Return what is wrong with an answer, or None for success."""
    if 200 <= status < 300:
        return None
    if status == 410:
        return gone(name)
    if 300 <= status < 400:
        return DeliveryRefused(f"POST to {name}: {status}, and redirects are not followed: write the final URL down")
    what = f"POST to {name}: {status}"
    seconds = seconds_in(retry_after, now) if status in (429, 503) else None
    return DeliveryRefused(what) if seconds is None else RetryAfter(seconds, f"{what}, again after {seconds:g} s")


def gone(name: str) -> SetAside:
    """Return what is raised for every fire of an endpoint that has answered 410."""
    return SetAside(
        f"{name} has answered 410 Gone and is off until the executor is restarted: correct its URL, restart, and retry "
        "the dead letters",
        "endpoint_gone",
    )


def seconds_in(retry_after: str | None, now: datetime) -> float | None:
    """Return the wait that a Retry-After asks for, which is a number or a date; None when it says nothing of sense."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:_DIGITS]), _LONGEST_SECONDS)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (until - now).total_seconds()), _LONGEST_SECONDS)
