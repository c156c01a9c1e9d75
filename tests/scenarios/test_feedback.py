"""People rate answers, by buttons and by words, and see what became of it. Others read the ratings."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import CREATE_CARD, SEND_CARD, UPDATE_INSTANCE, Gateway
from tests.fakes.models import FakeModel
from tests.fakes.records import TemplateCard
from tests.scenarios.conftest import DEMO, Scene
from tests.scenarios.robot_process import RobotProcess

RATINGS = {
    "very_helpful": "😄 Very Helpful",
    "helpful": "😊 Helpful",
    "somewhat_helpful": "🙂 Somewhat Helpful",
    "not_helpful": "😅 Not Helpful",
}
PLAIN = [*RATINGS.values(), "🔄 Regenerate", "[Question] Keep Asking"]
THANKS = "Thank you for your feedback!"
NOTHING = "There is no answer here yet that you could rate."
FIELDS = ["messageId", "rating", "person", "conversation", "agent", "question", "answer", "ratedAt"]


def asked(scene: Scene, question: str = "What is it?", **options: Any) -> TemplateCard:
    """Ask; the card with its last buttons, after the robot knows that they are there."""
    answered = scene.manager.status().get("answered", 0)
    scene.say(question, **options)
    eventually(lambda: scene.manager.status()["answered"] > answered, "an answer")
    return scene.gateway.card_for(question)  # type: ignore[return-value]


def click(gateway: Gateway, card: TemplateCard, button: str, person: str = "Ann") -> None:
    """Click, and wait until it is acknowledged."""
    frame = gateway.click(card, button, person=person)
    assert gateway.wait_for(lambda: gateway.acks.get(frame)).code == 200


def export(scene: Scene, since: Any = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in scene.manager.exportFeedback(since).splitlines()]


def votes(scene: Scene) -> list[tuple[str, str]]:
    return [(row["person"], row["rating"]) for row in export(scene)]


def save(scene: Scene, **config: Any) -> None:
    """Change the configuration while the robot runs."""
    demo = json.loads(scene.host.element(DEMO).getFile("config.json"))
    scene.host.save(DEMO, "config.json", json.dumps({**demo, **config}))
    scene.connections()


# ---- by buttons


@pytest.mark.parametrize("rating", RATINGS)
def test_who_rates_sees_thanks_and_the_own_choice_and_nobody_else_does(scene: Scene, rating: str) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, RATINGS[rating])
    mine = card.view("staff-Ann")
    assert mine.note == f"{THANKS} {RATINGS[rating]}"
    assert mine.labels == [f"✅ {label}" if label == RATINGS[rating] else label for label in PLAIN]
    assert mine.text == card.text == "Hello!"
    assert (card.labels, card.note) == (PLAIN, "")
    assert (card.view("staff-Bob").labels, card.view("staff-Bob").note) == (PLAIN, "")
    assert votes(scene) == [("staff-Ann", rating)]


def test_in_chinese_as_well(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"), "这是什么？")
    click(scene.gateway, card, "😅 没帮助")
    assert card.view("staff-Ann").note == "感谢您的反馈！ 😅 没帮助"
    assert card.view("staff-Ann").labels[3] == "✅ 😅 没帮助"


def test_everybody_has_one_vote_and_may_change_it(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, "helpful")
    click(scene.gateway, card, "not_helpful", person="Bob")
    click(scene.gateway, card, "very_helpful")
    assert sorted(votes(scene)) == [("staff-Ann", "very_helpful"), ("staff-Bob", "not_helpful")]
    assert [label for label in card.view("staff-Ann").labels if "✅" in label] == ["✅ 😄 Very Helpful"]
    assert [label for label in card.view("staff-Bob").labels if "✅" in label] == ["✅ 😅 Not Helpful"]
    assert card.labels == PLAIN


def test_the_second_click_of_a_double_click_does_nothing_more(scene: Scene) -> None:
    model = FakeModel(FIELDS)
    scene.host.add("models.RobotFeedback", model)
    card = asked(scene.boot(cardType="ai", feedbackModel="models.RobotFeedback"))
    click(scene.gateway, card, "helpful")
    (before,) = export(scene)
    seen = card.view("staff-Ann")
    click(scene.gateway, card, "helpful")
    click(scene.gateway, card, "not_helpful", person="Bob")
    eventually(lambda: len(model.rows) >= 2)
    assert [row["person"] for row in model.rows] == ["staff-Ann", "staff-Bob"]
    assert export(scene)[0] == before
    assert (card.view("staff-Ann").labels, card.view("staff-Ann").note) == (seen.labels, seen.note)
    assert scene.manager.status()["rated"] == 2


def test_a_vote_stays_visible_after_other_clicks(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, "helpful", person="Bob")
    click(scene.gateway, card, "regenerate", person="Bob")
    assert "✅ 😊 Helpful" in card.view("staff-Bob").labels
    assert "Only the person who asked" in card.view("staff-Bob").note


def test_a_vote_in_the_further_card_of_a_long_answer_counts_and_is_shown_there(scene: Scene) -> None:
    scene.agent(ReferenceAgent("A paragraph of some length.\n\n" * 600, chunks=0))
    asked(scene.boot(cardType="ai"))
    *_, last = scene.gateway.cards.values()
    click(scene.gateway, last, "helpful")
    assert last.view("staff-Ann").note == f"{THANKS} 😊 Helpful"
    (row,) = export(scene)
    assert (row["question"], row["rating"]) == ("What is it?", "helpful")
    assert row["answer"].startswith("A paragraph")


def test_a_vote_is_whole_even_if_it_is_given_before_the_robot_knows_that_its_card_is_out(scene: Scene) -> None:
    """The last call's answer is on its way for long; the buttons are there already."""
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello!", gate=gate))
    scene.boot(cardType="ai").say("What is it?")
    card = scene.gateway.card_for("What is it?")
    scene.gateway.trouble(UPDATE_INSTANCE, "trickle", seconds=0.02)
    gate.set()
    scene.gateway.wait_for(lambda: card.labels == PLAIN)
    click(scene.gateway, card, "helpful")
    (row,) = export(scene)
    assert (row["agent"], row["question"], row["answer"]) == ("aiagents.ragTest", "What is it?", "Hello!")


