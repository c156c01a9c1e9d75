"""A folder of Markdown files as a FAQ: which entries it has, and which of them a question is about.

Owns reading the files (once, when it is made) and finding an entry: by shared words, of which rare ones count more.
Does not do: streaming, time, language models. Nothing changes after it is made, so any thread may ask.
"""

from __future__ import annotations

import math
import operator
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SUFFIXES = (".md", ".markdown")
_ENOUGH = 0.4  # the share of a question that an entry must have in common with it
_MOST_EXAMPLES = 4
_MOST_LISTED = 10

_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)(.*)")
_CLOSING = re.compile(r"(?:^|[ \t])#+$")  # what may end a heading
# Also below a list item or in a quotation.
_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}(?=[^`]*$)|~{3,})")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?![ \t]*\n)(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|$)")
_COMMENT = re.compile(r"\s*<!--(.*?)-->", re.DOTALL)
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")
# In a heading: a link or an image (its words stay), an id, a tag, and the marks of code and bold.
_MARKS = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|\s*\{#[^}]*\}|</?[a-zA-Z][^>]*>|`|\*\*")

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CHINESE = re.compile(f"[{_HAN}]")
_RUN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+")
_ENDING = re.compile(r"(?<=..)(?:ations?|ings?|ed|es|s|e|(?<![aeou])(?:y|ies))$")
_DOUBLE = re.compile(r"([a-z])\1$")  # stop, stopped
# What says nothing about the subject of a question.
_COMMON = re.compile(
    "a|about|am|an|and|any|are|at|be|can|could|do|does|explain|for|from|get|happens?|have|hello|help|hey|hi|how|i|if|in|"
    "is|it|its|know|like|may|me|means?|my|need|of|on|one|or|please|s|should|so|some|tell|than|thanks?|that|the|then|"
    "there|these|this|to|use|want|we|what|when|where|which|who|why|will|with|would|you|your"
)
_COMMON_CHINESE = re.compile(
    "怎么样|怎么|干嘛|干什么|怎样|如何|什么|为什么|为何|哪些|哪里|哪个|多少|请问|您好|你好|这个|那个|可以|能够|能不能|是不是|一下|谢谢"
)
_PARTICLES = frozenset("这那的是没了吗呢吧啊我你您他它们在有和与会能要把被给让做用谁请")

_SORRY = "Sorry, this is not in our FAQ. You could ask:"
_SORRY_CHINESE = "抱歉，常见问题里没有这一条。您可以问："


class Entry(NamedTuple):
    heading: str  # without marks
    subject: str  # the heading, those above it, and the other words for it
    text: str  # Markdown, as it stands in the file


def is_chinese(text: str) -> bool:
    return _CHINESE.search(text) is not None


def _is_in_chinese(entry: Entry) -> bool:
    """An English one may name something in Chinese, and the other way round."""
    text = entry.heading + entry.text
    return is_chinese(entry.heading) or 2 * len(_CHINESE.findall(text)) > len(re.findall("[A-Za-z]", text))


class Faq:
    def __init__(self, folder: Path) -> None:
        """Raises ValueError, with a sentence for the person who named the folder, where there is nothing to answer."""
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; expected is one with Markdown files (*.md) in it")
        try:
            entries = [entry for file in _files(folder) for entry in _entries(file)]
        except OSError as error:
            raise ValueError(f"{folder} cannot be read; expected are Markdown files: {error}") from error
        if not entries:
            raise ValueError(
                f"{folder} has nothing to answer; expected are Markdown files (*.md) with headings and text"
            )
        english = [entry for entry in entries if not _is_in_chinese(entry)]
        self._english, self._chinese = _Index(english), _Index([entry for entry in entries if _is_in_chinese(entry)])

    def answer(self, question: str) -> str:
        """The text of the entry that a question is about; else a polite sentence, and what one could ask."""
        # What is quoted counts only where nothing else was said.
        own = "\n".join(line for line in question.split("\n") if not line.startswith(">"))
        asked = own if own.strip() else question
        in_chinese = is_chinese(asked)
        first, second = (self._chinese, self._english) if in_chinese else (self._english, self._chinese)
        return (first if first.entries else second).answer(asked, question, _SORRY_CHINESE if in_chinese else _SORRY)

    def examples(self) -> dict[str, list[str]]:
        """A few questions that it can answer, by language, in the order of the files."""
        return {"en": self._english.headings()[:_MOST_EXAMPLES], "zh": self._chinese.headings()[:_MOST_EXAMPLES]}


class _Index:
    """Entries, and which words are in which of them."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._by_heading: dict[str, int] = {}
        # Word -> numbers of the entries whose subject it is, or whose text speaks of it.
        self._subjects: dict[str, list[int]] = defaultdict(list)
        self._texts: dict[str, list[int]] = defaultdict(list)
        stems = _Stems()
        for number, entry in enumerate(entries):
            self._by_heading.setdefault(_key(entry.heading), number)
            subject = _words(entry.subject, stems)
            for word in subject:
                self._subjects[word].append(number)
            for word in _words(entry.text, stems) - subject:
                self._texts[word].append(number)

    def headings(self) -> list[str]:
        return list(dict.fromkeys(entry.heading for entry in self.entries))

    def answer(self, question: str, context: str, sorry: str) -> str:
        number = self._by_heading.get(_key(question)) if _key(question) else None
        words = self._words_of(question) or self._words_of(context)
        if number is None and not words:  # "Hello", "What is this?"
            number = 0
        if number is not None:
            return self.entries[number].text
        shares = self._shares(words)
        most = max(shares.values(), default=0)
        if most >= _ENOUGH:
            best = [number for number, share in shares.items() if share > most - 1e-9]
            return self.entries[max(best, key=lambda number: (self._coverage(number, words), -number))].text
        nearest = sorted(shares, key=lambda number: (-shares[number], number))[:_MOST_LISTED]
        known = dict.fromkeys([*(self.entries[number].heading for number in nearest), *self.headings()])
        return "\n".join([sorry, "", *(f"- {heading}" for heading in list(known)[:_MOST_LISTED])])

    def _shares(self, words: set[str]) -> dict[int, float]:
        """Entry -> how much of the question it is about, from 0 to 1; words of its text count half."""
        shares: dict[int, float] = defaultdict(float)
        weights = {word: self._weight(word) for word in words}
        whole = sum(weights.values())
        for word, weight in weights.items():
            for number in self._subjects.get(word, ()):
                shares[number] += weight / whole
            for number in self._texts.get(word, ()):
                shares[number] += weight / whole / 2
        return shares

    def _weight(self, word: str) -> float:
        count = len(self._subjects.get(word, ())) + len(self._texts.get(word, ()))
        weight = math.log(1 + len(self.entries) / (1 + count))
        # What no entry has may be a subject of its own, or just another way to say it.
        return weight if count else weight / 2

    def _coverage(self, number: int, words: set[str]) -> float:
        """How much of the entry's heading is in the question: of those who say as much, who says least else."""
        heading = _words(self.entries[number].heading, _Stems())
        return len(heading & words) / max(1, len(heading))

    def _words_of(self, question: str) -> set[str]:
        """What the question is about: without what could stand in any question."""
        words: set[str] = set()
        stems = _Stems()
        for run in _RUN.findall(_COMMON_CHINESE.sub(" ", _normal(question))):
            if not is_chinese(run):
                words.add(stems[run])
                continue
            # A pair with a particle is a word only where the files have it.
            pairs = {
                pair
                for pair in map(operator.add, run, run[1:])
                if not (particles := _PARTICLES & set(pair))
                or (len(particles) < len(set(pair)) and (pair in self._subjects or pair in self._texts))
            }
            words |= pairs or set(run) - _PARTICLES
        return words - {""}


class _Stems(dict[str, str]):
    """A word -> what it is looked up by: without its ending, "" for one that is in any question."""

    def __missing__(self, word: str) -> str:
        stem = "" if _COMMON.fullmatch(word) else _DOUBLE.sub(r"\1", _ENDING.sub("", word))
        self[word] = stem
        return stem


def _words(text: str, stems: _Stems) -> set[str]:
    """What a text is about: words by their stems; Chinese, which has no spaces, in characters and pairs of them."""
    words: set[str] = set()
    for run in set(_RUN.findall(_normal(text))):
        if run.isascii() or not is_chinese(run):
            words.add(stems[run])
        else:
            words.update(run, map(operator.add, run, run[1:]))
    words.discard("")
    return words


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _key(heading: str) -> str:
    return " ".join(_RUN.findall(_normal(heading)))


def _files(folder: Path) -> list[Path]:
    """In order, without what is hidden: a virtual environment's licences, an editor's locks."""
    files: list[Path] = []
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(path, name) for name in names if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    return sorted(files)


def _entries(file: Path) -> Iterator[Entry]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not in UTF-8; save it so, or take it out of the folder") from error
    front_matter = _FRONT_MATTER.match(text)
    above: list[tuple[int, str]] = []  # the headings that a line stands below, with their levels
    for level, heading, section in _sections(text[front_matter.end() :] if front_matter else text):
        above = [*(one for one in above if one[0] < level), (level, heading)]
        comment = _COMMENT.match(section)
        section = section[comment.end() :] if comment else section
        blank = _BLANK_LINES.match(section)
        section = section[blank.end() :].rstrip() if blank else section.rstrip()
        if re.search(r"\w", section):
            subject = " ".join([*(heading for _, heading in above), comment[1] if comment else ""])
            yield Entry(heading or file.stem, subject if subject.strip() else file.stem, section)


def _sections(text: str) -> Iterator[tuple[int, str, str]]:
    """Level, heading and text of each; the first has no heading and may have no text."""
    level, heading, fence = 0, "", ""
    lines: list[str] = []
    for line in text.split("\n"):
        mark = line.lstrip("> \t")
        if fence:
            mark = mark.rstrip()
            if mark.startswith(fence) and not mark.strip(fence[0]):
                fence = ""
        elif opening := ("```" in line or "~~~" in line) and _FENCE.match(line):
            fence = opening[1]
        elif found := line.lstrip(" ").startswith("#") and _HEADING.match(line):
            yield level, heading, "\n".join(lines)
            level, heading, lines = len(found[1]), _plain(found[2]), []
            continue
        lines.append(line)
    yield level, heading, "\n".join(lines)


def _plain(heading: str) -> str:
    return _MARKS.sub(lambda mark: mark[1] or "", _CLOSING.sub("", heading.strip())).strip()
