"""The command line. Data goes to stdout, everything else to stderr; a flag wins over its environment variable.

Rule: nothing heavy is imported until a command needs it, so `--help` and `add` answer at once. Exit codes are in
`exit_codes.py`; an error is a line that ends with what to do, never a traceback.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from wait_for_me.errors import ConfigurationError, InvalidCommand, NotReady, WaitForMeError, WaitTimeout
from wait_for_me_app import flag_variables
from wait_for_me_app.auditing.command import make_audit
from wait_for_me_app.dlq.command import make_group as make_dlq
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.settings import LOG_FORMATS, LOG_LEVELS, OUTPUTS, Settings
from wait_for_me_app.views.asking import NotFound
from wait_for_me_app.views.commands import register

if TYPE_CHECKING:
    from wait_for_me import Receipt, WaitForMe
    from wait_for_me_app.topics import Problem, WantedTopic

_EXIT_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (ConfigurationError, ExitCode.BAD_CONFIGURATION),
    (InvalidCommand, ExitCode.USAGE),
    (NotReady, ExitCode.BROKER_OUT_OF_REACH),
    (WaitTimeout, ExitCode.WAITED_TOO_LONG),
    (NotFound, ExitCode.NOT_FOUND),
)
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        result = cli.main(arguments, prog_name="wait-for-me", standalone_mode=False, color=_color())
    except click.ClickException as error:
        error.show()
        flag_variables.tell_source(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except WaitForMeError as error:
        click.echo(f"wait-for-me: {error}", err=True)
        return int(next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), ExitCode.FAILED))
    return int(result or 0)


def _color() -> bool | None:
    """Never in colour when the user or the terminal says so; otherwise click looks whether this is a terminal."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from wait_for_me_app import version

        click.echo(f"wait-for-me {version()}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Wait until all have finished, or nobody has been heard of for a while; then do one thing, once. On Kafka."""


# --- settings as flags -----------------------------------------------------------------------------------------------

_FLAGS: MappingProxyType[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "bootstrap_servers": click.option(
            "-b", "--bootstrap-servers", metavar="HOST:PORT,...", help="Kafka. [WAIT_FOR_ME_BOOTSTRAP_SERVERS]"
        ),
        "prefix": click.option("--prefix", help="Start of all topics and group ids. [WAIT_FOR_ME_PREFIX]"),
        "partitions": click.option(
            "--partitions", type=int, help="Partitions of each topic, for ever. [WAIT_FOR_ME_PARTITIONS]"
        ),
        "replication_factor": click.option(
            "--replication-factor", type=int, help="Copies of each partition. [WAIT_FOR_ME_REPLICATION_FACTOR]"
        ),
        "unsafe": click.option(
            "--unsafe", is_flag=True, default=None, help="Let one copy do; for development. [WAIT_FOR_ME_UNSAFE]"
        ),
        "longest_group_wait_seconds": click.option(
            "--longest-group-wait",
            "longest_group_wait_seconds",
            type=float,
            metavar="SECONDS",
            help="Longest wait that you use; commands must be kept as long. [WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS]",
        ),
        "worker_id": click.option("--id", "worker_id", help="Name of this worker. [WAIT_FOR_ME_WORKER_ID]"),
        "data_dir": click.option(
            "--data-dir",
            type=click.Path(file_okay=False, path_type=Path),
            help="Directory of this worker alone; ./wait-for-me-data/ID if not given. [WAIT_FOR_ME_DATA_DIR]",
        ),
        "standby_replicas": click.option(
            "--standby-replicas", type=int, help="Other workers that follow each lane. [WAIT_FOR_ME_STANDBY_REPLICAS]"
        ),
        "session_timeout_ms": click.option(
            "--session-timeout-ms",
            type=int,
            help="Silence after which another takes over. [WAIT_FOR_ME_SESSION_TIMEOUT_MS]",
        ),
        "callbacks": click.option(
            "--callbacks",
            metavar="MODULE",
            multiple=True,
            help="Module that registers callbacks; repeat it for more. [WAIT_FOR_ME_CALLBACKS]",
        ),
        "webhooks": click.option(
            "--webhooks",
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="TOML file of callbacks that are webhooks. [WAIT_FOR_ME_WEBHOOKS]",
        ),
        "executor_threads": click.option(
            "--threads", "executor_threads", type=int, help="Plain callbacks at once. [WAIT_FOR_ME_EXECUTOR_THREADS]"
        ),
        "executor_tasks": click.option(
            "--tasks", "executor_tasks", type=int, help="Async callbacks at once. [WAIT_FOR_ME_EXECUTOR_TASKS]"
        ),
        "executor_processes": click.option(
            "--processes",
            "executor_processes",
            type=int,
            help="Callbacks in processes of their own at once. [WAIT_FOR_ME_EXECUTOR_PROCESSES]",
        ),
        "executor_max_in_flight": click.option(
            "--max-in-flight",
            "executor_max_in_flight",
            type=int,
            help="Callbacks of all kinds at once. [WAIT_FOR_ME_EXECUTOR_MAX_IN_FLIGHT]",
        ),
        "executor_pending_fires": click.option(
            "--pending-fires",
            "executor_pending_fires",
            type=int,
            help="Fires in memory at which it reads no more. [WAIT_FOR_ME_EXECUTOR_PENDING_FIRES]",
        ),
        "executor_stop_grace_seconds": click.option(
            "--stop-grace",
            "executor_stop_grace_seconds",
            type=float,
            metavar="SECONDS",
            help="How long a stop waits for callbacks. [WAIT_FOR_ME_EXECUTOR_STOP_GRACE_SECONDS]",
        ),
        "executor_unknown_callback_seconds": click.option(
            "--unknown-callback",
            "executor_unknown_callback_seconds",
            type=float,
            metavar="SECONDS",
            help="How long a fire waits for its callback. [WAIT_FOR_ME_EXECUTOR_UNKNOWN_CALLBACK_SECONDS]",
        ),
        "executor_starts_without_end": click.option(
            "--starts-without-end",
            "executor_starts_without_end",
            type=int,
            help="Deaths of a process that end a fire. [WAIT_FOR_ME_EXECUTOR_STARTS_WITHOUT_END]",
        ),
        "executor_attempts": click.option(
            "--attempts",
            "executor_attempts",
            type=int,
            help="Of a callback that does not say it. [WAIT_FOR_ME_EXECUTOR_ATTEMPTS]",
        ),
        "executor_timeout_seconds": click.option(
            "--timeout",
            "executor_timeout_seconds",
            type=float,
            metavar="SECONDS",
            help="Likewise. [WAIT_FOR_ME_EXECUTOR_TIMEOUT_SECONDS]",
        ),
        "executor_first_wait_seconds": click.option(
            "--first-wait",
            "executor_first_wait_seconds",
            type=float,
            metavar="SECONDS",
            help="Likewise. [WAIT_FOR_ME_EXECUTOR_FIRST_WAIT_SECONDS]",
        ),
        "executor_longest_wait_seconds": click.option(
            "--longest-wait",
            "executor_longest_wait_seconds",
            type=float,
            metavar="SECONDS",
            help="Likewise. [WAIT_FOR_ME_EXECUTOR_LONGEST_WAIT_SECONDS]",
        ),
        "executor_metrics_port": click.option(
            "--metrics-port",
            "executor_metrics_port",
            type=int,
            help="Health and metrics, on this machine; 0 turns them off. [WAIT_FOR_ME_EXECUTOR_METRICS_PORT]",
        ),
        "web_host": click.option("--web-host", help="Where the page is served. [WAIT_FOR_ME_WEB_HOST]"),
        "web_port": click.option("--web-port", type=int, help="Its port; 0 turns it off. [WAIT_FOR_ME_WEB_PORT]"),
        "web_url": click.option(
            "--web-url", metavar="URL", help="How other workers reach this one's page. [WAIT_FOR_ME_WEB_URL]"
        ),
        "web_read_only": click.option(
            "--web-read-only", is_flag=True, default=None, help="It shows and does not act. [WAIT_FOR_ME_WEB_READ_ONLY]"
        ),
        "web_hide_payloads": click.option(
            "--web-hide-payloads",
            is_flag=True,
            default=None,
            help="It shows no parameters and no bytes. [WAIT_FOR_ME_WEB_HIDE_PAYLOADS]",
        ),
        "server": click.option("--server", metavar="URL", help="A worker's address. [WAIT_FOR_ME_SERVER]"),
        "output": click.option("-o", "--output", type=click.Choice(OUTPUTS), help="[WAIT_FOR_ME_OUTPUT]"),
        "log_level": click.option("--log-level", type=click.Choice(LOG_LEVELS), help="[WAIT_FOR_ME_LOG_LEVEL]"),
        "log_format": click.option("--log-format", type=click.Choice(LOG_FORMATS), help="[WAIT_FOR_ME_LOG_FORMAT]"),
    }
)
_DEPLOYMENT = ("bootstrap_servers", "prefix")
_CLUSTER = (*_DEPLOYMENT, "partitions", "replication_factor", "unsafe", "longest_group_wait_seconds")
_WEB = ("web_host", "web_port", "web_url", "web_read_only", "web_hide_payloads")
_EXECUTOR = tuple(name for name in _FLAGS if name.startswith("executor_"))
_PROCESS = (*_CLUSTER, "session_timeout_ms", "log_level", "log_format")


