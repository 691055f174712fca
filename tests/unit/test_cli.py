"""The command line: data on stdout, the rest on stderr, exit codes that scripts can rely on, flags above the environment."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from processes import Running
from wait_for_me_app import cli, data_directory, logging_setup
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.settings import Settings

Run = Callable[..., "tuple[int, str, str]"]
ADD = ("add", "deploy-42", "web-3", "--of", "6", "--wait", "60", "--do", "cdn.invalidate")
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in this process: exit code, stdout, stderr."""

    monkeypatch.setattr(logging_setup, "configure_logging", lambda _settings: None)  # pytest's own stays

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main(arguments)
        except SystemExit as end:  # a data directory that is taken, say
            code = int(str(end.code))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def commands() -> Iterator[tuple[str, ...]]:
    for name, command in cli.cli.commands.items():
        yield (name,)
        if isinstance(command, click.Group):
            yield from ((name, other) for other in command.commands)


# --- help, usage, settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", list(commands()))
def test_every_command_explains_itself(run: Run, command: tuple[str, ...]) -> None:
    """--help answers on stdout without a broker, and every flag says something."""
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: wait-for-me {' '.join(command)}")
    named = cli.cli.commands[command[0]]
    assert all(getattr(option, "help", "x") for option in named.params)


def test_help_loads_neither_kafka_nor_faust() -> None:
    """Someone who mistypes a flag should not wait for half a second."""
    script = (
        "import sys; from wait_for_me_app.cli import main; main(['--help']); "
        "print({'confluent_kafka', 'faust', 'aiokafka', 'rich', 'rocksdict'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_the_version_is_one_line_on_stdout(run: Run) -> None:
    """`--version` is for bug reports."""
    code, out, _ = run("--version")
    assert (code, out.startswith("wait-for-me "), out.count("\n")) == (0, True, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("add",),
        ("add", "g", "p"),
        (*ADD, "--of", "six"),
        ("topics", "destroy"),
        ("worker", "--log-level", "x"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_so_on_stderr(run: Run, arguments: tuple[str, ...]) -> None:
    """Usage errors are click's own, and leave stdout alone."""
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "Usage:" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--param", "E1"),
        ("--params", "{"),
        ("--param", "1", "--params", "[1]"),
        ("--of", "0"),
        ("--wait", "-1"),
        ("--do", "a b"),
    ],
)
def test_an_add_that_the_client_refuses_is_wrong_usage(run: Run, arguments: tuple[str, ...]) -> None:
    """The command's own rules are judged before anything is sent, so no broker is needed to say no."""
    code, out, err = run(*ADD, *arguments, "-b", NOWHERE)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err


def test_a_param_that_is_no_json_is_told_how_to_be_one(run: Run) -> None:
    """The shell takes the quotes away that JSON needs."""
    assert """--param '"E1"'""" in run(*ADD, "--param", "E1")[2]


@pytest.mark.parametrize(
    "command", [("worker",), ("executor",), ("topics", "check"), ("topics", "plan"), ADD, ("remove", "g")]
)
def test_a_wrong_setting_exits_with_78_and_the_remedy(
    run: Run, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting again does not help, so supervisors should not."""
    monkeypatch.setenv("WAIT_FOR_ME_PARTITION", "4")
    code, out, err = run(*command)
    assert (code, out) == (ExitCode.BAD_CONFIGURATION, "")
    assert "Did you mean WAIT_FOR_ME_PARTITIONS?" in err


def test_a_flag_wins_over_the_environment_even_when_it_is_zero(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that is given is given, whatever its value."""
    monkeypatch.setenv("WAIT_FOR_ME_PARTITIONS", "4")
    code, _, err = run("topics", "plan", "--partitions", "0", "-b", NOWHERE)
    assert (code, "WAIT_FOR_ME_PARTITIONS is 0" in err) == (ExitCode.BAD_CONFIGURATION, True)


@pytest.mark.slow
def test_a_broker_out_of_reach_exits_with_75(run: Run) -> None:
    """Trying again may help, and nothing else is printed about it than one line."""
    code, out, err = run("topics", "check", "-b", NOWHERE)
    assert (code, out) == (ExitCode.BROKER_OUT_OF_REACH, "")
    assert err.startswith("wait-for-me: No answer from Kafka at 127.0.0.1:1")
    assert err.count("\n") == 1


# --- add and remove --------------------------------------------------------------------------------------------------


def read_commands(bootstrap_servers: str, count: int) -> list[tuple[bytes, dict[str, object]]]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("wait-for-me.commands", partition, 0) for partition in range(4)])
    try:
        messages = consumer.consume(count, timeout=10)
    finally:
        consumer.close()
    return [(message.key(), json.loads(message.value())) for message in messages]


