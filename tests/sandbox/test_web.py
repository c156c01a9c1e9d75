"""The sandbox as people see it: its page in a real browser, the process behind it as it is started by hand.

`pytest -m web`; `pytest -m web tests/sandbox --screenshots docs` makes the README's picture anew. Wants a Chromium,
and playwright (the extra `web`), whose own browsers are not used.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.sandbox.platforms import PROJECT

pytestmark = pytest.mark.web

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
# A root's Chromium wants no sandbox of its own; none of the others may call home.
OPTIONS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
OPTIONS += "--disable-component-update --disable-sync"
SECONDS = 15_000.0  # in milliseconds, for what takes the agent its time
FINAL = "[data-entry][data-state=final]"
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[dev,web]'")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"no browser: one of {', '.join(BROWSERS)} is to be installed"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=OPTIONS.split())
        yield browser
        browser.close()


class Sandbox:
    """The process; `url` is the page's."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-u", "-m", "tests.sandbox", "--no-browser", *options]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, encoding="utf-8")
        assert self.process.stdout is not None
        found = (re.search(r"http://\S+", line) for line in self.process.stdout)
        self.url = next(match[0] for match in found if match)

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)


@pytest.fixture
def begin() -> Iterator[Callable[..., Sandbox]]:
    begun: list[Sandbox] = []

    def begin(*options: str) -> Sandbox:
        begun.append(Sandbox(*options))
        return begun[-1]

    yield begin
    for sandbox in begun:
        sandbox.end()


