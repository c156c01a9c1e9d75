"""AI cards: what their variables hold, the buttons, where they go, and what an update changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from imRobots.dingTalkStreamType import template as cards
from imRobots.dingTalkStreamType.clicks import read_click
from imRobots.dingTalkStreamType.config import AnswerConfig, CardVariables
from imRobots.dingTalkStreamType.template import FAILED, FINISHED, GROWING, Template
from imRobots.Meta import Texts, texts_for

ENGLISH, CHINESE = texts_for("en-US", ""), texts_for("zh-CN", "")
BOTH_LANGUAGES = pytest.mark.parametrize("texts", [ENGLISH, CHINESE], ids=["en", "zh"])
OWN = CardVariables(content="content", title="title", note="note", buttons="buttons", status="flowStatus")
BARE = CardVariables(content="content", title="", note="", buttons="", status="")
RATINGS = ["very_helpful", "helpful", "somewhat_helpful", "not_helpful"]
STOP = cards.stop_button(ENGLISH)


def template(names: CardVariables | None = None, **options: Any) -> Template:
    return Template("t.schema", names or CardVariables(), **options)


# ---- the variables


def test_the_public_template_is_filled_in_as_the_sdk_does() -> None:
    values = template().variables(GROWING, [STOP], title="why?", content="Thinking ...")
    assert json.loads(values.pop("sys_full_json_obj")) == {
        "order": ["msgTitle", "msgContent", "staticMsgContent", "msgButtons"],
        "msgButtons": [{"text": "⏹ Stop", "color": "gray", "id": "stop", "request": True}],
    }
    assert values == {"flowStatus": "2", "msgTitle": "why?", "msgContent": "Thinking ..."}


def test_a_template_of_ones_own_gets_its_buttons_as_a_group() -> None:
    values = template(OWN).variables(FINISHED, [STOP], title="why?", content="Because.")
    assert json.loads(values.pop("buttons")) == [
        {
            "text": "⏹ Stop",
            "color": "gray",
            "status": "normal",
            "event": {"type": "sendCardRequest", "params": {"actionId": "stop", "params": {"id": "stop"}}},
        }
    ]
    assert values == {"flowStatus": "3", "title": "why?", "content": "Because."}


def test_what_a_template_does_not_have_is_left_out() -> None:
    assert template(BARE).variables(FAILED, [STOP], title="why?", content="Sorry.") == {"content": "Sorry."}
    assert template(BARE).view(ENGLISH, "Thanks!", "helpful") == {}
    without_note = CardVariables(note="")
    shown = json.loads(template(without_note).variables(GROWING, [STOP])["sys_full_json_obj"])
    assert shown["order"] == ["msgTitle", "msgContent", "msgButtons"]


@pytest.mark.parametrize("missing", ["title", "note", "buttons", "status"])
def test_each_of_them_may_be_missing_alone(missing: str) -> None:
    names = OWN.model_copy(update={missing: ""})
    values = template(names).variables(GROWING, [STOP], title="why?", content="") | template(names).view(
        ENGLISH, "Thanks!", "helpful"
    )
    assert set(values) == {"content", "title", "note", "buttons", "flowStatus"} - {getattr(OWN, missing)}


def test_what_is_not_given_stays_as_it_is_and_what_is_empty_is_emptied() -> None:
    assert set(template(OWN).variables(FINISHED, [])) == {"flowStatus", "buttons"}
    assert template(OWN).variables(FINISHED, [], title="", content="") == {
        "flowStatus": "3",
        "title": "",
        "content": "",
        "buttons": "[]",
    }


def test_buttons_are_taken_away_by_giving_none() -> None:
    assert json.loads(template(OWN).variables(FINISHED, [])["buttons"]) == []
    assert json.loads(template().variables(FINISHED, [])["sys_full_json_obj"])["msgButtons"] == []


@pytest.mark.parametrize(("length", "shown"), [(199, 199), (200, 200), (201, 200), (9000, 200)])
def test_a_long_title_is_shortened(length: int, shown: int) -> None:
    title = template().variables(GROWING, [], title="问" * length)["msgTitle"]
    assert len(title) == shown
    assert title == "问" * length if length == shown else title == "问" * 199 + "…"


def test_the_content_is_not_shortened() -> None:
    assert len(template().variables(FINISHED, [], content="答" * 9000)["msgContent"]) == 9000


@pytest.mark.parametrize("names", [CardVariables(), OWN, BARE], ids=["sdk", "own", "bare"])
@BOTH_LANGUAGES
def test_every_value_is_a_string(names: CardVariables, texts: Texts) -> None:
    one = template(names)
    for outcome in ("answered", "failed", "stopped", "interrupted"):
        values = one.variables(FINISHED, one.end_buttons(texts, outcome), title="why?", content="Because.")
        values |= one.view(texts, texts.thanks, "helpful")
        assert values
        assert {type(value) for value in values.values()} == {str}


@pytest.mark.parametrize("names", [CardVariables(), OWN], ids=["sdk", "own"])
def test_chinese_is_not_escaped(names: CardVariables) -> None:
    one = template(names)
    assert "😄 非常有帮助" in one.variables(FINISHED, one.end_buttons(CHINESE, "answered"))[names.buttons]


# ---- the buttons


@BOTH_LANGUAGES
def test_below_an_answer_there_are_four_ratings_and_two_ways_on(texts: Texts) -> None:
    buttons = template().end_buttons(texts, "answered")
    assert [(one.id, one.text) for one in buttons] == [
        ("very_helpful", texts.very_helpful),
        ("helpful", texts.helpful),
        ("somewhat_helpful", texts.somewhat_helpful),
        ("not_helpful", texts.not_helpful),
        ("regenerate", texts.regenerate),
        ("continue", texts.keep_asking),
    ]


@pytest.mark.parametrize("outcome", ["failed", "stopped", "interrupted"])
def test_what_is_no_whole_answer_can_only_be_asked_for_again(outcome: Any) -> None:
    assert [one.id for one in template().end_buttons(ENGLISH, outcome)] == ["regenerate"]


def test_without_ratings_there_are_only_the_ways_on() -> None:
    one = template(with_ratings=False)
    assert [button.id for button in one.end_buttons(ENGLISH, "answered", "helpful")] == ["regenerate", "continue"]


@pytest.mark.parametrize("mine", RATINGS)
def test_a_persons_own_rating_is_marked_and_no_other(mine: Any) -> None:
    labels = {one.id: one.text for one in template().end_buttons(ENGLISH, "answered", mine)}
    assert labels[mine] == f"✅ {getattr(ENGLISH, mine)}"
    assert [name for name, label in labels.items() if "✅" in label] == [mine]


@pytest.mark.parametrize("names", [CardVariables(), OWN], ids=["sdk", "own"])
def test_a_click_on_any_button_is_understood(names: CardVariables) -> None:
    one = template(names)
    buttons = [*one.end_buttons(ENGLISH, "answered", "helpful"), STOP]
    shown = json.loads(one.variables(FINISHED, buttons)[names.buttons])
    meant = []
    for button in shown if names is OWN else shown["msgButtons"]:
        given = button["event"]["params"] if names is OWN else {"actionId": button["id"], "params": {}}
        private = {"actionIds": [given["actionId"]], "params": given["params"]}
        click = read_click({"outTrackId": "ai-1", "userId": "Ann", "content": {"cardPrivateData": private}})
        alone = read_click({"outTrackId": "ai-1", "userId": "Ann", "content": {"params": given["params"]}, **given})
        assert alone == click
        meant.append((click.action, click.rating))
    ways = [("regenerate", None), ("continue", None), ("stop", None)]
    assert meant == [*(("rate", rating) for rating in RATINGS), *ways]


# ---- for one person


@pytest.mark.parametrize("names", [CardVariables(), OWN], ids=["sdk", "own"])
def test_a_person_sees_a_note_and_the_own_rating(names: CardVariables) -> None:
    one = template(names)
    view = one.view(ENGLISH, "Thanks!", "helpful")
    assert view == {
        names.note: "Thanks!",
        names.buttons: one.variables(FINISHED, one.end_buttons(ENGLISH, "answered", "helpful"))[names.buttons],
    }
    assert "✅ 😊 Helpful" in view[names.buttons]


def test_a_person_who_has_not_rated_sees_the_buttons_of_all_and_perhaps_a_note() -> None:
    assert template().view(ENGLISH, "Only Ann can do this.", None) == {"staticMsgContent": "Only Ann can do this."}
    assert template().view(ENGLISH, "", None) == {}


def test_no_empty_note_is_put_in_the_place_of_one_that_is_there() -> None:
    assert set(template(OWN).view(ENGLISH, "", "helpful")) == {"buttons"}


# ---- the bodies


def test_a_card_for_a_group() -> None:
    variables = {"msgContent": "Thinking ..."}
    assert cards.delivery("t.schema", "ai-1", variables, "ding-demo", "cid==", {"staff-Ann": "Ann"}) == {
        "cardTemplateId": "t.schema",
        "outTrackId": "ai-1",
        "callbackType": "STREAM",
        "userIdType": 1,
        "cardData": {"cardParamMap": variables},
        "openSpaceId": "dtv1.card//IM_GROUP.cid==",
        "imGroupOpenSpaceModel": {"supportForward": True},
        "imGroupOpenDeliverModel": {"robotCode": "ding-demo", "atUserIds": {"staff-Ann": "Ann"}},
    }


def test_a_card_for_a_group_that_tells_nobody() -> None:
    body = cards.delivery("t.schema", "ai-1", {}, "ding-demo", "cid==", {})
    assert body["imGroupOpenDeliverModel"] == {"robotCode": "ding-demo"}


def test_a_card_for_one_person() -> None:
    assert cards.delivery_to_person("t.schema", "ai-1", {"title": "why?"}, "ding-demo", "staff-Ann") == {
        "cardTemplateId": "t.schema",
        "outTrackId": "ai-1",
        "callbackType": "STREAM",
        "userIdType": 1,
        "cardData": {"cardParamMap": {"title": "why?"}},
        "openSpaceId": "dtv1.card//IM_ROBOT.staff-Ann",
        "imRobotOpenSpaceModel": {"supportForward": True},
        "imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT", "robotCode": "ding-demo"},
    }


BY_KEY = {"updateCardDataByKey": True, "updatePrivateDataByKey": True}


def test_an_update_changes_only_what_it_names() -> None:
    assert cards.update("ai-1", {"flowStatus": "3"}) == {
        "outTrackId": "ai-1",
        "cardData": {"cardParamMap": {"flowStatus": "3"}},
        "cardUpdateOptions": BY_KEY,
    }


def test_an_update_for_one_person_changes_nothing_for_the_others() -> None:
    assert cards.update_for("ai-1", "staff-Ann", {"note": "Thanks!"}) == {
        "outTrackId": "ai-1",
        "privateData": {"staff-Ann": {"cardParamMap": {"note": "Thanks!"}}},
        "cardUpdateOptions": BY_KEY,
    }


def test_the_answer_to_a_click_changes_what_that_person_sees() -> None:
    assert cards.response({"note": "Thanks!"}) == {
        "cardUpdateOptions": BY_KEY,
        "userPrivateData": {"cardParamMap": {"note": "Thanks!"}},
    }
    assert cards.response({}) == {}


def test_by_default_it_is_the_sdks_template() -> None:
    settings = AnswerConfig(agent="aiagents.ragTest")
    assert settings.cardTemplateId == "382e4302-551d-4880-bf29-a30acfab2e71.schema"
    assert settings.cardVariables == CardVariables(
        content="msgContent",
        title="msgTitle",
        note="staticMsgContent",
        buttons="sys_full_json_obj",
        status="flowStatus",
    )


def test_no_blank_is_wasted_on_the_buttons() -> None:
    """DingTalk documents 1 KB for a variable."""
    for names in (CardVariables(), OWN):
        one = template(names)
        for texts in (ENGLISH, CHINESE):
            buttons = one.variables(FINISHED, one.end_buttons(texts, "answered", "helpful"))[names.buttons]
            assert '": ' not in buttons and '", ' not in buttons and "}, " not in buttons
            assert len(buttons.encode()) < 1024


@pytest.mark.parametrize(
    "names",
    [{"content": " "}, {"content": "same", "title": "same"}, {"picture": "x"}, "msgContent", {"title": 5}],
    ids=repr,
)
def test_names_that_cannot_be_are_refused(names: Any) -> None:
    with pytest.raises(ValidationError):
        AnswerConfig.model_validate({"agent": "aiagents.hr", "cardVariables": names})
