"""What people see when the robot's process is killed, stopped and started again. Each robot is a real process."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.fakes.agents import SIDE_EVENTS
from tests.fakes.gateway import OPEN, SEND_CARD, TOKEN, UPDATE_CARD, Gateway
from tests.fakes.records import Card
from tests.scenarios.robot_process import LogLine, RobotProcess

ANSWER = "one two three four five six seven eight nine ten"
HALF = "one two three four five"
INTERRUPTED = "Sorry, this answer was interrupted. Please ask again."
TOOL_CALL = next(event for event in SIDE_EVENTS if event["type"] == "TOOL_CALL_START")
FOREVER = 10**6

Start = Callable[..., RobotProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The app's."""
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Path:
    file = folder / "appData" / "imRobots" / "imRobots.dingTalkDemo.sqlite3"
    file.parent.mkdir(parents=True)
    return file


@pytest.fixture
def start(gateway: Gateway, folder: Path) -> Iterator[Start]:
    """Start a robot and wait until it is connected; keywords without a meaning of their own go into config.json."""
    with contextlib.ExitStack() as robots:

        def start(
            *, hold: bool = False, answer: str = ANSWER, tool: bool = False, connected: bool = True, **config: object
        ) -> RobotProcess:
            events = (TOOL_CALL,) if tool else ()
            robot = RobotProcess(gateway, folder, config=config, hold=hold, answer=answer, events=events)
            robots.enter_context(robot)
            return robot.wait_ready() if connected else robot

        yield start


def kill(gateway: Gateway, *robots: RobotProcess) -> None:
    left = gateway.connections() - len(robots)
    for robot in robots:
        robot.kill()
    gateway.wait_for(lambda: gateway.connections() <= left, what="the end of a killed robot's connection")


def wait_text(gateway: Gateway, question: str, text: str) -> Card:
    gateway.wait_for(lambda: gateway.card_for(question).text == text, what=f"{text!r} in the card {question!r}")
    return gateway.card_for(question)


@contextlib.contextmanager
def lock(store: Path) -> Iterator[None]:
    """Let another process, this one, write to the store and not come to an end."""
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def logged(*robots: RobotProcess) -> list[LogLine]:
    """Without the line about the buttons of standard cards, which every start brings."""
    return [line for robot in robots for line in robot.logs if "feedbackButtons" not in line.message]


def only_card(gateway: Gateway, question: str) -> Card:
    """The card with the whole answer, the only thing that came of a question."""
    card = gateway.card_for(question, state="final")
    assert [one for one in gateway.cards.values() if one.title == question] == [card]
    assert card.text == ANSWER
    return card


def test_an_answer_cut_off_by_a_kill_is_asked_for_again_and_ends_in_its_card(gateway: Gateway, start: Start) -> None:
    first = start(hold=True)
    message_id = gateway.say("What is it?")
    half = wait_text(gateway, "What is it?", HALF)
    kill(gateway, first)

    second = start(hold=True)
    second.wait_for(lambda: second.agent_calls)
    gateway.redeliver(message_id)
    second.go()
    assert only_card(gateway, "What is it?") is half
    second.wait_status(answered=1)  # a kill before that would have it asked once more
    kill(gateway, second)

    third = start()
    gateway.redeliver(message_id)
    gateway.say("And now?")
    only_card(gateway, "And now?")
    only_card(gateway, "What is it?")
    assert (first.asked(), second.asked(), third.asked()) == (["What is it?"], ["What is it?"], ["And now?"])
    assert not gateway.said()
    assert logged(first, second, third) == []


@pytest.mark.parametrize(
    ("question", "tool", "resume_within", "ending"),
    [
        ("Cancel my order?", True, 600, INTERRUPTED),
        ("这是什么？", False, 0, "抱歉，这次回答被中断了，请再问一次。"),
    ],
    ids=["a tool was used", "too old"],
)
def test_what_must_not_be_asked_again_ends_with_an_apology(
    gateway: Gateway, start: Start, question: str, tool: bool, resume_within: float, ending: str
) -> None:
    first = start(hold=True, tool=tool)
    gateway.say(question)
    half = wait_text(gateway, question, HALF)
    kill(gateway, first)

    second = start(resumeWithin=resume_within)
    assert wait_text(gateway, question, ending) is half
    gateway.say("And now?")
    only_card(gateway, "And now?")
    assert second.asked() == ["And now?"]
    assert half.text == ending and not half.buttons
    assert len(gateway.cards) == 2 and not gateway.said()