def test_add_sends_the_command_and_prints_the_receipt(run: Run, embedded_kafka: str) -> None:
    """What is on the topic is what was typed, with its types: whole seconds stay whole."""
    flags = ("--param", '"E1"', "--param", "7", "--max-wait", "900", "--linger", "0.5", "--event-id", "once", "--json")
    code, out, err = run(*ADD, *flags, "-b", embedded_kafka)
    assert (code, err) == (0, "")
    [(key, sent)] = read_commands(embedded_kafka, 1)
    assert key == b"deploy-42"
    assert sent == {
        "type": "add",
        "group_key": "deploy-42",
        "participant_key": "web-3",
        "number_of_participants_in_group": 6,
        "execute_after_waiting": "cdn.invalidate",
        "execute_after_waiting_params": ["E1", 7],
        "wait_time_in_seconds": 60,
        "max_wait_in_seconds": 900,
        "linger_in_seconds": 0.5,
        "event_id": "once",
    }
    receipt = json.loads(out)
    assert (receipt["topic"], receipt["offset"], receipt["event_id"]) == ("wait-for-me.commands", 0, "once")


def test_params_may_be_an_object_of_keyword_arguments(run: Run, embedded_kafka: str) -> None:
    """--params takes all arguments at once, as a list or by name."""
    assert run(*ADD, "--params", '{"path": "/*"}', "-b", embedded_kafka)[0] == 0
    [(_, sent)] = read_commands(embedded_kafka, 1)
    assert sent["execute_after_waiting_params"] == {"path": "/*"}


def test_a_receipt_for_people_names_group_topic_and_offset(run: Run, embedded_kafka: str) -> None:
    """Without --json there is one line to read."""
    code, out, _ = run(*ADD, "-b", embedded_kafka)
    assert code == 0
    assert out.startswith("web-3 of deploy-42 added: wait-for-me.commands partition ")


def test_remove_sends_the_command_with_its_reason(run: Run, embedded_kafka: str) -> None:
    """The reason is for whoever reads the log later."""
    code, out, _ = run("remove", "deploy-42", "--reason", "rolled back", "--json", "-b", embedded_kafka)
    assert (code, json.loads(out)["offset"]) == (0, 0)
    [(key, sent)] = read_commands(embedded_kafka, 1)
    assert (key, sent["type"], sent["group_key"], sent["reason"]) == (
        b"deploy-42",
        "remove",
        "deploy-42",
        "rolled back",
    )


