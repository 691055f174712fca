"""Settings of the web: safe unless told otherwise, and refused where they would not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.demo.view import page_line
from wait_for_me_app.settings import Settings, is_loopback
from wait_for_me_app.web.access import check_asker, peer_signature
from wait_for_me_app.web.problems import Refusal
from wait_for_me_app.web.server import announced_url

TOKEN = "0123456789abcdef-token"


def read(**variables: str) -> Settings:
    """Read settings from these variables, without their common beginning."""
    return Settings.from_environment({f"WAIT_FOR_ME_{name}": value for name, value in variables.items()})


def test_the_web_is_on_loopback_unless_told_otherwise() -> None:
    """And acts, shows payloads, and has no token."""
    settings = read()
    assert (settings.web_host, settings.web_port, settings.web_token) == ("127.0.0.1", 6066, "")
    assert not (settings.web_read_only)
    assert not (settings.web_hide_payloads)


def test_beyond_this_machine_it_needs_a_token_or_to_be_off() -> None:
    """The worker refuses to start, with the remedy."""
    with pytest.raises(ConfigurationError, match="WAIT_FOR_ME_WEB_TOKEN"):
        read(WEB_HOST="0.0.0.0")
    assert read(WEB_HOST="0.0.0.0", WEB_TOKEN=TOKEN).web_token == TOKEN
    assert read(WEB_HOST="0.0.0.0", WEB_PORT="0").web_port == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WEB_TOKEN": "short"}, "too easy"),
        ({"WEB_TOKEN": "ümlaut-is-no-header-value"}, "ASCII"),
        ({"WEB_PORT": "70000"}, "WEB_PORT"),
        ({"WEB_URL": "ftp://x"}, "http://"),
        ({"SERVER": "localhost:6066"}, "http://"),
        ({"WEB_TOKEN_FILE": "/nowhere/token"}, "cannot be read"),
        ({"WEB_TOKEN": TOKEN, "WEB_TOKEN_FILE": "/x"}, "both set"),
        ({"OUTPUT": "xml"}, "jsonl"),
    ],
)
def test_what_cannot_be_right_is_refused_with_what_to_write(variables: dict[str, str], said: str) -> None:
    """Each says its name."""
    with pytest.raises(ConfigurationError, match=said):
        read(**variables)


def test_the_token_can_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    """As secrets are mounted."""
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    settings = read(WEB_TOKEN_FILE=str(tmp_path / "token"))
    assert settings.web_token == TOKEN
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_its_names(host: str, is_local: bool) -> None:
    """And by nothing that begins like one."""
    assert is_loopback(host) == is_local


def test_a_worker_announces_where_others_can_reach_it() -> None:
    """A wildcard address is nowhere; the machine's name is somewhere; what is set wins."""
    assert announced_url(read(), 6067) == "http://127.0.0.1:6067"
    assert announced_url(read(WEB_HOST="::1"), 6066) == "http://[::1]:6066"
    assert "0.0.0.0" not in announced_url(read(WEB_HOST="0.0.0.0", WEB_TOKEN=TOKEN), 6066)
    assert announced_url(read(WEB_URL="http://worker-1:80/"), 6066) == "http://worker-1:80"


def test_a_workers_signature_is_for_one_question_and_some_minutes() -> None:
    """It cannot be used for another address, later, or with another token."""
    settings = read(WEB_TOKEN=TOKEN)

    def ask(target: str, at: float, signed: str) -> None:
        check_asker(settings, {"X-Wait-For-Me-Peer": signed}, path="/api/v1/x", target=target, now_s=at)

    signed = peer_signature(TOKEN, "/api/v1/x?a=1", 1000.0)
    ask("/api/v1/x?a=1", 1100.0, signed)
    wrong = [
        ("/api/v1/x?a=2", 1000.0, signed),
        ("/api/v1/x?a=1", 2000.0, signed),
        ("/api/v1/x?a=1", 1000.0, peer_signature("another-token-entirely", "/api/v1/x?a=1", 1000.0)),
        ("/api/v1/x?a=1", 1000.0, "1000:"),
        ("/api/v1/x?a=1", 1000.0, "²:x"),
    ]
    for target, at, signature in wrong:
        with pytest.raises(Refusal):
            ask(target, at, signature)


def test_the_demos_last_line_says_where_the_page_is() -> None:
    """While it is held open, how to hold it open, or why there is none."""
    assert "http://x/ui/" in page_line("http://x/ui/", keep=True).plain
    assert "demo --keep" in page_line("http://x/ui/", keep=False).plain
    assert "--port" in page_line(None, keep=True).plain