def test_questions_that_wait_for_an_agent_survive_a_kill_in_their_order(gateway: Gateway, start: Start) -> None:
    asked = [("Ann", "Ann 1?"), ("Ann", "Ann 2?"), ("Bob", "Bob 1?"), ("Ann", "Ann 3?"), ("Bob", "Bob 2?")]
    first = start(hold=True, maxConcurrency=1)
    for sender, question in asked:
        gateway.say(question, sender=sender)
        gateway.card_for(question)
    kill(gateway, first)

    second = start(maxConcurrency=1)
    for _, question in asked:
        only_card(gateway, question)
    assert first.asked() == ["Ann 1?"]
    assert len(second.asked()) == len(asked)
    for person in ("Ann", "Bob"):
        expected = [question for sender, question in asked if sender == person]
        assert [call.text for call in second.agent_calls if call.chatId == f"staff-{person}"] == expected


@pytest.mark.parametrize("repeated_card", ["refuse", "accept"])
def test_a_question_without_a_first_card_survives_a_kill(
    gateway: Gateway, start: Start, repeated_card: Literal["refuse", "accept"]
) -> None:
    gateway.repeated_card = repeated_card
    robot = start(hold=True)
    # The first card's send is never answered, is late, or was carried out without the robot's knowing.
    gateway.trouble(SEND_CARD, "hang", seconds=1)
    gateway.say("Hanging?", sender="Ann")
    gateway.wait_for(lambda: gateway.count(SEND_CARD) == 1)
    gateway.trouble(SEND_CARD, "late", seconds=1)
    gateway.say("Late?", sender="Bob")
    gateway.wait_for(lambda: gateway.count(SEND_CARD) == 2)
    delayed = [call for call in gateway.calls if call.path == SEND_CARD]
    gateway.trouble(SEND_CARD, "lost")
    gateway.say("Lost?", sender="Cem")
    gateway.card_for("Lost?")
    kill(gateway, robot)
    assert [card.title for card in gateway.cards.values()] == ["Lost?"]

    start()
    for question in ("Hanging?", "Late?", "Lost?"):
        only_card(gateway, question)
    gateway.wait_for(lambda: all(call.status for call in delayed), what="the late call's effect")
    for question in ("Hanging?", "Late?", "Lost?"):
        only_card(gateway, question)
    assert not gateway.said()


def test_a_card_that_a_killed_process_did_not_know_of_has_a_last_word(gateway: Gateway, start: Start) -> None:
    robot = start(hold=True)
    gateway.trouble(SEND_CARD, "lost", times=FOREVER)
    gateway.say("What is it?")
    card = gateway.card_for("What is it?")
    kill(gateway, robot)
    gateway.calm()

    start(resumeWithin=0)
    assert wait_text(gateway, "What is it?", INTERRUPTED) is card
    assert len(gateway.cards) == 1 and not gateway.said()


def test_an_update_that_lands_after_a_kill_does_not_undo_the_last_word(gateway: Gateway, start: Start) -> None:
    first = start(hold=True)
    gateway.trouble(UPDATE_CARD, "late", seconds=1.5)
    gateway.say("What is it?")
    gateway.wait_for(lambda: gateway.count(UPDATE_CARD))
    late = gateway.calls[-1]
    kill(gateway, first)

    second = start()
    only_card(gateway, "What is it?")
    gateway.wait_for(lambda: late.status, what="the late update")
    second.stop(5)  # what else would be sent some time later is sent now
    only_card(gateway, "What is it?")


def test_a_start_leaves_the_answers_of_a_living_process_alone(gateway: Gateway, start: Start) -> None:
    def mark(name: str) -> str:
        return f"{ANSWER} {name}"

    first = start(hold=True, answer=mark("first"))
    gateway.say("Question 0?", sender="Person 0")
    wait_text(gateway, "Question 0?", HALF)
    second = start(hold=True, answer=mark("second"))
    count = 1
    while not second.asked():  # DingTalk chooses a connection at random
        gateway.say(f"Question {count}?", sender=f"Person {count}")
        wait_text(gateway, f"Question {count}?", HALF)
        count += 1
    kill(gateway, first)

    third = start(answer=mark("third"))
    for question in first.asked():
        assert gateway.card_for(question, state="final").text == mark("third")
    assert sorted(third.asked()) == sorted(first.asked())
    second.go()
    for question in second.asked():
        assert gateway.card_for(question, state="final").text == mark("second")
    assert sorted(first.asked() + second.asked()) == sorted(f"Question {number}?" for number in range(count))
    assert len(gateway.cards) == count and not gateway.said()


