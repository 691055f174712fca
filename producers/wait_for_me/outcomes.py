"""The wire schema of a final outcome: what has become of a fire, as far as services need to know.

The executor writes more into the same record for itself; a reader ignores what it does not know.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct


class FinalOutcome(Struct, frozen=True, kw_only=True, tag="final", tag_field="type"):
    """A fire is over: `done`, its callback has returned; or `dead`, it was set aside; `error` and `reason` say why."""

    fire_id: str
    group_key: str
    callback: str
    state: Literal["done", "dead"]
    attempt: int
    """Number of the attempt that ended it, from 1."""
    finished_at_ms: int
    took_ms: int | None = None
    """How long the callback took that returned."""
    error: str | None = None
    """The stable code of a dead letter."""
    reason: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the callback has returned."""
        return self.state == "done"


_decode = msgspec.json.Decoder(FinalOutcome).decode


def decode_final_outcome(value: bytes | None) -> FinalOutcome | None:
    """Return the final outcome that this record of the outcomes topic is, or None for what is something else."""
    try:
        return None if value is None else _decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
