"""The journey of a message, as the person sees it: through a real robot and a stand-in host, agent and reply."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
import sqlite3
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imRobots.Meta import (
    Click,
    Deadline,
    IncomingMessage,
    Outcome,
    ReplyRefused,
    Robot,
    Store,
    TransportError,
    answer,
    limiter,
    one_thread,
    outbox,
)
from imRobots.Meta import delivery as meta_delivery
from imRobots.Meta import host as meta_host
from imRobots.Meta import questions as meta_questions
from imRobots.Meta.config import RobotConfig
from imRobots.Meta.store import Unfinished
from tests.fakes.agents import (
    ERROR_EVENT,
    SIDE_EVENTS,
    AgentCall,
    DocumentedAgent,
    HiddenAgent,
    JitList,
    ReferenceAgent,
)
from tests.fakes.host import CorpMember

from .helpers import WAIT, RecordingReply, eventually, message, no_thread_starts, pass_through, the_element
from .stage import AGENT, CHINESE, ENGLISH, Stage, text_chunk, wait_for_calls


def at_work(robot: Robot) -> tuple[int, ...]:
    status = robot.status()
    return tuple(status[key] for key in ("in_flight", "queued", "unsent"))


# An answer


def test_a_question_gets_a_card_and_its_answer(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    done = stage.start(agent).submit(message(1, "How many days?", sender_id="ding:Ada"))
    assert done.result(WAIT) is True
    reply = stage.reply(1)
    assert reply.calls == [("open", "How many days?"), ("finish", "card", "30 days.", "answered")]
    (call,) = agent.calls
    assert (call.text, call.chatId) == ("How many days?", "ding:Ada")
    assert type(call.user) is CorpMember
    assert not stage.host.logged("error")
    assert not stage.host.logged("warning")


def test_the_card_is_there_before_the_agent_has_said_anything(stage: Stage) -> None:
    agent, gate = stage.stuck()
    done = stage.start(agent).submit(message(1))
    stage.reply(1).wait_until(lambda reply: reply.sent == [("open", "How many days off do I have?")])
    assert not done.done()
    gate.set()
    assert done.result(WAIT) is True


def test_an_answer_grows_while_the_agent_speaks(stage: Stage) -> None:
    words = [text_chunk(word) for word in ("One ", "two ", "three ", "four ")]
    whole = "One two three four five, all of them."
    agent = ReferenceAgent("five", chunks=1, events=words, gate=stage.gate(), result=whole)
    done = stage.start(agent).submit(message(1))
    stage.reply(1).wait_until_shown("One two three four five")
    stage.gates[0].set()
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == whole


def test_the_first_piece_is_shown_if_it_took_long(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.monotonic
    late = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock() + late)

    def think(call: AgentCall) -> None:
        nonlocal late
        late = 2.5

    agent = ReferenceAgent("One two three", before=think, gate=stage.gate())
    done = stage.start(agent).submit(message(1))
    stage.reply(1).wait_until_shown("One")
    stage.gates[0].set()
    assert done.result(WAIT) is True


def test_what_came_before_the_agent_fell_silent_is_shown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_GAPS", (0.1,) * 18)
    gate, burst = stage.gate(), [f"{number} " for number in range(200)]
    agent = ReferenceAgent("", events=[text_chunk(word) for word in burst], gate=gate, result="Done.")
    done = stage.start(agent).submit(message(1))
    stage.reply(1).wait_until_shown("".join(burst))
    gate.set()
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == "Done."
    assert len(stage.reply(1).tried("progress")) <= 3


def test_few_words_are_shown_without_waiting_for_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_FIRST_SECONDS", 0.04)
    done = stage.start(ReferenceAgent("Let me see", gate=stage.gate())).submit(message(1))
    stage.reply(1).wait_until_shown("Let")
    stage.gates[0].set()
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == "Let me see"


def test_an_answer_waits_for_no_update_that_is_due_later(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_FIRST_SECONDS", 3600.0)
    assert stage.start(ReferenceAgent("You have 30 days.")).submit(message(1)).result(WAIT) is True
    assert stage.reply(1).calls[1:] == [("finish", "card", "You have 30 days.", "answered")]


@pytest.mark.parametrize(
    "result",
    [
        *(None, "", " \n", {}, {"output": ""}, {"output": "\t"}, {"output": None}, SimpleNamespace(value=None)),
        *(JitList(), JitList([{"type": "human", "content": "?"}]), [{"type": "ai", "content": " "}]),
        [{"type": "human"}, {"type": "ai", "content": "old"}, {"type": "human"}, {"type": "ai", "content": ""}],
    ],
    ids=str,
)
def test_an_empty_result_falls_back_to_what_was_streamed(stage: Stage, result: Any) -> None:
    done = stage.start(DocumentedAgent("30 days.", result=result)).submit(message(1))
    assert done.result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", "30 days.", "answered")


def test_an_answer_need_not_be_streamed(stage: Stage) -> None:
    done = stage.start(DocumentedAgent("30 days.", chunks=0)).submit(message(1))
    assert done.result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", "30 days.", "answered")


def test_thoughts_and_tools_are_not_shown(stage: Stage) -> None:
    side = [*SIDE_EVENTS[:3], text_chunk("hm", "REASONING_CONTENT"), ERROR_EVENT] * 5
    done = stage.start(DocumentedAgent("30 days.", events=side, result=None)).submit(message(1))
    assert done.result(WAIT) is True
    assert stage.reply(1).calls[1:] == [("finish", "card", "30 days.", "answered")]


def test_an_unknown_chunk_type_is_shown_and_logged_once(stage: Stage) -> None:
    news = [text_chunk("Well, ", "NEW"), text_chunk("yes: ", "NEW"), text_chunk("so ", "NEWER")]
    robot = stage.start(ReferenceAgent("30 days.", events=news, result=""))
    for number in (1, 2, 3):
        assert robot.submit(message(number)).result(WAIT) is True
        assert stage.reply(number).shown == "Well, yes: so 30 days."
    first, second = stage.host.logged("warning")
    assert "type NEW " in first.message
    assert "type NEWER " in second.message
    assert "robots.hr" in first.message


@pytest.mark.parametrize(
    ("config", "above"),
    [
        ({}, ""),
        ({"showReasoning": True}, "> 💭 Let me think.\n\n"),
        ({"showTools": True}, f"> {ENGLISH.using_tool}\n\n"),
        ({"showReasoning": True, "showTools": True}, f"> 💭 Let me think.\n\n> {ENGLISH.using_tool}\n\n"),
    ],
    ids=["nothing", "reasoning", "tools", "both"],
)
def test_thoughts_and_tools_are_shown_while_it_grows_if_they_are_wanted(
    stage: Stage, config: dict[str, Any], above: str
) -> None:
    events = [*SIDE_EVENTS[:2], *map(text_chunk, ("One ", "two ", "three ", "four "))]
    agent = ReferenceAgent("five", chunks=1, events=events, gate=stage.gate(), result="One two three four five")
    done = stage.start(agent, **config).submit(message(1))
    stage.reply(1).wait_until(lambda reply: reply.shown.startswith(f"{above}One"))
    stage.gates[0].set()
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == "One two three four five"


class Asking(ReferenceAgent):
    """Says something, asks for somebody's consent, and ends its run in its own way."""

    def __init__(self, said: str, *, raises: bool) -> None:
        super().__init__(said)
        self._raises = raises

    def run(self, params: Any, chatId: Any = None, stream_callback: Any = None) -> Any:
        if self.answer:
            stream_callback(text_chunk(self.answer))
        stream_callback(text_chunk("May I?", "INTERRUPT"))
        if self._raises:
            raise RuntimeError("interrupted")


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("said", ["I would delete it.", ""])
def test_who_would_have_to_confirm_something_is_sent_to_the_app(stage: Stage, said: str, raises: bool) -> None:
    assert stage.start(Asking(said, raises=raises)).submit(message(1)).result(WAIT) is True
    expected = f"{said}\n\n{ENGLISH.needs_confirmation}".strip()
    assert stage.reply(1).sent[-1] == ("finish", "card", expected, "answered")
    assert not stage.host.logged("exception")


@pytest.mark.parametrize(
    ("config", "asked"), [({}, "> Before?\n>\n> Yes.\n\nAnd now?"), ({"quoteContext": False}, "And now?")]
)
def test_the_agent_is_told_what_a_message_answers_to_unless_that_is_switched_off(
    stage: Stage, config: dict[str, Any], asked: str
) -> None:
    agent = ReferenceAgent("30 days.")
    assert stage.start(agent, **config).submit(message(1, "And now?", quote="Before?\n\nYes.")).result(WAIT) is True
    assert [call.text for call in agent.calls] == [asked]
    assert stage.reply(1).calls[0] == ("open", "And now?")