def test_a_damaged_store_is_set_aside_and_one_that_is_locked_later_done_without(
    gateway: Gateway, start: Start, store: Path
) -> None:
    store.write_bytes(b"This is no database." * 500)
    first = start(hold=True)
    gateway.say("What is it?")
    wait_text(gateway, "What is it?", HALF)
    [damaged] = logged(first)
    assert damaged.level == "warning" and str(store) in damaged.message
    kill(gateway, first)

    second = start()
    only_card(gateway, "What is it?")
    with lock(store):
        message_id = gateway.say("And now?")
        only_card(gateway, "And now?")
        gateway.redeliver(message_id)
        gateway.say("And then?")
        only_card(gateway, "And then?")
    assert second.asked() == ["What is it?", "And now?", "And then?"]
    [locked] = logged(second)
    assert locked.level == "warning" and str(store) in locked.message


def test_a_store_that_is_locked_at_the_start_is_done_without(gateway: Gateway, start: Start, store: Path) -> None:
    with lock(store):
        robot = start()
        message_id = gateway.say("What is it?")
        only_card(gateway, "What is it?")
        gateway.redeliver(message_id)
        gateway.say("And now?")
        only_card(gateway, "And now?")
    assert robot.asked() == ["What is it?", "And now?"]
    [warning] = logged(robot)
    assert warning.level == "warning" and str(store) in warning.message


@pytest.mark.parametrize("folder", [None])
def test_without_a_data_directory_the_robot_works_and_says_so_once(gateway: Gateway, start: Start) -> None:
    robot = start()
    message_id = gateway.say("What is it?")
    only_card(gateway, "What is it?")
    gateway.redeliver(message_id)
    gateway.say("And now?")
    only_card(gateway, "And now?")
    assert robot.asked() == ["What is it?", "And now?"]
    [warning] = logged(robot)
    assert warning.level == "warning" and "data directory cannot be found" in warning.message


def test_answers_that_a_stop_interrupts_say_so_and_are_not_asked_for_again(gateway: Gateway, start: Start) -> None:
    first = start(hold=True, maxConcurrency=1)
    gateway.say("Running?", sender="Ann")
    wait_text(gateway, "Running?", HALF)
    gateway.say("Waiting?", sender="Bob")
    gateway.card_for("Waiting?")
    assert first.stop(0.5) < 1
    assert gateway.card_for("Running?").text == f"{HALF}\n\n{INTERRUPTED}"
    assert gateway.card_for("Waiting?").text == INTERRUPTED
    first.exit()

    second = start()
    gateway.say("And now?")
    only_card(gateway, "And now?")
    assert second.asked() == ["And now?"]
    assert gateway.card_for("Running?").text == f"{HALF}\n\n{INTERRUPTED}"
    assert gateway.card_for("Waiting?").text == INTERRUPTED
    assert len(gateway.cards) == 3 and not gateway.said()


def test_nobody_stays_without_a_last_word_after_an_outage_and_a_kill(gateway: Gateway, start: Start) -> None:
    robot = start()
    gateway.wait_for(lambda: gateway.count(TOKEN))
    gateway.refuse("/", status=503, code="system.busy", times=FOREVER)
    questions = ["Ann?", "Bob?", "Cem?"]
    for question in questions:
        gateway.say(question, sender=question, group=question != "Cem?", staff=question != "Cem?")
    robot.wait_for(lambda: len(robot.agent_calls) == 3)
    gateway.wait_for(lambda: gateway.refused(SEND_CARD) >= 2)
    kill(gateway, robot)

    robot = start(connected=False)
    gateway.wait_for(lambda: gateway.refused(OPEN))
    gateway.calm()
    only_card(gateway, "Ann?")
    only_card(gateway, "Bob?")
    gateway.wait_for(gateway.said, what="an answer without a card")
    robot.wait_ready()
    assert [message.text for message in gateway.said()] == [ANSWER]
    assert len(gateway.cards) == 2
