"""The ladder: what people see where DingTalk gives no card, and how long that is remembered."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest

from tests.dingtalk.helpers import eventually
from tests.fakes.agents import ReferenceAgent
from tests.fakes.gateway import CREATE_CARD, SEND_CARD, SEND_TO_GROUP, SEND_TO_PEOPLE, UPDATE_CARD, WEBHOOK
from tests.scenarios.conftest import DEMO, Scene

PERMISSION = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
ADDRESS = "Forbidden.AccessDenied.IpNotInWhiteList"
MONTH = "Forbidden.AccessDenied.ApiCountLimitForOrg"
THINKING = "[Thinking] Analyzing your question, please wait..."


def ask(scene: Scene, question: str, **payload: object) -> str:
    """Ask; returns where the answer came: `card` or `markdown`."""
    seen = len(scene.gateway.said())
    scene.say(question, **payload)
    scene.gateway.wait_for(
        lambda: (
            len(scene.gateway.said()) > seen
            or any(card.title == question and card.state == "final" for card in scene.gateway.cards.values())
        ),
        what=f"an answer to {question}",
    )
    return "markdown" if len(scene.gateway.said()) > seen else "card"


def refuse_cards(scene: Scene, status: int, code: str, times: int = 1, body: dict | None = None) -> None:
    """Refuse the first cards of both kinds."""
    for path in (SEND_CARD, CREATE_CARD):
        scene.gateway.refuse(path, status=status, code=code, times=times, body=body)


def sent_cards(scene: Scene) -> tuple[int, int]:
    """How many first cards of each kind were tried."""
    return scene.gateway.count(SEND_CARD), scene.gateway.count(CREATE_CARD)


def save(scene: Scene, **config: object) -> None:
    """Save the demo's configuration, with these further keys."""
    demo = json.loads(scene.host.element(DEMO).getFile("config.json"))
    scene.host.save(DEMO, "config.json", json.dumps({**demo, **config}))
    scene.gateway.wait_connected()


def test_in_a_group_the_asker_is_mentioned_and_one_to_one_is_not(scene: Scene) -> None:
    scene.boot(cardType="markdown")
    assert ask(scene, "In a group?") == ask(scene, "Between us?", group=False) == "markdown"
    first, second = scene.gateway.webhooks
    assert (first.kind, first.mentions) == ("markdown", ["staff-Ann"])
    assert first.text.endswith("Hello!")
    assert (second.kind, second.mentions, second.text) == ("markdown", [], "Hello!")


def test_one_sign_of_life_comes_before_a_late_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.delivery._PATIENCE", 0.1)
    gate = threading.Event()
    scene.agent(ReferenceAgent("Hello at last!", gate=gate, chunks=1))
    scene.boot(cardType="markdown").say("Anybody there?", group=False)
    scene.gateway.wait_for(lambda: scene.gateway.webhooks)
    gate.set()
    scene.gateway.wait_for(lambda: len(scene.gateway.webhooks) == 2)
    assert [message.text for message in scene.gateway.webhooks] == [THINKING, "Hello at last!"]


def test_a_quick_answer_needs_no_sign_of_life(scene: Scene) -> None:
    scene.boot(cardType="markdown")
    ask(scene, "Quick?", group=False)
    ask(scene, "Next?", group=False)
    assert [message.text for message in scene.gateway.webhooks] == ["Hello!", "Hello!"]


@pytest.mark.parametrize(
    ("group", "path"), [(True, SEND_TO_GROUP), (False, SEND_TO_PEOPLE)], ids=["group", "one-to-one"]
)
def test_an_expired_webhook_is_replaced_by_the_robots_own_message(scene: Scene, group: bool, path: str) -> None:
    scene.gateway.webhook_lifetime = 0.0
    scene.agent(ReferenceAgent("**Hello!**", chunks=1))
    scene.boot(cardType="markdown")
    assert ask(scene, "Too late?", group=group) == "markdown"
    (message,) = scene.gateway.sent
    assert (message.kind, message.text) == ("markdown", "**Hello!**")
    assert scene.gateway.count(path) == 1 and not scene.gateway.webhooks


def test_a_long_answer_fits_through_either_way(scene: Scene) -> None:
    paragraphs = [f"{number}. " + "这是一个“很长”的段落。\n" * 40 for number in range(40)]
    scene.agent(ReferenceAgent("\n\n".join(paragraphs), chunks=0))
    scene.gateway.refuse(WEBHOOK, status=200, code="300001", times=math.inf)
    scene.boot(cardType="markdown").say("Much?")
    scene.gateway.wait_for(lambda: scene.gateway.sent and paragraphs[-1].strip() in scene.gateway.sent[-1].text)
    assert scene.gateway.count(WEBHOOK) == 1
    assert "".join("".join(message.text.split()) for message in scene.gateway.sent) == "".join(
        "".join(paragraphs).split()
    )
    assert all(message.text.startswith(tuple("0123456789")) for message in scene.gateway.sent)  # cut between paragraphs


def test_a_success_that_hides_a_failure_is_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.outbox.backoff", lambda first, limit: iter([0.05] * 1000))
    scene.gateway.webhook_lifetime = 0.0
    scene.gateway.flow_controlled = {"staff-Ann"}
    scene.boot(cardType="markdown").say("Slowly?", group=False)
    scene.gateway.wait_for(lambda: scene.gateway.count(SEND_TO_PEOPLE) >= 3)
    assert not scene.gateway.sent
    scene.gateway.flow_controlled = set()
    scene.gateway.wait_for(lambda: scene.gateway.sent)
    assert scene.gateway.sent[0].text == "Hello!"


