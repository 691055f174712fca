"""The page in a real browser (Debian's Chromium): what is seen, what keys do, what a hostile name cannot do, and axe."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kafka_broker import free_port
from logs import Sender
from wait_for_me.partitioner import partition_for
from wait_for_me_app.demo.broker import EmbeddedBroker
from wait_for_me_app.web.stream import Stream
from web_world import PARTITIONS, WebWorld, served, web_settings

IS_REQUIRED = bool(os.environ.get("WAIT_FOR_ME_TEST_REQUIRE_BROWSER"))
"""CI says so; what is missing is then a failure and not a skip."""


def _imported(name: str) -> Any:
    if IS_REQUIRED:
        return importlib.import_module(name)
    return pytest.importorskip(name, reason="no browser tests: pip install 'kafka-wait-for-me[browser]'")


playwright = _imported("playwright.async_api")
axe = _imported("axe_playwright_python.async_playwright")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("WAIT_FOR_ME_TEST_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # a browser and a Kafka on two busy cores
    pytest.mark.skipif(
        not CHROMIUM and not IS_REQUIRED, reason="no browser tests: none of chromium, google-chrome is on the PATH"
    ),
    pytest.mark.filterwarnings("default"),
]
# Without these flags it calls home at every start, and as root it will not start at all.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # in a container it is too small
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
ANIMATIONS_MS = 150


def _is_fault(message: Any) -> bool:
    """Return whether the page has done something wrong; that a worker refuses something is told there too."""
    return message.type == "error" and not message.text.startswith("Failed to load resource")


class Browser:
    """A page, and everything that it should never have done."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda one: self.faults.append(one.text) if _is_fault(one) else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: self.asked.append(request.url))

    async def open(self, url: str, hash_: str = "#/waiting") -> None:
        """Open a view."""
        await self.page.goto(f"{url}/ui/{hash_}")
        await self.page.wait_for_selector("main section")

    async def text(self, selector: str) -> str:
        """Return what is read there."""
        found: str = await self.page.inner_text(selector)
        return found

    async def until(self, expression: str, argument: Any = None, *, within_s: float = 60) -> None:
        """Wait until an expression is true. Playwright's own waiting evaluates text in the page, which our policy forbids."""
        function = f"(argument) => {expression}"
        async with asyncio.timeout(within_s):
            while not await self.page.evaluate(function, argument):
                await self.page.wait_for_timeout(40)

    async def violations(self) -> list[str]:
        """Return what axe finds wrong."""
        await self.page.wait_for_timeout(ANIMATIONS_MS)
        found = await axe.Axe().run(self.page)
        return [f"{one['id']}: {[node['html'][:160] for node in one['nodes']]}" for one in found.response["violations"]]

    async def is_too_wide(self) -> bool:
        """Return whether one would have to scroll sideways."""
        return bool(await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    """A running browser."""
    assert CHROMIUM, f"WAIT_FOR_ME_TEST_REQUIRE_BROWSER is set, and none of {', '.join(BROWSERS)} is on the PATH"
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


async def new_page(chromium: Any, *, width: int = 1200, theme: str = "light") -> Browser:
    """Return a fresh page; nothing is remembered from another."""
    context = await chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    context.set_default_timeout(60_000)
    return Browser(await context.new_page())


def _broker() -> dict[str, Any]:
    """Return settings of an embedded broker; it ends when they are forgotten, which is at the end of the tests."""
    broker = EmbeddedBroker()
    _brokers.append(broker)
    return {"bootstrap_servers": broker.address, "demo_broker": True, "unsafe": False}


_brokers: list[EmbeddedBroker] = []


def _with_topics(world: WebWorld) -> WebWorld:
    names = world.settings.topics
    live = (names.commands, names.fires, names.outcomes)
    _brokers[-1].make_topics((*live, names.commands_dead_letters, names.fires_dead_letters))
    return world


async def populated(**more: Any) -> WebWorld:
    """Return a world with groups of every kind."""
    world = WebWorld(web_settings(**_broker(), **more))
    soon_ms = time.time_ns() // 1_000_000
    for number in range(4):
        await world.add("deploy-42", f"web-{number}", at_ms=soon_ms + number * 500, of=6)
    for number in range(40):
        await world.add("import", f"shard-{number:02}", at_ms=soon_ms + 3000, of=120)
    await world.add(HOSTILE, HOSTILE, at_ms=soon_ms + 4000, of=2)
    await world.add("x" * 256, "y" * 256, at_ms=soon_ms + 5000, of=2)
    return _with_topics(world)


async def test_groups_are_shown_with_who_came_and_who_is_missing(chromium: Any) -> None:
    """The nearest deadline first, with a countdown that moves; the page asks nobody but its worker."""
    async with served(await populated()) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".group")
        first = await one.text(".group:first-child")
        assert "deploy-42" in first
        assert "4 of 6" in first
        assert "web-0" in first
        assert "2 missing" in first
        before = await one.text(".group:first-child .clock b")
        await one.until("document.querySelector('.clock b').textContent !== argument", before)
        assert one.faults == []
        assert {re.sub(r"^(https?://[^/]+).*", r"\1", url) for url in one.asked} == {ask.url}