def test_the_prefix_of_the_deployment_names_the_topic(
    run: Run, embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag or variable, both reach the client."""
    monkeypatch.setenv("WAIT_FOR_ME_PREFIX", "staging")
    assert json.loads(run(*ADD, "--json", "-b", embedded_kafka)[1])["topic"] == "staging.commands"
    assert json.loads(run(*ADD, "--json", "-b", embedded_kafka, "--prefix", "qa")[1])["topic"] == "qa.commands"


# --- topics ----------------------------------------------------------------------------------------------------------


def test_problems_are_shown_in_colour_only_where_nobody_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR and a dumb terminal switch it off; otherwise click looks at the terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert cli._color() is None
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli._color() is False
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert cli._color() is False


# --- worker, executor, demo ------------------------------------------------------------------------------------------


def test_worker_becomes_fausts_worker_with_the_flags_in_its_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same process goes on as `faust -A wait_for_me_app.worker worker`, so signals and exit codes are Faust's own."""
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(cli, "_become", lambda *call: started.append(call))
    monkeypatch.setenv("WAIT_FOR_ME_KAFKA_CLIENT_ID", "kept")
    assert run("worker", "--id", "w7", "--data-dir", str(tmp_path / "w7"), "--prefix", "qa", "--unsafe")[0] == 0
    [(command, environment)] = started
    assert command[0] == sys.executable
    assert " ".join(command[1:]) == "-P -m faust -L uvloop -A wait_for_me_app.worker worker -l info --without-web"
    assert environment["WAIT_FOR_ME_WORKER_ID"] == "w7"
    assert environment["WAIT_FOR_ME_DATA_DIR"] == str(tmp_path / "w7")
    assert (environment["WAIT_FOR_ME_PREFIX"], environment["WAIT_FOR_ME_UNSAFE"]) == ("qa", "1")
    assert environment["WAIT_FOR_ME_KAFKA_CLIENT_ID"] == "kept"


def test_a_flag_also_wins_over_the_kafka_name_of_the_same_setting(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Handed on side by side, the two would disagree, and Faust's worker would refuse to start."""
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(cli, "_become", lambda *call: started.append(call))
    monkeypatch.setenv("WAIT_FOR_ME_KAFKA_BOOTSTRAP_SERVERS", "old:1")
    monkeypatch.setenv("WAIT_FOR_ME_KAFKA_SESSION_TIMEOUT_MS", "7000")
    flags = ("-b", "new:1", "--session-timeout-ms", "8000", "--data-dir", str(tmp_path))
    assert run("worker", *flags)[0] == 0
    settings = Settings.from_environment(started[0][1])
    assert (settings.bootstrap_servers, settings.session_timeout_ms) == ("new:1", 8000)


def test_what_becomes_another_command_keeps_its_process_id_and_says_everything_on_stderr() -> None:
    """Faust greets on stdout, which is for data; supervisors know the process by its id."""
    child = "import os; print('greeting', os.getpid(), os.environ['NAME'])"
    script = f"import os, sys; from wait_for_me_app.cli import _become; print(os.getpid()); _become([sys.executable, '-c', {child!r}], {{'NAME': 'x'}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == f"greeting {done.stdout.strip()} x"


def test_fausts_own_command_stops_at_a_wrong_setting_with_78_too() -> None:
    """Whoever starts the worker without our command line gets the same line and the same exit code."""
    command = [sys.executable, "-m", "faust", "-A", "wait_for_me_app.worker", "worker", "-l", "info"]
    environment = {**os.environ, "WAIT_FOR_ME_PARTITION": "4"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (ExitCode.BAD_CONFIGURATION, "")
    assert done.stderr.startswith("wait-for-me: WAIT_FOR_ME_PARTITION is not a setting. Did you mean")


HOLD = """
import sys, time
from pathlib import Path
from wait_for_me_app.data_directory import claim
claim(Path(sys.argv[1])); claim(Path(sys.argv[1]))
print('held', flush=True)
time.sleep(60)
"""


def test_two_workers_on_one_data_directory_are_refused_with_the_holders_process_id(run: Run, tmp_path: Path) -> None:
    """And the directory is free again the moment the holder is dead, however it died."""
    holder = Running([sys.executable, "-c", HOLD, str(tmp_path)], log=tmp_path / "holder.log")
    try:
        holder.wait_for_output("held")
        code, out, err = run("worker", "--id", "w", "--data-dir", str(tmp_path))
        assert (code, out) == (ExitCode.BAD_CONFIGURATION, "")
        assert f"process id {holder.pid}" in err
        assert "--data-dir" in err
        assert holder.kill() == -signal.SIGKILL
        script = f"from pathlib import Path; from wait_for_me_app.data_directory import claim; claim(Path({str(tmp_path)!r}))"
        subprocess.run([sys.executable, "-c", script], check=True)
    finally:
        holder.close()


EXEC = """
import os, sys
from pathlib import Path
from wait_for_me_app.data_directory import claim
claim(Path(sys.argv[1]))
os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], *sys.argv[1:]])
"""


def test_a_claim_survives_becoming_fausts_worker_and_may_be_repeated_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line claims, then execs; the worker claims too, because it may have been started without it."""
    holder = Running([sys.executable, "-c", EXEC, str(tmp_path), HOLD], log=tmp_path / "holder.log")
    try:
        holder.wait_for_output("held")
        with pytest.raises(SystemExit, match="78"):
            data_directory.claim(tmp_path)
        assert f"process id {holder.pid}" in capsys.readouterr().err
    finally:
        holder.close()


def test_a_data_directory_that_cannot_be_made_is_a_wrong_setting(run: Run, tmp_path: Path) -> None:
    """The message names the directory and the setting."""
    (tmp_path / "file").touch()
    code, _, err = run("worker", "--data-dir", str(tmp_path / "file" / "below"))
    assert (code, "WAIT_FOR_ME_DATA_DIR" in err) == (ExitCode.BAD_CONFIGURATION, True)


def test_executor_hands_its_settings_on_and_returns_its_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules named by repeated flags arrive in order."""
    from wait_for_me_app.executor import process as executor

    seen: list[Settings] = []
    monkeypatch.setattr(executor, "run", lambda settings: seen.append(settings) or 70)
    assert run("executor", "--callbacks", "one", "--callbacks", "two.three", "--prefix", "qa")[0] == 70
    assert (seen[0].callbacks, seen[0].prefix) == (("one", "two.three"), "qa")


def test_callbacks_may_be_a_module_in_the_working_directory(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`wait-for-me executor --callbacks my_callbacks` is what everybody types first."""
    from wait_for_me_app.executor import process as executor

    (tmp_path / "callbacks_of_this_test.py").write_text("VALUE = 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(executor, "run", lambda settings: importlib.import_module(settings.callbacks[0]).VALUE)
    assert run("executor", "--callbacks", "callbacks_of_this_test")[0] == 7


def test_demo_returns_the_exit_code_of_the_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--json`, `--keep` and `--port` are handed on."""
    from wait_for_me_app import demo

    monkeypatch.setattr(demo, "run", lambda *, json, keep, port: 1 if json else (port if keep else 0))
    assert (run("demo")[0], run("demo", "--json")[0], run("demo", "--keep", "--port", "7")[0]) == (0, 1, 7)


def test_ctrl_c_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every Unix command does."""
    from wait_for_me_app import demo

    def interrupted(**_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert run("demo")[0] == 130
