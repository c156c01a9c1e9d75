"""Markdown that grows, made complete at each length, and long Markdown in parts that are complete each."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

import pytest

from imRobots.Meta.markdown import complete, split

TABLE = "| A | B |\n|---|---|\n"
ANSWER = f"""# Title

Some **bold** text, `code`, 2 ** 3 and 中文。

- One
- **Two**:
  ```python
  print("**")
  ```

{TABLE}| 1 | `x` |

~~~~ text
```
~~~~
The end."""


def bytes_of_json(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())


# Complete


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        " \n\n ",
        "text",
        "text\n",
        "text \n\n",
        ANSWER,
        "**bold** and `code`",
        "2 ** 3",
        "***",
        "* * *",
        "a * b _ c",
        "``a ` b``",
        r"\` and \**",
        "`**`",
        "open `code\n\nin an earlier paragraph",
        "open **bold\n- before an item",
        "open **bold\n# before a heading",
        "```\n**open `marks\n```",
        "````\n```\n````",
        "   ```\n   x\n   ```",
        "~~~\n```\n~~~",
        "```\nx\n   ```",
        "```\nx\n``````  \n",
        "```\n| a | b |\n|---|---|\n```",
        "```\ntext\n| a | b |\n|---|---|\n```",
        "```inline``` code",
        "|\n|",
        "text\n| a |\n|\n\ntext",
        "  | a |\n  |---|",
        "a | b",
        "| a | b\n| no delimiter row",
        TABLE,
        TABLE + "| 1 | 2 |\n",
        TABLE + "| `open | 2 |",
        "| a\n|---|\n| 1\ntext",
        "|:-:|\n|:-:|",
    ],
)
def test_what_is_complete_stays_as_it_is(text: str) -> None:
    assert complete(text) == text


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("```", "```\n```"),
        ("text\n\n|", "text\n\n"),
        (TABLE + "| ", TABLE),
        ("|a", "|a |\n|---|"),
        ("```python", "```python\n```"),
        ("text\n```py title=1\nx", "text\n```py title=1\nx\n```"),
        ("```\nx\n", "```\nx\n```"),
        ("```\nx\n\n", "```\nx\n\n```"),
        ("~~~\nx\n```\n", "~~~\nx\n```\n~~~"),
        ("````\n```\nx", "````\n```\nx\n````"),
        ("  ```\n  x", "  ```\n  x\n  ```"),
        ("- ```sh\n  ls", "- ```sh\n  ls\n  ```"),
        ("1. a\n    ```sh\n    ls", "1. a\n    ```sh\n    ls\n    ```"),
        ("- 1. ```\n     x", "- 1. ```\n     x\n     ```"),
        ("```\n    ```\nx", "```\n    ```\nx\n```"),
        ("```\n    ```", "```\n    ```\n```"),
        ("```\n```x", "```\n```x\n```"),
        ("```\nx\n```\n```\ny", "```\nx\n```\n```\ny\n```"),
        ("```\n| a", "```\n| a\n```"),
        ("```\n`a **b", "```\n`a **b\n```"),
    ],
)
def test_an_open_fence_is_closed(text: str, closed: str) -> None:
    assert complete(text) == closed


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("`", ""),
        ("text\n`", "text\n"),
        ("text\n``", "text\n"),
        ("text\n  ~~", "text\n"),
        ("```\nx\n`", "```\nx\n```"),
        ("```\nx\n  ``", "```\nx\n```"),
        ("~~~~\nx\n~~~", "~~~~\nx\n~~~~"),
        ("~~~\nx\n``", "~~~\nx\n``\n~~~"),
        ("**a\n``", "**a**\n"),
        ("``\n", "``\n"),
    ],
)
def test_a_fence_that_is_only_begun_is_left_out(text: str, closed: str) -> None:
    assert complete(text) == closed


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("| a | b", "| a | b |\n|---|---|"),
        ("| a | b |", "| a | b |\n|---|---|"),
        ("| a | b |\n", "| a | b |\n|---|---|\n"),
        (r"| a \| b | c", r"| a \| b | c |" + "\n|---|---|"),
        (r"| a | b\|", r"| a | b\| |" + "\n|---|---|"),
        ("| a | b |\n|", "| a | b |\n|---|---|"),
        ("| a | b |\n|-", "| a | b |\n|---|---|"),
        ("| a | b |\n|---", "| a | b |\n|---|---|"),
        ("| a | b |\n|---|", "| a | b |\n|---|---|"),
        ("| a | b |\n| --- | --", "| a | b |\n| --- |---|"),
        ("| a | b |\n|:-:|:", "| a | b |\n|:-:|:--|"),
        ("| a |\n|-:", "| a |\n|-:|"),
        ("| a | b |\n|-----:", "| a | b |\n|-----:|---|"),
        ("|a|b|c\n|---|", "|a|b|c\n|---|---|---|"),
        (TABLE + "| 1", TABLE + "| 1 |"),
        (TABLE + "| 1 | 2  ", TABLE + "| 1 | 2 |"),
        (TABLE + r"| 1 | 2\|", TABLE + r"| 1 | 2\| |"),
        (TABLE + "| **1** | **2", TABLE + "| **1** | **2** |"),
        (TABLE + "| `1 | `2", TABLE + "| `1 | `2` |"),
    ],
)
def test_a_table_that_is_begun_is_a_table(text: str, closed: str) -> None:
    assert complete(text) == closed


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        (f"text\n{TABLE}", f"text\n\n{TABLE}"),
        (f"text\n{TABLE}| 1 | 2 |\n\ntext", f"text\n\n{TABLE}| 1 | 2 |\n\ntext"),
        (f"a\n{TABLE}b\n{TABLE}c", f"a\n\n{TABLE}b\n\n{TABLE}c"),
        (f"```\n```\n{TABLE}", f"```\n```\n\n{TABLE}"),
        ("text\n| a | b", "text\n\n| a | b |\n|---|---|"),
        ("text\n| a |\n|", "text\n\n| a |\n|---|"),
        (f"text\n{TABLE}```\nx", f"text\n\n{TABLE}```\nx\n```"),
    ],
)
def test_a_table_gets_a_blank_line_before_it(text: str, closed: str) -> None:
    assert complete(text) == closed


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("a `b", "a `b`"),
        ("a `b \n", "a `b` \n"),
        ("a ``b ` c", "a ``b ` c``"),
        ("a **b", "a **b**"),
        ("a **b ", "a **b** "),
        ("a **b\nc", "a **b\nc**"),
        ("earlier **open\n\na **b", "earlier **open\n\na **b**"),
        ("- **a**\n- **b", "- **a**\n- **b**"),
        ("**a `b", "**a `b`**"),
        ("`a **b", "`a **b`"),
        ("**a `b**` c", "**a `b**` c**"),
        ("***a", "***a**"),
        ("**a *b*", "**a *b***"),
        ("**a **", "**a** **"),
        ("**a\\", "**a**\\"),
        (r"\\`a", r"\\`a`"),
    ],
)
def test_open_marks_of_the_last_paragraph_are_closed(text: str, closed: str) -> None:
    assert complete(text) == closed


