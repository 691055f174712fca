"""Worker, executor and command line of WaitForMe: everything behind the extra `[app]`.

Rule of this package: it may import `wait_for_me` (the client and the wire schema), never the other way round.
"""

from __future__ import annotations


def version() -> str:
    """Return the version of the installed distribution, which client, worker and executor share."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kafka-wait-for-me")
    except PackageNotFoundError:
        return "unknown (run from a folder that is not installed)"