def test_those_who_share_a_context_are_answered_one_after_the_other_in_it(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent, sessionScope="conversation")
    answers = [robot.submit(message(number, f"Question {number}?", sender_id=f"s{number}")) for number in range(5)]
    assert all(done.result(WAIT) for done in answers)
    assert [(call.text, call.chatId) for call in agent.calls] == [(f"Question {number}?", "c1") for number in range(5)]
    assert agent.max_running == 1


@pytest.mark.parametrize(
    ("config", "welcome"),
    [
        ({"allowUsers": ["s1", "s9"]}, [1, 2]),
        ({"allowConversations": ["c1", "c9"]}, [1, 3]),
        ({"allowUsers": ["s1"], "allowConversations": ["c1"]}, [1]),
    ],
)
def test_who_is_not_on_the_list_is_told_so_politely(stage: Stage, config: dict[str, Any], welcome: list[int]) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent, **config)
    people = {1: ("s1", "c1"), 2: ("s1", "c2"), 3: ("s2", "c1"), 4: ("s2", "c2")}
    for number, (person, conversation_id) in people.items():
        asked = message(number, sender_id=person, conversation_id=conversation_id)
        assert robot.submit(asked).result(WAIT) is True
    refused = {number for number in people if stage.reply(number).calls == [("say", ENGLISH.not_allowed)]}
    assert refused == set(people) - set(welcome)
    assert len(agent.calls) == len(welcome)


@pytest.mark.parametrize(("call", "form"), [("auto", "params"), ("documented", "user_input"), ("reference", "params")])
def test_a_hidden_signature_is_called_as_configured(stage: Stage, call: str, form: str) -> None:
    agent = HiddenAgent("30 days.")
    assert stage.start(agent, agentCall=call).submit(message(1)).result(WAIT) is True
    assert stage.reply(1).shown == "30 days."
    assert [call.form for call in agent.calls] == [form]


def test_where_no_card_can_be_opened_the_answer_comes_without(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.raises["open"] = [ReplyRefused("no such card template")]
    agent, gate = stage.stuck("30 days.", chunks=0)
    done = stage.start(agent).submit(message(1))
    reply.wait_for_call("open")
    gate.set()
    assert done.result(WAIT) is True
    assert reply.sent == [("finish", None, "30 days.", "answered")]


def test_an_answer_outlasts_a_platform_that_is_down_for_a_moment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(0.001))
    reply = stage.prepare(1)
    reply.raises = {method: [TransportError("down")] * 3 for method in ("open", "finish")}
    assert stage.start(ReferenceAgent("30 days.")).submit(message(1)).result(WAIT) is True
    assert reply.shown == "30 days."


def test_an_answer_that_cannot_be_sent_is_reported(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.raises["finish"] = [ReplyRefused("you are out")] * 9
    assert stage.start(ReferenceAgent("30 days.")).submit(message(1)).result(WAIT) is False
    assert stage.host.logged("error", "you are out")


@pytest.mark.parametrize(("method", "handle"), [("open", None), ("finish", None), ("progress", "card")])
def test_a_reply_that_quits_loses_no_answer(stage: Stage, method: str, handle: Any) -> None:
    reply = stage.prepare(1)
    reply.raises[method] = [SystemExit(1)]
    gate = stage.gate()
    agent = ReferenceAgent("You have 30 whole days.", chunks=1, events=[text_chunk("Well ")] * 5, gate=gate)
    done = stage.start(agent).submit(message(1))
    reply.wait_for_call("progress" if handle or method == "finish" else "open")
    gate.set()
    assert done.result(WAIT) is True
    assert reply.sent[-1] == ("finish", handle, "You have 30 whole days.", "answered")


def test_who_waits_for_an_answer_cannot_cancel_it(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    done = stage.start(agent).submit(message(1))
    assert not done.cancel()
    gate.set()
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == "30 days."


# The language


@pytest.mark.parametrize(
    ("question", "texts"),
    [("How many days?", ENGLISH), ("几天假？", CHINESE), ("What is 假?", CHINESE), ("😄?", ENGLISH)],
)
def test_sentences_are_in_the_language_of_the_question(stage: Stage, question: str, texts: Any) -> None:
    assert stage.start(ReferenceAgent("", error=OSError("gone"))).submit(message(1, question)).result(WAIT) is True
    assert stage.reply(1).shown == texts.failed


# What goes wrong with an agent


class Quitter(ReferenceAgent):
    def run(self, params: Any, chatId: Any = None, stream_callback: Any = None) -> Any:
        sys.exit("enough for today")


class Interrupted(ReferenceAgent):
    def run(self, params: Any, chatId: Any = None, stream_callback: Any = None) -> Any:
        raise KeyboardInterrupt


BROKEN = {
    "raises": ReferenceAgent("", error=OSError("disk s3cret gone")),
    "raises later": DocumentedAgent("", error=TypeError("s3cret in a tool")),
    "calls sys.exit()": Quitter(),
    "is interrupted": Interrupted(),
    "says nothing": ReferenceAgent(""),
    "says only white space": ReferenceAgent("", result=" \n"),
    "returns nothing": DocumentedAgent("", result=None),
    "reports an error": ReferenceAgent("", events=[ERROR_EVENT], result=None),
    "cannot be called": object(),
}


@pytest.mark.parametrize("agent", BROKEN.values(), ids=BROKEN)
def test_whatever_an_agent_does_the_person_gets_one_friendly_sentence(stage: Stage, agent: Any) -> None:
    done = stage.start(agent).submit(message(1))
    assert done.result(WAIT) is True
    assert stage.reply(1).calls[1:] == [("finish", "card", ENGLISH.failed, "failed")]
    (record,) = stage.host.logged("exception")
    for part in ("robots.hr", AGENT, "m1"):
        assert part in record.message
    assert "Traceback" in record.traceback


def test_an_agent_that_does_not_exist_is_named_in_the_log_only(stage: Stage) -> None:
    assert stage.start(agent="aiagents.nobody").submit(message(1)).result(WAIT) is True
    assert stage.reply(1).shown == ENGLISH.failed
    (record,) = stage.host.logged("exception")
    assert "there is no agent aiagents.nobody" in record.traceback


def test_what_was_said_before_it_failed_is_kept(stage: Stage) -> None:
    stage.start(ReferenceAgent("You have", error=OSError("gone"))).submit(message(1)).result(WAIT)
    assert stage.reply(1).sent[-1] == ("finish", "card", f"You have\n\n{ENGLISH.failed}", "failed")


def test_after_a_failure_the_robot_goes_on(stage: Stage) -> None:
    robot = stage.start(maxConcurrency=1)
    for number, agent in enumerate(BROKEN.values()):
        stage.host.add(AGENT, agent)
        assert robot.submit(message(number)).result(WAIT) is True
    stage.host.add(AGENT, ReferenceAgent("30 days."))
    assert robot.submit(message("last")).result(WAIT) is True
    assert stage.reply("last").shown == "30 days."


def test_where_the_context_cannot_be_entered_the_card_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ConnectionError("no context today")

    robot = stage.start(ReferenceAgent("30 days."))
    with monkeypatch.context() as patch:
        patch.setattr(stage.host, "_request", broken)
        assert robot.submit(message(1)).result(WAIT) is True
    assert stage.reply(1).shown == ENGLISH.failed
    assert robot.submit(message(2)).result(WAIT) is True
    assert stage.reply(2).shown == "30 days."


# What is not a question


@pytest.mark.parametrize("problem", ["unsupported", "empty", "quota"])
@pytest.mark.parametrize(("text", "texts"), [("", ENGLISH), ("假", CHINESE)])
def test_what_is_not_a_question_gets_a_sentence_and_no_agent(stage: Stage, problem: str, text: str, texts: Any) -> None:
    agent = ReferenceAgent()
    done = stage.start(agent).submit(message(1, text, problem=problem))
    assert done.result(WAIT) is True
    assert stage.reply(1).calls == [("say", getattr(texts, problem))]
    assert agent.calls == []


def test_an_exhausted_quota_is_said_once_a_day_in_each_conversation(stage: Stage) -> None:
    robot = stage.start()
    rooms = {1: "c1", 2: "c1", 3: "c2", 4: "c1"}
    for number, room in rooms.items():
        done = robot.submit(message(number, "", problem="quota", conversation_id=room))
        assert done.result(WAIT) is True
    assert [number for number in rooms if stage.reply(number).calls] == [1, 3]
    assert len(stage.host.logged("error", "quota")) == 4


def test_other_sentences_are_said_every_time(stage: Stage) -> None:
    robot = stage.start()
    for number in (1, 2):
        assert robot.submit(message(number, problem="unsupported")).result(WAIT) is True
        assert stage.reply(number).shown == ENGLISH.unsupported


def test_a_message_that_comes_twice_is_answered_once(stage: Stage) -> None:
    agent, gate = stage.stuck()
    robot = stage.start(agent)
    first, again = robot.submit(message(1)), robot.submit(message(1))
    assert again.result(WAIT) is True
    gate.set()
    assert first.result(WAIT) is True
    assert robot.submit(message(1)).result(WAIT) is True
    assert len(agent.calls) == 1
    assert [call[0] for call in stage.reply(1).calls] == ["open", "finish"]
    assert len(stage.host.logged("info", "m1")) == 2


def test_the_next_robot_knows_what_was_answered_already(stage: Stage) -> None:
    agent = ReferenceAgent()
    first = stage.start(agent)
    assert first.submit(message(1)).result(WAIT) is True
    first.close(Deadline(WAIT))
    assert stage.start(agent).submit(message(1)).result(WAIT) is True
    assert len(agent.calls) == 1


# Many at a time


def test_sessions_are_served_side_by_side(stage: Stage) -> None:
    together = threading.Barrier(5)
    robot = stage.start(ReferenceAgent("30 days.", before=lambda call: together.wait(WAIT)))
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(5)]
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in range(5)} == {"30 days."}
    assert not stage.host.logged("warning")