def test_a_mark_that_nothing_follows_yet_opens_nothing() -> None:
    assert complete("text `") == "text `"
    assert complete("text **") == "text **"


def test_what_is_made_complete_at_any_length_is_complete() -> None:
    for length in range(len(ANSWER) + 1):
        closed = complete(ANSWER[:length])
        assert complete(closed) == closed
        assert content(closed) == content(ANSWER[:length])


@pytest.mark.parametrize("seed", range(5))
def test_any_marks_are_made_complete_once_and_without_a_loss(seed: int) -> None:
    chance = random.Random(seed)
    for alphabet in ("`*\\ a\n", "|- a\n*:", "`~ \na", "*a `|\\"):
        for _ in range(150):
            text = "".join(chance.choices(alphabet, k=chance.randint(0, 25)))
            closed = complete(text)
            assert complete(closed) == closed, repr(text)
            assert content(closed) == content(text)


# Split


def test_what_fits_is_one_part() -> None:
    assert split(ANSWER, len(ANSWER)) == [ANSWER]
    assert split("a **b", 100) == ["a **b**"]
    assert split("x" * 100, 100) == ["x" * 100]


@pytest.mark.parametrize("text", ["", " ", "\n\n \n", "``", "\n``", "\n" * 300])
def test_where_nothing_is_said_there_is_no_part(text: str) -> None:
    assert split(text, 100) == []


def test_a_part_ends_with_a_paragraph() -> None:
    one, two, three = "one\n" * 10, "two\n" * 10, "three\n" * 10
    assert split(f"{one}\n{two}\n{three}", 100) == [f"{one}\n{two}".rstrip(), three]


def test_a_part_starts_with_words() -> None:
    for length in range(80, 91):
        assert split("x" * length + "\n \r\n\n  " + "y" * 50, 100) == ["x" * length, "y" * 50]


def test_a_part_ends_with_a_line_if_its_paragraphs_end_too_early() -> None:
    lines = "line\n" * 30
    assert split(f"one\n\n{lines}", 100) == ["one\n\n" + ("line\n" * 17).rstrip(), "line\n" * 13]


def test_a_part_ends_at_a_space_if_its_line_is_too_long() -> None:
    assert split("word " * 30, 100) == ["word " * 17 + "word", "word " * 12]


def test_a_part_ends_anywhere_if_there_is_no_other_place() -> None:
    assert split("字" * 200, 100) == ["字" * 90, "字" * 90, "字" * 20]
    assert split("one " + "x" * 150, 100) == ["one " + "x" * 86, "x" * 64]


