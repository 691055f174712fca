"""The story that the demo plays: who refreshes what, how long that takes, and what goes wrong. Data only.

It is the one of the gem that this project descends from: six web servers refresh, then the CDN cache is invalidated once.

    deploy-41   all six report                          fires as complete
    deploy-42   web-4 is killed while it refreshes      fires by timeout, one missing
    deploy-43   web-6 finds the release broken          removed: it never fires
"""

from __future__ import annotations

from typing import Final

import msgspec

CALLBACK: Final = "cloudfront.invalidate"
CALLBACK_PARAMS: Final = ("E2DEMO", "/*")
CHECK_CALLBACK: Final = "demo.check"

WAIT_SECONDS: Final = 6
SERVERS: Final = tuple(f"web-{number}" for number in range(1, 7))
FIRES_COMPLETE, FIRES_BY_TIMEOUT, IS_REMOVED = DEPLOYMENTS = ("deploy-41", "deploy-42", "deploy-43")


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """One web server is told to refresh for one deployment; when it has, it reports."""

    at_s: float
    server: str
    deployment: str
    takes_s: float
    finds_it_broken: bool = False
    """Instead of reporting, the server rolls the deployment back: it removes the wait."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A web server dies, for real: its process gets SIGKILL."""

    at_s: float
    server: str


Step = Refresh | Kill


def story() -> tuple[Step, ...]:
    """Return all steps in the order of their times, in seconds since the story began."""
    steps: list[Step] = [
        *_deployment(FIRES_COMPLETE, 0.0, (0.5, 1.2, 1.6, 2.4, 2.9, 3.6)),
        *_deployment(FIRES_BY_TIMEOUT, 4.2, (0.6, 1.0, 1.9, 9.0, 2.3, 3.0)),
        Kill(at_s=5.8, server="web-4"),
        *_deployment(IS_REMOVED, 8.4, (0.5, 1.3, 2.0)),
        Refresh(at_s=8.4, server="web-6", deployment=IS_REMOVED, takes_s=3.0, finds_it_broken=True),
    ]
    return tuple(sorted(steps, key=lambda step: step.at_s))


def _deployment(deployment: str, at_s: float, takes_s: tuple[float, ...]) -> list[Refresh]:
    return [
        Refresh(at_s=at_s, server=server, deployment=deployment, takes_s=seconds)
        for server, seconds in zip(SERVERS, takes_s, strict=False)
    ]