def test_nobody_is_told_it_is_busy_before_it_is_known_how_many_agents_may_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, try_it = stage.gate(), meta_host.JitApp.may_run_side_by_side

    def try_later(jit_app: meta_host.JitApp) -> bool:
        pass_through(gate)
        return try_it(jit_app)

    monkeypatch.setattr(meta_host.JitApp, "may_run_side_by_side", try_later)
    robot = stage.start(ReferenceAgent("30 days."), maxConcurrency=3, maxQueue=1)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(5)]
    assert answers[4].result(WAIT) is True
    assert stage.reply(4).calls == [("say", ENGLISH.busy)], "one too many in any case"
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in range(4)} == {"30 days."}


def test_no_more_agents_run_than_configured(stage: Stage) -> None:
    agent, gate = stage.stuck()
    robot = stage.start(agent, maxConcurrency=3)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(8)]
    eventually(lambda: at_work(robot) == (3, 5, 8))
    wait_for_calls(agent, 3)
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert agent.max_running == 3
    eventually(lambda: at_work(robot) == (0, 0, 0))


def test_one_session_is_answered_in_order(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    answers = [robot.submit(message(number, f"Question {number}?", sender_id="s1")) for number in range(5)]
    assert all(done.result(WAIT) for done in answers)
    assert [call.text for call in agent.calls] == [f"Question {number}?" for number in range(5)]
    assert agent.max_running == 1


def test_a_session_that_waits_holds_nobody_up(stage: Stage) -> None:
    gate = stage.gate()
    agent = ReferenceAgent("30 days.", before=lambda call: pass_through(gate) if call.chatId == "s1" else None)
    robot = stage.start(agent)
    slow = [robot.submit(message(number, sender_id="s1")) for number in (1, 2)]
    assert robot.submit(message(3, sender_id="s2")).result(WAIT) is True
    assert not any(done.done() for done in slow)


def test_a_host_that_shares_the_user_gets_one_agent_at_a_time_and_one_warning(shared_user_stage: Stage) -> None:
    agent = ReferenceAgent("30 days.", before=lambda call: threading.Event().wait(0.01))
    robot = shared_user_stage.start(agent, maxConcurrency=8)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(6)]
    assert all(done.result(WAIT) for done in answers)
    assert agent.max_running == 1
    assert all(call.user is call.user_at_end for call in agent.calls)
    assert len({id(call.user) for call in agent.calls}) == 6
    assert len(shared_user_stage.host.logged("warning", "one at a time")) == 1


def test_when_the_queue_is_full_a_person_is_told_it_is_busy(stage: Stage) -> None:
    agent, gate = stage.stuck()
    robot = stage.start(agent, maxConcurrency=1, maxQueue=2)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(4)]
    assert answers[3].result(WAIT) is True
    assert stage.reply(3).calls == [("say", ENGLISH.busy)]
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in range(3)} == {"It rains."}
    assert len(agent.calls) == 3


def test_who_asks_too_much_is_told_one_at_a_time(stage: Stage) -> None:
    agent, gate = stage.stuck()
    robot = stage.start(agent)
    answers = [robot.submit(message(number, "几天假？", sender_id="s1")) for number in range(7)]
    assert answers[6].result(WAIT) is True
    assert stage.reply(6).calls == [("say", CHINESE.one_at_a_time)]
    other = robot.submit(message(7, sender_id="s2"))
    gate.set()
    assert all(done.result(WAIT) for done in (*answers, other))
    assert len(agent.calls) == 7


def test_who_waits_longer_than_two_seconds_sees_the_place(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert meta_questions._PLACE_AFTER[0] == 2.0
    monkeypatch.setattr(meta_questions, "_PLACE_AFTER", (0.1,))
    agent, gate = stage.stuck()
    robot = stage.start(agent)
    answers = []
    asked = time.monotonic()
    for number, question in ((1, "Rain?"), (2, "Snow?"), (3, "下雪吗？")):
        answers.append(robot.submit(message(number, question, sender_id="s1")))
        stage.reply(number).wait_for_call("open")
    stage.reply(2).wait_until_shown("Your question is number 1 in the queue, please wait...")
    assert time.monotonic() - asked >= 0.1
    stage.reply(3).wait_until_shown("您的问题正在排队，当前第 2 位，请稍候...")
    assert [call[0] for call in stage.reply(1).calls] == ["open"], "it does not wait"
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in (1, 2, 3)} == {"It rains."}


def test_a_place_is_shown_again_when_there_is_news(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_questions, "_PLACE_AFTER", (0.02,) * 10)
    gates = {f"s{number}": stage.gate() for number in range(3)}
    agent = ReferenceAgent("It rains.", before=lambda call: pass_through(gates[call.chatId]))
    robot = stage.start(agent, maxConcurrency=1)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(3)]
    stage.reply(2).wait_until_shown(ENGLISH.place.format(place=2))
    gates["s0"].set()
    stage.reply(2).wait_until_shown(ENGLISH.place.format(place=1))
    for gate in gates.values():
        gate.set()
    assert all(done.result(WAIT) for done in answers)


def test_when_its_turn_comes_the_card_says_thinking_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_questions, "_PLACE_AFTER", (0.02,))
    gates = [stage.gate(), stage.gate()]
    waits = iter(gates)
    agent = ReferenceAgent("It rains.", before=lambda call: pass_through(next(waits)))
    robot = stage.start(agent)
    answers = [robot.submit(message(number, sender_id="s1")) for number in (1, 2)]
    stage.reply(2).wait_until_shown(ENGLISH.place.format(place=1))
    gates[0].set()
    stage.reply(2).wait_until_shown(ENGLISH.thinking)
    gates[1].set()
    assert all(done.result(WAIT) for done in answers)
    assert stage.reply(1).tried("progress") == []


class SlowPlace(str):
    """A sentence that takes its time to be made."""

    entered: threading.Event
    gate: threading.Event

    def format(self, *args: object, **kwargs: object) -> str:
        self.entered.set()
        pass_through(self.gate)
        return super().format(*args, **kwargs)


def test_a_question_whose_agent_has_started_shows_no_place_any_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta_questions, "_PLACE_AFTER", (0.02,))
    place = SlowPlace(ENGLISH.place)
    place.entered, place.gate = threading.Event(), stage.gate()
    reply = stage.prepare(2, texts=dataclasses.replace(ENGLISH, place=place))
    gates = [stage.gate(), stage.gate()]
    waits = iter(gates)
    agent = ReferenceAgent("It rains.", before=lambda call: pass_through(next(waits)))
    robot = stage.start(agent)
    answers = [robot.submit(message(number, sender_id="s1")) for number in (1, 2)]
    assert place.entered.wait(WAIT)
    gates[0].set()
    wait_for_calls(agent, 2)  # its card is told so while the sentence with its place is still being made
    place.gate.set()
    reply.wait_until_shown(ENGLISH.thinking)
    gates[1].set()
    assert answers[1].result(WAIT) is True
    shown = [call[-1] for call in reply.tried("progress")]
    assert shown == [ENGLISH.place.format(place=1), ENGLISH.thinking]


def test_nobody_who_was_told_that_the_agent_thinks_is_sent_back_to_the_queue(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta_questions, "_PLACE_AFTER", (0.001,) * 12)
    agent, gate = stage.stuck()
    robot = stage.start(agent, maxConcurrency=2)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(60)]
    stage.reply(59).wait_for_call("progress")
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    place = ENGLISH.place.split("{")[0]
    for number in range(60):
        shown = [call[-1] for call in stage.reply(number).tried("progress")]
        places = [index for index, text in enumerate(shown) if text.startswith(place)]
        assert places == list(range(len(places))), shown


