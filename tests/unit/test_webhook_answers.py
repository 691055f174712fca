"""What an endpoint's answer means: done, tried again, tried again later, or over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.webhooks.answers import DeliveryRefused, error_for, seconds_in

NOW = datetime(2026, 11, 24, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    """Whatever the body says."""
    assert error_for("hook", status, None, NOW) is None


@pytest.mark.parametrize("status", [100, 300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503, 504])
def test_anything_else_is_a_failure_that_is_tried_again(status: int) -> None:
    """The receiver may be mended; how often is the policy's business."""
    error = error_for("hook", status, None, NOW)
    assert isinstance(error, DeliveryRefused)
    assert str(status) in str(error)


def test_a_redirect_says_that_it_is_not_followed() -> None:
    """With what to do about it."""
    assert "redirects are not followed: write the final URL down" in str(error_for("hook", 302, None, NOW))


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_asks_for_time_gets_it(status: int) -> None:
    """429 and 503 with Retry-After."""
    error = error_for("hook", status, "120", NOW)
    assert isinstance(error, RetryAfter)
    assert error.seconds == 120


def test_other_failures_cannot_ask_for_time() -> None:
    """As Retry-After means something else there."""
    assert isinstance(error_for("hook", 500, "120", NOW), DeliveryRefused)


def test_gone_means_a_dead_letter_with_a_code_of_its_own() -> None:
    """410 is the receiver's own wish to be called no more."""
    error = error_for("hook", 410, None, NOW)
    assert isinstance(error, SetAside)
    assert error.code == "endpoint_gone"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 30 ", 30),
        ("99999999999999999999999", 604_800),
        ("Tue, 24 Nov 2026 02:11:00 GMT", 60),
        ("Tue, 24 Nov 2026 02:11:00", 60),
        ("Tue, 24 Nov 2026 02:00:00 GMT", 0),
        ("Tue, 24 Nov 9999 02:00:00 GMT", 604_800),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_never_absurd(header: str | None, seconds: float | None) -> None:
    """A week at most; nonsense counts as not given."""
    assert seconds_in(header, NOW) == seconds
