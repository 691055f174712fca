"""The web over real HTTP: what is answered, what is refused, and that nothing asked can break it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from fakes import NOON_MS
from kafka_broker import free_port
from wait_for_me.partitioner import partition_for
from web_world import PARTITIONS, WebWorld, port_of, served, web_settings

TOKEN = "a-token-that-is-long-enough"
BODY = {
    "participant_key": "p",
    "number_of_participants_in_group": 2,
    "execute_after_waiting": "c",
    "wait_time_in_seconds": 5,
}


def is_problem(answer: Any, status: int, code: str) -> None:
    """Check a problem document."""
    assert (answer.status, answer.json["code"], answer.json["status"]) == (status, code, status)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["detail"]


async def test_groups_are_listed_by_nearest_deadline_with_who_came_and_how_many_are_missing() -> None:
    """The first question of every incident has an answer."""
    world = WebWorld(web_settings())
    await world.add("later", "web-1", at_ms=NOON_MS + 9000, of=6)
    await world.add("sooner", "web-1", of=6)
    await world.add("sooner", "web-2", of=6)
    async with served(world) as ask:
        listed = (await ask("/api/v1/groups")).json
    assert [group["group_key"] for group in listed["groups"]] == ["sooner", "later"]
    first = listed["groups"][0]
    assert [one["participant_key"] for one in first["arrived"]] == ["web-1", "web-2"]
    assert (first["arrived_count"], first["missing_count"], first["state"]) == (2, 4, "waiting")
    assert listed["meta"]["is_complete"]
    assert listed["meta"]["missing_partitions"] == []


async def test_a_list_goes_on_where_its_page_ended_and_nothing_is_missing_or_twice() -> None:
    """Pages joined are the list."""
    world = WebWorld(web_settings())
    for number in range(25):
        await world.add(f"g-{number:02}", "p", at_ms=NOON_MS + number)
    found, cursor = [], ""
    async with served(world) as ask:
        while cursor is not None:
            page = (await ask(f"/api/v1/groups?limit=7{f'&cursor={cursor}' if cursor else ''}")).json
            found += [group["group_key"] for group in page["groups"]]
            cursor = page["next_cursor"]
    assert found == [f"g-{number:02}" for number in range(25)]


async def test_a_list_can_be_searched_by_group_participant_and_callback() -> None:
    """Text is looked for in every name that a row has."""
    world = WebWorld(web_settings())
    await world.add("deploy-1", "web-1")
    await world.add("deploy-2", "db-1", execute_after_waiting="purge")
    async with served(world) as ask:
        assert [[g["group_key"] for g in (await ask(f"/api/v1/groups?q={text}")).json["groups"]] for text in ("DEPLOY-1", "db", "purge", "no")] == [
            ["deploy-1"], ["deploy-2"], ["deploy-2"], [],
        ]  # fmt: skip


async def test_a_group_is_described_with_everybody_who_came_however_many() -> None:
    """Participants beyond those in the row are read from rows of their own."""
    world = WebWorld(web_settings())
    for number in range(30):
        await world.add("big", f"p-{number:02}", of=50)
    async with served(world) as ask:
        group = (await ask("/api/v1/groups/big")).json
    assert [one["participant_key"] for one in group["arrived"]] == [f"p-{number:02}" for number in range(30)]
    assert not group["arrived_truncated"]
    assert (group["missing_count"], group["execute_after_waiting_params"]) == (20, [])


async def test_a_round_that_has_ended_is_shown_while_it_lingers() -> None:
    """Late adds and the end can be seen; a key that nobody knows is a problem document."""
    world = WebWorld(web_settings())
    for participant in ("a", "b", "c"):
        await world.add("done", participant, of=2)
    async with served(world) as ask:
        group = (await ask("/api/v1/groups/done")).json
        assert (group["state"], group["late_count"], group["arrived_count"]) == ("complete", 1, 2)
        assert [g["group_key"] for g in (await ask("/api/v1/groups?state=complete")).json["groups"]] == ["done"]
        is_problem(await ask("/api/v1/groups/unknown"), 404, "not_found")


HOSTILE = [
    "a/b/../c",
    "<img src=x onerror=alert(1)>",
    "..",
    ".",
    "%2F",
    "ü€𝄞",
    "a?b#c",
    " ",
    "a b+c",
    "events",
    "\"'`",
    "null",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_any_legal_name_can_be_asked_for(name: str) -> None:
    """Slashes, markup, dots and percent signs are names like others."""
    world = WebWorld(web_settings())
    await world.add(name, "<b>p</b>")
    escaped = quote(name, safe="")
    async with served(world) as ask:
        assert (await ask(f"/api/v1/group?group_key={escaped}")).json["group_key"] == name
        if name not in (".", ".."):
            answer = await ask(f"/api/v1/groups/{escaped}")
            assert answer.json["group_key"] == name
            assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("escaped", ["%00", "a%0Ab", "%ff", "%C2%85", "x" * 257])
async def test_a_name_that_no_group_can_have_is_refused(escaped: str) -> None:
    """Control characters, broken UTF-8 and names that are too long."""
    async with served(WebWorld(web_settings())) as ask:
        is_problem(await ask(f"/api/v1/groups/{escaped}"), 400, "bad_group_key")
        is_problem(await ask(f"/api/v1/group?group_key={escaped}"), 400, "bad_group_key")


@pytest.mark.parametrize(
    ("query", "code"),
    [("limit=0", "bad_limit"), ("limit=x", "bad_limit"), ("limit=99999", "bad_limit"), ("state=no", "bad_state"), ("cursor=%21", "bad_cursor"),
     ("cursor=AAAA", "bad_cursor"), (f"q={'x' * 300}", "text_too_long")],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_a_problem_document(query: str, code: str) -> None:
    """Each with its code."""
    async with served(WebWorld(web_settings())) as ask:
        is_problem(await ask(f"/api/v1/groups?{query}"), 400, code)


async def test_bodies_that_are_no_add_are_refused_before_anything_is_sent() -> None:
    """Wrong type, no JSON, wrong fields, nested too deep, too large."""
    async with served(WebWorld(web_settings())) as ask:
        path = "/api/v1/groups/g/participants"
        as_json = {"Content-Type": "application/json"}
        is_problem(
            await ask(path, "POST", data="a=1", headers={"Content-Type": "application/x-www-form-urlencoded"}),
            415,
            "not_json",
        )
        is_problem(await ask(path, "POST", data="{", headers=as_json), 400, "bad_body")
        is_problem(await ask(path, "POST", data="[" * 100_000, headers=as_json), 400, "bad_body")
        is_problem(await ask(path, "POST", json={**BODY, "number_of_participants_in_group": 0}), 400, "bad_body")
        is_problem(await ask(path, "POST", json={**BODY, "execute_after_waiting": "rm -rf /"}), 400, "bad_body")
        is_problem(await ask(path, "POST", data=b"x" * 300_000, headers=as_json), 413, "body_too_large")
        is_problem(await ask("/api/v1/groups", "POST", json=BODY), 405, "method_not_allowed")
        is_problem(await ask("/nothing"), 404, "not_found")
        assert (await ask("/livez")).status == 200


UNREADABLE = {
    "TLS": b"\x16\x03\x01hello\r\n\r\n",
    "a head that is too long": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "a control character in the path": b"GET /api/v1/groups/a\x01b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_is_no_request_is_a_problem_document_and_no_noise(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not echoed, and nobody can fill the log with tracebacks."""
    world = WebWorld(web_settings())
    async with served(world) as ask:
        head, body = await _raw(world, UNREADABLE[what])
        assert head.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert b"application/problem+json" in head
        assert b"Content-Security-Policy" in head
        assert json.loads(body)["code"] == "bad_request"
        assert (await ask("/livez")).status == 200
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Authorization: Bearer \xff\xfe", 401),
        (b"Authorization: Basic \xff", 401),
        (b"X-Wait-For-Me-Peer: 12:\xff", 401),
    ],
)
async def test_a_header_that_is_no_text_is_a_wrong_token(header: bytes, status: int) -> None:
    """Bytes that are no UTF-8 are compared like others."""
    world = WebWorld(web_settings(web_token=TOKEN))
    async with served(world):
        head, body = await _raw(world, b"GET /api/v1/stats HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status}".encode())
        assert json.loads(body)["code"] == "token_required"


