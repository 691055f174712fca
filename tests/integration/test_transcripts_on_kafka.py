"""The transcripts once more, through a real worker on a real Kafka: a minute shrunk to 2.4 seconds, all of them side by side."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from logs import Judge, Sender, read_topic
from scenarios.transcript import Send, Transcript, parse, summary
from wait_for_me_app.audit.reference import fold_partition

SCALE = 0.04
FOLDER = Path(__file__).parent.parent / "scenarios"


@dataclass(frozen=True)
class Played:
    """A transcript whose groups carry the transcript's number, so that many can share a deployment."""

    name: str
    mark: bytes
    sends: list[Send]
    expected: dict[str, list[tuple[str, tuple[str, ...]]]]


def test_transcripts_come_out_the_same_on_a_real_kafka(deployment: Any) -> None:
    """Every fire equals the reference's over the log that Kafka really has; most come out as on paper, edges aside."""
    played = [one for number, path in enumerate(sorted(FOLDER.glob("*.txt"))) if (one := prepare(number, path))]
    assert len(played) >= 40
    deployment.start_worker().wait_for_output("worker_ready")
    play(Sender(deployment), played)
    verdict = Judge(deployment).wait_until_settled(40)
    assert verdict.is_right, verdict.ghosts[:2]
    fires = by_group(deployment)
    differing = [one.name for one in played if not as_on_paper(one, fires)]
    # Some transcripts have a margin of a second, which is 40 ms here: a busy machine misses some of those.
    assert len(differing) <= len(played) // 3, differing


def prepare(number: int, path: Path) -> Played | None:
    """Return a transcript made ready to share a deployment, or None for one that needs a place or a clock of its own."""
    text = path.read_text(encoding="utf-8")
    if "on paper:" in text or "trust producer time" in text or "partition " in text or "hole " in text:
        return None
    transcript = parse(text, scale=SCALE)
    mark = b"t%d-" % number
    sends = [marked(send, mark) for send in transcript.sends()]
    if None in sends:
        return None
    return Played(path.stem, mark, [send for send in sends if send], expected_of(transcript))


def marked(send: Send, mark: bytes) -> Send | None:
    """Put the mark before the group's name, in key and value; None where the value does not name the group plainly."""
    if not send.key or send.value is None:
        return send
    plain = b'"group_key":' + msgspec.json.encode(send.key.decode())
    if plain not in send.value:
        return None
    value = send.value.replace(plain, b'"group_key":' + msgspec.json.encode((mark + send.key).decode()))
    return Send(after_s=send.after_s, partition=send.partition, key=mark + send.key, value=value, headers=send.headers)


def expected_of(transcript: Transcript) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return, by group, the reasons and arrivals of its fires on paper."""
    fires: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for group, reason, arrived in summary(fold_partition(transcript.records, **transcript.place).fires):
        fires[group].append((reason, arrived))
    return fires


def play(sender: Sender, played: list[Played]) -> None:
    """Send every record at its time."""
    timeline = sorted((send for one in played for send in one.sends), key=lambda send: send.after_s)
    started = time.monotonic()
    for send in timeline:
        time.sleep(max(0.0, started + send.after_s - time.monotonic()))
        sender.send(send.value, send.key, headers=list(send.headers))
    sender.flush()


def by_group(deployment: Any) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return, by group, the reasons and arrivals of the fires that the worker has sent."""
    settings, fires = deployment.settings, defaultdict(list)
    for record in read_topic(settings.bootstrap_servers, settings.topics.fires):
        fire = msgspec.json.decode(record.value or b"")
        fires[fire["group_key"]].append((fire["reason"], tuple(one["participant_key"] for one in fire["arrived"])))
    return fires


def as_on_paper(one: Played, fires: dict[str, list[tuple[str, tuple[str, ...]]]]) -> bool:
    """Whether a transcript's groups have fired as its paper says; rounds that were still open on paper may have timed out since."""
    return all(fires[one.mark.decode() + group][: len(wanted)] == wanted for group, wanted in one.expected.items())
