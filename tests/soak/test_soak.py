"""Thousands of questions through one robot while everything around it goes wrong.

SOAK_MESSAGES: how many questions for each kind of card, 10000 by default, which take about two minutes. SOAK_SEED:
another course of things.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway import (
    CREATE_CARD,
    SEND_CARD,
    STREAM_CARD,
    UPDATE_CARD,
    UPDATE_INSTANCE,
    WEBHOOK,
    Gateway,
)
from tests.fakes.records import AnyCard
from tests.scenarios.robot_process import RobotProcess

MESSAGES = int(os.environ.get("SOAK_MESSAGES", "10000"))
SEED = int(os.environ.get("SOAK_SEED", "20251"))
WARM = 0.2  # of the messages, before the memory is measured for the first time
PEOPLE = 500
ANSWER = "This is the answer to {question} It has a few words, so that it grows."
AT_A_TIME = 150  # questions without a last word
PER_PERSON = 3
# What the other 80 % of the messages may add: 10 000 timers that look after slow agents are kept for five minutes.
MEMORY_BYTES = 16 * 2**20
# What is called for a card: opening it first.
PATHS = {"standard": [SEND_CARD, UPDATE_CARD, UPDATE_CARD], "ai": [CREATE_CARD, STREAM_CARD, UPDATE_INSTANCE]}
SETTLE_SECONDS = 60.0  # a call that was lost is waited for 10 s, its last word sent once more 15 s later

pytestmark = pytest.mark.soak


class Crowd:
    """Asks, and keeps account of what came of each question. Its methods are the test's thread's."""

    def __init__(self, gateway: Gateway, rng: random.Random) -> None:
        self.gateway = gateway
        self.asked: dict[str, tuple[str, str]] = {}  # question -> message id, person
        self.open: dict[str, str] = {}  # the same without a last word -> person
        self._rng = rng
        self._said_before = 0
        self._ended: list[str] = []
        gateway.on_change = self._on_change

    def ask(self) -> None:
        rng, gateway = self._rng, self.gateway
        self.wait(AT_A_TIME - 1)
        waiting = Counter(self.open.values())
        person = next(
            name for name in iter(lambda: f"person-{rng.randrange(PEOPLE)}", "") if waiting[name] < PER_PERSON
        )
        number = int(person.partition("-")[2])
        question = f"Question {len(self.asked)}?"
        group = number % 10 < 6
        gateway.wait_connected(timeout=30)
        message_id = gateway.say(
            question,
            sender=person,
            group=group,
            staff=number % 20 != 7,  # those, one-to-one, can have no card
            conversation=f"group-{number % 25}" if group else None,
        )
        self.asked[question] = message_id, person
        self.open[question] = person

    def ask_again(self, question: str) -> None:
        """DingTalk delivers a message once more."""
        self.gateway.wait_connected(timeout=30)
        self.gateway.redeliver(self.asked[question][0])

    def wait(self, at_most: int, timeout: float = SETTLE_SECONDS) -> None:
        """Until at most so many questions are without a last word."""
        self.gateway.wait_for(
            lambda: self._look() <= at_most, timeout, f"no more than {at_most} of {sorted(self.open)[:20]}"
        )

    def _look(self) -> int:
        while self._ended:
            self.open.pop(self._ended.pop(), None)
        said = self.gateway.webhooks
        for message in said[self._said_before :]:
            self._said_before += 1
            self.open.pop(answered_in(message.text), None)
        return len(self.open)

    def _on_change(self, card: AnyCard) -> None:
        """On the gateway's thread."""
        if card.state == "final":
            self._ended.append(card.title)


def answered_in(text: str) -> str:
    """Which question a text answers."""
    found = re.search(r"Question \d+\?", text)
    return found.group() if found else ""


class Weather:
    """What goes wrong. Times are the test's own, so that a faster robot meets no more drops than a slower one."""

    def __init__(self, crowd: Crowd, rng: random.Random, paths: list[str]) -> None:
        self.seen: Counter[str] = Counter()
        self._paths = paths
        self._next_reset = 0.0
        self._crowd, self._gateway, self._rng = crowd, crowd.gateway, rng
        self._next_break = time.monotonic() + 2
        self._next_expiry = time.monotonic() + 1

    def blow(self) -> None:
        """To be called between two questions."""
        rng, gateway, now = self._rng, self._gateway, time.monotonic()
        if now >= self._next_break:
            self._next_break = now + rng.uniform(12, 16)  # after 10 s a connection counts as a good one
            self._lose_connection(rng.choice(["drop", "close", "disconnect"]))
        if now >= self._next_expiry:
            self._next_expiry = now + rng.uniform(2, 5)
            gateway.expire_tokens()
            self.seen["expired tokens"] += 1
        if rng.random() < 0.02:
            self._crowd.ask_again(rng.choice(list(self._crowd.asked)[-2000:]))
            self.seen["redeliveries"] += 1
        if rng.random() < 0.02:
            what = rng.choice(["throttled", "overloaded", "reset", "lost", "garbage", "hang", "late", "trickle"])
            path = rng.choice(self._paths)
            times = rng.randint(1, 5)
            self.seen[what] += times
            if what == "throttled":
                gateway.refuse(path, status=403, code="Forbidden.AccessDenied.QpsLimitForAppkeyAndApi", times=times)
            elif what == "overloaded":
                gateway.refuse(path, status=503, code="system.busy", times=times)
            elif what in ("hang", "late"):
                gateway.trouble(path, what, times, seconds=rng.choice([0.2, 1.0, 3.0, 12.0]))
            else:
                gateway.trouble(path, what, times, seconds=0.01)
        if rng.random() < 0.002 and now >= self._next_reset:
            # Without effect only: who has no card may get an answer twice when none is heard. And not twice in a row:
            # a message without an id is not sent a third time.
            self._next_reset = now + 5
            gateway.trouble(WEBHOOK, "reset")
            self.seen["webhook reset"] += 1

    def _lose_connection(self, how: str) -> None:
        gateway, crowd = self._gateway, self._crowd
        self.seen[how] += 1
        if how == "disconnect":
            gateway.system("disconnect")
            return
        gateway.drop_connections(1011 if how == "close" else None)
        for question in list(crowd.open):  # some of them were lost with the connection, and nobody knows which
            crowd.ask_again(question)
            self.seen["redeliveries"] += 1


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        gateway.disconnect_grace = 2.0
        yield gateway
    assert gateway.protocol_errors == []


