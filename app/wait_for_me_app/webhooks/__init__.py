"""Callbacks that are webhooks: the fire is posted as signed JSON to an address that the operator has written down.

    wait-for-me executor --webhooks webhooks.toml       (or WAIT_FOR_ME_WEBHOOKS)

The danger is in the address. An executor stands inside the network, and whoever may make it call an address of their
choice reaches what stands there too. So the rules of this folder are: nothing on the wire names an address, only a name
of the file; a host is resolved once, refused if any of its addresses is not a public one, and connected to at the very
address that was judged; a redirect is a failure; of an answer nothing is read but the status, `Retry-After`, and at
most 64 KiB that are thrown away.

    configuration.py   the file: what it may say, and what is refused at start
    addresses.py       which addresses are public. Pure
    answers.py         what a status means. Pure
    delivery.py        signs and posts; the only file here that knows aiohttp
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.webhooks.configuration import read_endpoints

ATTEMPT_MARGIN_SECONDS = 5.0
"""How much longer than its own limit a delivery may take before the executor ends it."""


def register_webhooks(registry: Registry, path: Path, environ: Mapping[str, str]) -> int:
    """Register each webhook of the file as a callback of its name; return how many there are."""
    try:
        from wait_for_me_app.webhooks.delivery import deliver_to
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"webhooks need {error.name}, which is not installed. Run: pip install 'kafka-wait-for-me[app,webhooks]'"
        ) from error
    endpoints = read_endpoints(path, environ)
    for endpoint in endpoints:
        registry.callback(
            endpoint.name,
            attempts=endpoint.attempts,
            timeout_in_seconds=endpoint.timeout_s + ATTEMPT_MARGIN_SECONDS,
            first_wait_in_seconds=endpoint.first_wait_s,
            longest_wait_in_seconds=endpoint.longest_wait_s,
            concurrency=endpoint.concurrency,
            per_second=endpoint.per_second,
            in_order=endpoint.in_order,
        )(deliver_to(endpoint))
    return len(endpoints)