async def test_a_hostile_name_is_text_in_the_list_and_on_its_page(chromium: Any) -> None:
    """Markup in names is shown, not obeyed; the link to such a group works."""
    async with served(await populated()) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".group")
        assert HOSTILE in await one.text("#main")
        assert await one.page.locator("main img, main script").count() == 0
        await one.page.get_by_role("link", name=HOSTILE).click()
        await one.page.wait_for_selector(".head h1")
        assert await one.text(".head h1") == HOSTILE
        assert [fault for fault in one.faults if "dialog" in fault or "refused" in fault.lower()] == []


async def test_what_changes_appears_without_a_reload(chromium: Any) -> None:
    """An arrival fills a place; a group that fires leaves the list."""
    world = await populated()
    async with served(world) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".group")
        now_ms = time.time_ns() // 1_000_000
        await world.add("deploy-42", "web-4", at_ms=now_ms, of=6)
        await one.until("document.querySelector('main').innerText.includes('5 of 6')")
        await world.add("deploy-42", "web-5", at_ms=now_ms, of=6)
        await one.until("!document.querySelector('main').innerText.includes('deploy-42')")


async def test_everything_can_be_done_with_keys(chromium: Any) -> None:
    """Search, move, open, back, views, help, theme, pause, the form."""
    async with served(await populated()) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".group")
        press = one.page.keyboard.press
        await press("/")
        await one.page.keyboard.type("import")
        await one.until("document.querySelectorAll('.group').length === 1")
        assert "q=import" in one.page.url
        await press("Escape")
        await press("j")
        await press("Enter")
        await one.page.wait_for_selector(".head h1")
        assert await one.text(".head h1") == "import"
        await press("Escape")
        await one.page.wait_for_selector(".toolbar h1")
        for key, title in (("2", "Fired"), ("3", "Dead letters"), ("4", "Partitions"), ("1", "Waiting")):
            await press(key)
            await one.until("document.querySelector('.toolbar h1')?.textContent === argument", title)
        await press("?")
        assert "Keyboard" in await one.text("dialog")
        await press("Escape")
        await press("t")
        assert await one.page.get_attribute("html", "data-theme") == "light"
        await press("p")
        assert await one.text("#live-text") == "Paused"
        await press("p")
        await press("a")
        assert await one.page.evaluate("document.activeElement.name") == "participant_key"
        assert one.faults == []


async def test_what_is_broken_is_said(chromium: Any) -> None:
    """A silent worker, a lost connection, an add that Kafka did not take, a group that nobody knows."""
    world = WebWorld(web_settings(kafka={"message.timeout.ms": "200", "log_level": "0"}), (0, 1))
    async with served(world) as ask:
        world.owners = {world.web.url: (0, 1), f"http://127.0.0.1:{free_port()}/#w2": (2, 3)}
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".banner")
        assert "1 of 2 workers answered" in await one.text("#banners")
        assert "2, 3" in await one.text("#banners")
        await one.page.keyboard.press("a")
        await one.page.click("dialog [type=submit]")
        await one.until("document.querySelector('dialog .error').textContent.length > 20")
        await one.page.keyboard.press("Escape")
        await one.open(ask.url, "#/group/nobody")
        await one.until("/known|did not answer/.test(document.querySelector('main').innerText)")
        await world.web.stop()
        await one.until("document.querySelector('#banners').innerText.includes('No connection')")
        assert "workers answered" not in await one.text("#banners")


