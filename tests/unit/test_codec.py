"""Records on the wire: the recorded corpus, the limits, and that the decoder is total and its fast path honest."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wait_for_me import codec
from wait_for_me.careful import decode_carefully
from wait_for_me.codec import decode_command, decode_fire, encode_command, encode_fire
from wait_for_me.commands import MAX_PARAMS_BYTES, MAX_RECORD_BYTES, Add, Command, Remove, Tick
from wait_for_me.errors import STAGE_OF_CODE, InvalidCommand, InvalidRecord
from wait_for_me.fires import Fire
from wait_for_me.json_text import depth_of

GOLDEN = Path(__file__).parent.parent / "golden" / "wire-v1.jsonl"
RECORDED = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]

ADD = (
    b'{"type":"add","group_key":"deploy-42","participant_key":"web-3","number_of_participants_in_group":6,'
    b'"execute_after_waiting":"cloudfront.invalidate","execute_after_waiting_params":["E1","/*"],'
    b'"wait_time_in_seconds":60}'
)
KEY = b"deploy-42"

Result = Command | Fire | tuple[str, str]


def as_bytes(recorded: dict[str, str] | None) -> bytes | None:
    if recorded is None:
        return None
    return recorded["text"].encode() if "text" in recorded else base64.b64decode(recorded["base64"])


def described(record: Command | Fire) -> dict[str, Any]:
    """Say what the corpus says of a record."""
    match record:
        case Add():
            names = ["group_key", "participant_key", "number_of_participants_in_group", "execute_after_waiting"]
            names += ["wait_ms", "max_wait_ms", "linger_ms", "event_id"]
            said = {name: getattr(record, name) for name in names}
            return {"type": "add", **said, "params": record.params_bytes.decode()}
        case Remove():
            return {
                "type": "remove",
                "group_key": record.group_key,
                "event_id": record.event_id,
                "reason": record.reason,
            }
        case Tick():
            return {"type": "tick"}
    fields = msgspec.json.decode(encode_fire(record))
    del fields["execute_after_waiting_params"]
    return {**fields, "params": record.params_bytes.decode()}


def outcome(decode: Any, *arguments: Any) -> Result:
    try:
        return decode(*arguments)  # type: ignore[no-any-return]
    except InvalidRecord as error:
        return error.code, error.stage


def refused(value: bytes | None, key: bytes | None = KEY, headers: Any = ()) -> InvalidCommand:
    with pytest.raises(InvalidCommand) as caught:
        decode_command(key, value, headers)
    return caught.value


def with_params(params: bytes) -> bytes:
    return ADD.replace(b'["E1","/*"]', params)


# --- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["name"] for recorded in RECORDED])
def test_what_was_recorded_is_read_as_it_always_was(recorded: dict[str, Any]) -> None:
    """Kept for ever: lines may be added, never changed."""
    key, value = as_bytes(recorded["key"]), as_bytes(recorded["value"])
    headers = [(name, as_bytes(header)) for name, header in recorded["headers"]]
    for _ in range(2):  # the first time by the book, the second by the fast path, where there is one
        if recorded["topic"] == "fires":
            found = outcome(decode_fire, value)
        else:
            found = outcome(decode_command, key, value, headers)
        expected = recorded["expect"]
        if isinstance(found, tuple):
            assert found == (expected.get("code"), expected.get("stage"))
        else:
            assert described(found) == expected


def test_the_corpus_covers_every_code_that_the_decoder_has() -> None:
    """A code without a recorded record could change unseen; too_large would take too much room."""
    codes = {recorded["expect"].get("code") for recorded in RECORDED} - {None}
    decoding = {code for code, stage in STAGE_OF_CODE.items() if stage in ("decode", "validate")}
    assert codes == (decoding - {"too_large"}) | {"bad_fire"}
    assert len({recorded["name"] for recorded in RECORDED}) == len(RECORDED)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_params_may_have_64_kib_and_no_byte_more() -> None:
    """Their size is that of their bytes as they came."""
    biggest = b'"' + b"x" * (MAX_PARAMS_BYTES - 2) + b'"'
    add = decode_command(KEY, with_params(biggest))
    assert isinstance(add, Add)
    assert add.params_bytes == biggest
    assert refused(with_params(biggest[:-1] + b'x"')).code == "too_large"


def test_a_record_may_have_256_kib_and_no_byte_more() -> None:
    """What lies beyond is not even looked at."""
    padding = b" " * (MAX_RECORD_BYTES - len(ADD))
    assert isinstance(decode_command(KEY, ADD + padding), Add)
    error = refused(ADD + padding + b" ")
    assert (error.code, error.stage) == ("too_large", "decode")


@pytest.mark.parametrize("depth", [33, 500, 990, 5_000, 100_000])
@pytest.mark.parametrize("where", ["params", "unknown field", "type", "wait_time_in_seconds", "envelope"])
def test_deep_nesting_is_refused_wherever_it_is_and_however_deep_the_caller_stands(depth: int, where: str) -> None:
    """The verdict depends on the bytes alone, never on how much stack is left."""
    nested = b"[" * depth + b"]" * depth
    values = {
        "params": with_params(nested),
        "unknown field": ADD.replace(b'"type"', b'"x":' + nested + b',"type"'),
        "type": ADD.replace(b'"add"', nested),
        "wait_time_in_seconds": ADD.replace(b":60", b":" + nested),
        "envelope": nested,
    }
    value = values[where] if where != "envelope" or depth > 33 else nested.replace(b"[", b"[[").replace(b"]", b"]]")

    def from_deeper(levels: int) -> str:
        return from_deeper(levels - 1) if levels else refused(value).code

    assert refused(value).code == "too_deep"
    assert from_deeper(sys.getrecursionlimit() // 2) == "too_deep"


def test_brackets_in_strings_are_no_nesting() -> None:
    """Text may say anything."""
    text = json.dumps(["[{" * 5_000 + '"\\']).encode()
    assert isinstance(decode_command(KEY, with_params(text)), Add)


@given(
    st.recursive(
        st.none() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=20,
    )
)
def test_depth_is_that_of_the_value(value: Any) -> None:
    """A plain recursive count agrees with the one over bytes."""

    def depth(value: Any) -> int:
        if isinstance(value, (list, dict)):
            inner = value.values() if isinstance(value, dict) else value
            return 1 + max(map(depth, inner), default=0)
        return 0

    assert depth_of(msgspec.json.encode(value)) == depth(value)


@pytest.mark.parametrize(
    "hostile", [b'"\\"' * 60_000, b'"' * 200_001, b"\\" * 200_000, b"[{" * 100_000, b'{"' * 90_000]
)
def test_hostile_text_costs_no_more_than_its_length(hostile: bytes) -> None:
    """No pattern of ours backtracks: this would take hours if one did."""
    assert isinstance(depth_of(hostile), int)
    assert refused(hostile).stage == "decode"


def test_callback_names_are_remembered_within_bounds() -> None:
    """A stream of ever new names does not grow the worker."""
    for number in range(codec._KNOWN_CALLBACKS_SIZE + 100):
        decode_command(KEY, ADD.replace(b"cloudfront", b"c%d" % number))
    assert len(codec._known_callbacks) <= codec._KNOWN_CALLBACKS_SIZE


# --- messages --------------------------------------------------------------------------------------------------------


def test_missing_fields_are_named_as_the_gem_names_them() -> None:
    """All of them, in the gem's order."""
    assert refused(b'{"type":"add"}').message == (
        "participant_key is required, group_key is required, number_of_participants_in_group is required, "
        "execute_after_waiting is required, wait_time_in_seconds is required"
    )
    assert refused(b'{"type":"remove"}').message == "group_key is required"