def test_a_sentence_that_cannot_be_made_ends_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_questions, "_PLACE_AFTER", (0.02, 0.02))
    reply = stage.prepare(2, texts=dataclasses.replace(ENGLISH, place="Number {position} of {all}"))
    agent, gate = stage.stuck()
    robot = stage.start(agent)
    answers = [robot.submit(message(number, sender_id="s1")) for number in (1, 2, 3)]
    eventually(lambda: stage.host.logged("exception", "position"))
    stage.reply(3).wait_until_shown(ENGLISH.place.format(place=2))
    answers.append(robot.submit(message(4, sender_id="s2")))
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in (1, 2, 3, 4)} == {"It rains."}
    assert reply.shown == "It rains."


def test_where_no_thread_can_be_had_a_question_is_answered_with_the_next(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    with no_thread_starts("imRobots-agent"):
        first = robot.submit(message(1))
        eventually(lambda: stage.host.logged("error", "can't start new thread"))
        stage.reply(1).wait_for_call("open")
        assert robot.status()["queued"] == 1
    assert not first.done()
    second = robot.submit(message(2, sender_id="s2"))
    assert [first.result(WAIT), second.result(WAIT)] == [True, True]
    assert {stage.reply(number).shown for number in (1, 2)} == {"30 days."}


# Taking messages in


def test_taking_a_message_in_never_waits_for_anything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_thread, "_MAX_WAITING", 3)
    gate, taking = stage.gate(), threading.Event()
    make_reply = stage.reply_to

    def hesitate(message: IncomingMessage) -> RecordingReply:
        taking.set()
        pass_through(gate)
        return make_reply(message)

    monkeypatch.setattr(stage, "reply_to", hesitate)
    robot = stage.start(ReferenceAgent("30 days."))
    answers = [robot.submit(message(0, sender_id="s0"))]
    assert taking.wait(WAIT)
    answers += [robot.submit(message(number, sender_id=f"s{number}")) for number in range(1, 5)]
    assert [done.done() for done in answers] == [False, False, False, False, True]
    assert answers[4].result() is False
    (record,) = stage.host.logged("error", "one too many")
    for part in ("robots.hr", "m4", "not answered"):
        assert part in record.message
    gate.set()
    assert all(done.result(WAIT) for done in answers[:4])


def test_a_message_that_no_reply_can_be_made_for_is_logged_and_the_next_is_answered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_reply = stage.reply_to

    def fail_once(message: IncomingMessage) -> RecordingReply:
        if message.message_id == "m1":
            raise KeyError("senderId")
        return make_reply(message)

    monkeypatch.setattr(stage, "reply_to", fail_once)
    robot = stage.start(ReferenceAgent("30 days."))
    assert robot.submit(message(1)).result(WAIT) is False
    eventually(lambda: stage.host.logged("exception", "robots.hr"))
    assert "KeyError" in stage.host.logged("exception")[0].traceback
    assert robot.submit(message(2)).result(WAIT) is True
    assert stage.reply(2).shown == "30 days."
    expected = {"received": 2, "answered": 1, "failed": 1, "declined": 0, "duplicate": 0}
    eventually(lambda: {key: robot.status()[key] for key in expected} == expected)


def test_a_message_that_no_reply_could_be_made_for_may_come_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_reply = stage.reply_to
    troubles: list[Exception] = [KeyError("senderId"), OSError("gone")]

    def fail_at_first(message: IncomingMessage) -> RecordingReply:
        if troubles:
            raise troubles.pop()
        return make_reply(message)

    monkeypatch.setattr(stage, "reply_to", fail_at_first)
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    assert [robot.submit(message(1)).result(WAIT) for _ in range(4)] == [False, False, True, True]
    assert stage.reply(1).shown == "30 days."
    assert len(agent.calls) == 1


# Many at the same moment


