"""The demo agent: a customer service that knows a small FAQ about imRobots, in English and in Chinese.

Owns finding the answer (shared words, rare ones count more) and streaming it at a pace that a person can watch.
Does not do: language models, network, memory. `run` works on the thread that calls it, the callback too.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_THINKING_SECONDS = 0.6
_ANSWER_SECONDS = 4.0  # for a long answer; a short one takes less
_PIECE_SECONDS = 0.1  # at most
_ENOUGH = 0.4  # the share of a question that an entry must have in common with it

_HAN = re.compile(r"[\u4e00-\u9fff]")
# One Chinese character or one word, with the white space before it.
_PIECE = re.compile(r"\s*(?:[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+)")
# What says nothing about the subject of a question.
_COMMON = re.compile(
    r"\b(?:a|about|am|an|and|any|are|at|be|can|could|do|does|for|from|get|have|hello|help|hey|hi|how|i|if|in|is|it|its|"
    r"know|like|may|me|my|need|of|on|one|or|please|should|so|some|tell|than|thank|that|the|then|there|these|this|to|use|"
    r"want|we|what|when|where|which|who|why|will|with|would|you|your)\b|"
    r"怎么样|怎么|怎样|如何|什么|为什么|为何|哪些|哪里|哪个|多少|请问|您好|你好|这个|那个|可以|能够|能不能|是不是|一下|"
    r"[这那的是了吗呢吧啊我你您他它们在有和与会能要把被给让做用谁请]",
    re.ASCII,
)
_ENDING = re.compile(r"(?<=..)(?:ations?|ings?|ed|es|s|e)$")


class _Faq:
    """The entries of one file: `## question`, perhaps a comment with other words for it, the answer in Markdown."""

    def __init__(self, file: Path, sorry: str) -> None:
        entry = r"^## (.+)\n\s*(?:<!--(.*)-->)?([^#]+)"
        entries: list[tuple[str, str, str]] = re.findall(entry, file.read_text(encoding="utf-8"), re.MULTILINE)
        self.questions = [title for title, _, _ in entries]
        self.answers = [answer.strip() for _, _, answer in entries]
        # Per entry: what it is about, and what its answer also speaks of.
        self._words = [(_words(f"{title} {more}"), _words(answer)) for title, more, answer in entries]
        self._count = Counter(word for subject, rest in self._words for word in subject | rest)
        self._sorry = sorry

    def answer(self, question: str) -> str:
        words = _words(question)
        if not words:  # "Hello", "What is this?"
            return self.answers[0]
        weight = {word: 1 / max(1, self._count[word]) for word in words}
        # From 0 to 1: how much of the question is an entry's subject; words of its answer count half.
        shares = [
            sum(weight[word] * (1 if word in subject else 0.5) for word in words & (subject | rest))
            / sum(weight.values())
            for subject, rest in self._words
        ]
        if max(shares) >= _ENOUGH:
            return self.answers[shares.index(max(shares))]
        return "\n".join([self._sorry, "", *(f"- {known}" for known in self.questions)])


class FaqAgent:
    """An agent in the documented call form: chunks to `stream_callback`, then a list of messages."""

    def __init__(self) -> None:
        folder = Path(__file__).parent
        self._english = _Faq(folder / "faq.en.md", "Sorry, this is not in our FAQ. I can answer these questions:")
        self._chinese = _Faq(folder / "faq.zh.md", "抱歉，常见问题里没有这一条。我可以回答这些问题：")

    def run(
        self,
        user_input: str,
        variables: dict[str, Any] | None = None,
        chatId: str | None = None,
        stream_callback: Callable[[dict[str, Any]], object] | None = None,
    ) -> list[dict[str, str]]:
        send = stream_callback or (lambda chunk: None)
        send({"type": "REASONING_CONTENT", "data": {"content": "Which entry of the FAQ is this about?"}})
        time.sleep(_THINKING_SECONDS)
        answer = (self._chinese if _HAN.search(user_input) else self._english).answer(user_input)
        pieces = _PIECE.findall(answer)
        for piece in pieces:
            time.sleep(min(_PIECE_SECONDS, _ANSWER_SECONDS / len(pieces)))
            send({"type": "TEXT_MESSAGE_CONTENT", "data": {"content": piece}})
        return [{"type": "human", "content": user_input}, {"type": "ai", "content": answer}]


def _words(text: str) -> set[str]:
    """What a text is about: English words without their endings, Chinese in pairs of characters."""
    words: set[str] = set()
    for run in re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]+", _COMMON.sub(" ", text.lower())):
        pairs = {run[at : at + 2] for at in range(max(1, len(run) - 1))}
        words |= pairs if _HAN.match(run) else {_ENDING.sub("", run)}
    return words