@pytest.mark.parametrize("recorded", [r for r in RECORDED if "code" in r["expect"]], ids=lambda r: r["name"])
def test_every_refusal_ends_with_the_remedy(recorded: dict[str, Any]) -> None:
    """After the colon stands what to do; a missing field is its own remedy."""
    value = as_bytes(recorded["value"])
    headers = [(name, as_bytes(header)) for name, header in recorded["headers"]]
    key, fires = as_bytes(recorded["key"]), recorded["topic"] == "fires"
    with pytest.raises(InvalidRecord) as caught:
        _ = decode_fire(value) if fires else decode_command(key, value, headers)
    message = str(caught.value)
    assert ": " in message or message.endswith("is required")
    assert len(message) < 2_000
    message.encode()


# --- total, and the same by both ways --------------------------------------------------------------------------------

NASTY = st.sampled_from(
    [
        b"", b" ", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"NaN", b"Infinity", b"-0",
        b"-0.0", b"1e999", b"01", b"1.", b"9" * 25, b"9" * 400, b"9" * 5000, b"0.1", b"1e-7", b"true", b"null",
        b"{}", b"[]", b"[" * 40, b"[" * 40 + b"]" * 40, b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"',
        b'"\\u0000"', b'"\\x"', b'"', b"\\", b",", b":", b"}", b"]", b'"type":"tick",', b'"type":"remove",',
        b'"group_key":"deploy-42",', b'"event_id":"e",', b'"participant_key":null,', b'"wait_time_in_seconds":"6",',
        b'"\\u0074ype":"add",', b'"x":{"y":[{"z":1}]},', b'""', b'"a b"', b"\xc2\x85", "é✓😀".encode(), b"6.0",
        b"100001", b"2592001",
    ]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, base: bytes) -> bytes:
    """A valid record with some pieces cut out, put in or replaced."""
    value = base
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(value)))
        end = min(len(value), start + draw(st.sampled_from([0, 0, 0, 1, 2, 5, 20])))
        value = value[:start] + draw(NASTY | st.binary(max_size=4)) + value[end:]
    return value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