def test_a_new_configuration_forgets_no_card(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, "helpful")
    save(scene, cardType="markdown", agent="aiagents.other")
    click(scene.gateway, card, "not_helpful")
    click(scene.gateway, card, "helpful", person="Bob")
    assert votes(scene) == [("staff-Ann", "not_helpful"), ("staff-Bob", "helpful")]
    assert {row["agent"] for row in export(scene)} == {"aiagents.ragTest"}  # who gave that answer
    assert "✅ 😅 Not Helpful" in card.view("staff-Ann").labels


def test_after_a_kill_the_next_process_takes_votes_on_old_cards(gateway: Gateway, tmp_path: Path) -> None:
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}) as robot:
        robot.wait_ready()
        gateway.say("What is it?")
        robot.wait_status(answered=1)
        card = gateway.card_for("What is it?")
        click(gateway, card, "helpful")  # type: ignore[arg-type]
    gateway.wait_for(lambda: gateway.connections() == 0)
    with RobotProcess(gateway, tmp_path, config={"cardType": "ai"}) as robot:
        robot.wait_ready()
        click(gateway, card, "helpful")  # type: ignore[arg-type]  # nothing new
        click(gateway, card, "not_helpful", person="Bob")  # type: ignore[arg-type]
        assert robot.measure()["status"]["rated"] == 1
        assert robot.logs == []
    assert "✅ 😊 Helpful" in card.view("staff-Ann").labels
    assert card.view("staff-Bob").note == f"{THANKS} 😅 Not Helpful"


# ---- by words


