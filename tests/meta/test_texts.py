"""The sentences for people, and the choice of their language."""

from __future__ import annotations

import dataclasses
import re

import pytest

from imRobots.Meta import IncomingMessage, Texts, texts_for, texts_to

HAN = re.compile(r"[\u4e00-\u9fff]")
ENGLISH, CHINESE = texts_for("en-US", ""), texts_for("zh-CN", "")
NAMES = [field.name for field in dataclasses.fields(Texts)]


@pytest.mark.parametrize(
    "question", ["几天假？", "What does 假 mean?", "㐀", "\U00020000", "豈", "東京はどこですか"], ids=ascii
)
def test_a_question_with_a_han_character_gets_chinese(question: str) -> None:
    assert texts_for("auto", question) is CHINESE


@pytest.mark.parametrize(
    "question", ["How many days?", "", "¿Cuántos días?", "？！。", "안녕하세요", "こんにちは", "😄"], ids=ascii
)
def test_any_other_question_gets_english(question: str) -> None:
    assert texts_for("auto", question) is ENGLISH


def test_a_configured_language_is_used_whatever_the_question() -> None:
    assert texts_for("zh-CN", "How many days?") is CHINESE
    assert texts_for("en-US", "几天假？") is ENGLISH


@pytest.mark.parametrize("name", NAMES)
def test_each_sentence_is_in_its_language(name: str) -> None:
    assert HAN.search(getattr(CHINESE, name))
    assert re.search("[a-z]", getattr(ENGLISH, name))
    assert not HAN.search(getattr(ENGLISH, name))


@pytest.mark.parametrize("texts", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_sentences_can_be_shown_as_they_are(texts: Texts) -> None:
    assert re.search(r"\b7\b|第 7 位", texts.place.format(place=7))
    with_gaps = [name for name in NAMES if re.search("[{}]", getattr(texts, name))]
    assert with_gaps == ["place", "status"]
    assert len({getattr(texts, name) for name in NAMES}) == len(NAMES)


def test_the_card_speaks_like_the_tutorials() -> None:
    assert ENGLISH.thinking == "[Thinking] Analyzing your question, please wait..."
    assert CHINESE.thinking == "[思考]正在分析您的问题，请稍候..."
    assert (ENGLISH.very_helpful, CHINESE.not_helpful) == ("😄 Very Helpful", "😅 没帮助")


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("/help", "小钉", CHINESE),
        ("/help", "Ann", ENGLISH),
        ("/帮助", "Ann", CHINESE),
        ("", "小钉", CHINESE),
        ("/var/log is full, why?", "小钉", ENGLISH),
        ("Why?", "小钉", ENGLISH),
    ],
)
def test_a_command_is_answered_in_the_language_of_the_person(text: str, name: str, expected: Texts) -> None:
    message = IncomingMessage("m1", "c1", "p1", name, text)
    assert texts_to("auto", message) is expected
    assert texts_to("zh-CN", message) is CHINESE