FIELDS = {
    "type": st.sampled_from(["add", "remove", "tick"]) | JSON,
    "group_key": st.just("deploy-42") | st.text(max_size=300) | JSON,
    "participant_key": st.text(max_size=300) | JSON,
    "number_of_participants_in_group": st.integers(-1, 100_002) | JSON,
    "execute_after_waiting": st.from_regex(r"[A-Za-z0-9_.:-]{1,130}", fullmatch=True) | st.text(max_size=5) | JSON,
    "execute_after_waiting_params": JSON,
    "wait_time_in_seconds": st.floats() | st.integers(-1, 2_592_001) | JSON,
    "event_id": st.text(max_size=140) | JSON,
    "max_wait_in_seconds": st.floats(0, 3e6) | JSON,
    "linger_in_seconds": st.floats(0, 3e6) | JSON,
    "reason": st.text(max_size=5) | JSON,
    "x": JSON,
}


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An add, a remove or a tick in which up to three fields are of any kind, or missing."""
    fields = dict(
        draw(st.sampled_from([json.loads(ADD), {"type": "remove", "group_key": "deploy-42"}, {"type": "tick"}]))
    )
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3, unique=True)):
        fields[name] = draw(FIELDS[name])
        if draw(st.integers(0, 9)) == 0:
            del fields[name]
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


OBJECTS = objects()
VALUES = (
    st.none()
    | st.binary(max_size=300)
    | OBJECTS
    | OBJECTS.flatmap(damaged)
    | st.just(ADD).flatmap(damaged)
    | st.just(b'{"type":"remove","group_key":"deploy-42","reason":"r"}').flatmap(damaged)
    | st.just(b'{"specversion":"1.0","type":"waitforme.add.v1","id":"i","data":' + ADD + b"}").flatmap(damaged)
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "ce_specversion",
                "ce_type",
                "ce_id",
                "content-type",
                "Content-Type",
                "CE_specversion",
                "wfm_event_id",
                "x",
            ]
        ),
        st.none()
        | st.binary(max_size=5)
        | st.sampled_from([b"1.0", b"waitforme.add.v1", b"application/cloudevents+json", b"i" * 129, b"\xff"]),
    ),
    max_size=4,
)


@settings(max_examples=800, deadline=None)
@given(key=st.none() | st.just(KEY) | st.binary(max_size=8), value=VALUES, headers=st.just([]) | HEADERS)
def test_any_record_is_a_command_or_an_invalid_command(key: bytes | None, value: bytes | None, headers: Any) -> None:
    """Nothing else comes out, both ways through the decoder end alike, and Python agrees on what is JSON."""
    found = outcome(decode_command, key, value, headers)
    assert found == outcome(decode_carefully, key, value, headers)
    if value is not None and not isinstance(found, tuple):
        json.loads(value, parse_constant=pytest.fail, parse_int=len)


@settings(max_examples=300, deadline=None)
@given(OBJECTS)
def test_what_the_decoder_accepts_it_accepts_again_when_encoded(value: bytes) -> None:
    """Encoding a decoded command gives a record that decodes to an equal one."""
    group = json.loads(value).get("group_key")
    key = group.encode(errors="replace") if isinstance(group, str) else b"k"
    found = outcome(decode_command, key, value)
    if isinstance(found, Add | Remove | Tick):
        assert decode_command(key, encode_command(found)) == found


def test_the_fast_path_is_taken_by_an_ordinary_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the worker would be slow and no test would notice."""
    decode_command(KEY, ADD)  # makes the callback's name known
    monkeypatch.setattr(codec, "decode_carefully", lambda *_: pytest.fail("by the book"))
    with_id = ADD[:-1] + b',"event_id":"01980a52-7f1b-7a54-8000-0123456789ab","max_wait_in_seconds":9.5}'
    for value in (ADD, with_id, with_params(b'{"paths":["/*"],"distribution":{"id":["E1"]}}'), with_params(b"7")):
        assert isinstance(decode_command(KEY, value, [("traceparent", b"00-0")]), Add)
    assert decode_command(None, b'{"type":"tick"}') == Tick()


# --- fires -----------------------------------------------------------------------------------------------------------

A_FIRE = next(recorded for recorded in RECORDED if recorded["name"] == "fire by timeout")["value"]["text"].encode()


def test_a_fire_has_its_params_decoded_and_raw() -> None:
    """The executor calls with the one and passes the other on."""
    fire = decode_fire(A_FIRE)
    assert (fire.execute_after_waiting_params, fire.params_bytes) == (["E1", "/*"], b'["E1", "/*"]')
    assert fire.arrived[0].participant_key == "web-1"


def test_a_fire_is_encoded_to_the_very_bytes_of_the_contract() -> None:
    """Key order, compact separators and verbatim params: copies are equal byte for byte."""
    assert encode_fire(decode_fire(A_FIRE)) == A_FIRE


@settings(max_examples=500, deadline=None)
@given(
    st.none() | st.binary(max_size=200) | st.just(A_FIRE).flatmap(damaged) | JSON.map(lambda v: json.dumps(v).encode())
)
def test_any_record_of_the_fires_topic_is_a_fire_or_an_invalid_fire(value: bytes | None) -> None:
    """One damaged record cannot stop a reader, and a fire that is read has params that can be read."""
    found = outcome(decode_fire, value)
    if isinstance(found, Fire):
        assert found.execute_after_waiting_params is not Ellipsis
    else:
        assert found == ("bad_fire", "callback")