async def test_a_compressed_body_is_refused_by_its_header() -> None:
    """It is never unpacked, so it can be no bomb; a broken one is refused alike."""
    async with served(WebWorld(web_settings())) as ask:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        for body in (gzip.compress(b" " * 1_000_000), b"no gzip"):
            is_problem(
                await ask("/api/v1/groups/g/participants", "POST", data=body, headers=headers), 415, "encoded_body"
            )


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow client gets a problem document, and its connection ends."""
    monkeypatch.setattr("wait_for_me_app.web.api.SECONDS_TO_ASK", 0.2)
    world = WebWorld(web_settings())
    async with served(world) as ask:
        head, body = await _raw(
            world,
            b"POST /api/v1/groups/g/participants HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: 100\r\n\r\n{",
        )
        assert head.startswith(b"HTTP/1.1 408")
        assert json.loads(body)["code"] == "body_too_slow"
        assert (await ask("/livez")).status == 200


async def _raw(world: WebWorld, data: bytes) -> tuple[bytes, bytes]:
    """Send bytes as they are, and return the head and as much of the body as the head says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(world))
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            return head, await reader.readexactly(int(length[1])) if length else b""
    finally:
        writer.close()


async def test_a_worker_that_is_not_ready_says_so_and_lives() -> None:
    """Liveness and readiness are two questions."""
    world = WebWorld(web_settings(), is_ready=False)
    async with served(world) as ask:
        assert (await ask("/livez")).json["status"] == "ok"
        answer = await ask("/readyz")
        assert (answer.status, answer.json["status"]) == (503, "unavailable")
        world.is_ready = True
        assert (await ask("/healthz")).status == 200
        world.counters._begun[0] = -1e9
        assert "under way" in (await ask("/readyz")).json["why"]