def test_a_missing_permission_is_named_and_tried_again_after_ten_minutes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = {"code": PERMISSION, "accessdenieddetail": {"requiredScopes": ["Card.Instance.Write"]}}
    refuse_cards(scene, 403, PERMISSION, body=scopes)
    scene.boot()
    assert [ask(scene, f"Question {number}?") for number in (1, 2)] == ["markdown", "markdown"]
    assert sent_cards(scene) == (1, 1)
    for rung in ("standard", "ai"):
        assert "Card.Instance.Write" in scene.wait_logged("error", f"answers come without {rung} cards").message
        assert "Card.Instance.Write" in scene.manager.status()["closed"][rung]
    later = lambda now=time.time: now() + 601  # noqa: E731
    monkeypatch.setattr("imRobots.dingTalkStreamType.ladder.time.time", later)
    assert ask(scene, "Granted?") == "card"
    assert scene.manager.status()["closed"] == {}


@pytest.mark.parametrize("code", [PERMISSION, ADDRESS])
def test_a_restart_tries_at_once(scene: Scene, code: str) -> None:
    refuse_cards(scene, 403, code)
    scene.boot()
    assert ask(scene, "Not yet?") == "markdown"
    save(scene)
    assert ask(scene, "Now?") == "card"


def test_an_unknown_refusal_from_two_conversations_is_remembered_until_the_configuration_changes(scene: Scene) -> None:
    refuse_cards(scene, 400, "card.closed", times=4)
    scene.boot()
    for number in range(3):  # one conversation: it may be about that one
        assert ask(scene, f"Question {number}?") == "markdown"
    assert sent_cards(scene) == (3, 3)
    assert ask(scene, "From elsewhere?", conversation="another") == "markdown"
    assert ask(scene, "Once more?") == "markdown"
    save(scene)  # as it was
    assert ask(scene, "After a restart?") == "markdown"
    assert sent_cards(scene) == (4, 4)
    save(scene, language="en-US")
    assert ask(scene, "Changed?") == "card"


def test_what_is_wrong_with_one_message_closes_nothing(scene: Scene) -> None:
    refuse_cards(scene, 400, "param.error", times=2)
    scene.boot()
    assert ask(scene, "Mine?") == ask(scene, "Yours?", conversation="another") == "markdown"
    assert ask(scene, "Ours?") == "card"


def test_two_refusals_with_a_success_between_close_nothing(scene: Scene) -> None:
    scene.boot()
    for conversation in ("one", "two", "three"):
        refuse_cards(scene, 400, "strange")
        assert ask(scene, f"Refused in {conversation}?", conversation=conversation) == "markdown"
        assert ask(scene, f"And again in {conversation}?", conversation=conversation) == "card"


def test_a_refused_update_closes_nothing_and_its_answer_comes_as_markdown(scene: Scene) -> None:
    scene.agent(ReferenceAgent("Hello!", chunks=0))  # the only update is the final one
    scene.boot()
    for conversation in ("one", "two"):
        scene.gateway.refuse(UPDATE_CARD, status=403, code=PERMISSION)
        assert ask(scene, f"Update in {conversation}?", conversation=conversation) == "markdown"
    assert ask(scene, "A card again?") == "card"
    assert scene.manager.status()["closed"] == {}


def test_when_the_month_is_used_up_answers_go_straight_to_the_webhook_until_it_ends(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.gateway.month_limit = 0
    scene.boot()
    assert [ask(scene, f"Question {number}?") for number in (1, 2)] == ["markdown", "markdown"]
    save(scene, language="en-US")  # which changes nothing
    assert ask(scene, "After a restart?") == "markdown"
    assert sent_cards(scene) == (1, 1)
    scene.gateway.month_limit = None
    next_month = lambda now=time.time: now() + 32 * 24 * 3600  # noqa: E731
    monkeypatch.setattr("imRobots.dingTalkStreamType.ladder.time.time", next_month)
    assert ask(scene, "Next month?") == "card"


def test_a_budget_warns_then_saves_updates_then_cards(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imRobots.Meta.answer._FIRST_PIECES", 1)
    gate = threading.Event()
    gate.set()
    scene.agent(ReferenceAgent("one two three", gate=gate, delay=0.02, chunks=3))
    scene.boot(monthlyApiBudget=20)
    while scene.gateway.month_calls < 16:
        assert ask(scene, f"Number {scene.gateway.month_calls}?") == "card"
    assert any(len(card.states) > 2 for card in scene.gateway.cards.values())
    assert not scene.host.logged("warning", "monthlyApiBudget")
    assert ask(scene, "Frugal?") == "card"
    assert len(scene.card("Frugal?").states) == 2
    assert "of 20 calls" in scene.wait_logged("warning", "monthlyApiBudget").message
    while scene.gateway.month_calls < 20:
        assert ask(scene, f"Number {scene.gateway.month_calls}?") == "card"
    spent = eventually(lambda: scene.manager.status()["month"]["calls"] == 20 and 20)
    assert ask(scene, "Broke?") == "markdown"
    assert scene.gateway.month_calls == spent
    save(scene, language="en-US")  # a restart does not begin a new month
    assert ask(scene, "Still broke?") == "markdown"
    assert scene.manager.status()["month"] == {"calls": spent, "pushes": len(scene.gateway.acks)}
