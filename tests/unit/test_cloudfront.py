"""`cloudfront.invalidate` with the real boto3 against a stand-in that speaks CloudFront's API."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudfront_stand_in import CloudFront
from executor_world import Process, World, fire_id_of, fire_value
from registries import load_alone
from wait_for_me.codec import decode_fire
from wait_for_me_app.callback_errors import SetAside
from wait_for_me_app.callbacks import Registry

cloudfront, CLOUDFRONT = load_alone("wait_for_me_app.cloudfront")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CloudFront]:
    """A stand-in, and an environment in which boto3 finds it and nothing of the developer's own."""
    stand_in = CloudFront()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", stand_in.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    cloudfront._make_client.cache_clear()
    yield stand_in
    cloudfront._make_client().close()
    cloudfront._make_client.cache_clear()
    stand_in.close()


def run(params: Any, value: bytes | None = None) -> str:
    """Run the callback as the executor does, and return the fire_id."""
    fire = decode_fire(value or fire_value("cloudfront.invalidate", params))
    callback = CLOUDFRONT.find("cloudfront.invalidate")
    assert callback is not None
    callback.bind(fire)()
    return fire.fire_id


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        (["E1"], ("/*",)),
        (["E1", "/*"], ("/*",)),
        (["E1", "/a", "/b/*"], ("/a", "/b/*")),
        (["E1", ["/a", "/b/*"]], ("/a", "/b/*")),
        (["E1", ["/a", "/a"], "/a"], ("/a",)),
        ({"distribution_id": "E1"}, ("/*",)),
        ({"distribution_id": "E1", "paths": ["/a"]}, ("/a",)),
        ({"distribution_id": "E1", "paths": "/a"}, ("/a",)),
    ],
)
def test_paths_come_one_by_one_as_a_list_or_by_name(cloud: CloudFront, params: Any, paths: tuple[str, ...]) -> None:
    """The whole distribution if none is given."""
    fire_id = run(params)
    assert cloud.invalidations == {fire_id: ("I1", "E1", paths)}


def test_a_repeated_call_makes_no_second_invalidation(cloud: CloudFront) -> None:
    """The fire_id is the CallerReference."""
    value = fire_value("cloudfront.invalidate", ["E1", "/a"])
    assert run(None, value) == run(None, value)
    assert len(cloud.requests) == 2
    assert list(cloud.invalidations) == [fire_id_of(value)]


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "Throttling"), (400, "TooManyInvalidationsInProgress"), (503, "ServiceUnavailable"), (403, "AccessDenied")],
)
def test_what_may_pass_is_a_failure_of_this_attempt_only(cloud: CloudFront, status: int, code: str) -> None:
    """One request each: the executor has the retries."""
    cloud.failures.append((status, code))
    with pytest.raises(ClientError, match=code):
        run(["E1"])
    assert len(cloud.requests) == 1


def test_a_throttled_fire_is_done_in_the_end(cloud: CloudFront) -> None:
    """By the executor's own schedule, with the same CallerReference each time."""
    registry = Registry()
    callback = CLOUDFRONT.find("cloudfront.invalidate")
    assert callback is not None
    registry.add(callback)
    world = World(registry)
    value = fire_value("cloudfront.invalidate", ["E1", "/a"])
    world.write_fire(value)
    cloud.failures.extend([(400, "Throttling")] * 2)
    process = Process(world)
    process.read()
    for _ in range(3):
        process.deliver()
        process.tick()
        process.deliver()
        token = process.only_token
        try:
            process.running[token].call()
        except ClientError as error:
            process.end(token, error)
        else:
            process.end(token)
        process.deliver()
        process.pass_time(3_600_000)
    assert world.states(fire_id_of(value))[-1] == "done"
    assert [reference for reference, _ in cloud.requests] == [fire_id_of(value)] * 3


@pytest.mark.parametrize(
    "params",
    [
        ["X1"],
        [""],
        [1],
        ["E1", "no-slash"],
        ["E1", []],
        ["E1", [1]],
        ["E1", 5, "/a"],
        {"distribution_id": "E1", "paths": {"a": 1}},
    ],
)
def test_parameters_that_will_never_do_are_set_aside_at_once(cloud: CloudFront, params: Any) -> None:
    """Whether this callback notices or CloudFront does."""
    with pytest.raises(SetAside) as caught:
        run(params)
    assert caught.value.code == "bad_parameters"
    assert cloud.invalidations == {}


def test_another_batch_under_the_same_reference_is_a_failure(cloud: CloudFront) -> None:
    """It cannot happen by itself: a fire's parameters are always the same."""
    value = fire_value("cloudfront.invalidate", ["E1", "/a"])
    run(None, value)
    other = value.replace(b'"/a"', b'"/b"')
    with pytest.raises(ClientError, match="InvalidationBatchAlreadyExists"):
        run(None, other)


def test_without_boto3_it_says_what_to_install(tmp_path: Path) -> None:
    """When the executor starts, not at the first fire."""
    (tmp_path / "boto3.py").write_text("raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from wait_for_me.errors import ConfigurationError\n"
        "try: import wait_for_me_app.cloudfront\n"
        "except ConfigurationError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith("Run: pip install 'kafka-wait-for-me[app,cloudfront]'")