class Pause:
    """Holds the robot's thread where it makes the reply to one message, so that what comes meanwhile comes at once."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, number: int | str) -> None:
        self._gate, self._entered = stage.gate(), threading.Event()
        make_reply = stage.reply_to

        def hesitate(asked: IncomingMessage) -> RecordingReply:
            if asked.message_id == f"m{number}":
                self._entered.set()
                pass_through(self._gate)
            return make_reply(asked)

        monkeypatch.setattr(stage, "reply_to", hesitate)

    def wait(self) -> None:
        assert self._entered.wait(WAIT)

    def end(self) -> None:
        self._gate.set()


class SlowToSpeak(RecordingReply):
    """Takes its time to find its language, when it is first asked for it."""

    entered: threading.Event
    gate: threading.Event

    @property
    def texts(self) -> Any:
        self.entered.set()
        pass_through(self.gate)
        return ENGLISH

    @texts.setter
    def texts(self, _: object) -> None:
        pass


def test_of_a_burst_everybodys_agent_is_asked_before_the_first_card_is_opened(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(stage, monkeypatch, "first")
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, maxConcurrency=9)
    begun: list[int] = []

    class Looking(RecordingReply):
        def open(self, question: str) -> Any:
            begun.append(sum(at_work(robot)[:2]))
            return super().open(question)

    last = stage.replies["m8"] = SlowToSpeak()
    last.entered, last.gate = threading.Event(), stage.gate()
    answers = [robot.submit(message("first", "/help"))]
    pause.wait()
    for number in range(9):
        stage.replies.setdefault(f"m{number}", Looking())
        answers.append(robot.submit(message(number, sender_id=f"s{number}")))
    pause.end()
    assert last.entered.wait(WAIT)
    wait_for_calls(agent, 8)
    threading.Event().wait(0.02)  # a card would come now
    assert begun == []
    last.gate.set()
    wait_for_calls(agent, 9)
    eventually(lambda: len(begun) == 8)
    assert set(begun) == {9}, "they run, or wait for the first to say that they may"
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in range(9)} == {"30 days."}


def test_a_burst_is_answered_like_one_after_the_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pause = Pause(stage, monkeypatch, "first")
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    answers = [robot.submit(message("first", "/help"))]
    pause.wait()
    asked = [("1", "Rain?"), ("2", "Snow?"), ("1", "Rain?"), ("3", "/help"), ("4", "Hail?"), ("5", "/stop")]
    answers += [robot.submit(message(number, text)) for number, text in asked]
    pause.end()
    assert all(done.result(WAIT) for done in answers)
    gate.set()
    assert stage.reply(3).calls == [("say", ENGLISH.help)]
    assert {stage.reply(number).shown for number in (1, 2, 4)} == {ENGLISH.stopped}, "what came before it"
    eventually(lambda: at_work(robot) == (0, 0, 0))
    expected = {"received": 7, "commands": 3, "duplicate": 1, "stopped": 3, "answered": 0, "failed": 0}
    eventually(lambda: {key: robot.status()[key] for key in expected} == expected)


def test_a_question_that_comes_at_once_with_new_is_asked_in_the_new_session(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = Pause(stage, monkeypatch, "first")
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    answers = [robot.submit(message("first", "/help"))]
    pause.wait()
    answers += [robot.submit(message(1, "/new")), robot.submit(message(2, "And now?"))]
    pause.end()
    assert all(done.result(WAIT) for done in answers)
    (call,) = agent.calls
    assert call.chatId != "s1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "robots.hr.sqlite3"


def test_an_answer_does_not_wait_for_the_file(stage: Stage, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.database._BUSY_SECONDS", 10 * WAIT)
    stage.store = Store(file)
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: stage.store.find_answer("card"))  # its card is there and remembered
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        gate.set()
        stage.reply(1).wait_until(lambda reply: reply.shown == "30 days.")
        assert done.result(WAIT) is True
        left = other.execute("SELECT answer FROM unfinished").fetchall()
        assert left == [(None,)], "nobody could write yet"
        other.execute("ROLLBACK")
    eventually(lambda: stage.store.last_answer("c1", "s1"))
    kept = stage.store.last_answer("c1", "s1")
    assert kept is not None and kept.answer == "30 days."
    assert not stage.host.logged("warning")


def rate_by_word(robot: Robot) -> None:
    assert robot.submit(message("rating", "/good")).result(WAIT) is True


def rate_by_button(robot: Robot) -> None:
    assert robot.click(Click("card", "s1", "rate", "helpful")).result(WAIT).rating == "helpful"


def ratings_of(stage: Stage) -> list[tuple[str, str, str]]:
    return [(one.message_id, one.rating, one.answer) for one in stage.store.feedback_since(0.0)]


@pytest.mark.parametrize("rate", [rate_by_word, rate_by_button])
def test_a_rating_finds_the_answer_that_is_just_out(stage: Stage, rate: Any) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    assert robot.submit(message(1)).result(WAIT) is True
    rate(robot)
    assert ratings_of(stage) == [("m1", "helpful", "30 days.")]


def test_a_rating_finds_the_answer_whose_card_is_shown_while_its_platform_hesitates(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.gates["finish"] = stage.gate()
    robot = stage.start(ReferenceAgent("30 days."))
    done = robot.submit(message(1))
    reply.wait_for_call("finish")
    rate_by_word(robot)
    assert stage.reply("rating").shown == ENGLISH.thanks
    assert ratings_of(stage) == [("m1", "helpful", "30 days.")]
    reply.gates["finish"].set()
    assert done.result(WAIT) is True


@pytest.mark.parametrize("how", ["word", "button"])
def test_a_rating_that_is_read_before_the_answer_is_kept_finds_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    pause = Pause(stage, monkeypatch, "slow")
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: stage.store.find_answer("card"))
    slow = robot.submit(message("slow", "/help"))
    pause.wait()
    if how == "word":
        rated: Any = robot.submit(message("rating", "/good"))
    else:
        rated = robot.click(Click("card", "s1", "rate", "helpful"))
    gate.set()
    assert done.result(WAIT) is True
    eventually(lambda: robot.status()["answered"] == 1)
    pause.end()
    assert slow.result(WAIT) is True
    assert rated.result(WAIT)
    assert ratings_of(stage) == [("m1", "helpful", "30 days.")]


# An agent that takes too long


def test_who_waits_too_long_is_told_and_others_get_the_agent(stage: Stage) -> None:
    gate = stage.gate()
    agent = ReferenceAgent("30 days.", before=lambda call: pass_through(gate) if call.chatId == "s1" else None)
    robot = stage.start(agent, maxConcurrency=2, agentTimeout=0.1)
    assert robot.submit(message(1, sender_id="s1")).result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", ENGLISH.timed_out, "failed")
    (record,) = stage.host.logged("error")
    for part in ("robots.hr", AGENT, "0.1 s", "agentTimeout", "m1"):
        assert part in record.message
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in (2, 3)]
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in (2, 3)} == {"30 days."}
    eventually(lambda: at_work(robot) == (0, 0, 0))
    assert robot.status()["abandoned"] == 1
    gate.set()
    eventually(lambda: stage.host.logged("warning", "late answer to m1 was dropped"))
    eventually(lambda: robot.status()["abandoned"] == 0)
    assert stage.reply(1).tried("finish") == [("finish", "card", ENGLISH.timed_out, "failed")]
    eventually(lambda: (robot.status()["answered"], robot.status()["failed"]) == (2, 1))


def test_what_was_said_before_it_took_too_long_is_kept(stage: Stage) -> None:
    agent = ReferenceAgent("Well, you see", gate=stage.gate())
    assert stage.start(agent, agentTimeout=0.1).submit(message(1, "几天假？")).result(WAIT) is True
    assert stage.reply(1).shown == f"Well,\n\n{CHINESE.timed_out}"


def test_an_agent_that_is_in_time_is_not_interrupted(stage: Stage) -> None:
    gate = stage.gate()
    agent = ReferenceAgent("30 days.", before=lambda call: pass_through(gate) if call.text == "Hang!" else None)
    robot = stage.start(agent, agentTimeout=0.05)
    assert robot.submit(message(1)).result(WAIT) is True
    assert robot.submit(message(2, "Hang!")).result(WAIT) is True
    assert stage.reply(2).shown == ENGLISH.timed_out, "so the first one's time is over too"
    assert stage.reply(1).calls[1:] == [("finish", "card", "30 days.", "answered")]
    assert robot.status()["abandoned"] == 1
    assert len(stage.host.logged("error")) == 1


def test_time_begins_with_the_agent_and_not_with_the_question(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.", before=lambda call: threading.Event().wait(0.045))
    robot = stage.start(agent, agentTimeout=0.2)
    answers = [robot.submit(message(number, sender_id="s1")) for number in range(5)]
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in range(5)} == {"30 days."}


def test_a_session_waits_for_the_agent_that_took_too_long_but_not_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta_questions, "_RELEASE_SECONDS", 0.15)
    gate = stage.gate()
    agent = ReferenceAgent("30 days.", before=lambda call: pass_through(gate) if call.text == "Hang!" else None)
    robot = stage.start(agent, maxConcurrency=4, agentTimeout=0.05)
    answers = [robot.submit(message(1, "Hang!")), robot.submit(message(2))]
    assert answers[0].result(WAIT) is True
    told = time.monotonic()
    assert robot.status()["queued"] == 1
    assert answers[1].result(WAIT) is True
    assert time.monotonic() - told >= 0.1
    assert stage.reply(2).shown == "30 days."
    assert robot.status()["abandoned"] == 1, "it still runs"


def test_a_session_goes_on_as_soon_as_the_agent_ends_after_all(stage: Stage) -> None:
    gate = stage.gate()
    agent = ReferenceAgent("30 days.", before=lambda call: pass_through(gate) if call.text == "Hang!" else None)
    robot = stage.start(agent, maxConcurrency=4, agentTimeout=0.05)
    answers = [robot.submit(message(1, "Hang!")), robot.submit(message(2))]
    assert answers[0].result(WAIT) is True
    assert len(agent.calls) == 1
    gate.set()
    assert answers[1].result(WAIT) is True
    assert stage.reply(2).shown == "30 days."


def test_where_every_agent_hangs_people_are_told_until_one_ends(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, maxConcurrency=2, agentTimeout=0.4)
    answers = [robot.submit(message(number, sender_id="s1")) for number in (1, 2)]
    answers.append(robot.submit(message(3, sender_id="s3")))
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in (1, 3)} == {ENGLISH.timed_out}
    assert stage.reply(2).sent[-1] == ("finish", "card", ENGLISH.busy, "interrupted")
    eventually(lambda: stage.host.logged("error", "2 runs of"))
    (record,) = stage.host.logged("error", "2 runs of")
    for part in ("robots.hr", AGENT, "turned away", "restart the app"):
        assert part in record.message
    assert robot.submit(message(4, "几天假？", sender_id="s4")).result(WAIT) is True
    assert stage.reply(4).calls == [("say", CHINESE.busy)]
    assert len(agent.calls) == 2
    gate.set()
    eventually(lambda: robot.status()["abandoned"] == 0)
    assert robot.submit(message(5, sender_id="s5")).result(WAIT) is True
    assert stage.reply(5).shown == "30 days."


# What a process that was killed has left


def leave(stage: Stage, *left: Unfinished) -> None:
    """As another process's store left it, whose robot had filled in the session."""
    messages = [dataclasses.replace(one.message, session=one.message.sender_id) for one in left]
    taken = [[dataclasses.replace(one, message=asked) for one, asked in zip(left, messages, strict=True)]]
    stage.store.take_over = lambda: taken.pop() if taken else []  # type: ignore[method-assign]
    for asked in messages:
        assert stage.store.accept(asked)


@pytest.mark.parametrize("age", [0.0, 599.0])
def test_a_question_that_was_left_is_asked_again_into_its_card(stage: Stage, age: float) -> None:
    left = message(1, "How many days?", sender_id="ding:Ada")
    leave(stage, Unfinished(left, age, {"card": 7}, False))
    agent = ReferenceAgent("One two three four five", gate=stage.gate())
    robot = stage.start(agent)
    wait_for_calls(agent, 1)
    stage.gates[0].set()
    stage.reply(1).wait_for_call("finish")
    assert {call[0] for call in stage.reply(1).calls} <= {"progress", "finish"}
    assert stage.reply(1).sent[-1] == ("finish", {"card": 7}, "One two three four five", "answered")
    (call,) = agent.calls
    assert (call.text, call.chatId) == ("How many days?", "ding:Ada")
    eventually(lambda: robot.status()["answered"] == 1)
    (record,) = stage.host.logged("info", "m1")
    assert "asked again" in record.message
    assert "How many" not in record.message


def test_a_question_that_was_left_without_a_card_gets_one(stage: Stage) -> None:
    leave(stage, Unfinished(message(1, "How many days?"), 5.0, None, False))
    stage.start(ReferenceAgent("30 days."))
    stage.reply(1).wait_for_call("finish")
    assert stage.reply(1).calls == [("open", "How many days?"), ("finish", "card", "30 days.", "answered")]


@pytest.mark.parametrize("handle", [{"card": 7}, None])
@pytest.mark.parametrize(
    ("age", "spent", "within"),
    [(5.0, True, 600), (600.0, False, 600), (86_399.0, False, 600), (0.0, False, 0), (11.0, False, 10)],
)
def test_what_may_not_be_asked_again_ends_with_an_apology(
    stage: Stage, age: float, spent: bool, within: float, handle: Any
) -> None:
    leave(stage, Unfinished(message(1, "几天假？"), age, handle, spent))
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent, resumeWithin=within)
    stage.reply(1).wait_for_call("finish")
    eventually(lambda: robot.status()["unsent"] == 0)
    last_word = ("finish", handle or "card", CHINESE.interrupted, "interrupted")
    # Without a known card, it is sent again: it may be there, and the same one does not come twice.
    assert stage.reply(1).calls == ([last_word] if handle else [("open", "几天假？"), last_word])
    assert agent.calls == []
    assert stage.host.logged("info", "apology")
    assert robot.submit(message(1)).result(WAIT) is True, "it is known, and not asked again either"
    assert stage.reply(1).calls[-1] == last_word


