"""Records in words, for the reader of a failing schedule."""

from __future__ import annotations

import json
from typing import Any

from wait_for_me_app.core.rows import OpenRound
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import decode_round, decode_watermark
from wait_for_me_app.storage.run_end import RunEnd, run_end_in


def show(topic: str, key: bytes | None, value: bytes | None, headers: Any) -> str:
    """Return one line for a record."""
    if topic.endswith("changelog"):
        return f"{_row(key or b'', value)} (run {_run(run_end_in(headers))})"
    marks = " ".join(f"{name}={text.decode()}" for name, text in headers if name.startswith("wfm_"))
    if topic.endswith("fires"):
        fire = json.loads(value or b"{}")
        names = "".join(one["participant_key"][:1] for one in fire["arrived"])
        return f"{fire['reason']} {fire['group_key']} #{fire['opened_offset']}-{fire['closed_offset']} {fire['arrived_count']} [{names}]"
    return f"{_command(value)} {marks}".rstrip()


def _run(run_end: RunEnd) -> str:
    until = run_end.closed_until
    return f"{run_end.offset}" + (
        f" until {int.from_bytes(until[:8]) % 10_000_000} {until[8:].decode()}" if until else ""
    )


def _row(key: bytes, value: bytes | None) -> str:
    kind, name = key[:1].decode(), keys.group_key_of(key).decode()
    if key == keys.WATERMARK_KEY and value is not None:
        watermark = decode_watermark(key, value)
        return f"W {watermark.offset} T {watermark.stream_time_ms % 10_000_000} {watermark.rerouted or ''}".rstrip()
    if kind in "PA":
        return f"{kind} {name}#{keys.opened_offset_of(key)}{'' if value else ' deleted'}"
    if value is None or kind != "G":
        return f"{kind} {name}{'' if value else ' deleted'}"
    row = decode_round(key, value)
    state = f"open {row.arrived_count}" if isinstance(row, OpenRound) else f"{row.reason} late {row.late_count}"
    return f"G {name}#{row.opened_offset} {state} changed {row.changed_offset} due {row.due_ms % 10_000_000}"


def _command(value: bytes | None) -> str:
    try:
        members = json.loads(value or b"")
        kind = members.pop("type")
        text = " ".join(str(one) for one in members.values())
    except (ValueError, TypeError, AttributeError, KeyError):
        return repr(value)[:80]
    return f"{kind} {text}"