@pytest.mark.parametrize(
    ("rung", "command", "rating"),
    [
        ("standard", "/good", "helpful"),
        ("standard", "/没帮助", "not_helpful"),
        ("ai", "/bad", "not_helpful"),
        ("ai", "/有帮助", "helpful"),
        ("markdown", "/good", "helpful"),
        ("markdown", "/没帮助", "not_helpful"),
    ],
)
def test_words_rate_the_last_answer_on_every_rung(scene: Scene, rung: str, command: str, rating: str) -> None:
    scene.boot(cardType=rung)
    asked_twice(scene)
    scene.say(command)
    thanks = "感谢您的反馈！" if command[1] > "z" else THANKS
    scene.gateway.wait_for(lambda: thanks in scene.gateway.webhooks[-1].text if scene.gateway.webhooks else False)
    (row,) = export(scene)
    assert (row["question"], row["rating"], row["person"]) == ("Second?", rating, "staff-Ann")


def asked_twice(scene: Scene) -> None:
    for number, question in enumerate(("First?", "Second?"), start=1):
        scene.say(question)
        eventually(lambda number=number: scene.manager.status()["answered"] == number)


def test_words_mean_ones_own_last_answer_here_else_anybodys(scene: Scene) -> None:
    scene.boot(cardType="ai")
    asked(scene, "Anns?", sender="Ann")
    asked(scene, "Bobs?", sender="Bob")
    asked(scene, "Anns elsewhere?", sender="Ann", conversation="cid-elsewhere")
    for number, person in enumerate(("Ann", "Bob", "Cem"), start=1):
        scene.say("/good", sender=person)
        assert THANKS in scene.sentence(number)
    rated = {row["person"]: row["question"] for row in export(scene)}
    assert rated == {"staff-Ann": "Anns?", "staff-Bob": "Bobs?", "staff-Cem": "Bobs?"}


def test_a_word_changes_what_a_button_said(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, "very_helpful")
    scene.say("/bad")
    assert THANKS in scene.sentence()
    assert votes(scene) == [("staff-Ann", "not_helpful")]


def test_where_there_is_no_answer_words_say_so(scene: Scene) -> None:
    scene.boot(cardType="ai")
    scene.say("/good")
    assert NOTHING in scene.sentence()
    scene.say("/没帮助")
    assert "这里还没有可以评价的回答。" in scene.sentence(2)
    assert export(scene) == []


def test_a_word_that_comes_while_an_answer_runs_means_the_one_before(scene: Scene) -> None:
    asked(scene.boot(cardType="ai"), "First?")
    gate = threading.Event()
    agent = scene.agent(ReferenceAgent("one two", gate=gate))
    scene.say("Second?")
    eventually(lambda: agent.calls)
    scene.say("/good")
    assert THANKS in scene.sentence()
    assert [row["question"] for row in export(scene)] == ["First?"]
    gate.set()


def test_words_are_remembered_across_a_new_configuration(scene: Scene) -> None:
    asked(scene.boot(cardType="ai"))
    save(scene, cardType="markdown")
    scene.say("/good")
    assert THANKS in scene.sentence()
    assert [row["question"] for row in export(scene)] == ["What is it?"]


# ---- where ratings go


def test_an_export_has_a_line_for_each_vote(scene: Scene) -> None:
    scene.agent(ReferenceAgent("Zwei\n„Zeilen“ 😀", chunks=0))
    card = asked(scene.boot(cardType="ai"), "这是什么？")
    (message_id,) = scene._questions
    click(scene.gateway, card, "helpful")
    text = scene.manager.exportFeedback()
    assert text.endswith("\n") and text.count("\n") == 1
    row = json.loads(text)
    assert list(row) == FIELDS
    at = datetime.fromisoformat(row.pop("ratedAt").replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - at) < timedelta(minutes=5)
    assert row == {
        "messageId": message_id,
        "rating": "helpful",
        "person": "staff-Ann",
        "conversation": card.conversation,
        "agent": "aiagents.ragTest",
        "question": "这是什么？",
        "answer": "Zwei\n„Zeilen“ 😀",
    }


