"""Markdown in pieces: the beginning of an answer made complete, and a long answer in parts that are complete each.

Owns how Markdown is cut and closed: code fences, tables, paragraphs, `code` and **bold**. Knows no platform: the
caller says how long a part may be and how that is counted. Pure: no state, no clock, no I/O, any thread.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

# An opening fence: its indent, which may hold the marker of a list item, the fence and its info string.
_FENCE = re.compile(r"([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(`{3,}(?=[^`]*$)|~{3,})(.*)")
_CLOSING_FENCE = re.compile(r"([ \t]*)(?:`{3,}|~{3,})\s*")
# At the end of a text, these may become a fence.
_BEGUN_FENCES = ("`", "``", "~", "~~")
# A delimiter row or the beginning of one. It is one for certain if it has a "-".
_DELIMITER = re.compile(r"\|(?:[ \t]*:?-+:?[ \t]*\|)*[ \t]*(?::?-+:?|:)?")
_PIPE = re.compile(r"(?<!\\)\|")
# A list item or a heading: nothing that is open before it goes on in it.
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)]|#{1,6})(?:[ \t]|$)")
# Something escaped, a span of code, or the mark of one that does not end (group 2).
_CODE = re.compile(r"\\.|(`+)(?!`).*?[^`]\1(?!`)|(`+)", re.DOTALL)
_STARS = re.compile(r"\*{2,}")
_BLANK_LINES = re.compile(r"(?:[ \t\r]*\n)*")
# A part that is cut off leaves this much of the limit for closing, or a tenth of a small limit. So its cut depends on
# nothing that comes after it, and stays while the text grows.
_RESERVE = 40


class _Line(NamedTuple):
    at: int  # where it starts
    text: str
    # "fence" (the opening one), "code", "end" (the closing one), "header", "delimiter", "row", "pipe" (starts with one,
    # but is in no table, or not yet), "blank", "text"
    kind: str
    head: str = ""  # what has to come first in a part that goes on with this line
    inside: str = ""  # the same for a part that goes on in the middle of it
    closing: str = ""  # the line that closes its fence


class _Cut(NamedTuple):
    part: str
    end: int  # where the next part goes on
    head: str  # what has to come first in it


def complete(text: str) -> str:
    """`text`, the beginning of some Markdown, made complete: what is open at its end is closed.

    Closed are a code fence, the last row of a table, a header without its delimiter row, and `code` and **bold** of the
    last paragraph. A mark at the end that may become a fence or a row is left out. A table gets a blank line before it.
    """
    lines = _scan(text)
    end = lines[-1]
    if end.kind in ("fence", "code"):
        mark, fence = end.text.lstrip(), end.closing.lstrip()
        if not end.text or (mark and mark != fence and fence.startswith(mark)):
            lines.pop()
        lines.append(_Line(len(text), end.closing, "end"))
    elif end.text.lstrip() in _BEGUN_FENCES or (end.text.strip() == "|" and not _follows_pipe(lines)):
        return complete(text[: end.at])
    else:
        _complete_end(lines)
    texts: list[str] = []
    for line in lines:
        if line.kind == "header" and texts and texts[-1].strip():
            texts.append("")
        texts.append(line.text)
    return "\n".join(texts)


def split(text: str, limit: int, size: Callable[[str], int] = len) -> list[str]:
    """Parts of Markdown with `size(part) <= limit` each, every one complete in itself, none blank; [] for blank text.

    They end before a code fence, else at the end of a paragraph, of a line, at a space, else anywhere. What is cut
    through is begun again in the next part: a fence with its info string, a table with its header. When the text grows,
    all parts but the last stay what they are.
    """
    parts: list[str] = []
    at, head = 0, ""
    if not text.strip():
        return parts
    while True:
        if at:
            at, head = _skip(text, at, head, limit)
        if 2 * size(complete(head)) > limit:
            head = ""
        room = _room(text, at, head, limit - min(_RESERVE, limit // 10), size)
        if len(text) - at <= 2 * (room + _RESERVE):
            part = complete(head + text[at:])
            if size(part) <= limit:
                return [*parts, part] if part.strip() and part != complete(head) else parts
        while True:
            cut = _cut(head + text[at : at + room], len(head), text[at + room : at + room + 1])
            excess = size(cut.part) - limit
            if excess <= 0 or room == 1:
                break
            room = min(room, cut.end - len(head))
            room = max(1, room // 2, room - excess)
        if cut.part.strip():
            parts.append(cut.part)
        at, head = at + cut.end - len(head), cut.head


def _scan(text: str) -> list[_Line]:
    """The lines of a text that does not start inside of anything. There is one at least."""
    lines: list[_Line] = []
    at, before = 0, ""  # the kind of the line before
    head = inside = closing = ""  # of the fence or the table that the line is in
    for line in text.split("\n"):
        if before in ("fence", "code"):
            before = "end" if _closes(line, closing) else "code"
        elif opening := ("```" in line or "~~~" in line) and _FENCE.match(line):
            before = "fence"
            indent = re.sub(r"\S", " ", opening[1])
            closing = indent + opening[2]
            lines.append(_Line(at, line, before, "", closing + "\n", closing))
            head = inside = closing + opening[3] + "\n"
        elif not line.lstrip().startswith("|"):
            before = "text" if line.strip() else "blank"
        elif before in ("delimiter", "row"):
            before = "row"
        elif before == "pipe" and "-" in line and _DELIMITER.fullmatch(line.strip()):
            before = "delimiter"
            lines[-1] = lines[-1]._replace(kind="header")
            head = f"{lines[-1].text}\n{line}\n"
            inside = head + "|"
        else:
            before = "pipe"
        if before in ("code", "end", "row"):
            lines.append(_Line(at, line, before, head, inside, closing))
        elif before != "fence":
            lines.append(_Line(at, line, before))
        at += len(line) + 1
    return lines


def _closes(line: str, closing: str) -> bool:
    fence = closing.lstrip()
    closes = _CLOSING_FENCE.fullmatch(line) if fence in line else None
    return closes is not None and len(closes[1]) <= len(closing) - len(fence) + 3


def _follows_pipe(lines: list[_Line]) -> bool:
    return len(lines) > 1 and lines[-2].kind == "pipe"


def _complete_end(lines: list[_Line]) -> None:
    """Close what is open in the last line, or in the one before if the last is blank, and in the paragraph up to it."""
    last = len(lines) - (2 if lines[-1].kind == "blank" and len(lines) > 1 else 1)
    line, before = lines[last], lines[last - 1] if last else None
    kind = line.kind
    if kind == "pipe" and (before is None or before.kind != "pipe"):
        kind = "header"
    elif kind == "pipe" and before is not None:
        kind = "delimiter" if _DELIMITER.fullmatch(line.text.strip()) else "text"
    if kind == "delimiter" and before is not None:
        lines[last - 1] = before._replace(kind="header")
        lines[last] = line._replace(text=_complete_delimiter(line.text, _columns(before.text)))
    elif kind in ("header", "row"):
        lines[last] = row = line._replace(text=_complete_row(line.text), kind=kind)
        if kind == "header":
            lines.insert(last + 1, _Line(0, _complete_delimiter("|", _columns(row.text)), "delimiter"))
    elif kind == "text":
        first = last
        while first and not _ITEM.match(lines[first].text) and lines[first - 1].kind in ("text", "pipe"):
            first -= 1
        paragraph = "\n".join(line.text for line in lines[first : last + 1])
        lines[first : last + 1] = [_Line(lines[first].at, _close_marks(paragraph), "text")]


def _columns(row: str) -> int:
    pipes = [pipe.end() for pipe in _PIPE.finditer(row)]
    return len(pipes) - (pipes[-1] == len(row.rstrip()))


def _complete_row(row: str) -> str:
    whole = row.rstrip()
    cell = max(pipe.end() for pipe in _PIPE.finditer(row))
    return f"{whole[:cell]}{_close_marks(whole[cell:])} |" if whole[cell:] else row


def _complete_delimiter(begun: str, columns: int) -> str:
    *cells, last = begun.strip()[1:].split("|")
    if last.strip():
        cells.append(last.strip() if "-:" in last else f"{last.strip():-<3}")
    elif len(cells) >= columns:
        return begun
    cells += ["---"] * (columns - len(cells))
    return f"|{'|'.join(cells)}|"


def _close_marks(paragraph: str) -> str:
    """With `code` and **bold** closed, if they are open and there is something in them."""
    end = _end_of_words(paragraph)
    words = paragraph[:end]
    plain = _CODE.sub(lambda code: code[2] or "x", words)
    code = re.search("`+", plain)
    if code and words.rstrip("*").endswith("`"):
        code = None  # nothing follows the mark, or more of such marks would be another mark
    elif code:
        plain = plain[: code.start()] + "x"
    bold = 0
    for stars in _STARS.finditer(plain):
        if plain[: stars.start()][-1:].strip() or plain[stars.end() :][:1].strip():
            bold += len(stars[0]) // 2
    return words + (code[0] if code else "") + "**" * (bold % 2) + paragraph[end:]


def _end_of_words(text: str) -> int:
    """Where something may be closed: not after white space, stars that stand alone, or what escapes the mark."""
    while True:
        words = text.rstrip().rstrip("\\")
        rest = words.rstrip("*")
        if rest != words and rest.rstrip() != rest:
            words = rest
        if words == text:
            return len(text)
        text = words


def _skip(text: str, at: int, head: str, limit: int) -> tuple[int, str]:
    """Where the next part starts after a cut, and its head: without blank lines, the end of its fence and an indent."""
    at = _after_blank_lines(text, at)
    line = text[at : at + limit].partition("\n")[0]
    if head and _scan(head + line)[-1].kind == "end":
        return _skip(text, at + len(line), "", limit)
    if not head and _scan(line)[0].kind != "fence":
        at += len(line) - len(line.lstrip())
    return at, head


def _after_blank_lines(text: str, at: int) -> int:
    blank = _BLANK_LINES.match(text, at)
    return blank.end() if blank else at


def _room(text: str, at: int, head: str, limit: int, size: Callable[[str], int]) -> int:
    """How many characters from `at` on fit after the head, at least one. Measures only as much text as needed."""

    def measure(length: int) -> int:
        return size(head + text[at : at + length])

    most = limit
    while at + most < len(text) and measure(most) <= limit:
        most *= 2
    return max(1, bisect_right(range(1, min(most, len(text) - at) + 1), limit, key=measure))


def _cut(window: str, start: int, following: str) -> _Cut:
    """The part that a window of the text gives. Its head ends at `start`; `following` is the character after it."""
    lines = _scan(window + following)
    third = start + (len(window) - start) // 3
    if lines[-1].kind in ("fence", "code"):
        fence = next(line for line in reversed(lines) if line.kind == "fence")
        if fence.at > start:
            return _cut_before(window, fence)
    ends = [(before.kind, line) for before, line in itertools.pairwise(lines) if line.at - 1 > start]
    for cuts in (
        [line for before, line in ends if before == "blank" and line.at > third],
        [line for before, line in ends if before not in ("fence", "header", "delimiter", "pipe")],
        [line for before, line in ends if before == "pipe"],
    ):
        if cuts:
            return _cut_before(window, cuts[-1])
    line = next(line for line in reversed(lines) if line.at <= len(window))
    space = max((window + following).rfind(white, max(third, line.at) + 1) for white in " \t")
    at = space if space > 0 else _whole_character(window + following, len(window), max(start, line.at) + 1)
    return _Cut(_close_part(window[:at], line), at, line.inside)


def _cut_before(window: str, line: _Line) -> _Cut:
    return _Cut(_close_part(window[: line.at - 1], line), line.at, line.head)


def _close_part(text: str, following: _Line) -> str:
    """Nothing is left out at a cut: a mark that a line break follows does not become a fence."""
    in_code = following.kind in ("code", "end")
    text = text if in_code else text.rstrip()
    marks = text.rpartition("\n")[2].lstrip() in _BEGUN_FENCES
    return complete(text + "\n" if in_code or marks else text)


def _whole_character(text: str, at: int, lowest: int) -> int:
    """The last place up to `at` that is not in the middle of a character or a mark."""
    for place in range(min(at, len(text) - 1), lowest - 1, -1):
        before, after = text[place - 1], text[place]
        joined = "\u200d" in (before, after) or unicodedata.category(after)[0] == "M" or "🏻" <= after <= "🏿"
        if not joined and before != "\\" and not (before == after and after in "*`~"):
            return place
    return at
