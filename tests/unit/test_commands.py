"""The wire schema: seconds as whole milliseconds, what an absent field means, topic names, the table of error codes."""

from __future__ import annotations

import copy
import decimal
import math
import pickle
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me import errors, milliseconds
from wait_for_me.commands import MAX_SECONDS, Add, Remove, Tick
from wait_for_me.errors import STAGE_OF_CODE, ConfigurationError, InvalidCommand, InvalidFire
from wait_for_me.milliseconds import to_ms
from wait_for_me.topic_names import TopicNames


def an_add(**changes: object) -> Add:
    fields = {
        "group_key": "deploy-42",
        "participant_key": "web-3",
        "number_of_participants_in_group": 6,
        "execute_after_waiting": "cloudfront.invalidate",
        "wait_time_in_seconds": 60,
    }
    return Add(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [
        (60, 60_000),
        (60.0, 60_000),
        (1.1, 1100),
        (0.0001, 1),
        (0.001, 1),
        (0.0010000001, 2),
        (0, 0),
        (-0.0, 0),
        (5e-324, 1),
        (1e-05, 1),
        (4.35, 4350),  # 4350.000000000001 when multiplied as a double
        (MAX_SECONDS, MAX_SECONDS * 1000),
        (2591999.9999999995, 2592000000),
    ],
)
def test_seconds_become_whole_milliseconds_as_written_and_rounded_up(seconds: float, ms: int) -> None:
    """The decimal value counts, not the double behind it."""
    assert to_ms(seconds) == ms


@given(st.floats(min_value=0, max_value=MAX_SECONDS) | st.integers(min_value=0, max_value=MAX_SECONDS))
def test_milliseconds_agree_with_decimal_arithmetic(seconds: float) -> None:
    """An independent way to say the same rule."""
    with decimal.localcontext(prec=400):
        assert to_ms(seconds) == math.ceil(Decimal(repr(seconds)) * 1000)


def test_the_callers_decimal_context_does_not_change_a_wait() -> None:
    """A program that computes with five digits still waits as long as it said."""
    with decimal.localcontext(prec=5):
        assert to_ms(123456.789) == 123456789


def test_ever_new_waits_do_not_grow_the_process() -> None:
    """The memory of converted waits is bounded."""
    for number in range(10_000):
        to_ms(number / 7)
    assert len(milliseconds._ms_by_seconds) <= milliseconds._MS_CACHE_SIZE


def test_an_absent_cap_and_linger_have_their_defaults() -> None:
    """No cap means none; no linger means as long as the wait."""
    add = an_add(wait_time_in_seconds=1.5)
    assert (add.wait_ms, add.max_wait_ms, add.linger_ms, add.params_bytes) == (1500, None, 1500, b"[]")


def test_a_given_cap_and_linger_are_taken() -> None:
    """A linger of 0 is a value, not an absence."""
    add = an_add(max_wait_in_seconds=900, linger_in_seconds=0)
    assert (add.max_wait_ms, add.linger_ms) == (900_000, 0)


def test_commands_are_immutable() -> None:
    """A decoded command can be shared without fear."""
    with pytest.raises(AttributeError):
        an_add().group_key = "x"  # type: ignore[misc]


def test_commands_are_encoded_without_what_is_absent() -> None:
    """The wire carries the fields of the contract, by their names, and nothing empty."""
    assert msgspec.json.decode(msgspec.json.encode(an_add())) == {
        "type": "add",
        "group_key": "deploy-42",
        "participant_key": "web-3",
        "number_of_participants_in_group": 6,
        "execute_after_waiting": "cloudfront.invalidate",
        "wait_time_in_seconds": 60,
    }
    assert msgspec.json.encode(Remove(group_key="g")) == b'{"type":"remove","group_key":"g"}'
    assert msgspec.json.encode(Tick()) == b'{"type":"tick"}'


def test_all_names_of_a_deployment_come_from_its_prefix() -> None:
    """One PREFIXED access rule covers the topics, one covers the dead letters."""
    names = TopicNames("shop")
    assert (names.commands, names.fires, names.outcomes) == ("shop.commands", "shop.fires", "shop.outcomes")
    assert (names.commands_dead_letters, names.fires_dead_letters) == ("dlq.shop.commands", "dlq.shop.fires")
    assert (names.changelog, names.worker_group, names.executor_group) == (
        "shop-groups-changelog",
        "shop",
        "shop-executor",
    )


@pytest.mark.parametrize("prefix", ["", " ", "a b", "é", "x" * 201, ".", "..", "a/b", "a\n"])
def test_a_prefix_that_kafka_would_refuse_is_refused_at_once(prefix: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match="WAIT_FOR_ME_PREFIX"):
        TopicNames(prefix)


def test_the_longest_prefix_still_gives_legal_names() -> None:
    """Kafka allows 249 characters."""
    names = TopicNames("x" * 200)
    assert max(len(names.changelog), len(names.commands_dead_letters)) <= 249


def test_every_code_has_a_stage_that_dead_letters_may_carry() -> None:
    """The two go into headers together."""
    assert set(STAGE_OF_CODE.values()) == {"decode", "validate", "route", "apply", "callback"}
    assert InvalidCommand("misplaced", "m").stage == "route"
    assert InvalidCommand(code="apply_failed", message="m", stage="apply").stage == "apply"


def test_an_unknown_code_is_a_mistake_of_the_programmer() -> None:
    """Codes are alerted on, so none is invented on the way."""
    with pytest.raises(KeyError):
        InvalidCommand("no_such_code", "m")


@pytest.mark.parametrize(
    "error",
    [
        InvalidCommand("not_json", "say it in JSON"),
        InvalidFire("bad_fire", "no"),
        errors.DeliveryFailed("gone", "id-1"),
        errors.NotReady("gone", "id-1"),
    ],
)
def test_errors_survive_pickling_and_copying(error: Exception) -> None:
    """Process pools and task queues carry them to the caller."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), vars(twin)) == (str(error), vars(error))


def test_errors_can_be_caught_by_who_must_act() -> None:
    """Built-in bases serve code that knows nothing of this package."""
    assert issubclass(InvalidCommand, ValueError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(errors.WaitTimeout, TimeoutError)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, errors.WaitForMeError) for kind in kinds)
