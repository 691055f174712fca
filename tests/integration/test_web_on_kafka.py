"""The web of real workers on a real Kafka: commands over HTTP, what comes of them, and two workers as one."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from logs import Sender, eventually

READY = "worker_ready"
BODY = {
    "participant_key": "web-1",
    "number_of_participants_in_group": 2,
    "execute_after_waiting": "c",
    "wait_time_in_seconds": 60,
}


class Page:
    """Asks a worker as a service would."""

    def __init__(self, worker: Any) -> None:
        found = re.search(r"web_ready url=(http://\S+)/ui/", worker.output())
        assert found, worker.tail()
        self.url = found[1]

    def __call__(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Return status and JSON; None for an empty body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                body_ = answer.read()
                return answer.status, json.loads(body_) if body_ else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def get(self, path: str) -> Any:
        """Return the JSON of an answer that must be good."""
        status, document = self(path)
        assert status == 200, document
        return document


def started(deployment: Any, worker_id: str = "w1", **env: str) -> tuple[Any, Page]:
    """Start a worker and return it with its page."""
    worker = deployment.start_worker(worker_id, **env)
    worker.wait_for_output(READY)
    return worker, Page(worker)


def test_a_group_lives_and_fires_over_http_alone(deployment: Any) -> None:
    """Add, look, add, fired; remove, removed; each with its history."""
    _worker, page = started(deployment)
    status, accepted = page("/api/v1/groups/a%2Fb/participants", "POST", BODY)
    assert status == 202
    assert accepted["topic"] == deployment.settings.topics.commands
    eventually(lambda: page("/api/v1/groups/a%2Fb")[1].get("arrived_count"), 1)
    assert page("/api/v1/groups/a%2Fb/participants", "POST", {**BODY, "participant_key": "web-2"})[0] == 202
    eventually(lambda: page("/api/v1/groups/a%2Fb")[1].get("state"), "complete")
    eventually(
        lambda: [(one["group_key"], one["reason"]) for one in page.get("/api/v1/fires")["fires"]], [("a/b", "complete")]
    )
    assert [one["effect"] for one in page.get("/api/v1/groups/a%2Fb/events")["events"]] == [
        "opened",
        "joined",
        "complete",
    ]
    page("/api/v1/groups/r/participants", "POST", BODY)
    assert page("/api/v1/groups/r", "DELETE", {"reason": "rolled back"})[0] == 202
    eventually(lambda: page("/api/v1/groups/r")[1].get("state"), "removed")
    assert [one["effect"] for one in page.get("/api/v1/groups/r/events")["events"]] == [
        "opened",
        "ends the wait",
        "removed",
    ]


def test_a_dead_letter_is_shown_sent_again_and_discarded(deployment: Any) -> None:
    """Its bytes, its origin and its reason; the retry is a command like any other."""
    worker, page = started(deployment)
    sender = Sender(deployment)
    sender.send(b"{not json", b"g")
    sender.flush()
    eventually(
        lambda: [
            one["error"] for one in page.get("/api/v1/dead-letters")["dead_letters"] if one["value"] == "{not json"
        ],
        ["not_json"],
    )
    letter = next(one for one in page.get("/api/v1/dead-letters")["dead_letters"] if one["value"] == "{not json")
    assert letter["origin"].startswith(f"{deployment.settings.topics.commands}:")
    assert page(f"/api/v1/dead-letters/{letter['id']}/retry", "POST")[0] == 202

    def handled() -> list[str]:
        letters = page.get("/api/v1/dead-letters")["dead_letters"]
        return sorted(str(one["handled"]) for one in letters if one["value"] == "{not json")

    eventually(handled, ["None", "retried"])  # it was sent again, and set aside again
    again = next(one for one in page.get("/api/v1/dead-letters")["dead_letters"] if one["handled"] is None)
    assert page(f"/api/v1/dead-letters/{again['id']}", "DELETE")[0] == 204
    eventually(handled, ["discarded", "retried"])
    assert "web_action" in worker.output()
    assert page("/api/v1/dead-letters/commands:0:99999/retry", "POST")[0] == 404
    assert page("/api/v1/dead-letters/nothing/retry", "POST")[0] == 400


def test_two_workers_on_one_machine_answer_as_one_and_a_dead_one_is_named(deployment: Any) -> None:
    """The port of the first is taken, the second takes the next; each answers for all; after a kill the gap is said."""
    _first, one = started(deployment, "w1")
    second, two = started(deployment, "w2")
    eventually(lambda: [page.get("/api/v1/groups")["meta"]["workers_answered"] for page in (one, two)], [2, 2])
    for number in range(8):
        one(f"/api/v1/groups/g{number}/participants", "POST", BODY)
    names = [f"g{number}" for number in range(8)]
    for page in (one, two):
        eventually(
            lambda page=page: sorted(group["group_key"] for group in page.get("/api/v1/groups")["groups"]), names
        )
        assert {page(f"/api/v1/groups/{name}")[0] for name in names} == {200}
    assert {row["worker"] for row in one.get("/api/v1/partitions")["partitions"]} == {"w1", "w2"}
    second.kill()
    meta = one.get("/api/v1/groups")["meta"]
    assert meta["missing_partitions"]
    assert "w2" in meta["silent"][0]["url"]
    eventually(lambda: one.get("/api/v1/groups")["meta"]["missing_partitions"], [], timeout=40)


def test_lateness_and_verdicts_reach_the_metrics(deployment: Any) -> None:
    """A timeout, a completion and a dead letter are counted as what they are."""
    _worker, page = started(deployment)
    page("/api/v1/groups/t/participants", "POST", {**BODY, "wait_time_in_seconds": 0.3})
    page("/api/v1/groups/c/participants", "POST", {**BODY, "number_of_participants_in_group": 1})
    sender = Sender(deployment)
    sender.send(b"[1]", b"g")
    sender.flush()

    def counted() -> list[str]:
        with urllib.request.urlopen(f"{page.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        wanted = (
            'fired_total{reason="complete"}',
            'fired_total{reason="timeout"}',
            "fire_lateness_seconds_count",
            'dead_letters_total{stage="decode"}',
        )
        return [line.rsplit(" ", 1)[1] for name in wanted for line in lines if name in line]

    eventually(counted, ["1", "1", "1", "1"])


def test_doctor_finds_a_healthy_deployment_healthy_and_names_what_is_not(deployment: Any) -> None:
    """Without a worker it fails and says so; with one it is content."""
    doctor = ("doctor", "-o", "json")
    ill = deployment.start(*doctor, "--server", "http://127.0.0.1:1", name="doctor")
    assert ill.wait(60) == 1
    assert "No worker answers" in ill.output()
    _worker, page = started(deployment)
    well = deployment.start(*doctor, "--server", page.url, name="doctor")
    assert well.wait(60) == 0, well.output()
    findings = json.loads(next(line for line in well.output().splitlines() if line.startswith("{")))["findings"]
    assert {one["check"]: one["verdict"] for one in findings if one["verdict"] != "warn"} == dict.fromkeys(
        ("versions", "kafka", "topics", "rights", "partitioner", "retention", "workers", "lag", "clock"), "ok"
    )


@pytest.mark.slow
def test_readiness_is_withheld_until_lanes_are_fed(deployment: Any) -> None:
    """A probe can hold back traffic; the web answers before the lanes do."""
    worker = deployment.start_worker()
    worker.wait_for_output("web_ready")
    page = Page(worker)
    seen, give_up_at = set(), time.monotonic() + 30
    while 200 not in seen and time.monotonic() < give_up_at:
        seen.add(page("/readyz")[0])
    assert 200 in seen
    assert worker.wait_for_output(READY) is None
