"""What people can tell a robot besides asking: commands, clicks, and who may do what where."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from imRobots.Meta import Click, Clicked, ClickRefused, Deadline, Robot, Store, one_thread, questions
from tests.fakes.agents import Agent, ReferenceAgent

from .helpers import WAIT, eventually, message
from .stage import AGENT, CHINESE, ENGLISH, Stage, text_chunk, wait_for_calls

DAY = 24 * 60 * 60.0
STOPPED = f"\n\n{ENGLISH.stopped}"
IN_BOTH = pytest.mark.parametrize("chinese", [False, True], ids=["en", "zh"])


@pytest.fixture
def ask(stage: Stage) -> Callable[..., None]:
    """Ask the last robot and wait until the answer, in a card `card-<number>`, is sent and kept."""

    def ask(number: int | str, text: str = "How many days?", **rest: Any) -> None:
        card = f"card-{number}"
        stage.prepare(number, question=text, handle=card)
        assert stage.robots[-1].submit(message(number, text, **rest)).result(WAIT) is True
        eventually(lambda: is_kept(stage, card))

    return ask


def is_kept(stage: Stage, card: str) -> bool:
    kept = stage.store.find_answer(card)
    return kept is not None and kept.agent == AGENT


def said(stage: Stage, robot: Robot, number: int | str, text: str, **rest: Any) -> str:
    """What the robot says to a message, which is to be all that comes of it."""
    assert robot.submit(message(number, text, **rest)).result(WAIT) is True
    [(method, sentence)] = stage.reply(number).calls
    assert method == "say"
    return str(sentence)


def click(robot: Robot, action: Any, card: Any = "card-1", person: str = "s1", **rest: Any) -> Clicked:
    return robot.click(Click(card, person, action, **rest)).result(WAIT)


def refusal(robot: Robot, action: Any, card: Any = "card-1", person: str = "s1", **rest: Any) -> str:
    with pytest.raises(ClickRefused) as caught:
        click(robot, action, card, person, **rest)
    return str(caught.value)


def ratings(stage: Stage) -> list[tuple[str, str, str]]:
    return [(one.message_id, one.person, one.rating) for one in stage.store.feedback_since(0.0)]


class Stubborn(ReferenceAgent):
    """Goes on whatever is raised into it, and has an answer in the end."""

    def _stream(self, send: Callable[[dict[str, Any]], object]) -> None:
        def send_anyway(chunk: dict[str, Any]) -> None:
            try:
                send(chunk)
            except Exception as error:
                self.heard.append(type(error).__name__)

        self.heard: list[str] = []
        super()._stream(send_anyway)


# The words


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/help", ENGLISH.help),
        ("/HELP", ENGLISH.help),
        (" /help\n", ENGLISH.help),
        ("/帮助", CHINESE.help),
        ("/new", ENGLISH.new_session),
        ("/New", ENGLISH.new_session),
        ("/新会话", CHINESE.new_session),
        ("/stop", ENGLISH.nothing_to_stop),
        ("/停止", CHINESE.nothing_to_stop),
        ("/good", ENGLISH.nothing_to_rate),
        ("/有帮助", CHINESE.nothing_to_rate),
        ("/bad", ENGLISH.nothing_to_rate),
        ("/没帮助", CHINESE.nothing_to_rate),
    ],
)
def test_a_command_is_answered_by_a_sentence_and_no_agent_is_asked(stage: Stage, text: str, sentence: str) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    assert said(stage, robot, 1, text) == sentence
    assert agent.calls == []
    eventually(lambda: robot.status()["unsent"] == 0)  # and counted
    counted = {name: robot.status()[name] for name in ("received", "commands", "declined", "answered", "failed")}
    assert counted == {"received": 1, "commands": 1, "declined": 0, "answered": 0, "failed": 0}


def test_anything_else_is_a_question_for_the_agent(stage: Stage, ask: Callable[..., None]) -> None:
    texts = ["/new session", "/stop it", "/goods", "/badly", "/helpme", "help", "new", "//new", "/ new", "/new!", "/"]
    texts += ["新会话", "/新会话吧", "／停止吧", "/停止。", "/有帮助吗", "帮助", "/status"]
    agent = ReferenceAgent("30 days.")
    stage.start(agent)
    for number, text in enumerate(texts):
        ask(number, text)
        assert stage.reply(number).shown == "30 days."
    assert [call.text for call in agent.calls] == texts


def test_the_status_is_for_administrators_only(stage: Stage) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    assert said(stage, robot, 1, "/status", from_admin=True).startswith("connected since 09:00")
    assert robot.submit(message(2, "/status", from_admin=False)).result(WAIT) is True
    assert stage.reply(2).shown == "30 days."


def test_all_commands_stand_in_the_help(stage: Stage) -> None:
    english, chinese = (said(stage, stage.start(), text, text) for text in ("/help", "/帮助"))
    assert set(re.findall(r"/[a-z]+", english)) == {"/new", "/stop", "/good", "/bad", "/help"}
    assert set(re.findall(r"/\w+", chinese)) == {"/新会话", "/停止", "/有帮助", "/没帮助", "/帮助"}


def test_commands_do_not_wait_behind_questions(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, maxConcurrency=1)
    answers = [robot.submit(message(number)) for number in (1, 2)]
    wait_for_calls(agent, 1)
    assert said(stage, robot, 3, "/help") == ENGLISH.help
    gate.set()
    assert all(done.result(WAIT) for done in answers)


# A fresh session


def chat_ids(agent: Agent) -> list[str]:
    return [call.chatId for call in agent.calls]


@IN_BOTH
def test_after_a_fresh_start_the_agent_knows_nothing_of_before(
    stage: Stage, ask: Callable[..., None], chinese: bool
) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1)
    for number in (2, 4):
        said(stage, robot, number, "/新会话" if chinese else "/new")
        ask(number + 1)
    ask(6)
    ask(7, sender_id="s2")
    first, fresh, fresher, same, other = chat_ids(agent)
    assert (first, other) == ("s1", "s2")
    assert len({first, fresh, fresher}) == 3 and same == fresher
    assert all(re.fullmatch(r"s1:[0-9a-f]{8}", one) for one in (fresh, fresher))


def test_a_fresh_session_outlasts_a_restart(stage: Stage, ask: Callable[..., None]) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    said(stage, robot, 1, "/new")
    ask(2)
    robot.close(Deadline(WAIT))
    stage.start(agent)
    ask(3)
    assert len(set(chat_ids(agent))) == 1 and "s1" not in chat_ids(agent)


def test_questions_that_wait_already_keep_their_session(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    answers = [robot.submit(message(number)) for number in (1, 2)]
    wait_for_calls(agent, 1)
    said(stage, robot, 3, "/new")
    answers.append(robot.submit(message(4)))
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert chat_ids(agent)[:2] == ["s1", "s1"] and chat_ids(agent)[2] != "s1"
    assert agent.max_running == 1, "still one after the other"


ADA_HERE, ADA_THERE = {"sender_id": "ada", "conversation_id": "c1"}, {"sender_id": "ada", "conversation_id": "c2"}
BOB_HERE = {"sender_id": "bob", "conversation_id": "c1"}


@pytest.mark.parametrize(
    ("scope", "sessions", "same_as_ada_here"),
    [
        ("user", ["ada", "ada", "bob"], [True, True, False]),
        ("conversation", ["c1", "c2", "c1"], [True, False, True]),
        ("userInConversation", ["c1:ada", "c2:ada", "c1:bob"], [True, False, False]),
    ],
)
def test_who_shares_a_session_is_configured(
    stage: Stage, ask: Callable[..., None], scope: str, sessions: list[str], same_as_ada_here: list[bool]
) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent, sessionScope=scope)
    for number, who in enumerate((ADA_HERE, ADA_THERE, BOB_HERE)):
        ask(number, **who)
    assert chat_ids(agent) == sessions
    said(stage, robot, 3, "/new", **ADA_HERE)
    for number, who in enumerate((ADA_HERE, ADA_THERE, BOB_HERE), start=4):
        ask(number, **who)
    changed = [after != before for before, after in zip(sessions, chat_ids(agent)[3:], strict=True)]
    assert changed == same_as_ada_here
    assert all(after.startswith(before) for before, after in zip(sessions, chat_ids(agent)[3:], strict=True))


def test_a_message_of_no_conversation_is_its_persons(stage: Stage, ask: Callable[..., None]) -> None:
    agent = ReferenceAgent("30 days.")
    for scope in ("conversation", "userInConversation"):
        stage.start(agent, sessionScope=scope)
        ask(scope, sender_id="ada", conversation_id="")
    assert chat_ids(agent) == ["ada", "ada"]


@pytest.mark.parametrize(("scope", "at_once"), [("user", 2), ("conversation", 1), ("userInConversation", 2)])
def test_questions_of_one_session_are_answered_one_after_the_other(stage: Stage, scope: str, at_once: int) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, sessionScope=scope)
    answers = [robot.submit(message(number, **who)) for number, who in enumerate((ADA_HERE, BOB_HERE))]
    eventually(lambda: len(agent.running) == at_once and robot.status()["queued"] == 2 - at_once)
    gate.set()
    assert all(done.result(WAIT) for done in answers)
    assert agent.max_running == at_once


# Stopping


@IN_BOTH
def test_a_running_answer_ends_with_what_it_has(stage: Stage, chinese: bool) -> None:
    agent = ReferenceAgent("Thirty days.", gate=stage.gate())
    robot = stage.start(agent)
    done = robot.submit(message(1))
    wait_for_calls(agent, 1)
    stage.reply(1).wait_for_call("open")
    eventually(lambda: said_so_far(robot) == "Thirty")
    stop = robot.submit(message(2, "/停止" if chinese else "/stop"))
    assert done.result(WAIT) is stop.result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", f"Thirty{STOPPED}", "stopped")
    assert stage.reply(2).calls == [], "the card says so"
    stage.gates[0].set()
    eventually(lambda: not agent.running and stage.host.logged("info", f"{AGENT} ended, stopped on message m1"))
    assert stage.reply(1).sent[-1] == ("finish", "card", f"Thirty{STOPPED}", "stopped")
    assert not stage.host.logged("warning") and not stage.host.logged("exception")


def said_so_far(robot: Robot) -> str:
    return "".join(question.growing.text for question in list(robot._questions._questions))


def test_who_stops_an_answer_has_the_last_word_even_if_the_agent_ends_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = stage.start(ReferenceAgent("Thirty days.", gate=stage.gate()))
    done = robot.submit(message(1))
    eventually(lambda: said_so_far(robot) == "Thirty")
    keep_answer = stage.store.keep_answer

    def keep_slowly(*arguments: Any) -> None:
        stage.gates[0].set()
        eventually(lambda: robot.status()["in_flight"] == 0)
        keep_answer(*arguments)

    monkeypatch.setattr(stage.store, "keep_answer", keep_slowly)
    robot.submit(message(2, "/stop"))
    assert done.result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", f"Thirty{STOPPED}", "stopped")


def test_what_ends_an_answer_stands_outside_of_its_code(stage: Stage) -> None:
    robot = stage.start(ReferenceAgent("```python\nprint(1) more", gate=stage.gate()))
    done = robot.submit(message(1))
    eventually(lambda: said_so_far(robot) == "```python")
    assert robot.submit(message(2, "/stop")).result(WAIT) is True
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == f"```python\n```{STOPPED}"


def test_what_was_interrupted_can_be_asked_again(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    stage.prepare(1, handle="card-1")
    robot = stage.start(agent)
    robot.submit(message(1))
    wait_for_calls(agent, 1)
    stage.reply(1).wait_for_call("open")
    robot.close(Deadline(0.1))
    assert stage.reply(1).sent[-1] == ("finish", "card-1", ENGLISH.interrupted, "interrupted")
    gate.set()
    stage.prepare("1:again", handle="card-again")
    robot = stage.start(ReferenceAgent("31 days."))
    assert said(stage, robot, 2, "/good") == ENGLISH.nothing_to_rate, "an apology is no answer"
    assert click(robot, "regenerate") == Clicked(ENGLISH)
    stage.reply("1:again").wait_until_shown("31 days.")


def test_a_stopped_agent_hears_so_at_its_next_chunk(stage: Stage) -> None:
    agent = Stubborn("One two three", gate=stage.gate())
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: said_so_far(robot) == "One")
    assert robot.submit(message(2, "/stop")).result(WAIT) is True
    assert done.result(WAIT) is True
    assert agent.heard == []
    stage.gates[0].set()
    eventually(lambda: not agent.running)
    assert agent.heard == ["Stopped", "Stopped"]


def test_what_a_stopped_agent_still_says_is_dropped_and_the_next_question_runs(stage: Stage) -> None:
    agent = Stubborn("One two three", gate=stage.gate())
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: said_so_far(robot) == "One")
    following = robot.submit(message(2, conversation_id="c2"))
    stage.reply(2).wait_for_call("open")
    assert robot.submit(message(3, "/stop")).result(WAIT) is True
    assert done.result(WAIT) is True
    assert len(agent.calls) == 1, "an agent is not asked two things of a session at once"
    stage.gates[0].set()
    assert following.result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", f"One{STOPPED}", "stopped")
    assert stage.reply(2).shown == "One two three"
    assert not stage.host.logged("warning"), "nothing is late that was stopped"
    counted = {"answered": 1, "stopped": 1, "failed": 0, "declined": 0, "commands": 1}
    eventually(lambda: {name: robot.status()[name] for name in counted} == counted)


def test_an_agent_that_does_not_notice_holds_its_session_up_for_a_moment_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "_STOP_SECONDS", 0.02)
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    first = robot.submit(message(1))
    wait_for_calls(agent, 1)
    assert robot.submit(message(2, "/stop")).result(WAIT) is True
    assert first.result(WAIT) is True
    second = robot.submit(message(3))
    wait_for_calls(agent, 2)
    assert len(agent.running) == 2
    gate.set()
    assert second.result(WAIT) is True
    assert stage.reply(3).shown == "30 days."
    eventually(lambda: robot.status()["abandoned"] == 0)
    assert not stage.host.logged("warning")


def test_the_last_free_slot_is_not_given_to_who_does_not_notice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_STOP_SECONDS", 0.0)
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent, maxConcurrency=1)
    robot.submit(message(1))
    wait_for_calls(agent, 1)
    assert robot.submit(message(2, "/stop")).result(WAIT) is True
    second = robot.submit(message(3))
    assert said(stage, robot, 4, "/help") == ENGLISH.help  # by then, it has been looked at
    assert (robot.status()["in_flight"], robot.status()["queued"], robot.status()["abandoned"]) == (1, 1, 0)
    gate.set()
    assert second.result(WAIT) is True


def test_a_question_that_waits_is_stopped_before_its_turn(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    for number in (1, 2, 3):
        stage.prepare(number, handle=f"card-{number}")
    first, second, third = (robot.submit(message(number, f"Question {number}?")) for number in (1, 2, 3))
    wait_for_calls(agent, 1)
    for number in (1, 2, 3):
        stage.reply(number).wait_for_call("open")
    eventually(lambda: stage.store.find_answer("card-2"))
    assert click(robot, "stop", "card-2") == Clicked(ENGLISH, "")
    assert second.result(WAIT) is True
    assert stage.reply(2).sent[-1] == ("finish", "card-2", ENGLISH.stopped, "stopped")
    assert robot.status()["queued"] == 1, "nobody waits behind it any more"
    gate.set()
    assert first.result(WAIT) is third.result(WAIT) is True
    assert [call.text for call in agent.calls] == ["Question 1?", "Question 3?"]
    eventually(lambda: robot.status()["queued"] == 0)


def test_all_of_a_persons_questions_here_are_stopped_and_nobody_elses(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    mine = [robot.submit(message(number, **ADA_HERE)) for number in (1, 2)]
    others = [robot.submit(message(3, **ADA_THERE)), robot.submit(message(4, **BOB_HERE))]
    for number in (1, 2, 3, 4):
        stage.reply(number).wait_for_call("open")
    wait_for_calls(agent, 2)
    assert robot.submit(message(5, "/stop", **ADA_HERE)).result(WAIT) is True
    assert [done.result(WAIT) for done in mine] == [True, True]
    assert not any(done.done() for done in others)
    gate.set()
    assert all(done.result(WAIT) for done in others)
    assert [stage.reply(number).shown for number in (1, 2, 3, 4)] == [ENGLISH.stopped] * 2 + ["30 days."] * 2


def test_a_reloaded_robot_stops_an_answer_that_the_old_one_still_lets_out(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    old = stage.start(agent)
    done = old.submit(message(1))
    wait_for_calls(agent, 1)
    stage.reply(1).wait_for_call("open")
    closing = threading.Thread(target=old.close, args=(Deadline(WAIT),))
    closing.start()
    try:
        new = stage.start()
        assert new.submit(message(2, "/stop")).result(WAIT) is True
        assert done.result(WAIT) is True
        assert stage.reply(1).sent[-1] == ("finish", "card", ENGLISH.stopped, "stopped")
    finally:
        gate.set()
        closing.join()


def test_the_end_of_the_old_robot_is_none_of_the_new_ones_questions(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    old, new = stage.start(agent), stage.start()
    done = new.submit(message(1))
    wait_for_calls(agent, 1)
    old.close(Deadline(WAIT))
    gate.set()
    assert done.result(WAIT) is True
    assert stage.reply(1).shown == "30 days."


def test_an_answer_that_is_ready_is_not_stopped(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.gates["finish"] = stage.gate()
    robot = stage.start(ReferenceAgent("30 days."))
    done = robot.submit(message(1))
    reply.wait_for_call("finish")
    assert said(stage, robot, 2, "/stop") == ENGLISH.nothing_to_stop
    assert click(robot, "stop", "card") == Clicked(ENGLISH, ENGLISH.nothing_to_stop)
    stage.gates[0].set()
    assert done.result(WAIT) is True
    assert reply.shown == "30 days."


def test_a_stopped_answer_is_kept_like_any_other(stage: Stage) -> None:
    agent = ReferenceAgent("Thirty days.", gate=stage.gate())
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: said_so_far(robot) == "Thirty")
    assert robot.submit(message(2, "/stop")).result(WAIT) is True
    assert done.result(WAIT) is True
    eventually(lambda: is_kept(stage, "card"))  # and not left to be asked again
    kept = stage.store.find_answer("card")
    assert kept is not None and kept.answer == f"Thirty{STOPPED}"
    assert said(stage, robot, 3, "/bad") == ENGLISH.thanks


# Rating with words


@pytest.mark.parametrize(
    ("text", "rating", "texts"),
    [
        ("/good", "helpful", ENGLISH),
        ("/bad", "not_helpful", ENGLISH),
        ("/有帮助", "helpful", CHINESE),
        ("/没帮助", "not_helpful", CHINESE),
    ],
)
def test_the_last_answer_is_rated(stage: Stage, ask: Callable[..., None], text: str, rating: str, texts: Any) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    ask(2, "And how many hours?")
    assert said(stage, robot, 3, text) == texts.thanks
    [feedback] = stage.store.feedback_since(0.0)
    assert (feedback.message_id, feedback.rating, feedback.person) == ("m2", rating, "s1")
    assert (feedback.question, feedback.answer) == ("And how many hours?", "30 days.")
    assert (feedback.agent, feedback.conversation_id) == (AGENT, "c1")


def test_a_rating_can_be_changed_and_counts_once(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    for number, text in enumerate(("/good", "/good", "/bad"), start=2):
        assert said(stage, robot, number, text) == ENGLISH.thanks
    assert ratings(stage) == [("m1", "s1", "not_helpful")]
    assert robot.status()["rated"] == 2


def test_ones_own_answer_is_rated_rather_than_a_newer_one_of_somebody_else(
    stage: Stage, ask: Callable[..., None]
) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1, **ADA_HERE)
    ask(2, **BOB_HERE)
    ask(3, **ADA_THERE)
    said(stage, robot, 4, "/good", **ADA_HERE)
    said(stage, robot, 5, "/bad", sender_id="cy", conversation_id="c1")  # who has asked nothing
    assert ratings(stage) == [("m1", "ada", "helpful"), ("m2", "cy", "not_helpful")]
    assert said(stage, robot, 6, "/bad", sender_id="ada", conversation_id="c3") == ENGLISH.nothing_to_rate


def test_people_may_be_quicker_than_the_platform(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.gates["finish"] = stage.gate()
    robot = stage.start(ReferenceAgent("30 days."))
    done = robot.submit(message(1))
    reply.wait_for_call("finish")
    assert said(stage, robot, 2, "/good") == ENGLISH.thanks
    stage.gates[0].set()
    assert done.result(WAIT) is True
    [feedback] = stage.store.feedback_since(0.0)
    assert (feedback.message_id, feedback.answer, feedback.agent) == ("m1", "30 days.", AGENT)


def test_while_the_agent_still_works_the_answer_before_is_rated(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    agent, gate = stage.stuck("40 days.")
    stage.host.add(AGENT, agent)
    done = robot.submit(message(2))
    wait_for_calls(agent, 1)
    assert said(stage, robot, 3, "/good") == ENGLISH.thanks
    gate.set()
    assert done.result(WAIT) is True
    assert ratings(stage) == [("m1", "s1", "helpful")]


# Clicks


@pytest.mark.parametrize("rating", ["very_helpful", "helpful", "somewhat_helpful", "not_helpful"])
@IN_BOTH
def test_a_rating_is_kept_and_thanked_for(stage: Stage, ask: Callable[..., None], chinese: bool, rating: Any) -> None:
    texts = CHINESE if chinese else ENGLISH
    robot = stage.start(ReferenceAgent("30 days."))
    question = "几天假？" if chinese else "How many days?"
    ask(1, question)
    seen = click(robot, "rate", rating=rating, message_id="m1", question=question)
    assert seen == Clicked(texts, f"{texts.thanks} {getattr(texts, rating)}", rating)
    [feedback] = stage.store.feedback_since(0.0)
    assert dataclasses.astuple(feedback)[:-1] == ("m1", rating, "s1", "c1", AGENT, question, "30 days.")


def test_everybody_has_one_vote_and_may_change_it(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    for person, rating in (("s1", "helpful"), ("s2", "not_helpful"), ("s1", "helpful"), ("s1", "very_helpful")):
        assert click(robot, "rate", person=person, rating=rating).rating == rating
    assert sorted(ratings(stage)) == [("m1", "s1", "very_helpful"), ("m1", "s2", "not_helpful")]
    status = robot.status()
    assert (status["clicks"], status["rated"], status["month"]["pushes"]) == (4, 3, 5)
    assert click(robot, "continue", person="s2") == Clicked(ENGLISH, ENGLISH.only_the_asker)
    assert click(robot, "stop") == Clicked(ENGLISH, ENGLISH.nothing_to_stop)
    assert click(robot, "stop", person="s3") == Clicked(ENGLISH, ENGLISH.only_the_asker, None)


def test_buttons_work_after_a_restart(stage: Stage, ask: Callable[..., None]) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1)
    robot.close(Deadline(WAIT))
    robot = stage.start(agent)
    assert click(robot, "rate", rating="helpful").rating == "helpful"
    assert click(robot, "regenerate") == Clicked(ENGLISH)
    stage.reply("1:again").wait_until_shown("30 days.")
    assert ratings(stage) == [("m1", "s1", "helpful")]


def test_an_answer_that_is_not_there_yet_cannot_be_rated(stage: Stage) -> None:
    agent, gate = stage.stuck("30 days.")
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: stage.store.find_answer("card"))
    assert refusal(robot, "rate", "card", rating="helpful") == "its card has no answer yet"
    gate.set()
    assert done.result(WAIT) is True
    assert click(robot, "rate", "card", rating="helpful").rating == "helpful"


def test_a_rating_while_the_last_word_is_being_sent_names_answer_and_agent(stage: Stage) -> None:
    reply = stage.prepare(1)
    reply.gates["finish"] = stage.gate()
    robot = stage.start(ReferenceAgent("30 days."))
    done = robot.submit(message(1))
    reply.wait_for_call("finish")
    assert click(robot, "rate", "card", rating="helpful").rating == "helpful"
    stage.gates[0].set()
    assert done.result(WAIT) is True
    [feedback] = stage.store.feedback_since(0.0)
    assert (feedback.answer, feedback.agent) == ("30 days.", AGENT)


def test_a_question_is_asked_again_once_for_each_card(stage: Stage, ask: Callable[..., None]) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1, source={"from": "c1"})
    agent.answer = "31 days."
    for number in ("1:again", "1:again:again"):
        stage.prepare(number, handle=f"card-{number}")
    assert click(robot, "regenerate") == Clicked(ENGLISH, "")
    stage.reply("1:again").wait_until_shown("31 days.")
    assert click(robot, "regenerate") == Clicked(ENGLISH, ENGLISH.asked_again)
    assert stage.reply("1:again").calls[0] == ("open", "How many days?")
    assert stage.reply(1).shown == "30 days.", "the first answer stays"
    eventually(lambda: stage.store.find_answer("card-1:again"))
    assert click(robot, "regenerate", "card-1:again") == Clicked(ENGLISH, "")
    stage.reply("1:again:again").wait_until_shown("31 days.")
    assert [(call.text, call.chatId) for call in agent.calls] == [("How many days?", "s1")] * 3
    kept = stage.store.find_answer("card-1:again")
    assert kept is not None and kept.message.source == {"from": "c1"}
    assert click(robot, "rate", "card-1:again", rating="helpful").rating == "helpful"
    assert ratings(stage) == [("m1:again", "s1", "helpful")]


def test_who_was_turned_away_may_ask_again_once_more(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."), maxConcurrency=1, maxQueue=0)
    ask(1)
    agent, gate = stage.stuck("31 days.")
    stage.host.add(AGENT, agent)
    done = robot.submit(message(2, sender_id="s2"))
    wait_for_calls(agent, 1)
    for times in (1, 2):
        assert click(robot, "regenerate") == Clicked(ENGLISH, "")
        stage.reply("1:again").wait_for_call("say", times)
        stage.reply("1:again").wait_until_shown(ENGLISH.busy)
    gate.set()
    assert done.result(WAIT) is True
    eventually(lambda: robot.status()["in_flight"] == 0)
    assert click(robot, "regenerate") == Clicked(ENGLISH, "")
    stage.reply("1:again").wait_until_shown("31 days.")
    assert [call.text for call in agent.calls][1:] == ["How many days?"]


def test_an_answer_that_failed_can_be_asked_for_again(stage: Stage, ask: Callable[..., None]) -> None:
    agent = ReferenceAgent("", error=OSError("gone"))
    robot = stage.start(agent)
    ask(1)
    assert stage.reply(1).shown == ENGLISH.failed
    agent.answer, agent.error = "30 days.", None
    assert click(robot, "regenerate") == Clicked(ENGLISH, "")
    stage.reply("1:again").wait_until_shown("30 days.")


@IN_BOTH
def test_who_wants_to_go_on_is_invited_once(stage: Stage, ask: Callable[..., None], chinese: bool) -> None:
    texts = CHINESE if chinese else ENGLISH
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1, "几天假？" if chinese else "How many days?")
    ask(2)
    for _ in range(2):
        assert click(robot, "continue") == Clicked(texts, "")
    stage.reply(1).wait_until_shown(texts.go_on)
    assert click(robot, "continue", "card-2") == Clicked(ENGLISH, "")
    stage.reply(2).wait_until_shown(ENGLISH.go_on)
    assert [call[0] for call in stage.reply(1).calls] == ["open", "finish", "say"]
    assert len(agent.calls) == 2


def test_a_running_answer_is_stopped_by_its_button(stage: Stage) -> None:
    agent = ReferenceAgent("Thirty days.", gate=stage.gate())
    robot = stage.start(agent)
    done = robot.submit(message(1))
    eventually(lambda: said_so_far(robot) == "Thirty" and stage.store.find_answer("card"))
    assert click(robot, "stop", "card", person="s2") == Clicked(ENGLISH, ENGLISH.only_the_asker)
    assert not done.done()
    assert click(robot, "stop", "card") == Clicked(ENGLISH, "")
    assert done.result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", f"Thirty{STOPPED}", "stopped")
    assert click(robot, "stop", "card") == Clicked(ENGLISH, ENGLISH.nothing_to_stop)


@pytest.mark.parametrize("action", ["regenerate", "continue", "stop"])
def test_only_the_asker_may_do_more_than_rate(stage: Stage, ask: Callable[..., None], action: Any) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1)
    assert click(robot, action, person="s2") == Clicked(ENGLISH, ENGLISH.only_the_asker)
    assert said(stage, robot, 2, "/help") == ENGLISH.help
    assert len(agent.calls) == 1 and "m1:again" not in stage.replies
    assert [call[0] for call in stage.reply(1).calls] == ["open", "finish"]


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        ({"card": "card-2"}, "'card-2' is not known"),
        ({"card": {"id": 1}}, "is not known"),
        ({"card": None}, "'None' is not known"),
        ({"card": "x" * 5000}, f"{'x' * 100}' is not known"),
        ({"message_id": "m2"}, "another message"),
        ({"question": "Who earns most?"}, "a question that its card does not have"),
        ({"question": "How many days? Really?"}, "a question that its card does not have"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_a_forged_button_is_refused(
    stage: Stage, ask: Callable[..., None], forged: dict[str, Any], reason: str
) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1)
    for action in ("rate", "regenerate", "continue", "stop"):
        told = refusal(robot, action, **{"rating": "helpful", **forged})
        assert reason in told and len(told) < 200
    assert ratings(stage) == [] and len(agent.calls) == 1
    assert list(stage.replies) == ["m1"]


def test_a_button_that_says_what_is_known_of_its_card_is_not_forged(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    question = "How many days? " * 200
    ask(1, question)
    assert click(robot, "rate", rating="helpful", message_id="m1", question=question[:1000]).rating == "helpful"


def test_a_rating_that_is_none_is_refused(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    assert refusal(robot, "rate") == "it names no rating"


def test_of_an_old_card_only_the_ratings_work(stage: Stage, ask: Callable[..., None]) -> None:
    now = [1_700_000_000.0]
    stage.store = Store(clock=lambda: now[0])
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1)
    now[0] += 8 * DAY
    stage.store.forget_old(180.0)
    for action in ("regenerate", "continue"):
        assert click(robot, action, question="How many days?") == Clicked(ENGLISH, ENGLISH.forgotten)
    assert click(robot, "rate", rating="helpful", question="How many days?").rating == "helpful"
    assert ratings(stage) == [("m1", "s1", "helpful")]
    now[0] += 180 * DAY
    stage.store.forget_old(180.0)
    assert "not known" in refusal(robot, "rate", rating="helpful")
    assert len(agent.calls) == 1


def test_a_closed_robot_takes_no_clicks(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    robot.close(Deadline(WAIT))
    assert refusal(robot, "rate", rating="helpful") == "it came after the robot was stopped"
    assert ratings(stage) == []


def test_one_click_too_many_is_refused(stage: Stage, ask: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    with monkeypatch.context() as patch:
        patch.setattr(one_thread, "_MAX_WAITING", 0)
        assert refusal(robot, "rate", rating="helpful") == "it is one too many to be read"
    assert click(robot, "rate", rating="helpful").rating == "helpful"


def test_a_click_that_goes_wrong_is_refused_and_the_next_one_works(
    stage: Stage, ask: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "find_answer", lambda handle: 1 / 0)
        assert refusal(robot, "rate", rating="helpful") == "something went wrong with it; see the log"
    eventually(lambda: stage.host.logged("exception"))
    assert "ZeroDivisionError" in stage.host.logged("exception")[0].traceback
    assert click(robot, "rate", rating="helpful").rating == "helpful"


def test_who_waits_for_a_click_cannot_cancel_it(stage: Stage, ask: Callable[..., None]) -> None:
    robot = stage.start(ReferenceAgent("30 days."))
    ask(1)
    done = robot.click(Click("card-1", "s1", "rate", "helpful"))
    assert not done.cancel()
    assert done.result(WAIT).rating == "helpful"


# Who may use the robot, and where


@pytest.mark.parametrize(
    ("config", "who", "allowed"),
    [
        ({"allowUsers": ["ada"]}, ADA_HERE, True),
        ({"allowUsers": ["ada"]}, BOB_HERE, False),
        ({"allowUsers": ["Ada"]}, ADA_HERE, False),
        ({"allowConversations": ["c1"]}, BOB_HERE, True),
        ({"allowConversations": ["c1"]}, ADA_THERE, False),
        ({"allowUsers": ["ada", "bob"], "allowConversations": ["c1", "c3"]}, BOB_HERE, True),
        ({"allowUsers": ["ada"], "allowConversations": ["c1"]}, ADA_THERE, False),
        ({"allowUsers": ["ada"], "allowConversations": ["c1"]}, BOB_HERE, False),
    ],
)
def test_who_is_not_on_the_list_is_turned_away_politely(
    stage: Stage, config: dict[str, Any], who: dict[str, str], allowed: bool
) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent, **config)
    if allowed:
        assert robot.submit(message(1, **who)).result(WAIT) is True
        assert stage.reply(1).shown == "30 days."
        assert not stage.host.logged("info", "turned away")
        return
    for number, text in enumerate(("How many days?", "/help", "/status", "/new")):
        assert said(stage, robot, number, text, from_admin=True, **who) == ENGLISH.not_allowed
    assert said(stage, robot, 5, "", problem="unsupported", **who) == ENGLISH.not_allowed
    assert said(stage, robot, 6, "几天假？", **who) == CHINESE.not_allowed
    assert agent.calls == []
    record = stage.host.logged("info", "turned away")[0]
    for part in ("robots.hr", who["sender_id"], who["conversation_id"], "allowUsers", "allowConversations"):
        assert part in record.message


@pytest.mark.parametrize("action", ["rate", "regenerate", "continue", "stop"])
def test_who_is_not_on_the_list_presses_in_vain(stage: Stage, ask: Callable[..., None], action: Any) -> None:
    agent = ReferenceAgent("30 days.")
    robot = stage.start(agent)
    ask(1, **ADA_HERE)
    robot.close(Deadline(WAIT))
    robot = stage.start(agent, allowUsers=["bob"])
    seen = click(robot, action, person="ada", rating="helpful")
    assert seen == Clicked(ENGLISH, ENGLISH.not_allowed)
    assert ratings(stage) == [] and len(agent.calls) == 1
    assert click(robot, "rate", person="bob", rating="helpful").rating == "helpful"


# What a question answers to


@pytest.mark.parametrize(
    ("quote", "words"),
    [
        ("You have 30 days.", "> You have 30 days.\n\nReally?"),
        ("30 days:\n\n- in summer  \n- in winter", "> 30 days:\n>\n> - in summer\n> - in winter\n\nReally?"),
        ("", "Really?"),
    ],
)
def test_the_agent_is_told_what_a_question_answers_to(stage: Stage, quote: str, words: str) -> None:
    agent = ReferenceAgent("Yes.")
    assert stage.start(agent).submit(message(1, "Really?", quote=quote)).result(WAIT) is True
    assert [call.text for call in agent.calls] == [words]
    assert stage.reply(1).calls[0] == ("open", "Really?"), "the card's title is the question alone"


def test_the_agent_is_not_told_where_that_is_not_wanted(stage: Stage) -> None:
    agent = ReferenceAgent("Yes.")
    robot = stage.start(agent, quoteContext=False)
    assert robot.submit(message(1, "Really?", quote="You have 30 days.")).result(WAIT) is True
    assert [call.text for call in agent.calls] == ["Really?"]


def test_a_quote_is_told_again_when_the_question_is_asked_again(stage: Stage, ask: Callable[..., None]) -> None:
    agent = ReferenceAgent("Yes.")
    robot = stage.start(agent)
    ask(1, "Really?", quote="You have 30 days.")
    click(robot, "regenerate")
    stage.reply("1:again").wait_until_shown("Yes.")
    assert [call.text for call in agent.calls] == ["> You have 30 days.\n\nReally?"] * 2


def test_a_command_that_quotes_something_is_a_command(stage: Stage) -> None:
    assert said(stage, stage.start(), 1, "/help", quote="30 days.") == ENGLISH.help


# An agent that waits for a confirmation


@pytest.mark.parametrize("text", ["", "I would book it."])
@pytest.mark.parametrize("error", [None, RuntimeError("interrupted")], ids=["returns", "raises"])
def test_an_agent_that_needs_a_confirmation_is_no_failure(
    stage: Stage, ask: Callable[..., None], text: str, error: Exception | None
) -> None:
    robot = stage.start()
    last_word = f"{text}\n\n{ENGLISH.needs_confirmation}" if text else ENGLISH.needs_confirmation
    kinds = ["INTERRUPT", "Interrupt", "TOOL_INTERRUPT", "interrupt_call"]
    for kind in kinds:
        events = [*([text_chunk(text)] if text else []), {"type": kind, "data": {"content": "secret question"}}]
        stage.host.add(AGENT, ReferenceAgent("", events=events, error=error, result=None))
        ask(kind)
        assert stage.reply(kind).sent[-1] == ("finish", f"card-{kind}", last_word, "answered")
    assert not stage.host.logged("exception") and not stage.host.logged("warning")
    assert len(stage.host.logged("info", "when it was interrupted")) == (len(kinds) if error else 0)
    eventually(lambda: robot.status()["answered"] == len(kinds))


def test_the_sentence_about_a_confirmation_comes_in_chinese_too(stage: Stage) -> None:
    agent = ReferenceAgent("我可以预订。", events=[{"type": "INTERRUPT", "data": {}}])
    assert stage.start(agent).submit(message(1, "请预订")).result(WAIT) is True
    assert stage.reply(1).shown == f"我可以预订。\n\n{CHINESE.needs_confirmation}"


def test_without_an_interrupt_an_empty_answer_is_a_failure(stage: Stage) -> None:
    agent = ReferenceAgent("", events=[{"type": "SOMETHING", "data": {}}], result=None)
    assert stage.start(agent).submit(message(1)).result(WAIT) is True
    assert stage.reply(1).sent[-1] == ("finish", "card", ENGLISH.failed, "failed")
