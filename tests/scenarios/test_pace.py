"""A hundred people at once, at the pace that the robot keeps by default, before a DingTalk that counts every call."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.gateway import SEND_CARD, UPDATE_CARD, Gateway
from tests.fakes.records import Call
from tests.scenarios.robot_process import RobotProcess

PEOPLE = 100
PER_SECOND = 20
ANSWER = "one two three four five six seven eight"
ONE_CALL = 0.25  # seconds from the robot's decision to a call's arrival, on a busy machine


def is_final(call: Call) -> bool:
    return '"action"' in call.body["cardData"]


def test_a_crowd_gets_its_answers_and_no_last_word_waits_behind_progress(gateway: Gateway, tmp_path: Path) -> None:
    gateway.throttle = PER_SECOND
    # A process of its own: one that also plays DingTalk would not make its calls in time.
    with RobotProcess(gateway, tmp_path, answer=ANSWER, delay=0.2 / 8, slow=8.0 / 8) as robot:
        robot.wait_ready()
        # Every fifth answer grows for seconds, so that there is progress to be shown all the time.
        questions = [f"Question {number}{'' if number % 5 else ', slow'}?" for number in range(PEOPLE)]
        for number, question in enumerate(questions):
            gateway.say(question, sender=f"Person {number}")

        def all_final() -> bool:
            return sum(card.state == "final" for card in gateway.cards.values()) == PEOPLE

        gateway.wait_for(all_final, timeout=30, what=f"{PEOPLE} final cards")
    assert sorted(card.title for card in gateway.cards.values()) == sorted(questions)
    assert {card.text for card in gateway.cards.values()} == {ANSWER}
    assert not gateway.said()

    calls = [call for call in gateway.calls if call.path in (SEND_CARD, UPDATE_CARD)]
    assert sum(call.refused for call in calls) < 0.01 * len(calls)

    updates = [call for call in calls if call.path == UPDATE_CARD]
    progress = [call for call in updates if not is_final(call)]
    assert progress
    for final in filter(is_final, updates):
        card = gateway.cards[final.body["cardBizId"]]
        own = [call.at for call in progress if call.body["cardBizId"] == card.id]
        in_line_at = max(robot.answered_at[card.title], card.created_at, *own)
        ahead = [call.at for call in progress if in_line_at + ONE_CALL < call.at < final.at]
        assert not ahead, f"{card.title} had its answer at {in_line_at} and its last word at {final.at}, behind {ahead}"