async def test_without_the_token_nothing_but_the_probes_answers() -> None:
    """Page, API and metrics need the token, as bearer or as a browser's login; a wrong one is none."""
    async with served(WebWorld(web_settings(web_token=TOKEN))) as ask:
        for path in ("/ui/", "/api/v1/groups", "/metrics", "/openapi.json", "/nothing"):
            answer = await ask(path)
            is_problem(answer, 401, "token_required")
            assert "Basic" in answer.headers["WWW-Authenticate"]
        assert (await ask("/livez")).status == 200
        is_problem(await ask("/api/v1/stats", headers={"Authorization": "Bearer wrong"}), 401, "token_required")
        is_problem(await ask("/api/v1/stats", headers={"Authorization": "Basic !!"}), 401, "token_required")
        login = base64.b64encode(f"me:{TOKEN}".encode()).decode()
        for header in (f"Bearer {TOKEN}", f"Basic {login}"):
            assert (await ask("/api/v1/stats", headers={"Authorization": header})).status == 200


async def test_a_foreign_host_name_is_refused_so_no_web_page_can_rebind_its_way_in() -> None:
    """On loopback, without a token, the name in the Host must be this machine's."""
    async with served(WebWorld(web_settings())) as ask:
        is_problem(await ask("/api/v1/groups", headers={"Host": "evil.example"}), 421, "unknown_host")
        is_problem(await ask("/ui/", headers={"Host": "127.0.0.1.evil.example"}), 421, "unknown_host")
        assert (await ask("/api/v1/groups", headers={"Host": "localhost:1"})).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "http://["}, {"Sec-Fetch-Site": "cross-site", "X-Wait-For-Me": "page"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-origin"}],
)  # fmt: skip
async def test_another_sites_page_cannot_act(headers: dict[str, str]) -> None:
    """A browser acts only with our origin and our header."""
    async with served(WebWorld(web_settings())) as ask:
        is_problem(await ask("/api/v1/groups/g", "DELETE", headers=headers), 403, "foreign_page")
        is_problem(await ask("/api/v1/groups/g/participants", "POST", json=BODY, headers=headers), 403, "foreign_page")


async def test_a_read_only_worker_does_not_act() -> None:
    """Looking goes on."""
    async with served(WebWorld(web_settings(web_read_only=True))) as ask:
        for path, method in (
            ("/api/v1/groups/g", "DELETE"),
            ("/api/v1/groups/g/participants", "POST"),
            ("/api/v1/dead-letters/commands:0:0/retry", "POST"),
        ):
            is_problem(await ask(path, method, json=BODY), 403, "read_only")
        assert (await ask("/api/v1/about")).json["read_only"]


async def test_payloads_can_be_hidden() -> None:
    """Parameters may be secrets."""
    world = WebWorld(web_settings(web_hide_payloads=True))
    await world.add("g", "p", execute_after_waiting_params=["secret-1"])
    async with served(world) as ask:
        for path in ("/api/v1/groups", "/api/v1/groups/g"):
            answer = await ask(path)
            assert "secret-1" not in answer.text
            assert 'payloads_hidden":true' in answer.text


async def test_every_answer_forbids_a_browser_everything_but_our_page() -> None:
    """Problems and probes too."""
    async with served(WebWorld(web_settings())) as ask:
        for path in ("/ui/", "/ui/app.js", "/api/v1/groups", "/nothing", "/livez", "/metrics"):
            headers = (await ask(path)).headers
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"


async def test_the_page_asks_nobody_else_for_anything() -> None:
    """No CDN, no font from elsewhere, no inline script or style that the policy would have to allow."""
    async with served(WebWorld(web_settings())) as ask:
        page = (await ask("/ui/")).text
        style = (await ask("/ui/app.css")).text
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page + style
    assert " style=" not in page
    assert "<script>" not in page
    assert "url(http" not in style


