"""The examples as a reader would run them, on a real Kafka with a real worker and executor; and a dead letter's way
back.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from executor_world import fire_id_of, fire_value
from kafka_broker import free_port
from processes import Running, wait_until
from wait_for_me import Receipt, WaitForMe
from wait_for_me_app import cli, logging_setup

if TYPE_CHECKING:
    from conftest import Deployment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def with_path(*folders: Path) -> str:
    """Return a PYTHONPATH with these folders first."""
    return os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])


def write_webhooks(folder: Path, port: int) -> Path:
    """Write the file of one webhook on this machine."""
    file = folder / "webhooks.toml"
    lines = [
        f"allowed_ports = [{port}]",
        '[webhooks."deploy.finished"]',
        f'url = "http://127.0.0.1:{port}/"',
        'secret_env = ["HOOK_SECRET"]',
        "attempts = 3",
        "first_wait_in_seconds = 0.2",
        "allow_private = true",
        "allow_insecure = true",
    ]
    file.write_text("\n".join(lines))
    return file


def run_example(deployment: Deployment, name: str, *arguments: str, **env: str) -> Running:
    """Start an example; it ends with the test."""
    command = [sys.executable, "-u", str(EXAMPLES / name), *arguments]
    process = Running(command, log=deployment.directory / f"{name}.log", env=deployment.environment(**env))
    deployment.processes.append(process)
    return process


def client_of(deployment: Deployment) -> WaitForMe:
    return WaitForMe(deployment.settings.bootstrap_servers, prefix=deployment.settings.prefix)


def add(client: WaitForMe, group: str, callback: str, params: Any = ()) -> Receipt:
    """Add two participants of two."""
    for participant in ("web-1", "web-2"):
        receipt = client.add_participant(
            participant_key=participant,
            group_key=group,
            number_of_participants_in_group=2,
            execute_after_waiting=callback,
            execute_after_waiting_params=params,
            wait_time_in_seconds=60,
        )
    return receipt


@pytest.mark.slow
def test_all_examples_do_what_they_say(deployment: Deployment, tmp_path: Path) -> None:
    """A plain and an async callback, a signed webhook, a downstream service, and a client that waits."""
    port = free_port()
    receiver = run_example(deployment, "webhook_receiver.py", str(port), HOOK_SECRET=SECRET)
    downstream = run_example(deployment, "downstream.py", "cdn")
    executor = deployment.start_executor(
        "callbacks",
        PYTHONPATH=with_path(EXAMPLES),
        WAIT_FOR_ME_WEBHOOKS=str(write_webhooks(tmp_path, port)),
        HOOK_SECRET=SECRET,
    )
    deployment.start_worker()
    with client_of(deployment) as client:
        receipts = {
            "announced": add(client, "announced", "deploy.announce", {"channel": "#deploys"}),
            "warm": add(client, "warm", "deploy.warm_up", ["/", "/news"]),
            "hooked": add(client, "hooked", "deploy.finished", [1]),
            "mistaken": add(client, "mistaken", "deploy.announce", {"channel": "#typo"}),
        }
        fires = {group: client.wait_fired(group, 60, after=receipt) for group, receipt in receipts.items()}
        outcomes = {
            group: client.wait_done(group, 60, fire_id=fire.fire_id, lookback=120) for group, fire in fires.items()
        }
    assert {group: outcome.state for group, outcome in outcomes.items()} == {
        "announced": "done",
        "warm": "done",
        "hooked": "done",
        "mistaken": "dead",
    }
    assert outcomes["mistaken"].reason is not None
    assert "there is no channel #typo" in outcomes["mistaken"].reason
    (received,) = [json.loads(line) for line in receiver.log.read_text().splitlines() if line.startswith("{")]
    assert received["fire_id"] == fires["hooked"].fire_id
    wait_until(lambda: downstream.log.read_text().count("complete") == 4, 30, downstream.tail)
    assert executor.stop() == 0  # and with that, what it has printed is in its log
    assert "#deploys: announced complete, 2 arrived, 0 missing" in executor.tail()
    assert "2 paths are warm for warm" in executor.tail()
    assert downstream.stop() == 0


FLAKY = """
from pathlib import Path
from wait_for_me_app.callbacks import callback

@callback("flaky", attempts=1)
def flaky(file):
    with open(file) as there:
        assert there.read() == "mended"
"""


def test_a_dead_fire_is_run_again_when_its_dead_letter_is_retried(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the same fire_id, by an executor that had seen it die and by one that had not."""
    monkeypatch.setattr(logging_setup, "configure_logging", lambda _settings: None)  # pytest's own stays
    (tmp_path / "flaky_callbacks.py").write_text(FLAKY)
    mended = tmp_path / "mended"
    settings = deployment.settings
    values = [fire_value("flaky", [str(mended)], group_key=f"g{number}", partition=1) for number in range(2)]
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for number, value in enumerate(values):
        producer.produce(settings.topics.fires, value, f"g{number}".encode(), partition=1)
    assert producer.flush(20) == 0

    def start() -> Running:
        return deployment.start_executor("flaky_callbacks", PYTHONPATH=with_path(tmp_path))

    def dlq(*arguments: str) -> str:
        where = ("-b", settings.bootstrap_servers, "--prefix", settings.prefix)
        capsys.readouterr()
        assert cli.main(("dlq", *arguments, *where)) == 0
        return capsys.readouterr().out

    executor = start()
    wait_until(lambda: dlq("list").count("callback/callback_failed") == 2, 60, executor.tail)
    mended.write_text("mended")
    assert "retried" in dlq("retry", "--group", "g0", "-y", "--by", "ann")
    wait_until(lambda: is_done(deployment, values[0]), 30, executor.tail)
    assert executor.stop() == 0
    executor = start()
    assert "retried" in dlq("retry", "--all", "-y", "--by", "ann")
    wait_until(lambda: is_done(deployment, values[1]), 60, executor.tail)
    assert dlq("list") == ""


def is_done(deployment: Deployment, value: bytes) -> bool:
    """Return whether the latest final outcome of a fire is that it is done."""
    from confluent_kafka import Consumer, TopicPartition

    from wait_for_me.outcomes import decode_final_outcome

    settings = deployment.settings
    consumer = Consumer(
        {"bootstrap.servers": settings.bootstrap_servers, "group.id": "test", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(settings.topics.outcomes, 1, 0)])
    state = None
    while (message := consumer.poll(5)) is not None and message.error() is None:
        if (outcome := decode_final_outcome(message.value())) is not None and outcome.fire_id == fire_id_of(value):
            state = outcome.state
    consumer.close()
    return state == "done"