def test_an_export_begins_where_it_is_told_to(scene: Scene) -> None:
    scene.boot(cardType="ai")
    assert scene.manager.exportFeedback() == ""
    card = asked(scene)
    click(scene.gateway, card, "helpful")
    now = datetime.now(timezone.utc)
    for since in (None, 0, "2020-01-31", "2020-01-31T10:00:00Z", now - timedelta(hours=1), (now.timestamp() - 60)):
        assert len(export(scene, since)) == 1, since
    for since in (now + timedelta(hours=1), now.timestamp() + 60, "2999-01-01", "2999-01-01T00:00:00+08:00"):
        assert export(scene, since) == [], since
    with pytest.raises(ValueError):
        scene.manager.exportFeedback("yesterday")


def test_ratings_are_there_after_a_stop_and_a_start(scene: Scene) -> None:
    card = asked(scene.boot(cardType="ai"))
    click(scene.gateway, card, "helpful")
    handler = scene.manager.handler
    scene.manager.stop()
    scene.gateway.wait_for(lambda: scene.gateway.connections() == 0)
    scene.manager.start(handler)
    scene.gateway.wait_connected()
    assert votes(scene) == [("staff-Ann", "helpful")]
    click(scene.gateway, card, "not_helpful")
    assert votes(scene) == [("staff-Ann", "not_helpful")]


def test_a_model_of_the_app_gets_a_row_for_each_vote(scene: Scene) -> None:
    model = FakeModel(FIELDS)
    scene.host.add("models.RobotFeedback", model)
    card = asked(scene.boot(cardType="ai", feedbackModel="models.RobotFeedback"))
    click(scene.gateway, card, "helpful")
    click(scene.gateway, card, "not_helpful")
    eventually(lambda: len(model.rows) == 2)
    assert [row["rating"] for row in model.rows] == ["helpful", "not_helpful"]
    assert model.rows[1:] == export(scene)


@pytest.mark.parametrize(
    "model",
    [FakeModel(FIELDS, error=RuntimeError("database away")), FakeModel(["rating"]), None],
    ids=["raises", "lacks fields", "does not exist"],
)
def test_a_model_that_takes_no_row_costs_a_line_in_the_log(scene: Scene, model: FakeModel | None) -> None:
    if model:
        scene.host.add("models.RobotFeedback", model)
    card = asked(scene.boot(cardType="ai", feedbackModel="models.RobotFeedback"))
    click(scene.gateway, card, "helpful")
    assert card.view("staff-Ann").note == f"{THANKS} 😊 Helpful"
    scene.wait_logged("exception", "models.RobotFeedback")
    scene.say("/bad")
    assert THANKS in scene.sentence()
    assert votes(scene) == [("staff-Ann", "not_helpful")]
    assert asked(scene, "And now?").text == "Hello!"


def test_a_model_that_hangs_delays_no_click_and_no_answer(scene: Scene) -> None:
    gate = threading.Event()

    class Slow(FakeModel):
        def create(self, rowData: dict[str, Any], triggerEvent: int = 1) -> dict[str, Any]:
            gate.wait(20)
            return super().create(rowData, triggerEvent)

    model = Slow(FIELDS)
    scene.host.add("models.RobotFeedback", model)
    card = asked(scene.boot(cardType="ai", feedbackModel="models.RobotFeedback"))
    click(scene.gateway, card, "helpful")
    click(scene.gateway, card, "helpful", person="Bob")
    assert asked(scene, "And now?").text == "Hello!"
    assert model.rows == []
    gate.set()
    eventually(lambda: len(model.rows) == 2)


def test_without_any_card_words_still_reach_the_model(scene: Scene) -> None:
    model = FakeModel(FIELDS)
    scene.host.add("models.RobotFeedback", model)
    for path in (SEND_CARD, CREATE_CARD):
        scene.gateway.refuse(path, status=403, code="Forbidden.Closed", times=10**6)
    scene.boot(feedbackModel="models.RobotFeedback").say("What is it?")
    eventually(lambda: scene.manager.status()["answered"] == 1)
    scene.say("/bad")
    eventually(lambda: model.rows)
    assert (model.rows[0]["question"], model.rows[0]["rating"]) == ("What is it?", "not_helpful")