async def test_a_group_of_another_worker_is_asked_for_there() -> None:
    """Any worker answers for any group, and a list is of all workers."""
    first, second = WebWorld(web_settings(), (0, 1)), WebWorld(web_settings(worker_id="w2"), (2, 3))
    names = {
        number: next(f"g{i}" for i in range(99) if partition_for(f"g{i}".encode(), PARTITIONS) == number)
        for number in range(PARTITIONS)
    }
    for number, name in names.items():
        await (first if number < 2 else second).add(name, "p")
    async with served(first) as ask_first, served(second) as ask_second:
        first.owners = second.owners = {first.web.url: (0, 1), second.web.url: (2, 3)}
        for ask in (ask_first, ask_second):
            listed = (await ask("/api/v1/groups")).json
            assert {group["group_key"] for group in listed["groups"]} == set(names.values())
            assert listed["meta"]["workers_answered"] == 2
            assert [(await ask(f"/api/v1/groups/{name}")).json["partition"] for name in names.values()] == [0, 1, 2, 3]
            is_problem(await ask(f"/api/v1/groups/{names[2]}x"), 404, "not_found") if partition_for(
                f"{names[2]}x".encode(), 4
            ) > 1 else None
            assert (await ask("/api/v1/stats")).json["stats"]["opened"] == 4
            owners = {one["partition"]: one["worker"] for one in (await ask("/api/v1/partitions")).json["partitions"]}
            assert owners == {0: "w1", 1: "w1", 2: "w2", 3: "w2"}


async def test_workers_with_a_token_know_one_another_without_sending_it() -> None:
    """A signature is enough to look; the token itself goes nowhere."""
    first, second = (
        WebWorld(web_settings(web_token=TOKEN), (0, 1)),
        WebWorld(web_settings(worker_id="w2", web_token=TOKEN), (2, 3)),
    )
    async with served(first) as ask, served(second):
        first.owners = second.owners = {first.web.url: (0, 1), second.web.url: (2, 3)}
        listed = (await ask("/api/v1/groups", headers={"Authorization": f"Bearer {TOKEN}"})).json
    assert listed["meta"]["workers_answered"] == 2


async def test_a_worker_that_does_not_answer_is_named_with_its_partitions() -> None:
    """Never a silent gap."""
    world = WebWorld(web_settings(), (0, 1))
    await world.add("g1", "p") if partition_for(b"g1", 4) < 2 else None
    async with served(world) as ask:
        gone, off = f"http://127.0.0.1:{free_port()}/#w2", "http://web-off.invalid/#w3"
        world.owners = {world.web.url: (0, 1), gone: (2,), off: (3,)}
        meta = (await ask("/api/v1/groups")).json["meta"]
        assert (meta["workers_known"], meta["workers_answered"], meta["missing_partitions"]) == (3, 1, [2, 3])
        assert not meta["is_complete"]
        assert {one["url"]: one["partitions"] for one in meta["silent"]} == {gone: [2], off: [3]}
        assert {one["url"]: one["why"] for one in meta["silent"]} == {
            gone: "nobody listens there",
            off: "its web is turned off: WAIT_FOR_ME_WEB_PORT=0",
        }
        lost = next(f"g{i}" for i in range(99) if partition_for(f"g{i}".encode(), PARTITIONS) == 2)
        is_problem(await ask(f"/api/v1/groups/{lost}"), 504, "owner_silent")
        world.owners = {world.web.url: (0, 1)}
        is_problem(await ask(f"/api/v1/groups/{lost}"), 503, "nobody_has_it")


async def test_why_a_worker_is_silent_is_said_as_one_says_it() -> None:
    """A name that nobody knows, a connection that ends, an answer that does not come."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    world = WebWorld(web_settings(), (0,))
    rude = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with rude, served(world) as ask:
        ends = f"http://127.0.0.1:{rude.sockets[0].getsockname()[1]}/#w2"
        world.owners = {world.web.url: (0,), ends: (1,), "http://nobody.invalid:6066/#w3": (2,)}
        silent = (await ask("/api/v1/groups")).json["meta"]["silent"]
        said = {one["url"]: one["why"] for one in silent}
        assert said[ends] == "it ended the connection"
        assert said["http://nobody.invalid:6066/#w3"] in ("its host name is not known here", "no answer within 2 s")


async def test_the_stream_has_a_beat_so_that_silence_means_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning, and whenever there is nothing else to say; it is nothing to resume from."""
    monkeypatch.setattr("wait_for_me_app.web.stream.HEARTBEAT_S", 0.1)
    async with served(WebWorld(web_settings())) as ask, ask.session.get(f"{ask.url}/api/v1/stream") as response:
        beats, told = 0, b""
        async with asyncio.timeout(10):
            while beats < 3:
                line = await response.content.readline()
                beats += line == b"event: beat\n"
                told += line
        assert told.startswith(b"retry: 1000\n\nevent: beat\ndata: {}\n\nid: ")


