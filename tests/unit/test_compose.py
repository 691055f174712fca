"""What deploys this project names things that exist: commands, flags, variables, images, Make targets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from wait_for_me_app.cli import cli
from wait_for_me_app.settings import VARIABLE_NAMES, Settings

REPOSITORY = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def resolved(text: str) -> str:
    """Put the default of `${NAME:-default}` in its place, as Compose does with an empty environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document = yaml.safe_load(resolved(read("docker-compose.yml")))
    assert isinstance(document, dict)
    return document


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in compose["services"].items() if one["image"].startswith("wait-for-me")}


def test_the_broker_is_the_official_image_of_the_version_that_tests_use(compose: dict[str, Any]) -> None:
    """Compose and tests must not drift apart."""
    version = re.findall(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([\d.]+)<", read("tests/broker/pom.xml"))
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{version[0]}"
    assert compose["services"]["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_there_are_topics_two_workers_and_an_executor(compose: dict[str, Any]) -> None:
    """The topics come first, by a service that ends."""
    assert set(ours(compose)) == {"topics", "worker-1", "worker-2", "executor"}
    for name, service in ours(compose).items():
        before = service["depends_on"]
        assert before == (
            {"kafka": {"condition": "service_healthy"}}
            if name == "topics"
            else {"topics": {"condition": "service_completed_successfully"}}
        )


def test_every_command_of_a_service_exists(compose: dict[str, Any]) -> None:
    """The words after `wait-for-me` are parsed by the real command line."""
    for service in ours(compose).values():
        command: click.Command = cli
        words = list(service["command"])
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words, resilient_parsing=True)


def test_every_service_starts_with_settings_that_are_accepted(compose: dict[str, Any]) -> None:
    """Unknown names and wrong values are refused by the real settings, so they are asked."""
    for service in ours(compose).values():
        environment = {name: str(value) for name, value in service["environment"].items()}
        settings = Settings.from_environment(environment)
        assert settings.bootstrap_servers == "kafka:9092"
        assert settings.unsafe, "one broker holds one copy"


def test_each_worker_has_a_name_and_a_volume_of_its_own(compose: dict[str, Any]) -> None:
    """Two workers on one store would refuse each other."""
    workers = [one for name, one in ours(compose).items() if name.startswith("worker")]
    assert len({one["environment"]["WAIT_FOR_ME_WORKER_ID"] for one in workers}) == 2
    volumes = [volume.partition(":") for one in workers for volume in one["volumes"]]
    assert len({name for name, _, _ in volumes}) == 2
    assert {path for _, _, path in volumes} == {"/data"}
    assert {name for name, _, _ in volumes} <= set(compose["volumes"])


def test_the_images_are_targets_of_the_dockerfile(compose: dict[str, Any]) -> None:
    """One file, two targets, and a start command that exists."""
    dockerfile = read("Dockerfile")
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", dockerfile, re.MULTILINE))
    assert {"worker", "producer"} <= targets
    assert {one["build"]["target"] for one in ours(compose).values() if "build" in one} == {"worker"}
    assert set(re.findall(r"WAIT_FOR_ME_\w+", dockerfile)) <= set(VARIABLE_NAMES)
    assert '\nENTRYPOINT ["wait-for-me"]\nCMD ["worker"]' in dockerfile
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for word in line.split()
    }
    assert all((REPOSITORY / name).exists() for name in copied)
    let_in = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert copied <= let_in


def test_the_example_environment_describes_every_setting_with_its_default() -> None:
    """A setting nobody can find is a setting nobody has; a wrong default would mislead."""
    written = dict(re.findall(r"^#(WAIT_FOR_ME_\w+)=(.*)$", read(".env.example"), re.MULTILINE))
    plain = {name: value for name, value in written.items() if not name.startswith("WAIT_FOR_ME_KAFKA_")}
    assert set(plain) == set(VARIABLE_NAMES)
    assert Settings.from_environment(plain) == Settings.from_environment({})
    Settings.from_environment({name: value for name, value in written.items() if not name.endswith("_FILE")})


def test_make_names_only_commands_and_targets_that_exist() -> None:
    """`make` lists its targets; the command of `make demo` is one of ours; `verify` is what CI runs."""
    makefile = read("Makefile")
    assert set(re.findall(r"\$\(BIN\)/wait-for-me (\w+)", makefile)) <= set(cli.commands)
    phony = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[0].split())
    assert phony == set(re.findall(r"^([\w-]+):.* ## ", makefile, re.MULTILINE))
    assert "exec make --no-print-directory verify" in read(".ci/run")
    if shutil.which("make"):
        shown = subprocess.run(["make", "-C", str(REPOSITORY)], capture_output=True, text=True, check=True).stdout
        assert all(f"make {target}" in shown for target in phony)


def test_compose_itself_accepts_the_file() -> None:
    """Where Docker Compose is installed, it has the last word; it needs no engine for that."""
    asked = shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    )
    if not asked or asked.returncode != 0:
        pytest.skip("no `docker compose` here")
    command = ["docker", "compose", "-f", str(REPOSITORY / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
