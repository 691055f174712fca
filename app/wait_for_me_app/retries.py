"""How a dead letter that is sent once more is told from a copy: by two headers of its own. Pure.

The danger: a fire whose outcome is final is never run again, which is what makes copies harmless. So a fire is run
again only if somebody has asked for it (`wfm_retried_at`), if it is dead and not done, and if it lies further on in the
fires topic than the one that died; read a second time after a crash, the same request is a copy like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

RETRIED_BY: Final = "wfm_retried_by"
RETRIED_AT: Final = "wfm_retried_at"


def is_retry(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Return whether somebody has sent this record once more on purpose."""
    return any(name == RETRIED_AT for name, _ in headers)


def runs_again(headers: Iterable[tuple[str, bytes | None]], offset: int, died_at: int | None) -> bool:
    """Return whether a fire at `offset` is run although it is final; `died_at` is where the dead one lay, None if done.

    >>> runs_again([("wfm_retried_at", b"2026-11-24T02:10:00Z")], offset=20, died_at=7)
    True
    """
    return died_at is not None and died_at < offset and is_retry(headers)