def test_what_was_left_is_answered_in_order_and_before_what_is_new(stage: Stage) -> None:
    leave(stage, *(Unfinished(message(number, f"Question {number} ?"), 9.0, None, False) for number in (1, 2)))
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    assert robot.submit(message(3, "Question 3 ?")).result(WAIT) is True
    assert [call.text for call in agent.calls] == [f"Question {number} ?" for number in (1, 2, 3)]
    assert robot.status()["received"] == 1


@pytest.mark.parametrize(("age", "spent"), [(5.0, False), (700.0, False), (5.0, True)])
def test_what_was_left_and_is_no_question_gets_its_sentence(stage: Stage, age: float, spent: bool) -> None:
    leave(stage, Unfinished(message(1, problem="unsupported"), age, None, spent))
    stage.start(ReferenceAgent())
    stage.reply(1).wait_until_shown(ENGLISH.unsupported)
    assert stage.reply(1).calls == [("say", ENGLISH.unsupported)]


def test_one_left_message_that_no_reply_can_be_made_for_costs_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_reply = stage.reply_to

    def fail_once(message: IncomingMessage) -> RecordingReply:
        if message.message_id == "m1":
            raise KeyError("senderId")
        return make_reply(message)

    monkeypatch.setattr(stage, "reply_to", fail_once)
    leave(stage, *(Unfinished(message(number), 5.0, None, False) for number in (1, 2)))
    robot = stage.start(ReferenceAgent("30 days."))
    stage.reply(2).wait_until_shown("30 days.")
    assert robot.submit(message(3)).result(WAIT) is True
    assert len(stage.host.logged("exception", "robots.hr")) == 1


@pytest.mark.parametrize(("age", "last_word"), [(5.0, "30 days."), (700.0, ENGLISH.interrupted)])
def test_on_a_card_that_was_left_the_last_word_is_said_once_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, age: float, last_word: str
) -> None:
    monkeypatch.setattr(outbox, "_UNSURE_SECONDS", 0.05)
    leave(stage, Unfinished(message(1), age, "card", False))
    stage.start(ReferenceAgent("30 days.", chunks=0))
    stage.reply(1).wait_for_call("finish")
    told = time.monotonic()
    stage.reply(1).wait_for_call("finish", 2)  # what the killed process sent last may have landed in between
    assert time.monotonic() - told >= 0.03
    assert [call[:3] for call in stage.reply(1).calls] == [("finish", "card", last_word)] * 2


@pytest.mark.parametrize("handle", [{"card": 7}, None])
def test_whoever_was_left_and_finds_the_queue_full_is_told_so_on_the_card(stage: Stage, handle: Any) -> None:
    agent, gate = stage.stuck()
    leave(
        stage,
        Unfinished(message(1, sender_id="s1"), 9.0, "card", False),
        Unfinished(message(2, "Rain?", sender_id="s2"), 8.0, handle, False),
    )
    stage.start(agent, maxConcurrency=1, maxQueue=0)
    stage.reply(2).wait_for_call("finish")
    last_word = ("finish", handle or "card", ENGLISH.busy, "interrupted")
    assert stage.reply(2).calls == ([last_word] if handle else [("open", "Rain?"), last_word])
    gate.set()
    stage.reply(1).wait_until_shown("It rains.")


def test_a_question_is_asked_again_only_once(stage: Stage, kept: Path) -> None:
    assert stage.store.accept(message(1, session="s1"))
    stage.store.bind("m1", "card")
    stage.store.leave("m1")
    agent, gate = stage.stuck("30 days.")
    stage.start(agent)
    wait_for_calls(agent, 1)
    stage.store = Store(as_if_killed(kept))  # perhaps it was the question that killed it
    stage.replies.clear()
    stage.start(agent)
    stage.reply(1).wait_for_call("finish")
    assert stage.reply(1).calls == [("finish", "card", ENGLISH.interrupted, "interrupted")]
    assert len(agent.calls) == 1
    gate.set()


def as_if_killed(file: Path) -> Path:
    """The file as it is at this moment, and nobody who holds its lock."""
    folder = file.parent / "next"
    folder.mkdir()
    for part in file.parent.glob(f"{file.name}*"):
        shutil.copy(part, folder)
    return folder / file.name


def test_a_killed_process_and_the_next_one(stage: Stage, kept: Path) -> None:
    agent, gate = stage.stuck("30 days.")
    killed = stage.start(agent)
    first = killed.submit(message(1))
    stage.reply(1).wait_until_shown("How many days off do I have?")
    wait_for_calls(agent, 1)
    eventually(lambda: "card" in repr(unfinished_in(kept)))
    copy = as_if_killed(kept)
    stage.replies.clear()
    stage.store = Store(copy)
    stage.start(ReferenceAgent("31 days."))
    stage.reply(1).wait_for_call("finish")
    assert stage.reply(1).calls == [("finish", "card", "31 days.", "answered")]
    eventually(lambda: unfinished_in(copy) == [])
    gate.set()
    first.result(WAIT)


def unfinished_in(file: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(file)) as db:
        return db.execute("SELECT message_id, owner, at, message, handle, spent FROM unfinished").fetchall()


# What is remembered while a question is answered


@pytest.fixture
def kept(stage: Stage, tmp_path: Path) -> Path:
    """The file of the stage's robots."""
    stage.store = Store(tmp_path / "robots.hr.sqlite3")
    return tmp_path / "robots.hr.sqlite3"


def test_before_an_agent_goes_on_to_act_it_is_remembered(stage: Stage, kept: Path) -> None:
    marks: list[int] = []
    robot = stage.start()
    (tool,) = [event for event in SIDE_EVENTS if "TOOL" in event["type"]][:1]

    class Acting(ReferenceAgent):
        def _stream(self, send: Any) -> None:
            for event in (text_chunk("Well"), text_chunk("hm", "REASONING_CONTENT"), tool, text_chunk("Done")):
                send(event)
                marks.append(unfinished_in(kept)[0][-1])

    stage.host.add(AGENT, Acting(""))
    assert robot.submit(message(1)).result(WAIT) is True
    assert marks == [0, 0, 1, 1]


def test_the_store_knows_the_card_while_the_agent_works_and_nothing_afterwards(stage: Stage, kept: Path) -> None:
    agent, gate = stage.stuck()
    stage.prepare(1, handle={"card": "名"})
    done = stage.start(agent).submit(message(1, "Secret?"))
    eventually(lambda: unfinished_in(kept) and unfinished_in(kept)[0][4])
    ((message_id, _, _, text, handle, spent),) = unfinished_in(kept)
    assert (message_id, json.loads(text)["text"], json.loads(handle), spent) == ("m1", "Secret?", {"card": "名"}, 0)
    gate.set()
    assert done.result(WAIT) is True
    eventually(lambda: unfinished_in(kept) == [])


def test_a_card_that_the_store_cannot_remember_gets_its_answer(stage: Stage, kept: Path) -> None:
    handle = object()
    stage.prepare(1, handle=handle)
    assert stage.start(ReferenceAgent("30 days.")).submit(message(1)).result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", handle, "30 days.", "answered")
    eventually(lambda: stage.host.logged("exception", "cannot be remembered"))


def test_a_store_that_goes_bad_costs_no_answer(stage: Stage, kept: Path) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    assert robot.submit(message(1)).result(WAIT) is True
    eventually(lambda: unfinished_in(kept) == [])
    with contextlib.closing(sqlite3.connect(kept)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with kept.open("r+b") as pages:  # all but the first
        pages.seek(4096)
        pages.write(b"\xa5" * (kept.stat().st_size - 4096))
    stage.store._database._db.execute("PRAGMA cache_size = 0")
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in range(2, 9)]
    assert all(done.result(WAIT) for done in answers)
    assert {stage.reply(number).shown for number in range(2, 9)} == {"30 days."}
    assert len(stage.host.logged("warning", "restart the app")) == 1


def test_a_duplicate_changes_nothing_of_what_is_known_of_the_original(stage: Stage, kept: Path) -> None:
    agent, gate = stage.stuck()
    robot = stage.start(agent)
    first = robot.submit(message(1))
    eventually(lambda: unfinished_in(kept) and unfinished_in(kept)[0][4])
    before = unfinished_in(kept)
    assert robot.submit(message(1)).result(WAIT) is True
    assert unfinished_in(kept) == before
    gate.set()
    assert first.result(WAIT) is True
    assert robot.status()["duplicate"] == 1


@pytest.mark.parametrize("problem", ["unsupported", "quota"])
def test_what_is_no_question_is_forgotten_when_it_was_said(stage: Stage, kept: Path, problem: str) -> None:
    robot = stage.start()
    for number in (1, 2):
        assert robot.submit(message(number, problem=problem)).result(WAIT) is True
    eventually(lambda: unfinished_in(kept) == [])