@pytest.mark.parametrize("one", ["e\u0301", "👨\u200d👩\u200d👧", "👍🏽", "\\*", "**"])
def test_no_cut_goes_through_a_character_or_a_mark(one: str) -> None:
    for before in range(8):
        first, second = split("x" * (90 - before) + one + "y" * 50, 100)
        assert (one in first) != (one in second)


def test_the_size_may_be_anything_that_grows() -> None:
    parts = split("word " * 1000, 100, lambda text: len(text) // 4)
    assert all(350 < len(part) < 404 for part in parts[:-1])


def test_an_item_does_not_keep_its_indent_without_the_item_it_belongs_to() -> None:
    first, second = split("- " + "x" * 80 + "\n    - " + "y" * 50, 100)
    assert (first, second) == ("- " + "x" * 80, "- " + "y" * 50)


def test_a_cut_fence_is_opened_again() -> None:
    code = "".join(f"    line{number}\n" for number in range(36))
    parts = split(f"   ~~~~py title\n{code}   ~~~~\nThe end.", 200)
    assert len(parts) == 3
    assert all(part.startswith("   ~~~~py title\n    line") for part in parts)
    assert all(part.endswith("\n   ~~~~") for part in parts[:-1])
    assert parts[-1].endswith("\n   ~~~~\nThe end.")
    assert "".join(part.split("title\n")[1].split("   ~~~~")[0] for part in parts) == code


def test_a_fence_of_an_item_goes_on_without_the_item() -> None:
    parts = split("- ```sh\n" + "  ls\n" * 30 + "  ```", 100)
    assert parts[0].startswith("- ```sh\n  ls\n")
    assert all(part.startswith("  ```sh\n  ls\n") and part.endswith("ls\n  ```") for part in parts[1:])


def test_a_part_ends_before_a_fence() -> None:
    fence = "```\n" + "x\n\n" * 30 + "```"
    assert split(f"text:\n{fence}", 100) == ["text:", fence]
    assert split(f"- one\n- two:\n  {fence}", 100)[0] == "- one\n- two:"


def test_a_fence_that_starts_a_part_keeps_its_indent() -> None:
    fence = "    ```\n" + "    x\n" * 10 + "    ```"
    assert split(f"- {'x' * 50}\n{fence}", 100) == [f"- {'x' * 50}", fence]


def test_a_long_line_of_a_fence_is_cut_not_its_info_string() -> None:
    opening = f"```py {'t' * 30} end\n"
    assert split(f"{opening}{'x' * 80}\n```", 100) == [f"{opening}{'x' * 49}\n```", f"{opening}{'x' * 31}\n```"]


def test_nothing_but_blank_lines_is_no_part_of_a_fence() -> None:
    assert [part.count("x") for part in split("```\n" + "x" * 80 + "\n" * 50, 100)] == [80]


def test_a_fence_that_ends_at_a_cut_is_not_opened_again() -> None:
    for length in range(70, 100):
        code = "x" * length
        parts = split(f"```\n{code}\n```\n\n{'y' * 50}", 100)
        assert not any("```\n```" in part for part in parts)
        assert "".join(parts).count("x") == length
        assert parts[-1].endswith("y" * 50)


def test_a_cut_table_has_its_header_again() -> None:
    rows = [f"| {number} | {number} |\n" for number in range(40)]
    parts = split(TABLE + "".join(rows) + "\nThe end.", 100)
    assert all(part.startswith(TABLE) for part in parts)
    assert "".join(part.removeprefix(TABLE).rstrip() + "\n" for part in parts) == "".join(rows) + "\nThe end.\n"


def test_a_header_that_leaves_no_room_comes_once() -> None:
    header = f"| {'A' * 50} | B |\n|---|---|\n"
    first, *others = split(header + "| 1 | 2 |\n" * 30, 100)
    assert first == header + "| 1 | 2 |\n| 1 | 2 |"
    assert others == ["| 1 | 2 |\n" * 8 + "| 1 | 2 |"] * 2 + ["| 1 | 2 |\n" * 10]


def test_no_cut_goes_between_a_header_and_its_delimiter_row() -> None:
    for length in range(40, 56):
        table = f"| {'A' * length} | B |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"
        assert split(f"{'x' * 26}\n\n{table}", 100) == ["x" * 26, table]


def test_lines_that_only_look_like_a_table_are_cut_as_lines() -> None:
    assert split("| no table\n" * 10, 100) == [("| no table\n" * 8).rstrip(), "| no table\n" * 2]


def test_a_row_that_is_too_long_goes_on_in_another_row() -> None:
    first, second = split(f"{TABLE}| {'word ' * 18}| x |", 100)
    assert first == f"{TABLE}| {'word ' * 13}|"
    assert second == f"{TABLE}| {'word ' * 5}| x |"


@pytest.mark.parametrize("length", range(40, 90, 3))
def test_no_cut_goes_between_a_header_and_its_first_row(length: int) -> None:
    parts = split(f"{'x' * length}\n\n{TABLE}| 1 | 2 |\n| 3 | 4 |\n\n{'y' * 50}", 100)
    with_table = [part for part in parts if "|" in part]
    assert all(re.search(r"\|\n\|---\|---\|\n\| \d", part) for part in with_table)
    assert "".join(re.findall(r"\d", "".join(parts))) == "1234"


@pytest.mark.parametrize(
    "text",
    [
        f"| {'A' * 70} | B |\n|---|---|\n" + "| 1 | 2 |\n" * 30,
        f"```{'X' * 70}\n" + "x\n" * 100 + "```",
        f"{'`' * 80}\n" + "x\n" * 100 + "`" * 80,
        "`" * 500,
        "|" * 500,
        "| a" * 200,
        f" {'|**|* ' * 100}",
        "**a " * 100,
        "\\" * 500,
        f"a{' ' * 500}b",
        f"a{chr(10) * 500}b",
        "```\n" * 101,
        "- 1. " * 100,
    ],
)
def test_there_is_always_a_next_part(text: str) -> None:
    check(text, split(text, 100), 100, len)


def test_nothing_is_left_out_before_a_cut() -> None:
    text = "".join(f"{number}\n``\n\n" for number in range(60))
    assert "".join(split(text, 100)).count("``\n") == 60
    assert content_lines(split("```\n" + "``\n" * 60 + "```", 100), "```") == ["``"] * 60
    assert content_lines(split("````\n" + "```\n" * 60 + "````", 100), "````") == ["```"] * 60


# Any text, of any length


def words(chance: random.Random) -> str:
    some = ["word", "**bold words**", "`code`", "中文字符，测试。", "a|b", '"quoted"', "字" * chance.randint(1, 80)]
    return " ".join(chance.choices(some, k=chance.randint(1, 12)))


def block(chance: random.Random) -> str:
    """A paragraph, a list, a table, a fence or a long line. Only headers and info strings have capital letters."""
    many = range(chance.randint(1, 12))
    kind = chance.randrange(5)
    if kind == 0:
        return "\n".join(words(chance) for _ in many)
    if kind == 1:
        return "\n".join(f"{'    ' * chance.randrange(2)}- {words(chance)}" for _ in many)
    if kind == 2:
        return TABLE + "\n".join(f"| {number} | {words(chance).replace('|', '')} |" for number in many)
    if kind == 3:
        fence = chance.choice(["```", "~~~~"])
        return f"{fence}PY\n" + "\n".join("    " * chance.randrange(3) + words(chance) for _ in many) + f"\n{fence}"
    return chance.choice(["x", "很长", "long "]) * chance.randint(1, 300)


def markdown(seed: int) -> str:
    chance = random.Random(seed)
    return "".join(block(chance) + "\n" * chance.randint(1, 3) for _ in range(chance.randint(1, 8)))


def content(text: str) -> str:
    """Without white space, marks, and what is repeated in each part."""
    return re.sub(r"[^a-z0-9\u3000-\u9fff，]", "", text)


def content_lines(parts: list[str], fence: str) -> list[str]:
    return [line for part in parts for line in part.split("\n") if line != fence]


def check(text: str, parts: list[str], limit: int, size: Callable[[str], int]) -> None:
    assert content("".join(parts)) == content(text)
    for part in parts:
        assert size(part) <= limit
        assert part.strip()
        assert complete(part) == part


@pytest.mark.parametrize("size", [len, bytes_of_json])
@pytest.mark.parametrize("limit", [100, 400, 2000])
def test_every_part_fits_and_is_complete_and_nothing_is_lost(limit: int, size: Callable[[str], int]) -> None:
    for seed in range(20):
        text = markdown(seed)
        check(text, split(text, limit, size), limit, size)


@pytest.mark.parametrize("seed", range(6))
def test_parts_stay_while_the_text_grows(seed: int) -> None:
    text = markdown(seed)[:6000]
    parts = split(text, 500, bytes_of_json)
    for length in range(0, len(text), 97):
        grown = split(text[:length], 500, bytes_of_json)
        assert grown[:-1] == parts[: max(0, len(grown) - 1)]


def test_a_part_is_well_filled() -> None:
    text = "\n\n".join("word " * 40 for _ in range(100))
    assert all(700 < len(part) <= 1000 for part in split(text, 1000)[:-1])


def test_only_what_may_fit_is_measured() -> None:
    measured = 0

    def size(text: str) -> int:
        nonlocal measured
        measured += len(text)
        return len(text)

    split("word " * 20_000, 1000, size)
    assert measured < 20 * 100_000