async def test_the_page_recovers_by_itself_when_workers_come_back(chromium: Any) -> None:
    """The worker that serves it ends and starts again; a silent one answers; nobody presses anything."""
    world = WebWorld(web_settings(), (0, 1))
    other = WebWorld(replace(world.settings, web_port=free_port(), worker_id="w2"), (2, 3))
    name = next(f"g-{n}" for n in range(99) if partition_for(f"g-{n}".encode(), PARTITIONS) in other.partitions)
    await other.add(name, "web-0", at_ms=time.time_ns() // 1_000_000, of=2)
    async with served(world) as ask:
        world.owners = {world.web.url: (0, 1), f"http://127.0.0.1:{other.settings.web_port}/#w2": (2, 3)}
        one = await new_page(chromium)
        await one.open(ask.url, f"#/group/{name}")
        await one.until("document.querySelector('main').innerText.includes('Asking again every few seconds')")
        assert "nobody listens there" in await one.text("#main")
        await other.web.start()
        try:
            await one.until("document.querySelector('main').innerText.includes('1 more participant')")
            await one.until("!document.querySelector('#banners').innerText.includes('workers answered')")
            assert await one.page.get_attribute("#live", "data-state") == "on"
            await world.web.stop()
            await one.until("document.querySelector('#live').dataset.state === 'off'")
            await world.web.start()
            await one.until("document.querySelector('#live').dataset.state === 'on'")
            assert "No connection" not in await one.text("#banners")
        finally:
            await other.web.stop()


async def test_a_worker_that_hangs_is_noticed_though_its_connection_stays_open(
    chromium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the beat of its heart nothing would ever fail, and the page would say Live for ever."""
    async with served(await populated()) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".group")
        hangs = asyncio.Event()

        async def hang(*_: Any) -> None:
            await hangs.wait()

        monkeypatch.setattr(Stream, "_send", hang)
        await one.until("document.querySelector('#live').dataset.state === 'off'")
        assert "What is shown is from" in await one.text("#banners")
        monkeypatch.undo()
        hangs.set()
        await one.until("document.querySelector('#live').dataset.state === 'on'")


async def test_an_empty_deployment_shows_what_to_do_first(chromium: Any) -> None:
    """A command to copy and a button; a read-only worker offers neither."""
    async with served(WebWorld(web_settings())) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".empty .copyable")
        assert "wait-for-me add" in await one.text(".empty")
        assert await one.violations() == []
    async with served(WebWorld(web_settings(web_read_only=True))) as ask:
        one = await new_page(chromium)
        await one.open(ask.url)
        await one.page.wait_for_selector(".empty")
        await one.until("document.querySelector('#prefix').textContent.includes('read only')")
        assert await one.page.locator("main button:visible").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
async def test_waiting_and_a_group_pass_axe_and_fit_the_screen(chromium: Any, theme: str, width: int) -> None:
    """Contrast, names, roles; no sideways scrolling, whatever the names."""
    async with served(await populated()) as ask:
        one = await new_page(chromium, width=width, theme=theme)
        await one.open(ask.url)
        await one.page.wait_for_selector(".group")
        assert await one.violations() == []
        assert not await one.is_too_wide()
        await one.page.click("#add")
        assert await one.violations() == []
        await one.page.keyboard.press("Escape")
        for name in ("deploy-42", "x" * 256):
            await one.open(ask.url, f"#/group/{name}")
            await one.page.wait_for_selector(".head h1")
            assert await one.violations() == []
            assert not await one.is_too_wide()


async def test_a_person_adds_removes_and_retries_on_a_real_worker(
    chromium: Any, deployment: Any, tmp_path: Path
) -> None:
    """From the empty page to a fire, a removed wait and a dead letter sent again, on a real Kafka."""
    del tmp_path
    worker = deployment.start_worker()
    worker.wait_for_output("worker_ready")
    url = re.search(r"web_ready url=(http://\S+)/ui/", worker.output())[1]  # type: ignore[index]
    sender = Sender(deployment)
    sender.send(b"{<b>not json", b"g")
    sender.flush()
    one = await new_page(chromium)
    page = one.page
    await one.open(url)
    for participant in ("web-1", "web-2", "web-3"):
        await page.keyboard.press("a")
        await page.fill("dialog [name=participant_key]", participant)
        await page.click("dialog [type=submit]")
        await page.wait_for_selector("dialog", state="detached")
    await one.until("document.querySelector('[data-count=complete]').textContent === '1'")
    await page.keyboard.press("2")
    await page.wait_for_selector("tbody tr")
    assert "3 of 3" in await one.text("tbody tr")
    assert await one.violations() == []
    await page.click("tbody tr a.key")
    await page.wait_for_selector(".feed li")
    assert "All 3 have arrived" in await one.text(".sentence")
    assert await one.violations() == []
    await page.keyboard.press("1")
    await page.keyboard.press("a")
    await page.fill("dialog [name=group_key]", "to-remove")
    await page.click("dialog [type=submit]")
    await page.wait_for_selector(".group")
    await page.click(".group .act")
    await page.click("dialog .danger")
    await page.wait_for_selector(".group", state="detached")
    await page.keyboard.press("3")
    await page.wait_for_selector(".letter")
    assert await one.violations() == []
    await page.click(".letter .act button")
    await one.until("document.querySelector('main').innerText.includes('sent again')")
    await page.keyboard.press("4")
    await page.wait_for_selector("tbody tr")
    assert await one.violations() == []
    assert one.faults == []
