"""The API as a table: one entry an operation. The routes and the OpenAPI description are both made from it, so they cannot differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LIST_STATES: Final = ("waiting", "complete", "timeout", "removed", "any")
FIRE_REASONS: Final = ("complete", "timeout", "any")
MAX_TEXT: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter in the query or the path."""

    name: str
    schema: Mapping[str, Any]
    meaning: str
    where: str = "query"
    required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one address: what it takes, what it answers, whether it acts."""

    name: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, Any]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    acts: bool = False
    content_type: str = "application/json"
    tag: str = field(default="groups")


_KEY_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": 256}
GROUP_IN_PATH: Final = Parameter(
    name="group_key",
    where="path",
    required=True,
    schema=_KEY_SCHEMA,
    meaning="Percent-encoded, slashes too. For the names `.` and `..`, which no path can carry, use /api/v1/group?group_key=.",
)
GROUP_IN_QUERY: Final = Parameter(
    name="group_key", required=True, schema=_KEY_SCHEMA, meaning="Any group's name, percent-encoded."
)
LIMIT: Final = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
    meaning="The longest page wanted.",
)
CURSOR: Final = Parameter(
    name="cursor", schema={"type": "string", "maxLength": 512}, meaning="`next_cursor` of the page before."
)
TEXT: Final = Parameter(
    name="q",
    schema={"type": "string", "maxLength": MAX_TEXT},
    meaning="Part of the group's, a participant's or the callback's name.",
)
STATE: Final = Parameter(
    name="state",
    schema={"type": "string", "enum": list(LIST_STATES), "default": "waiting"},
    meaning="Which rounds; ended ones are known while they linger.",
)
REASON: Final = Parameter(
    name="reason", schema={"type": "string", "enum": list(FIRE_REASONS), "default": "any"}, meaning="Why it fired."
)
FIRE_ID: Final = Parameter(
    name="fire_id",
    where="path",
    required=True,
    schema={"type": "string", "pattern": "^fire_[0-9a-f-]{36}$"},
    meaning="The fire's id.",
)
LETTER_ID: Final = Parameter(
    name="id",
    where="path",
    required=True,
    schema={"type": "string", "pattern": r"^(commands|fires):[0-9]{1,5}:[0-9]{1,18}$"},
    meaning="Box, partition and offset: the name that `wait-for-me dlq` uses.",
)