def test_what_cannot_be_sent_while_the_robot_works_is_given_up(stage: Stage, kept: Path) -> None:
    stage.prepare(1).raises["finish"] = [ReplyRefused("you are out")] * 9
    assert stage.start(ReferenceAgent("30 days.")).submit(message(1)).result(WAIT) is False
    eventually(lambda: unfinished_in(kept) == [])


def test_what_could_not_be_sent_at_a_stop_is_left_for_the_next_start(stage: Stage, kept: Path) -> None:
    reply = stage.prepare(1)
    reply.gates["finish"] = stage.gate()
    robot = stage.start(ReferenceAgent("30 days."))
    robot.submit(message(1))
    reply.wait_for_call("finish")
    closing(robot, 0.1).result(WAIT)
    assert [row[0] for row in unfinished_in(kept)] == ["m1"]
    other = ReferenceAgent("31 days.")
    stage.start(other)  # in the same process, on the same store
    reply.gates["finish"].set()
    reply.wait_for_call("finish", 2)
    assert reply.sent[-1] == ("finish", "card", "30 days.", "answered") and other.calls == []
    eventually(lambda: unfinished_in(kept) == [])


def test_what_is_read_too_late_for_a_stop_is_left_for_the_next_start(stage: Stage, kept: Path) -> None:
    gate, reply_to = stage.gate(), stage.reply_to

    def slowly(asked: IncomingMessage) -> RecordingReply:
        pass_through(gate)
        return reply_to(asked)

    stage.reply_to = slowly  # type: ignore[method-assign]
    robot = stage.start(ReferenceAgent("30 days."))
    done = robot.submit(message(1))
    closing(robot, 0).result(WAIT)
    gate.set()
    assert done.result(WAIT) is False
    eventually(lambda: [row[:2] for row in unfinished_in(kept)] == [("m1", "")])


def test_what_an_agent_that_has_acted_says_is_in_the_file_before_it_is_sent(stage: Stage, kept: Path) -> None:
    in_file: list[Any] = []
    reply = stage.prepare(1)
    finish = reply.finish

    def look(handle: Any, text: str, outcome: Outcome) -> bool:
        with contextlib.closing(sqlite3.connect(kept)) as db:
            in_file.extend(db.execute("SELECT answer FROM unfinished").fetchall())
        return finish(handle, text, outcome)

    reply.finish = look  # type: ignore[method-assign]
    agent = ReferenceAgent("30 days.", events=[event for event in SIDE_EVENTS if "TOOL" in event["type"]])
    assert stage.start(agent).submit(message(1)).result(WAIT) is True
    assert in_file == [(json.dumps(["30 days.", "answered"]),)]


def test_who_was_told_of_the_stop_is_not_told_again(stage: Stage, kept: Path) -> None:
    agent, _ = stage.stuck()
    robot = stage.start(agent)
    done = robot.submit(message(1))
    wait_for_calls(agent, 1)
    closing(robot, 0.3).result(WAIT)
    assert done.result(0) is True
    eventually(lambda: unfinished_in(kept) == [])


# A budget of calls


def test_below_four_fifths_of_the_budget_nothing_is_saved(stage: Stage) -> None:
    for _ in range(7):
        stage.store.count("calls")
    agent = ReferenceAgent("One two three four five", events=[text_chunk("Well ")] * 5, gate=stage.gate())
    done = stage.start(agent, monthlyApiBudget=10).submit(message(1))
    stage.reply(1).wait_for_call("progress")
    stage.gates[0].set()
    assert done.result(WAIT) is True
    assert not stage.host.logged("warning")


def test_from_four_fifths_of_the_budget_on_cards_show_no_progress(stage: Stage) -> None:
    for _ in range(8):
        stage.store.count("calls")
    agent = ReferenceAgent("30 days.", events=[text_chunk("Well ")] * 50)
    robot = stage.start(agent, monthlyApiBudget=10)
    for number in (1, 2):
        assert robot.submit(message(number)).result(WAIT) is True
        assert [call[0] for call in stage.reply(number).calls] == ["open", "finish"]
        assert stage.reply(number).shown == "30 days."
    (record,) = stage.host.logged("warning")
    for part in ("robots.hr", "8 of 10", "monthlyApiBudget", "no progress"):
        assert part in record.message


def test_when_the_budget_is_used_up_answers_come_without_a_card(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_delivery, "_PATIENCE", 0.05)
    for _ in range(10):
        stage.store.count("calls")
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, monthlyApiBudget=10)
    answers = [robot.submit(message(number, sender_id=f"s{number}")) for number in (1, 2)]
    for number in (1, 2):
        stage.reply(number).wait_until_shown(ENGLISH.thinking)
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    for number in (1, 2):
        assert stage.reply(number).calls == [("say", ENGLISH.thinking), ("finish", None, "30 days.", "answered")]
    (record,) = stage.host.logged("warning")
    for part in ("10 of 10", "monthlyApiBudget", "markdown"):
        assert part in record.message


def test_not_even_an_agent_that_answers_at_once_gets_a_card_then(stage: Stage) -> None:
    for _ in range(10):
        stage.store.count("calls")
    robot = stage.start(ReferenceAgent("30 days."), monthlyApiBudget=10)
    for number in range(30):
        assert robot.submit(message(number)).result(WAIT) is True
        assert stage.reply(number).calls == [("finish", None, "30 days.", "answered")]


def test_a_card_that_was_there_before_the_budget_was_used_up_is_finished(stage: Stage) -> None:
    for _ in range(10):
        stage.store.count("calls")
    leave(stage, Unfinished(message(1), 5.0, "card", False))
    stage.start(ReferenceAgent("30 days.", events=[text_chunk("Well ")] * 50), monthlyApiBudget=10)
    stage.reply(1).wait_for_call("finish")
    assert stage.reply(1).calls == [("finish", "card", "30 days.", "answered")]


def test_without_a_budget_any_number_of_calls_is_fine(stage: Stage) -> None:
    for _ in range(100):
        stage.store.count("calls")
    assert stage.start(ReferenceAgent("30 days.")).submit(message(1)).result(WAIT) is True
    assert stage.reply(1).sent[0][0] == "open"
    assert not stage.host.logged("warning")


# How it is


@pytest.mark.parametrize("text", ["/status", "/STATUS"])
def test_an_administrator_who_asks_is_told_how_the_robot_is(stage: Stage, text: str) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    for number in (1, 2):
        assert robot.submit(message(number)).result(WAIT) is True
    eventually(lambda: "answer_ms" in robot.status() and robot.status()["answered"] == 2)
    stage.store.count("calls")
    assert robot.submit(message(3, text, from_admin=True)).result(WAIT) is True
    (call,) = stage.reply(3).calls
    assert call[0] == "say"
    said = call[1]
    for part in ("connected since 09:00", "Answered 2, failed 0", "1 calls and 3 messages", "card (no permission)"):
        assert part in said
    assert re.search(r"answer \d+(\.\d)? ms", said)
    assert len(agent.calls) == 2


def test_a_status_of_a_robot_that_has_done_nothing_can_be_read_too(stage: Stage) -> None:
    stage.status = {}
    robot = stage.start(language="zh-CN")
    stage.prepare(1, texts=CHINESE)
    assert robot.submit(message(1, "/status", from_admin=True)).result(WAIT) is True
    assert "已回答 0，失败 0" in stage.reply(1).shown
    assert "{" not in stage.reply(1).shown
    assert "不可用：-" in stage.reply(1).shown


def test_a_type_need_not_add_anything_to_the_status(stage: Stage) -> None:
    robot = Robot(the_element(stage.host), RobotConfig(agent=AGENT), stage.reply_to, stage.store)
    stage.robots.append(robot)
    assert robot.submit(message(1, "/status", from_admin=True)).result(WAIT) is True
    assert "Answered 0, failed 0" in stage.reply(1).shown


@pytest.mark.parametrize(
    ("text", "from_admin"), [("/status", False), ("/status of my request", True), ("status", True), ("/statu", True)]
)
def test_anything_else_is_a_question_for_the_agent(stage: Stage, text: str, from_admin: bool) -> None:
    agent = ReferenceAgent("30 days.")
    assert stage.start(agent).submit(message(1, text, from_admin=from_admin)).result(WAIT) is True
    assert stage.reply(1).shown == "30 days."
    assert [call.text for call in agent.calls] == [text]


