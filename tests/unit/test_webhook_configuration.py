"""The file of webhooks: everything that cannot work, or is not safe, is refused at start with what to do."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import cli, logging_setup
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.webhooks import register_webhooks
from wait_for_me_app.webhooks.configuration import read_endpoints

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(24)).decode()
URL = "https://hooks.example.com/deploys?token=s3cret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "webhooks.toml"


def write(file: Path, *lines: str, url: str = URL, before: str = "") -> Path:
    """Write a file with one webhook."""
    secrets = [] if any("secret" in line for line in lines) else ['secret_env = ["HOOK"]']
    text = "\n".join([before, '[webhooks."deploy.finished"]', f'url = "{url}"', *secrets, *lines])
    file.write_text(text, encoding="utf-8")
    return file


def test_a_webhook_is_named_has_a_url_and_secrets_and_sensible_limits(file: Path) -> None:
    """The newest secret first, from files and variables."""
    new = file.with_name("new")
    new.write_text(f"{SECRET}\n")
    (endpoint,) = read_endpoints(write(file, f'secret_files = ["{new}"]', 'secret_env = ["OLD"]'), {"OLD": OLD})
    assert (endpoint.name, endpoint.url, endpoint.host) == ("deploy.finished", URL, "hooks.example.com")
    assert endpoint.secrets == (SECRET, OLD)
    assert (endpoint.timeout_s, endpoint.allow_private) == (20, False)


def test_an_endpoint_in_a_log_shows_neither_secret_nor_url(file: Path) -> None:
    """A URL can hold a token."""
    shown = repr(read_endpoints(write(file), {"HOOK": SECRET}))
    assert SECRET not in shown
    assert "s3cret" not in shown


def test_the_secret_may_come_without_its_prefix(file: Path) -> None:
    """As some tools print it."""
    bare = SECRET.removeprefix("whsec_").rstrip("=")
    assert read_endpoints(write(file), {"HOOK": bare})[0].secrets == (bare,)


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "has 23 bytes, and fewer than 24 can be guessed"),
        ("whsec_", "has 0 bytes"),
        ("not base64!", "is not base64"),
        ("whsec_ü", "is not base64"),
    ],
)
def test_a_secret_that_is_too_short_or_none_is_refused_and_not_shown(file: Path, secret: str, said: str) -> None:
    """At start, with the command that makes a good one."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_endpoints(write(file), {"HOOK": secret})
    assert str(caught.value).endswith("echo whsec_$(openssl rand -base64 32)")
    assert len(secret) < 8 or secret not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("secret_env = []",), "has no secret: set secret_files or secret_env"),
        (('secret_env = ["MISSING"]',), "the variable MISSING is not set"),
        (('secret_files = ["/no/such/file"]',), "the file of a secret cannot be read"),
        ((f'secret = "{SECRET}"',), "a secret itself is never written here"),
        (("timeout_in_second = 3",), "unknown field `timeout_in_second`"),
        (('timeout_in_seconds = "3"',), "Expected `float`, got `str`"),
        (("timeout_in_seconds = 0",), "Give more than 0 and at most 300"),
        (("timeout_in_seconds = 301",), "Give more than 0 and at most 300"),
        (("timeout_in_seconds = nan",), "Give more than 0 and at most 300"),
        (('ca_file = "/no/such/file"',), "ca_file cannot be used"),
        (("attempts = 0",), "attempts is 0"),
    ],
)
def test_what_is_missing_misspelt_or_out_of_range_is_refused(file: Path, lines: tuple[str, ...], said: str) -> None:
    """Each with its own message; a secret in the file is not repeated."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        register_webhooks(Registry(), write(file, *lines), {"HOOK": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example.com/", "does not begin with https://"),
        ("ftp://hooks.example.com/", "does not begin with https://"),
        ("file:///etc/passwd", "does not begin with https://"),
        ("hooks.example.com", "does not begin with https://"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://user@hooks.example.com/", "a user"),
        ("https://:secret@hooks.example.com/", "a password"),
        ("https://hooks.example.com/#part", "a fragment"),
        ("https://hooks.example.com:8443/", "port 8443 is not among allowed_ports"),
        ("https://hooks.example.com:99999/", "the url is none"),
        ("https://127.0.0.1/", "127.0.0.1 is not a public address"),
        ("https://127.1/", "127.1 is not a public address"),
        ("https://2130706433/", "2130706433 is not a public address"),
        ("https://0x7f000001/", "0x7f000001 is not a public address"),
        ("https://169.254.169.254/latest/meta-data/", "169.254.169.254 is not a public address"),
        ("https://[::1]/", "::1 is not a public address"),
        ("https://[::ffff:127.0.0.1]/", "is not a public address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "is not a public address"),
    ],
)
def test_urls_that_are_unsafe_or_none_are_refused(file: Path, url: str, said: str) -> None:
    """Before the executor starts; what only its name hides is refused at the delivery."""
    with pytest.raises(ConfigurationError, match=said):
        read_endpoints(write(file, url=url), {"HOOK": SECRET})


def test_development_may_lift_what_protects_production_by_name(file: Path) -> None:
    """Each protection has a switch of its own."""
    lines = ("allow_private = true", "allow_insecure = true")
    written = write(file, *lines, url="http://127.0.0.1:8080/", before="allowed_ports = [8080]")
    assert read_endpoints(written, {"HOOK": SECRET})[0].allow_private


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("webhooks = [", "is not TOML"),
        ("", "missing required field `webhooks`"),
        ("[webhooks]", "names no webhook"),
        ("[webhooks.a]", "missing required field `url`"),
        ("webhooks = 3", "Expected `object`"),
        ("allow_private = true\n[webhooks]", "unknown field `allow_private`"),
    ],
)
def test_a_file_that_says_nothing_usable_is_refused(file: Path, text: str, said: str) -> None:
    """With where the mistake is."""
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_endpoints(file, {})


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    """By name."""
    with pytest.raises(ConfigurationError, match=r"webhooks\.toml cannot be read"):
        read_endpoints(file, {})


def test_webhooks_are_callbacks_of_their_names(file: Path) -> None:
    """Async, with the limits of the file; a name that a module has taken already is refused."""
    registry = Registry()
    bounds = ("concurrency = 4", "per_second = 2.5", "in_order = true")
    written = write(file, "timeout_in_seconds = 7", "attempts = 3", *bounds)
    assert register_webhooks(registry, written, {"HOOK": SECRET}) == 1
    callback = registry.find("deploy.finished")
    assert callback is not None
    assert (callback.is_async, callback.time_limit_ms, callback.policy.attempts) == (True, 12_000, 3)
    assert (callback.concurrency, callback.per_second, callback.in_order) == (4, 2.5, True)
    with pytest.raises(ConfigurationError, match=r"two callbacks are named 'deploy\.finished'"):
        register_webhooks(registry, written, {"HOOK": SECRET})


def test_a_name_that_no_add_could_say_is_refused(file: Path) -> None:
    """It would never be called."""
    file.write_text(f'[webhooks."a b"]\nurl = "{URL}"\nsecret_env = ["HOOK"]')
    with pytest.raises(ConfigurationError, match="cannot be registered"):
        register_webhooks(Registry(), file, {"HOOK": SECRET})


def test_the_executor_does_not_start_with_webhooks_that_cannot_work(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 78 and one line, from the flag and from the variable; Kafka is not even asked."""
    monkeypatch.setattr(logging_setup, "configure_logging", lambda _settings: None)
    monkeypatch.setenv("HOOK", "whsec_c2hvcnQ=")
    written = str(write(file))
    assert cli.main(("executor", "--webhooks", written, "-b", "127.0.0.1:1")) == ExitCode.BAD_CONFIGURATION
    assert "has 5 bytes, and fewer than 24 can be guessed" in capsys.readouterr().err
    monkeypatch.setenv("WAIT_FOR_ME_WEBHOOKS", written)
    assert cli.main(("executor", "-b", "127.0.0.1:1")) == ExitCode.BAD_CONFIGURATION


def test_without_the_extra_it_says_what_to_install(file: Path, tmp_path: Path) -> None:
    """When the executor starts."""
    (tmp_path / "standardwebhooks.py").write_text("raise ModuleNotFoundError('x', name='standardwebhooks')")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pathlib import Path\n"
        "from wait_for_me.errors import ConfigurationError\n"
        "from wait_for_me_app.callbacks import Registry\n"
        "from wait_for_me_app.webhooks import register_webhooks\n"
        "try: register_webhooks(Registry(), Path('none'), {})\n"
        "except ConfigurationError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith("Run: pip install 'kafka-wait-for-me[app,webhooks]'")