async def test_a_worker_at_a_wrong_address_is_noticed() -> None:
    """Two machines that both announce loopback ask themselves; that must not pass for an answer."""
    world = WebWorld(web_settings(), (0, 1))
    async with served(world) as ask:
        world.owners = {world.web.url: (0, 1), world.web.url.replace("#w1", "#w2"): (2, 3)}
        meta = (await ask("/api/v1/groups")).json["meta"]
    assert meta["missing_partitions"] == [2, 3]
    assert "WAIT_FOR_ME_WEB_URL" in meta["silent"][0]["why"]


async def test_a_taken_port_moves_the_next_worker_on_and_never_stops_it() -> None:
    """Several workers on a machine do not collide."""
    settings = web_settings()
    first, second = WebWorld(settings), WebWorld(settings)
    async with served(first), served(second):
        assert first.web.url != second.web.url
        begins, moved = port_of(first), port_of(second)  # the next one may be somebody else's at this moment
        assert begins < moved < settings.web_port + 10


async def test_the_web_can_be_turned_off() -> None:
    """Port 0: nothing listens, and others are told so."""
    world = WebWorld(web_settings(web_port=0))
    await world.web.start()
    assert world.web.url == "http://web-off.invalid/#w1"
    await world.web.stop()


async def test_who_asks_too_much_is_told_to_wait_and_probes_still_answer() -> None:
    """A token bucket for each address."""
    async with served(WebWorld(web_settings())) as ask:
        answers = [await ask("/api/v1/about") for _ in range(160)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        is_problem(refused[0], 429, "too_many_requests")
        assert refused[0].headers["Retry-After"] == "1"
        assert (await ask("/livez")).status == 200


async def test_a_connection_that_does_not_ask_is_ended_and_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow clients hold a connection for seconds, not for ever, and only so many."""
    monkeypatch.setattr("wait_for_me_app.web.limits.SECONDS_TO_ASK", 0.2)
    world = WebWorld(web_settings())
    async with served(world) as ask:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(world))
        writer.write(b"GET /livez HT")
        assert await _is_ended(reader)
        writer.close()
        world.web._connections.at_most = 0  # type: ignore[union-attr]
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(world))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await _is_ended(reader)
        writer.close()
        world.web._connections.at_most = 10  # type: ignore[union-attr]
        assert (await ask("/livez")).status == 200


async def test_kafka_out_of_reach_is_a_problem_document_and_the_rest_answers() -> None:
    """Adds need Kafka; lists do not."""
    async with served(WebWorld(web_settings(kafka={"message.timeout.ms": "300", "log_level": "0"}))) as ask:
        is_problem(await ask("/api/v1/groups/g/participants", "POST", json=BODY), 503, "not_delivered")
        assert (await ask("/api/v1/groups")).status == 200


async def test_the_stream_begins_with_a_snapshot_and_resumes_where_it_was() -> None:
    """Events have ids; a known one is continued, an unknown one gets a snapshot."""
    world = WebWorld(web_settings())
    await world.add("one", "p")
    async with served(world) as ask:
        first = await _events(ask, 1)
        assert [kind for kind, _id, _data in first] == ["snapshot"]
        assert [g["group_key"] for g in first[0][2]["groups"]] == ["one"]
        last = first[-1][1]
        listening = asyncio.create_task(_events(ask, 1, last))
        await asyncio.sleep(0.1)
        await world.add("two", "p")
        changed = await asyncio.wait_for(listening, 10)
        assert changed[0][0] in ("groups", "stats")
        assert [kind for kind, _id, _data in await _events(ask, 1, "other-7")] == ["snapshot"]


async def _is_ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        return True


async def _events(ask: Any, count: int, last_event_id: str = "") -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    async with ask.session.get(f"{ask.url}/api/v1/stream", headers={"Last-Event-ID": last_event_id}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        async for raw in response.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            event[name] = value
            if not raw.strip() and event.get("event") == "beat":
                event = {}
            if not raw.strip() and "data" in event:
                found.append((event["event"], event["id"], json.loads(event["data"])))
                event = {}
            if len(found) == count:
                return found
    return found