def test_what_has_happened_is_counted(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, maxConcurrency=1, maxQueue=0)
    assert {key: robot.status()[key] for key in ("received", "answered", "failed", "declined", "duplicate")} == {
        **{"received": 0, "answered": 0, "failed": 0, "declined": 0, "duplicate": 0}
    }
    assert "answer_ms" not in robot.status()
    answers = [robot.submit(message(1)), robot.submit(message(1)), robot.submit(message(2, sender_id="s2"))]
    answers += [robot.submit(message(3, problem="unsupported"))]
    answers += [robot.submit(message(number, problem="quota")) for number in (4, 5)]
    assert all(done.result(WAIT) for done in answers[1:])
    gate.set()
    assert answers[0].result(WAIT) is True
    stage.prepare(6).raises["finish"] = [ReplyRefused("you are out")] * 9
    eventually(lambda: robot.status()["in_flight"] == 0)
    assert robot.submit(message(6)).result(WAIT) is False
    eventually(lambda: robot.status()["in_flight"] == 0)
    stage.host.add(AGENT, ReferenceAgent("", error=OSError("gone")))
    assert robot.submit(message(7)).result(WAIT) is True
    expected = {"received": 8, "answered": 1, "failed": 2, "declined": 3, "duplicate": 1}
    eventually(lambda: {key: robot.status()[key] for key in expected} == expected)
    assert robot.status()["month"] == {"calls": 0, "pushes": 8}
    assert robot.status()["unsent"] == 0


def test_it_is_measured_how_long_people_wait(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.gates["open"], gate = stage.gate(), stage.gate()
    agent = ReferenceAgent("30 days.", gate=gate)
    robot = stage.start(agent)
    done = robot.submit(message(1))
    reply.wait_for_call("open")
    threading.Event().wait(0.05)  # it takes that long to open a card
    reply.gates["open"].set()
    eventually(lambda: "first_card_ms" in robot.status())
    threading.Event().wait(0.05)  # and the agent at least that long
    gate.set()
    assert done.result(WAIT) is True
    eventually(lambda: "answer_ms" in robot.status())
    status = robot.status()
    assert 50 <= status["first_card_ms"]["p50"] <= status["answer_ms"]["p50"] - 50
    assert status["answer_ms"]["p95"] < 1000 * WAIT


def test_the_platforms_pace_is_kept_and_shared_by_the_robots_of_an_application(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "_WINDOW_SECONDS", 0.15)
    slow, other = stage.start(ReferenceAgent("30 days."), apiQps=1), stage.start(apiQps=1)
    began = time.monotonic()
    answers = [slow.submit(message(1)), other.submit(message(2, sender_id="s2"))]
    assert all(done.result(WAIT) for done in answers)
    assert time.monotonic() - began >= 0.15


# Closing


def closing(robot: Robot, seconds: float) -> Future[None]:
    closed: Future[None] = Future()

    def close() -> None:
        robot.close(Deadline(seconds))
        closed.set_result(None)

    threading.Thread(target=close, daemon=True).start()
    return closed


def test_closing_lets_running_and_waiting_questions_be_answered(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    answers = [robot.submit(message(number, sender_id="s1")) for number in range(3)]
    wait_for_calls(agent, 1)
    closed = closing(robot, 10 * WAIT)
    eventually(lambda: robot._closed)
    assert not closed.done()
    gate.set()
    closed.result(WAIT)
    assert [done.result(0) for done in answers] == [True, True, True]
    assert {stage.reply(number).sent[-1] for number in range(3)} == {("finish", "card", "30 days.", "answered")}
    assert not stage.host.logged("warning")


def test_closing_tells_everybody_whose_answer_is_not_ready(stage: Stage) -> None:
    agent = ReferenceAgent("You have 30 days.", gate=stage.gate())
    robot = stage.start(agent)
    answers = [robot.submit(message(1)), robot.submit(message(2, "几天假？")), robot.submit(message(3, sender_id="s2"))]
    wait_for_calls(agent, 2)
    stage.reply(2).wait_for_call("open")
    closing(robot, 0.4).result(WAIT)
    assert [done.result(0) for done in answers] == [True, True, True]
    said = f"You\n\n{ENGLISH.interrupted}"
    assert stage.reply(1).sent[-1] == ("finish", "card", said, "interrupted")
    assert stage.reply(2).sent[-1] == ("finish", "card", CHINESE.interrupted, "interrupted")
    assert stage.reply(3).sent[-1] == ("finish", "card", said, "interrupted")
    assert stage.host.logged("warning", "stopped with 2 agents still running")
    assert len(agent.calls) == 2


def test_an_answer_that_comes_after_closing_is_dropped_and_logged(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.", events=[text_chunk("late ")] * 9)
    robot = stage.start(agent)
    robot.submit(message(1))
    wait_for_calls(agent, 1)
    closing(robot, 0.3).result(WAIT)
    told = list(stage.reply(1).calls)
    assert told[-1] == ("finish", "card", ENGLISH.interrupted, "interrupted")
    gate.set()
    eventually(lambda: stage.host.logged("warning", "late answer to m1 was dropped"))
    assert stage.reply(1).calls == told


def test_closing_keeps_its_deadline_where_the_platform_hangs(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.gates["finish"] = stage.gate()
    robot = stage.start(ReferenceAgent("30 days."))
    done = robot.submit(message(1))
    reply.wait_for_call("finish")
    closing(robot, 0.1).result(WAIT)
    assert done.result(0) is False
    assert stage.host.logged("warning", "1 replies that could not be sent")


def test_a_robot_that_has_nothing_to_do_closes_at_once(stage: Stage) -> None:
    robot = stage.start(ReferenceAgent())
    assert robot.submit(message(1)).result(WAIT) is True
    closing(robot, 10 * WAIT).result(WAIT)
    closing(stage.start(), 10 * WAIT).result(WAIT)
    assert not stage.host.logged("warning")


def test_closing_twice_is_harmless(stage: Stage) -> None:
    robot = stage.start(ReferenceAgent())
    assert robot.submit(message(1)).result(WAIT) is True
    for _ in range(2):
        closing(robot, WAIT).result(WAIT)


def test_a_message_that_comes_after_closing_is_logged_and_not_answered(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    robot.close(Deadline(WAIT))
    done = robot.submit(message(1))
    assert done.result(0) is False
    (record,) = stage.host.logged("error", "after the robot was stopped")
    for part in ("robots.hr", "m1", "not answered"):
        assert part in record.message
    assert agent.calls == []
    assert stage.replies == {}


def test_a_message_that_comes_while_the_robot_closes_is_logged_and_not_answered(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    first = robot.submit(message(1))
    wait_for_calls(agent, 1)
    closed = closing(robot, WAIT)
    eventually(lambda: robot._closed)
    assert robot.submit(message(2, sender_id="s2")).result(0) is False
    assert stage.host.logged("error", "m2")
    gate.set()
    closed.result(WAIT)
    assert first.result(0) is True
    assert list(stage.replies) == ["m1"]


def test_every_message_around_the_end_is_answered_or_refused(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    for round_ in range(10):
        robot = stage.start(agent)
        start = threading.Barrier(4)
        answers: dict[str, Future[bool]] = {}

        def ask(name: str, robot: Robot = robot, start: threading.Barrier = start, answers: Any = answers) -> None:
            start.wait()
            for number in range(100):
                answers[f"{name} {number}"] = robot.submit(message(f"{name} {number}", sender_id=f"{name} {number}"))
                if answers[f"{name} {number}"].done():
                    return

        people = [threading.Thread(target=ask, args=(f"{round_} {number}",)) for number in range(3)]
        for thread in people:
            thread.start()
        start.wait()
        robot.close(Deadline(WAIT))
        for thread in people:
            thread.join(WAIT)
        for number, done in answers.items():
            assert done.done(), "nobody will ever hear of it"
            assert done.result() is (
                stage.reply(number).shown == "30 days." if f"m{number}" in stage.replies else False
            )


# A busy morning


def test_everybody_gets_an_answer_whatever_happens_to_the_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "backoff", lambda first, limit: itertools.repeat(0.001))

    def moody(call: AgentCall) -> None:
        number = int(call.text.split()[1])
        if number % 7 == 0:
            raise OSError("gone")
        if number % 11 == 0:
            sys.exit()

    agent = ReferenceAgent("It rains today, and it will rain tomorrow.", before=moody)
    robot = stage.start(agent, maxConcurrency=8)
    for number in range(0, 200, 3):
        trouble = [TransportError("down"), None, TransportError("down")]
        stage.prepare(number).raises = {method: [*trouble] for method in ("open", "progress", "finish")}
    answers: dict[int, Future[bool]] = {}

    def ask(first: int) -> None:
        for number in range(first, 200, 4):
            answers[number] = robot.submit(message(number, f"Question {number} ?", sender_id=f"s{number % 50}"))

    people = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    for number, done in answers.items():
        assert done.result(WAIT) is True
        expected = ENGLISH.failed if number % 7 == 0 or number % 11 == 0 else agent.answer
        assert stage.reply(number).shown == expected
        assert stage.reply(number).most_at_once == 1
    assert len(answers) == 200
    assert 1 < agent.max_running <= 8
