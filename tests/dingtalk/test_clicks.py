"""What a click says, in every shape in which it may come; all else is refused, with a reason and nothing worse."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from imRobots.dingTalkStreamType.cards import final_card
from imRobots.dingTalkStreamType.clicks import read_click
from imRobots.Meta import Click, ClickRefused, texts_for

RATINGS = ["very_helpful", "helpful", "somewhat_helpful", "not_helpful"]
TYPES = {
    "very_helpful": "helpful",
    "helpful": "helpful",
    "somewhat_helpful": "unhelpful",
    "not_helpful": "unhelpful",
}
DEEP = "[" * 100_000
JSON_OR_NOT = pytest.mark.parametrize("encode", [json.dumps, lambda value: value], ids=["string", "object"])


def pressed(*ids: Any, **params: Any) -> dict[str, Any]:
    """The content of a click as DingTalk documents it."""
    return {"cardPrivateData": {"actionIds": list(ids), "params": params}}


def callback(content: Any, **changes: Any) -> dict[str, Any]:
    """A whole card callback around it; None takes a field out."""
    fields = {
        "extension": "{}",
        "corpId": "ding-corp",
        "spaceType": "im",
        "userIdType": 1,
        "type": "actionCallback",
        "userId": "staff-Ann",
        "spaceId": "cid-1",
        "outTrackId": "ai-1",
        "content": content,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def reason(data: Any) -> str:
    with pytest.raises(ClickRefused) as caught:
        read_click(data)
    return str(caught.value)


# ---- what DingTalk documents, and what others have met


def test_a_click_names_its_card_and_its_person_and_what_was_pressed() -> None:
    data = callback(json.dumps(pressed("helpful", action="feedback", rating="helpful")))
    assert read_click(data) == Click("ai-1", "staff-Ann", "rate", "helpful", "", "")


@JSON_OR_NOT
@pytest.mark.parametrize("place", ["content", "value"])
@pytest.mark.parametrize(
    "content",
    [
        {"cardPrivateData": {"actionIds": ["regenerate"], "params": {"action": "regenerate"}}},
        {"cardPrivateData": {"actionIds": ["regenerate"]}, "params": {"action": "regenerate"}},
        {"cardPrivateData": {"actionIds": ["regenerate"]}},
        {"cardPrivateData": {"actionIds": [], "params": {"action": "regenerate"}}},
        {"cardPrivateData": {"params": {"action": "regenerate"}}},
        {"params": {"action": "regenerate"}},
        {"actionId": "regenerate"},
        {"cardPrivateData": '{"actionIds": ["regenerate"], "params": "{}"}'},
        {"cardPrivateData": {"params": '{"action": "regenerate"}'}},
        {"params": '{"action": "regenerate"}'},
        {"cardPrivateData": {"actionIds": [None, 7, "cell_1", "regenerate"]}},
        {"cardPrivateData": {"actionIds": ["node_ocltuj6xqb1"], "params": {"id": "regenerate"}}},
        {"cardPrivateData": {"actionIds": ["node_ocltuj6xqb1"]}, "params": {"id": "button_regenerate_17"}},
    ],
    ids=[
        "inside",
        "beside",
        "id only",
        "parameters only",
        "no ids",
        "parameters without private data",
        "id beside",
        "private data as a string",
        "parameters as a string",
        "parameters beside as a string",
        "among other ids",
        "id among the parameters",
        "id among the parameters beside",
    ],
)
def test_wherever_it_stands_it_is_understood(content: dict[str, Any], place: str, encode: Any) -> None:
    data = {**callback(None), place: encode(content)}
    assert read_click(data) == Click("ai-1", "staff-Ann", "regenerate")


@pytest.mark.parametrize("content", [None, "", "{}", {}, "{broken", {"cardPrivateData": {"params": {}}}], ids=repr)
def test_an_id_at_the_top_is_enough(content: Any) -> None:
    assert read_click(callback(content, actionId="not_helpful")) == Click("ai-1", "staff-Ann", "rate", "not_helpful")


def test_an_id_at_the_top_goes_with_the_parameters_of_the_content() -> None:
    data = callback({"cardPrivateData": {"params": {"action": "feedback", "type": "helpful"}}}, actionId="very_helpful")
    assert read_click(data) == Click("ai-1", "staff-Ann", "rate", "very_helpful")


@pytest.mark.parametrize("broken", ["{broken", "", "[]", "null", "5", [], 5, DEEP], ids=lambda one: str(one)[:9])
def test_where_the_content_cannot_be_read_the_value_counts(broken: Any) -> None:
    assert read_click(callback(broken, value=json.dumps(pressed("stop")))).action == "stop"


def test_the_content_counts_where_both_can_be_read() -> None:
    assert read_click(callback(pressed("stop"), value=json.dumps(pressed("regenerate")))).action == "stop"


def test_parameters_inside_count_more_than_those_beside() -> None:
    content = {**pressed(action="stop"), "params": {"action": "regenerate", "message_id": "msg-1"}}
    assert read_click(callback(content)) == Click("ai-1", "staff-Ann", "stop", None, "msg-1")


def test_what_a_click_from_another_way_lacks_is_not_missed() -> None:
    data = {"outTrackId": "ai-1", "userId": "staff-Ann", "content": json.dumps(pressed("stop"))}
    for kind in ({}, {"type": "actionCallback"}, {"type": None}):
        assert read_click({**data, **kind}) == Click("ai-1", "staff-Ann", "stop")


@pytest.mark.parametrize("kind", ["somethingNew", "", 5, {}, []])
def test_another_type_of_callback_is_refused(kind: Any) -> None:
    data = {"outTrackId": "ai-1", "userId": "staff-Ann", "content": json.dumps(pressed("stop")), "type": kind}
    with pytest.raises(ClickRefused, match="unknown type"):
        read_click(data)


# ---- what the buttons mean


@pytest.mark.parametrize("around", ["{}", "button_{}", "{}_1700000000000", "button_{}_1700000000000"])
@pytest.mark.parametrize("rating", RATINGS)
def test_a_rating_by_the_id_of_its_button_alone(rating: Any, around: str) -> None:
    assert read_click(callback(pressed(around.format(rating)))) == Click("ai-1", "staff-Ann", "rate", rating)


@pytest.mark.parametrize(
    ("button", "action"),
    [("regenerate", "regenerate"), ("continue", "continue"), ("continue_chat", "continue"), ("stop", "stop")],
)
def test_the_other_buttons_by_id_or_by_parameter(button: str, action: Any) -> None:
    ways = [pressed(button), pressed(f"button_{button}_17"), pressed(action=button), pressed("cell_7", action=button)]
    for content in ways:
        assert read_click(callback(content)) == Click("ai-1", "staff-Ann", action)


@pytest.mark.parametrize("rating", RATINGS)
def test_a_rating_by_its_parameters_alone(rating: Any) -> None:
    for params in ({"rating": rating}, {"rating": rating, "type": TYPES[rating]}, {"rating": rating, "type": ""}):
        click = read_click(callback(pressed("cell_7", action="feedback", **params)))
        assert (click.action, click.rating) == ("rate", rating)


@pytest.mark.parametrize(("kind", "rating"), [("helpful", "helpful"), ("unhelpful", "not_helpful")])
def test_a_button_that_knows_only_two_types_of_feedback(kind: str, rating: Any) -> None:
    assert read_click(callback(pressed(action="feedback", type=kind))).rating == rating


@pytest.mark.parametrize("rating", RATINGS)
def test_the_id_says_which_of_the_four_where_the_parameters_know_two(rating: Any) -> None:
    for params in ({}, {"type": TYPES[rating]}):
        click = read_click(callback(pressed(f"button_{rating}_1", action="feedback", **params)))
        assert (click.action, click.rating) == ("rate", rating)


def test_what_the_button_says_that_it_belongs_to_is_handed_on() -> None:
    params = {"message_id": "msg-1", "original_text": "为什么？"}
    assert read_click(callback(pressed("stop", **params))) == Click(
        "ai-1", "staff-Ann", "stop", None, "msg-1", "为什么？"
    )


@JSON_OR_NOT
@pytest.mark.parametrize("number", range(4))
def test_the_buttons_of_our_standard_cards_are_understood(number: int, encode: Any) -> None:
    card = final_card("why?", "Because.", "msg-1", texts_for("en-US", ""), 1700000000000)
    button = card["contents"][2]["actions"][number]
    content = pressed(button["id"], value=encode(json.loads(button["value"])))
    assert read_click(callback(encode(content))) == Click("ai-1", "staff-Ann", "rate", RATINGS[number], "msg-1", "why?")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"action": "feedback", "type": "helpful"}, ("rate", "helpful")),
        ({"action": "feedback", "type": "unhelpful"}, ("rate", "not_helpful")),
        ({"action": "feedback", "type": "unhelpful", "rating": "somewhat_helpful"}, ("rate", "somewhat_helpful")),
        ({"action": "regenerate"}, ("regenerate", None)),
        ({"action": "continue_chat"}, ("continue", None)),
    ],
    ids=lambda one: "-".join(filter(None, map(str, one.values() if isinstance(one, dict) else one))),
)
def test_the_value_of_the_tutorials_button_is_understood(value: dict[str, str], expected: Any) -> None:
    value = {**value, "message_id": "msg-1", "original_text": "why?", "response": "Because."}
    click = read_click(callback(json.dumps({"params": {"value": json.dumps(value)}})))
    assert (click.action, click.rating, click.message_id, click.question) == (*expected, "msg-1", "why?")


# ---- what is refused


@pytest.mark.parametrize("data", [None, True, 5, "", "{}", b"{}", [], [callback(pressed("stop"))], set()], ids=repr)
def test_what_is_no_object_is_refused(data: Any) -> None:
    assert reason(data) == "its data is no JSON object"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"outTrackId": None}, "it names no card (outTrackId)"),
        ({"outTrackId": ""}, "it names no card (outTrackId)"),
        ({"outTrackId": 5}, "its outTrackId is no text"),
        ({"outTrackId": ["ai-1"]}, "its outTrackId is no text"),
        ({"userId": None}, "it names nobody (userId)"),
        ({"userId": ""}, "it names nobody (userId)"),
        ({"userId": {"id": "staff-Ann"}}, "its userId is no text"),
        ({"actionId": 7}, "its actionId is no text"),
        ({"actionId": ["stop"]}, "its actionId is no text"),
    ],
    ids=repr,
)
def test_who_pressed_what_must_be_said(changes: dict[str, Any], expected: str) -> None:
    assert reason(callback(pressed("stop"), **changes)) == expected


BROKEN = [None, "", "{broken", "[]", "null", '"{}"', 5, [], True, DEEP]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: repr(one)[:9])
def test_a_click_without_content_is_refused(broken: Any) -> None:
    assert reason(callback(broken)) == "its content is no JSON object"
    assert reason(callback(None, value=broken)) == "its content is no JSON object"


@pytest.mark.parametrize(
    "content",
    [
        {},
        pressed(),
        pressed("", "cell_7"),
        pressed("feedback"),
        pressed("button_feedback_1"),
        pressed("HELPFUL"),
        pressed("helpful-1"),
        pressed("helpful_x1"),
        pressed("helpful_1_"),
        pressed("xhelpful"),
        pressed("helpful\n"),
        pressed("button_"),
        pressed(rating="helpful"),
        pressed(type="helpful"),
        pressed(action=""),
        {"cardPrivateData": {"actionIds": "stop"}},
        {"cardPrivateData": {"actionIds": [["stop"], {"id": "stop"}]}},
        {"cardPrivateData": ["stop"], "params": ["stop"]},
        {"cardPrivateData": "{broken", "params": "stop"},
    ],
    ids=repr,
)
def test_a_button_that_says_nothing_is_refused(content: Any) -> None:
    assert reason(callback(content)) == "neither the button nor its parameters say what to do"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"action": "delete"}, "its action 'delete' is unknown"),
        ({"action": "rate"}, "its action 'rate' is unknown"),
        ({"action": "x" * 1000}, f"its action '{'x' * 40}' is unknown"),
        ({"action": 5}, "its action is no text"),
        ({"action": {"stop": 1}}, "its action is no text"),
        ({"action": "feedback"}, "its rating is missing or unknown"),
        ({"action": "feedback", "rating": "great"}, "its rating is missing or unknown"),
        ({"action": "feedback", "rating": "unhelpful"}, "its rating is missing or unknown"),
        ({"action": "feedback", "rating": 1}, "its rating is no text"),
        ({"action": "feedback", "rating": ["helpful"]}, "its rating is no text"),
        ({"action": "feedback", "type": "very_helpful"}, "its type of feedback 'very_helpful' is unknown"),
        ({"action": "feedback", "type": "y" * 99}, f"its type of feedback '{'y' * 40}' is unknown"),
        ({"action": "feedback", "type": {}}, "its type is no text"),
        (
            {"action": "feedback", "type": "helpful", "rating": "not_helpful"},
            "its rating and its type of feedback contradict each other",
        ),
        ({"action": "stop", "id": 5}, "its id is no text"),
        ({"action": "stop", "message_id": 5}, "its message_id is no text"),
        ({"action": "stop", "original_text": ["why?"]}, "its original_text is no text"),
    ],
    ids=lambda one: str(one)[:50],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, Any], expected: str) -> None:
    assert reason(callback(pressed(**params))) == expected
    assert reason(callback({"params": params})) == expected


@pytest.mark.parametrize(
    ("button", "params"),
    [
        ("stop", {"action": "regenerate"}),
        ("helpful", {"action": "stop"}),
        ("helpful", {"action": "feedback", "rating": "very_helpful"}),
        ("helpful", {"action": "feedback", "rating": "not_helpful"}),
        ("regenerate", {"action": "feedback", "rating": "helpful"}),
        ("button_stop_17", {"action": "continue_chat"}),
    ],
    ids=repr,
)
def test_a_button_whose_parameters_contradict_it_is_refused(button: str, params: dict[str, str]) -> None:
    expected = "the button and its parameters contradict each other"
    assert reason(callback(pressed(button, **params))) == expected
    assert reason(callback({"params": params}, actionId=button)) == expected
    assert reason(callback(pressed("node_1", id=button, **params))) == expected


@pytest.mark.parametrize("button", ["not_helpful", "somewhat_helpful"])
def test_a_rating_and_a_type_of_feedback_that_contradict_each_other_are_refused(button: str) -> None:
    content = pressed(button, action="feedback", type="helpful")
    assert reason(callback(content)) == "its rating and its type of feedback contradict each other"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "its value is no JSON object"),
        ("", "its value is no JSON object"),
        ("helpful", "its value is no JSON object"),
        ("[]", "its value is no JSON object"),
        (["feedback"], "its value is no JSON object"),
        (DEEP, "its value is no JSON object"),
        ({}, "its value lacks action and message_id"),
        ({"action": "", "message_id": ""}, "its value lacks action and message_id"),
        ({"action": "feedback", "type": "helpful"}, "its value lacks message_id"),
        ({"message_id": "msg-1"}, "its value lacks action"),
        ({"action": "feedback", "message_id": 5}, "its message_id is no text"),
        ({"action": "regenerate", "message_id": "msg-1"}, "its value lacks original_text"),
        ({"action": "regenerate", "message_id": "msg-1", "original_text": ""}, "its value lacks original_text"),
        ({"action": "delete", "message_id": "msg-1"}, "its action 'delete' is unknown"),
        ({"action": "feedback", "message_id": "msg-1"}, "its rating is missing or unknown"),
    ],
    ids=lambda one: str(one)[:50],
)
def test_a_value_that_is_not_the_tutorials_is_refused(value: Any, expected: str) -> None:
    encoded = [value, json.dumps(value)] if isinstance(value, dict) else [value]
    for one in encoded:
        assert reason(callback(pressed("cell_7", value=one))) == expected


def test_a_value_that_contradicts_its_button_is_refused() -> None:
    value = {"action": "feedback", "type": "helpful", "rating": "helpful", "message_id": "msg-1"}
    content = pressed("button_very_helpful_17", value=json.dumps(value))
    assert reason(callback(content)) == "the button and its parameters contradict each other"


def test_parameters_beside_a_value_do_not_count() -> None:
    value = {"action": "feedback", "type": "helpful", "message_id": "msg-1"}
    click = read_click(callback(pressed(action="stop", message_id="msg-2", rating="not_helpful", value=value)))
    assert (click.action, click.rating, click.message_id) == ("rate", "helpful", "msg-1")


# ---- what nobody has thought of

NAMES = ["outTrackId", "userId", "type", "content", "value", "actionId", "cardPrivateData", "actionIds", "params"]
NAMES += ["action", "rating", "message_id", "original_text", "id", "helpful", "", "x"]
TEXTS = ["stop", "regenerate", "feedback", "continue_chat", "actionCallback", "ai-1", "停", "{", "[]", "null", '"', ""]
TEXTS += ["button_helpful_1700000000000", *RATINGS, "unhelpful", "\ud83d", "NaN", "9" * 5000, DEEP, '{"a":' * 3000]
OTHERS = [None, True, 0, -1, 10**400, 1.5, float("nan"), b"stop", {5: None, None: 5}, {1}, object()]
CLICKS = [
    callback(pressed("helpful", action="feedback", type="helpful", rating="helpful", message_id="msg-1")),
    callback(pressed("cell_7", value={"action": "regenerate", "message_id": "msg-1", "original_text": "why?"})),
    callback({"params": {"action": "continue_chat"}}, actionId="continue", value=pressed("button_stop_17")),
    callback(None, value=pressed("button_stop_17")),
]


def junk(dice: random.Random, depth: int = 0) -> Any:
    """Anything that JSON can say, and a few things that it cannot."""
    kind = dice.random()
    if depth < 4 and kind < 0.3:
        return {dice.choice(NAMES): junk(dice, depth + 1) for _ in range(dice.randrange(6))}
    if depth < 4 and kind < 0.5:
        return [junk(dice, depth + 1) for _ in range(dice.randrange(4))]
    return dice.choice(TEXTS if kind < 0.8 else OTHERS)


def spoiled(dice: random.Random, value: Any) -> Any:
    """A click with some of it replaced, missing, or as a string of JSON."""
    if dice.random() < 0.07:
        return junk(dice)
    if isinstance(value, dict):
        value = {name: spoiled(dice, part) for name, part in value.items() if dice.random() > 0.03}
    elif isinstance(value, list):
        value = [spoiled(dice, part) for part in value]
    try:
        return json.dumps(value) if dice.random() < 0.1 else value
    except TypeError:  # some of it cannot be
        return value


def test_no_click_does_any_harm() -> None:
    dice = random.Random(20260131)
    understood: list[Click] = []
    reasons: set[str] = set()
    for number in range(4000):
        data = junk(dice) if number % 4 == 0 else spoiled(dice, CLICKS[number // 4 % len(CLICKS)])
        try:
            understood.append(read_click(data))
        except ClickRefused as refusal:
            reasons.add(re.sub(r"'.*'", "'...'", str(refusal)))
            assert 10 < len(str(refusal)) < 120
    for click in understood:
        assert isinstance(click.card, str) and isinstance(click.person, str) and click.card and click.person
        assert isinstance(click.message_id, str) and isinstance(click.question, str)
        assert (click.rating in RATINGS) == (click.action == "rate")
    assert {click.action for click in understood} == {"rate", "regenerate", "continue", "stop"}
    assert len(reasons) >= 20, f"it must get into every corner, and got only into {sorted(reasons)}"