def check_last_words(gateway: Gateway, crowd: Crowd, robot: RobotProcess) -> Counter[str]:
    """Every question has one answer, its own; returns how many came in which form."""
    forms: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    cards: Counter[str] = Counter()
    for card in gateway.cards.values():
        cards[card.title] += 1
        assert card.state == "final", f"{card.title} ended as {card.text!r}"
        assert card.text == ANSWER.replace("{question}", card.title)
        answers[card.title] += 1
        forms["cards"] += 1
    for message in gateway.said():
        question = answered_in(message.text)
        assert message.text.endswith(ANSWER.replace("{question}", question))
        answers[question] += 1
        forms["markdown"] += 1
    assert set(answers) == set(crowd.asked)
    assert {question: count for question, count in answers.items() if count > 1} == {}
    asked = Counter(call.text for call in robot.agent_calls)
    assert {question: count for question, count in asked.items() if count > 1} == {}
    assert set(asked) == set(crowd.asked)
    return forms


def mib(measured: dict[str, Any]) -> str:
    return f"{measured['rss'] / 2**20:.1f} MiB"


@pytest.mark.parametrize("card_type", PATHS)
def test_everybody_gets_one_answer_whatever_goes_wrong(gateway: Gateway, tmp_path: Path, card_type: str) -> None:
    print(f"\nSOAK_SEED={SEED} SOAK_MESSAGES={MESSAGES} {card_type} cards")
    rng = random.Random(SEED)
    crowd = Crowd(gateway, rng)
    with RobotProcess(
        gateway, tmp_path, config={"apiQps": 0, "cardType": card_type}, answer=ANSWER, delay=0.01
    ) as robot:
        robot.wait_ready()
        at_first = robot.measure()
        weather = Weather(crowd, rng, PATHS[card_type])
        began = time.monotonic()
        warm = at_first
        for number in range(MESSAGES):
            if number == int(MESSAGES * WARM):
                crowd.wait(0)
                warm = robot.measure()
            crowd.ask()
            weather.blow()
        crowd.wait(0)
        took = time.monotonic() - began
        gateway.calm()
        gateway.wait_for(
            lambda: all(card.state == "final" for card in gateway.cards.values()), SETTLE_SECONDS, "only final cards"
        )
        until = time.monotonic() + SETTLE_SECONDS
        while (at_last := robot.measure())["threads"] > at_first["threads"] and time.monotonic() < until:
            time.sleep(0.5)  # its pools let idle threads go after a while
        status = at_last["status"]
        took_to_stop = robot.stop(10)
        logs = Counter((line.level, re.sub(r"\d+|[0-9a-f-]{30,}", "#", line.message)[:110]) for line in robot.logs)

    figures = {
        "questions": f"{MESSAGES} of {PEOPLE} people in {took:.0f} s",
        "HTTP calls": f"{len(gateway.calls)}, {gateway.refused()} refused",
        "what went wrong": ", ".join(f"{name} {count}" for name, count in sorted(weather.seen.items())),
        "memory": f"{mib(at_first)} at first, {mib(warm)} after {WARM:.0%}, {mib(at_last)} at the end",
        "threads": f"{at_first['threads']} at first, {warm['threads']} after {WARM:.0%}, {at_last['threads']} at last",
        "first card, answer": f"{status['first_card_ms']}, {status['answer_ms']} (ms)",
        "status": {name: value for name, value in status.items() if not isinstance(value, dict)},
        "stop": f"{took_to_stop:.2f} s",
    }
    for name, value in figures.items():
        print(f"{name:>20}  {value}")
    for (level, message), count in logs.most_common(15):
        print(f"{count:>20}  {level}: {message}")
    print(f"{'last words':>20}  {dict(check_last_words(gateway, crowd, robot))}")
    assert at_last["threads"] <= at_first["threads"]
    assert at_last["rss"] - warm["rss"] < MEMORY_BYTES
    assert status["unsent"] == status["in_flight"] == status["queued"] == status["abandoned"] == 0


def test_at_the_default_pace_dingtalk_refuses_next_to_nothing(gateway: Gateway, tmp_path: Path) -> None:
    messages = max(20, MESSAGES // 25)
    gateway.throttle = 20
    crowd = Crowd(gateway, random.Random(SEED))
    began = time.monotonic()
    with RobotProcess(gateway, tmp_path, answer=ANSWER, delay=0.05) as robot:
        robot.wait_ready()
        for _ in range(messages):
            crowd.ask()
        crowd.wait(0)
        robot.wait_status(unsent=0)
    calls = [call for call in gateway.calls if call.path in (SEND_CARD, UPDATE_CARD)]
    refused = sum(call.refused for call in calls)
    print(f"\n{messages} questions in {time.monotonic() - began:.0f} s, {refused} of {len(calls)} calls were refused")
    print(check_last_words(gateway, crowd, robot))
    assert refused < 0.01 * len(calls)
