"""The cards are those of the JitAi tutorial, as JSON, with unique ids and shorter buttons."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from imRobots.dingTalkStreamType.cards import answer_card, final_card, thinking_card, to_json
from imRobots.Meta import Texts, texts_for

ENGLISH, CHINESE = texts_for("en-US", ""), texts_for("zh-CN", "")
QUESTION, ANSWER = "Why is the sky blue?", "Rayleigh\nscattering"
BOTH_LANGUAGES = pytest.mark.parametrize("texts", [ENGLISH, CHINESE], ids=["en", "zh"])


def buttons_of(card: dict[str, Any]) -> list[dict[str, Any]]:
    return card["contents"][2]["actions"]


def values_of(card: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(button["value"]) for button in buttons_of(card)]


def ids_of(part: Any) -> list[str]:
    if isinstance(part, list):
        return [found for item in part for found in ids_of(item)]
    if isinstance(part, dict):
        own = [part["id"]] if "id" in part else []
        return own + [found for item in part.values() for found in ids_of(item)]
    return []


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (ENGLISH, "[Thinking] Analyzing your question, please wait..."),
        (CHINESE, "[思考]正在分析您的问题，请稍候..."),
    ],
    ids=["en", "zh"],
)
def test_the_thinking_card_is_the_tutorials(texts: Texts, sentence: str) -> None:
    assert thinking_card(QUESTION, texts) == {
        "config": {"autoLayout": True, "enableForward": True},
        "header": {"title": {"type": "text", "text": "Why is the sky blue?"}},
        "contents": [{"type": "markdown", "text": sentence, "id": "thinking"}],
    }


def test_the_streaming_card_is_the_tutorials() -> None:
    assert answer_card(QUESTION, ANSWER, 1700000000000) == {
        "config": {"autoLayout": True, "enableForward": True},
        "header": {"title": {"type": "text", "text": "Why is the sky blue?"}},
        "contents": [{"type": "markdown", "text": "Rayleigh\nscattering", "id": "answer_1700000000000"}],
    }


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (ENGLISH, ["😄 Very Helpful", "😊 Helpful", "🙂 Somewhat Helpful", "😅 Not Helpful"]),
        (CHINESE, ["😄 非常有帮助", "😊 有帮助", "🙂 帮助不大", "😅 没帮助"]),
    ],
    ids=["en", "zh"],
)
def test_the_final_card_is_the_tutorials_with_a_rating_in_each_button(texts: Texts, labels: list[str]) -> None:
    card = final_card(QUESTION, ANSWER, "msg-1", texts, 1700000000000)
    for button in buttons_of(card):
        button["value"] = json.loads(button["value"])

    def button(label: str, kind: str, rating: str) -> dict[str, Any]:
        return {
            "type": "button",
            "label": {"type": "text", "text": label, "id": f"text_{rating}_1700000000000"},
            "actionType": "request",
            "status": "normal",
            "size": "small",
            "id": f"button_{rating}_1700000000000",
            "value": {
                "action": "feedback",
                "type": kind,
                "rating": rating,
                "message_id": "msg-1",
                "original_text": "Why is the sky blue?",
                "response": "Rayleigh\nscattering",
            },
        }

    assert card == {
        "config": {"autoLayout": True, "enableForward": True},
        "header": {"title": {"type": "text", "text": "Why is the sky blue?"}},
        "contents": [
            {"type": "markdown", "text": "Rayleigh\nscattering", "id": "answer_1700000000000"},
            {"type": "divider", "id": "divider_1700000000000"},
            {
                "type": "action",
                "actions": [
                    button(labels[0], "helpful", "very_helpful"),
                    button(labels[1], "helpful", "helpful"),
                    button(labels[2], "unhelpful", "somewhat_helpful"),
                    button(labels[3], "unhelpful", "not_helpful"),
                ],
                "id": "action_1700000000000",
            },
        ],
    }


@BOTH_LANGUAGES
def test_no_element_id_occurs_twice_in_a_card(texts: Texts) -> None:
    ids = ids_of(final_card(QUESTION, ANSWER, "msg-1", texts, 1))
    assert len(ids) == 11  # the answer, the divider, the row of buttons, and each button with its label
    assert [name for name, count in Counter(ids).items() if count > 1] == []


def test_element_ids_differ_from_one_update_to_the_next() -> None:
    first, second = (final_card(QUESTION, ANSWER, "msg-1", ENGLISH, stamp) for stamp in (1, 2))
    assert set(ids_of(first)).isdisjoint(ids_of(second))


@pytest.mark.parametrize(("length", "kept"), [(999, 999), (1000, 1000), (1001, 1000), (5000, 1000)])
def test_a_button_carries_at_most_1000_characters_of_the_answer(length: int, kept: int) -> None:
    answer = "答" * length
    card = final_card("问" * 1500, answer, "msg-1", CHINESE, 1)
    assert [value["response"] for value in values_of(card)] == ["答" * kept] * 4
    assert card["contents"][0]["text"] == answer, "what people read is whole"
    assert {value["original_text"] for value in values_of(card)} == {"问" * 1000}


def test_chinese_is_not_escaped() -> None:
    card = final_card("天空为什么是蓝色的？", "瑞利散射 😄", "msg-1", CHINESE, 1)
    for button in buttons_of(card):
        assert "天空为什么是蓝色的？" in button["value"]
        assert "瑞利散射 😄" in button["value"]
    assert "天空为什么是蓝色的？" in to_json(card)
    assert json.loads(to_json(card)) == card


def test_quotes_and_newlines_in_question_and_answer_survive_in_the_buttons() -> None:
    question, answer = 'say "hi" \\ {{x}}', 'line 1\nline "2"\t\\'
    for value in values_of(final_card(question, answer, "msg-1", ENGLISH, 1)):
        assert (value["original_text"], value["response"]) == (question, answer)