@pytest.fixture
def demo(begin: Callable[..., Sandbox]) -> Sandbox:
    """As it starts by itself."""
    return begin()


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Open the page in a window of its own, which asks nobody else for anything and has nothing to complain about."""
    windows, complaints, addresses = [], [], set()

    def visit(sandbox: Sandbox, locale: str = "en-US", **options: Any) -> Any:
        options = {"viewport": {"width": 1440, "height": 900}, **options}
        window = browser.new_context(locale=locale, **options)
        windows.append(window)
        page = window.new_page()
        page.set_default_timeout(SECONDS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: addresses.add(urlsplit(request.url).netloc))
        page.goto(sandbox.url)
        page.wait_for_selector("#robot-state.good")
        return page

    yield visit
    for window in windows:
        window.close()
    assert not complaints
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def say(page: Any, text: str) -> None:
    """By keyboard, in the chat that is open, behind what the composer begins with."""
    page.locator("#composer").focus()
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def answer(page: Any, number: int = 1) -> Any:
    """The card of so manieth place that has its last word and its buttons."""
    card = page.locator(FINAL).nth(number - 1)
    card.locator("[data-button=regenerate], [data-button^=button_]").first.wait_for()
    return card


def switch(page: Any, name: str) -> None:
    page.click(f"[data-switch={name}]")


def test_ask_watch_the_card_grow_and_rate_it(demo: Sandbox, visit: Open, request: pytest.FixtureRequest) -> None:
    page = visit(demo)
    say(page, "What can be configured?")
    page.wait_for_selector("[data-entry][data-state=thinking], [data-entry][data-state=growing]")
    growing = page.locator("[data-entry][data-state=growing]")
    growing.locator("[data-button=stop]").wait_for()
    lengths = {len(growing.inner_text())}
    page.wait_for_function(
        "length => (document.querySelector('[data-entry][data-state=growing]')?.innerText.length ?? 1e9) > length",
        arg=max(lengths),
    )
    card = answer(page)
    assert len(card.inner_text()) > max(lengths)
    assert card.locator("h3").inner_text() == "What can be configured?"
    assert card.locator("table tr").count() > 3 and card.locator("[data-button]").count() == 6

    card.locator("[data-button=helpful]").click()
    card.get_by_text("Thank you for your feedback!").wait_for()
    assert card.locator("[data-button=helpful]").inner_text() == "✅ 😊 Helpful"
    card.locator("[data-button=not_helpful]").click()
    card.get_by_text("✅ 😅 Not Helpful").wait_for()
    assert card.locator("[data-button=helpful]").inner_text() == "😊 Helpful"
    if folder := request.config.getoption("--screenshots"):
        page.set_viewport_size({"width": 1440, "height": 1100})  # all of the conversation
        page.locator("#bench").hover()
        page.screenshot(path=Path(folder) / "sandbox.png")
    page.select_option("#speak-as", "Ben")  # who has not voted
    card.get_by_text("😅 Not Helpful", exact=True).wait_for()
    assert "✅" not in card.inner_text() and "Thank you" not in card.inner_text()

    page.click("[data-tab=timeline]")
    marks = page.locator("#timeline [data-mark]")
    assert [mark.get_attribute("data-mark") for mark in marks.all()] == [
        *("received", "acknowledged", "first", "update", "final")
    ]
    page.click("[data-tab=counters]")
    page.locator("#counters tr", has_text="answered").get_by_text("1", exact=True).wait_for()


def test_two_faults_and_the_way_back(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    switch(page, "drop")
    page.click("[data-tab=counters]")
    page.locator("#counters tr", has_text="reconnects").get_by_text("1", exact=True).wait_for()
    page.wait_for_selector("#robot-state.good")
    say(page, "How do I install it?")
    assert "Copy the folder" in answer(page).inner_text()

    switch(page, "agentError")
    page.wait_for_selector("[data-switch=agentError][aria-checked=true]")
    say(page, "How do I install it?")
    failed = page.locator("[data-entry][data-state=failed]").last
    failed.get_by_text("something went wrong").wait_for()
    switch(page, "agentError")
    page.wait_for_selector("[data-switch=agentError][aria-checked=false]")
    failed.locator("[data-button=regenerate]").click()
    assert "Copy the folder" in answer(page, 2).inner_text()


def test_refused_cards_come_as_messages_until_a_restart(begin: Callable[..., Sandbox], visit: Open) -> None:
    page = visit(begin())
    switch(page, "refuse")
    page.wait_for_selector("[data-switch=refuse][aria-checked=true]")
    say(page, "How do I install it?")
    page.locator("#entries .robots .bubble", has_text="Copy the folder").wait_for()
    assert page.locator("#entries .card").count() == 0
    switch(page, "refuse")
    switch(page, "restart")
    page.click("[data-tab=log]")
    page.locator("#log", has_text="Client stopped").wait_for()
    page.wait_for_selector("#robot-state.good")
    say(page, "How do I stop the sandbox?")
    assert "Ctrl-C" in answer(page).locator(".card").inner_text()


def test_in_chinese(demo: Sandbox, visit: Open) -> None:
    page = visit(demo, "zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("#send").inner_text() == "发送"
    page.select_option("#speak-as", "王芳")
    page.click("[data-chat=single]")
    say(page, "怎么安装？")
    card = answer(page)
    assert card.locator("[data-button=very_helpful]").inner_text() == "😄 非常有帮助"
    card.locator("[data-button=very_helpful]").click()
    card.get_by_text("感谢您的反馈！").wait_for()
    page.click("#language")
    page.locator("#send", has_text="Send").wait_for()
    page.reload()
    page.locator("#send", has_text="Send").wait_for()  # it is remembered, as is who one is
    page.wait_for_function("() => document.getElementById('speak-as').value === '王芳'")
    page.locator("[data-chat=single][aria-current=true]").wait_for()


def test_a_click_on_a_standard_card_says_why_nothing_comes_of_it(begin: Callable[..., Sandbox], visit: Open) -> None:
    page = visit(begin())
    page.select_option("[data-setting=cardType]", "standard")
    page.click("[data-tab=log]")
    page.locator("#log li", has_text="the long connection").nth(1).wait_for()
    say(page, "How do I install it?")
    card = answer(page)
    assert card.locator(".look").inner_text() == "Standard card"
    card.locator("[data-button]").first.click()
    card.get_by_text("DingTalk delivers no click on a standard card").wait_for()


def test_html_shows_as_text_and_what_markdown_can_do(
    begin: Callable[..., Sandbox], visit: Open, tmp_path: Path
) -> None:
    text = (
        "Say <b>bold</b> <img src=x onerror=alert(1)> <script>document.title='gone'</script>\n\n"
        "| a | b |\n| --- | ---: |\n| 1 | `<i>` |\n\n```python\nif a < b:\n    pass\n```\n\n1. one\n   - two\n\n"
        "![cat](https://cats.example/cat.png) [out](https://out.example) [bad](javascript:alert(2))\n"
    )
    (tmp_path / "web.md").write_text(f"# What about HTML?\n\n{text}", encoding="utf-8")
    page = visit(begin("--faq", str(tmp_path)))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.get_by_role("button", name="What about HTML?").click()  # an example
    card = answer(page)
    body = card.locator(".body")
    assert "Say <b>bold</b> <img src=x onerror=alert(1)> <script>" in body.inner_text()
    assert body.locator("script, img, b").count() == 0
    assert body.locator("table td").all_inner_texts() == ["1", "<i>"]
    assert body.locator("pre code").inner_text() == "if a < b:\n    pass\n"
    assert body.locator("ol li ul li").inner_text() == "two"
    assert [link.get_attribute("href") for link in body.locator("a").all()] == ["https://out.example"]
    assert "Sandbox" in page.title()


def test_frames_and_calls_can_be_opened(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    say(page, "How do I install it?")
    answer(page)
    page.fill("#filter", "accessToken")
    page.locator("[data-wire]", has_text="/v1.0/oauth2/accessToken").first.click()
    detail = page.locator("#wire pre").first
    detail.get_by_text('"accessToken"').wait_for()
    assert '"***"' in detail.inner_text() and "demo-secret" not in detail.inner_text()
    page.fill("#filter", "messages/get")
    page.locator("[data-wire]", has_text="messages/get").last.click()
    page.locator("#wire pre").last.get_by_text("How do I install it?").wait_for()
    page.fill("#filter", "no such thing")
    page.wait_for_function("() => document.querySelectorAll('[data-wire]').length === 0")


def test_by_keyboard_alone(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the skip link
    page.wait_for_function("() => document.activeElement.id === 'composer'")
    page.keyboard.press("Control+A")
    page.keyboard.type("@im")
    page.locator("#mentions [role=option]").first.wait_for()
    page.keyboard.press("Enter")
    assert page.locator("#composer").input_value() == "@imRobots "
    page.keyboard.type("What do the buttons do?")
    page.keyboard.press("Enter")
    card = answer(page)
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.dataset.button === 'very_helpful'"):
            break
    page.keyboard.press("Enter")
    card.get_by_text("✅ 😄 Very Helpful").wait_for()
    assert page.evaluate("document.activeElement.dataset.button") == "very_helpful", "it keeps the focus"


def test_the_page_stays_where_it_is(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    for number, question in enumerate(("What can be configured?", "How do I install it?"), 1):
        say(page, question)
        answer(page, number)
    page.locator("#skip-bench").focus()
    page.keyboard.press("Enter")
    assert page.locator("#head").bounding_box()["y"] == 0
    assert page.evaluate("() => document.documentElement.scrollHeight <= innerHeight")


def test_a_mention_that_the_cursor_has_left(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    page.locator("#composer").focus()
    page.keyboard.type("hello @b")
    page.locator("#mentions [role=option]", has_text="Ben").wait_for()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.locator("#mentions").wait_for(state="hidden")
    page.keyboard.press("Enter")
    page.locator("[data-entry]", has_text="hello @b").first.wait_for()


def test_a_message_that_mentions_nobody_is_not_heard(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    page.fill("#composer", "Just between us")
    page.click("#send")
    page.locator("[data-entry]", has_text="Just between us").get_by_text("hears only messages that mention").wait_for()


def test_voice_pictures_and_quotes(demo: Sandbox, visit: Open) -> None:
    page = visit(demo)
    page.click("[data-chat=single]")
    page.click("[data-kind=voice]")
    say(page, "How do I stop the sandbox?")
    assert "Ctrl-C" in answer(page).inner_text()
    page.locator("[data-entry]", has=page.locator(".of-voice")).locator(".quote-it").click()
    page.click("[data-kind=text]")
    assert "How do I stop" in page.locator("#quoted").inner_text()
    say(page, "What is that?")
    answer(page, 2)
    assert "How do I stop" in page.locator("[data-entry] blockquote").last.inner_text()
    page.click("[data-kind=picture]")
    page.click("#send")
    page.locator("#entries .robots .bubble", has_text="I can only read text").wait_for()


def test_the_echo_platform(begin: Callable[..., Sandbox], visit: Open) -> None:
    sandbox = begin("--element", "imRobots.echoDemo")
    page = visit(sandbox)
    say(page, "How do I install it?")
    assert "Copy the folder" in page.locator(FINAL).inner_text()
    assert page.locator("[data-switch]").count() == 5 and page.locator("[data-chat]").count() == 1


def test_a_sandbox_that_ends(begin: Callable[..., Sandbox], browser: Any) -> None:
    sandbox = begin()
    page = browser.new_page()
    page.goto(sandbox.url)
    page.wait_for_selector("#robot-state.good")
    sandbox.end()
    page.locator("#banner").get_by_text("The sandbox has ended").wait_for()
    page.close()


def test_a_phone(demo: Sandbox, visit: Open) -> None:
    page = visit(demo, viewport={"width": 390, "height": 844})
    say(page, "How do I install it?")
    answer(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    page.click("[data-pane=bench] >> visible=true")
    page.locator("[data-switch=drop]").wait_for()