def _settings_from(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags with these names, and hand it the settings that flags and environment make."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(**arguments: Any) -> Any:
            flags = {name: arguments.pop(name) for name in names}
            given = {
                name: value for name, value in flags.items() if value != ()
            }  # a flag that repeats, not given at all
            flag_variables.refuse_unknown(os.environ, _FLAG_VARIABLES)
            return command(settings=Settings.from_environment(os.environ, **given), **arguments)

        for name in reversed(names):
            with_settings = _FLAGS[name](with_settings)
        return with_settings

    return decorate


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


# --- commands for groups ---------------------------------------------------------------------------------------------


def _json_value(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Read a flag, or each of a repeated flag's, as JSON."""
    try:
        return [json.loads(text) for text in value] if isinstance(value, tuple) else value and json.loads(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{error}. It must be JSON: a text needs quotes of its own, such as {parameter.opts[0]} '\"E1\"'."
        ) from None


@cli.command()
@click.argument("group")
@click.argument("participant")
@click.option("--of", "number", type=int, required=True, metavar="N", help="How many participants the group has.")
@click.option("--wait", "wait_s", type=float, required=True, metavar="SECONDS", help="Silence after which it fires.")
@click.option("--do", "callback", required=True, metavar="NAME", help="Registered callback to run when it fires.")
@click.option(
    "--param",
    "positional",
    type=flag_variables.Line(),
    multiple=True,
    metavar="JSON",
    callback=_json_value,
    help="One argument; repeat it. In the variable: one a line.",
)
@click.option("--params", metavar="JSON", callback=_json_value, help="All arguments: a list, or an object by name.")
@click.option("--max-wait", "max_wait_s", type=float, metavar="SECONDS", help="Longest life of the group.")
@click.option(
    "--linger", "linger_s", type=float, metavar="SECONDS", help="How long it stays closed; the wait if not given."
)
@click.option("--event-id", help="Name of this one send; sent again with the same name, it counts once.")
@_as_json
@_settings_from(*_DEPLOYMENT)
def add(
    settings: Settings,
    group: str,
    participant: str,
    number: int,
    wait_s: float,
    callback: str,
    positional: list[Any],
    params: Any,
    max_wait_s: float | None,
    linger_s: float | None,
    event_id: str | None,
    as_json: bool,
) -> None:
    """Say that PARTICIPANT of GROUP has finished."""
    if positional and params is not None:
        raise click.UsageError(
            "--param and --params exclude each other: give single arguments, or all of them at once."
        )
    with _client(settings) as client:
        receipt = client.add_participant(
            participant_key=participant,
            group_key=group,
            number_of_participants_in_group=number,
            execute_after_waiting=callback,
            execute_after_waiting_params=positional if params is None else params,
            wait_time_in_seconds=_whole(wait_s),
            max_wait_in_seconds=_whole(max_wait_s),
            linger_in_seconds=_whole(linger_s),
            event_id=event_id,
        )
    _print_receipt(f"{participant} of {group} added", receipt, as_json)


@cli.command()
@click.argument("group")
@click.option("--reason", help="For the record, up to 1024 bytes.")
@_as_json
@_settings_from(*_DEPLOYMENT)
def remove(settings: Settings, group: str, reason: str | None, as_json: bool) -> None:
    """End the wait of GROUP without a fire."""
    with _client(settings) as client:
        receipt = client.remove_wait(group, reason=reason)
    _print_receipt(f"wait of {group} removed", receipt, as_json)


def _client(settings: Settings) -> WaitForMe:
    from wait_for_me import WaitForMe

    return WaitForMe(settings.bootstrap_servers, prefix=settings.prefix, kafka=dict(settings.kafka))


def _whole(seconds: float | None) -> float | int | None:
    """Keep whole seconds whole, so that the record says 60 and not 60.0."""
    return int(seconds) if seconds is not None and seconds.is_integer() else seconds


def _print_receipt(what: str, receipt: Receipt, as_json: bool) -> None:
    if as_json:
        _print_json({name: getattr(receipt, name) for name in ("topic", "partition", "offset", "event_id")})
    else:
        click.echo(
            f"{what}: {receipt.topic} partition {receipt.partition} offset {receipt.offset}, event {receipt.event_id}"
        )


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


_FAUST_LEVELS = {"warning": "warn"}  # every other level has the same name there


# --- processes -------------------------------------------------------------------------------------------------------


@cli.command()
@_settings_from("worker_id", "data_dir", *_PROCESS, "standby_replicas", *_WEB)
def worker(settings: Settings) -> None:
    """Run a worker until it is stopped. The same as `faust -A wait_for_me_app.worker worker`, with flags."""
    from wait_for_me_app import data_directory

    data_directory.claim(settings.data_directory)
    loop = ["-L", "uvloop"] if importlib.util.find_spec("uvloop") else []
    arguments = [
        *loop,
        "-A",
        "wait_for_me_app.worker",
        "worker",
        "-l",
        _FAUST_LEVELS.get(settings.log_level, settings.log_level),
        "--without-web",
    ]
    _become([sys.executable, "-P", "-m", "faust", *arguments], _environment_of(settings))


def _environment_of(settings: Settings) -> dict[str, str]:
    """Return this environment with these settings in it: what was read from flags or files must not be given twice."""
    read_by_others = ("WAIT_FOR_ME_KAFKA_", "WAIT_FOR_ME_TEST_")
    kept = {n: v for n, v in os.environ.items() if not n.startswith("WAIT_FOR_ME_") or n.startswith(read_by_others)}
    # Of the Kafka properties, some are settings of ours as well, and a flag may have overruled them.
    for name in ("BOOTSTRAP_SERVERS", "METADATA_BROKER_LIST", "SESSION_TIMEOUT_MS"):
        kept.pop(f"WAIT_FOR_ME_KAFKA_{name}", None)
    return {**kept, **settings.environment()}


def _become(command: list[str], environment: dict[str, str]) -> None:
    """Go on as another command in this process, so that signals, exit code and process id are that command's own.

    Faust reads its command line and chooses the event loop while it is imported, so it cannot be run as a part of ours. It
    greets on stdout, which is for data; so its stdout is our stderr.
    """
    sys.stdout.flush()
    os.dup2(2, 1)
    os.execve(command[0], command, environment)  # noqa: S606 - no shell wanted


@cli.command()
@_settings_from(*_PROCESS, "callbacks", "webhooks", *_EXECUTOR)
def executor(settings: Settings) -> int:
    """Run registered callbacks for what fires, until stopped."""
    from wait_for_me_app.executor import process
    from wait_for_me_app.logging_setup import configure_logging

    configure_logging(settings)
    if settings.webhooks is not None:
        from wait_for_me_app.callbacks import DEFAULT_REGISTRY
        from wait_for_me_app.webhooks import register_webhooks

        register_webhooks(DEFAULT_REGISTRY, settings.webhooks, os.environ)
    sys.path.append(
        os.getcwd()
    )  # last, so that nothing here hides an installed module; where operators look for theirs
    return process.run(settings)


@cli.command()
@click.option("--keep", is_flag=True, help="Hold it open afterwards, with its page, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where the page is served; 6066 or the next free one.")
@_as_json
def demo(as_json: bool, keep: bool, port: int | None) -> int:
    """Show it all at work in a minute, with a broker inside this process; needs no Kafka."""
    from wait_for_me_app import demo as show

    return show.run(json=as_json, keep=keep, port=port)


cli.add_command(make_dlq(_settings_from(*_DEPLOYMENT, "log_level", "log_format")))
cli.add_command(make_audit(_settings_from(*_DEPLOYMENT)))


# --- topics ----------------------------------------------------------------------------------------------------------


@cli.group()
def topics() -> None:
    """Plan, create and check the topics of a deployment."""


@topics.command("plan")
@_as_json
@_settings_from(*_CLUSTER)
def topics_plan(settings: Settings, as_json: bool) -> int:
    """Say what `create` would make, and what is wrong with the topics that exist. Changes nothing."""
    from wait_for_me_app import topics as parts

    plan = parts.plan(settings, parts.read(settings, parts.admin_client(settings)))
    if as_json:
        _print_json({"create": [_topic_members(topic) for topic in plan.create], "problems": _members(plan.problems)})
    else:
        for topic in plan.create:
            click.echo(f"create {_topic_line(topic)}")
        if not plan.create:
            click.echo("nothing to create")
        _print_problems(plan.problems)
    return _verdict(plan.problems)


@topics.command("create")
@_as_json
@_settings_from(*_CLUSTER)
def topics_create(settings: Settings, as_json: bool) -> int:
    """Create the topics that are missing. Changes nothing that exists."""
    from wait_for_me_app import topics as parts

    admin = parts.admin_client(settings)
    plan = parts.plan(settings, parts.read(settings, admin))
    created = parts.apply(settings, plan, admin)
    if as_json:
        _print_json({"created": list(created), "problems": _members(plan.problems)})
    else:
        for topic in plan.create:
            click.echo(f"created {_topic_line(topic)}")
        click.echo(f"{len(created)} created. The partition count of a deployment cannot change later.", err=True)
        _print_problems(plan.problems)
    return _verdict(plan.problems)


@topics.command("check")
@_as_json
@_settings_from(*_CLUSTER)
def topics_check(settings: Settings, as_json: bool) -> int:
    """Say whether a worker would accept this cluster: exit code 0 if it would, 78 if not."""
    from wait_for_me_app import topics as parts

    problems = parts.check(settings)
    if as_json:
        _print_json({"problems": _members(problems)})
    elif problems:
        _print_problems(problems)
    else:
        click.echo(f"the topics of {settings.prefix} are as they must be")
    return _verdict(problems)


def _topic_line(topic: WantedTopic) -> str:
    config = " ".join(f"{name}={value}" for name, value in sorted(topic.config.items()))
    return f"{topic.name} partitions={topic.partitions} replicas={topic.replication_factor} {config}"


def _topic_members(topic: WantedTopic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "config": dict(topic.config),
    }


def _members(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        click.echo(f"{click.style(problem.code, fg='red')} {problem.message}\n  {problem.remedy}")


def _verdict(problems: Sequence[Problem]) -> int:
    return int(ExitCode.BAD_CONFIGURATION if problems else ExitCode.OK)


# --- looking at what waits -------------------------------------------------------------------------------------------

register(cli, _settings_from)
_FLAG_VARIABLES = flag_variables.give_variables(cli)
