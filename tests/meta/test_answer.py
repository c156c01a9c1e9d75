"""What chunks and results mean, and when a growing answer is shown, by a simulated clock."""

from __future__ import annotations

import itertools
import math
import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from imRobots.Meta import questions
from imRobots.Meta.answer import MAX_UPDATES, GrowingAnswer, read_chunk, read_result, tells_of_an_act
from tests.fakes.agents import ERROR_EVENT, SIDE_EVENTS, JitList

TEXT = "TEXT_MESSAGE_CONTENT"
LONG_AFTER = 1e6


def chunk(content: Any, kind: Any = TEXT) -> dict[str, Any]:
    return {"type": kind, "data": {"content": content}}


def human(content: Any = "The question?") -> dict[str, Any]:
    return {"type": "human", "content": content}


def ai(content: Any = "The answer.") -> dict[str, Any]:
    return {"type": "ai", "content": content}


class Stream:
    """A growing answer and its card, on a simulated clock: whatever is due is shown as soon as the clock is there."""

    def __init__(self, started: float = 0.0) -> None:
        self.growing = GrowingAnswer(started)
        self.shown: list[tuple[float, str]] = []
        self._now = started
        self._due = math.inf

    def add(self, text: str, at: float) -> None:
        self.wait(at)
        due = self.growing.add(chunk(text), at)
        if due is not None:
            self._due = min(self._due, max(due, at))

    def wait(self, until: float) -> None:
        if self._due <= until:
            at, self._due = self._due, math.inf
            self.shown.append((at, self.growing.show(at)))

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.shown]


def evenly(seconds: float, every: float, first: float = 0.0) -> list[float]:
    """When the pieces come of which there is one `every` so many seconds, from `first` on."""
    return [first + every * number for number in range(int(seconds / every + 1e-9) + 1)]


def irregularly(seconds: float, seed: int, first: float = 0.0) -> list[float]:
    """Bursts and pauses, none of them over six seconds."""
    chance = random.Random(seed)
    times = [first]
    while times[-1] < first + seconds:
        if chance.random() < 0.3:
            times.append(times[-1] + chance.uniform(0.3, 6.0))
        else:
            times.extend([times[-1] + 0.01 * number for number in range(1, chance.randint(2, 60))])
    return [at for at in times if at <= first + seconds]


def stream(times: list[float], end: float, started: float = 0.0) -> Stream:
    """An answer whose piece number 0, 1, ... comes at these times, and which ends at `end`."""
    stream = Stream(started)
    for number, at in enumerate(times):
        stream.add(f"{number} ", at)
    stream.wait(end)
    return stream


def longest_wait_for_a_piece(times: list[float], stream: Stream, end: float) -> float:
    """Of the pieces that came at these times: how long the one that waited longest waited to be seen."""
    pieces = [len(text.split()) for at, text in stream.shown]
    waits = []
    for number, came in enumerate(times):
        seen = next((at for at, many in zip(stream.times, pieces, strict=True) if many > number), end)
        waits.append(seen - came)
    return max(waits)


# Chunks


def test_a_text_chunk_is_answer_text() -> None:
    assert read_chunk(chunk("Hello ")) == ("Hello ", "")


@pytest.mark.parametrize("kind", [None, ""])
def test_a_chunk_without_a_type_is_answer_text(kind: str | None) -> None:
    assert read_chunk({"data": {"content": "Hello"}}) == ("Hello", "")
    assert read_chunk(chunk("Hello", kind)) == ("Hello", "")


@pytest.mark.parametrize("kind", ["SOMETHING_NEW", "TEXT_MESSAGE_START", "text", 7])
def test_a_chunk_of_an_unknown_type_is_answer_text_and_its_type_is_told(kind: Any) -> None:
    assert read_chunk(chunk("Hello", kind)) == ("Hello", str(kind))


@pytest.mark.parametrize(
    "kind", ["REASONING_CONTENT", "TOOL_CALL_START", "TOOL_CALL_RESULT", "TOOL_CALL_ARGS", "TOOL_CALL_END", "ERROR"]
)
def test_thoughts_tools_and_errors_are_not_answer_text(kind: str) -> None:
    assert read_chunk(chunk("not for people", kind)) == ("", "")


@pytest.mark.parametrize(
    "kind",
    ["TOOL_CALL_START", "TOOL_CALL_ARGS", "STEP_STARTED", "INTERRUPT", "CUSTOM", "STATE_DELTA", "NEW", "text", 7],
)
def test_a_chunk_of_any_other_type_may_tell_of_an_act(kind: Any) -> None:
    assert tells_of_an_act({"type": kind})
    assert tells_of_an_act(chunk("Hello", kind))


@pytest.mark.parametrize(
    "what",
    [
        chunk("Hello"),
        chunk("Hello", None),
        {"data": {"content": "Hello", "toolName": "x"}},
        chunk("hm", "TEXT_MESSAGE_START"),
        chunk("hm", "REASONING_MESSAGE_CONTENT"),
        chunk("hm", "THINKING_START"),
        *({"type": kind} for kind in ("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR", "ERROR", "", None)),
        *(ERROR_EVENT, None, "TOOL_CALL_START", 7, [], {}),
    ],
)
def test_who_thinks_and_speaks_does_not_act(what: Any) -> None:
    assert not tells_of_an_act(what)


@pytest.mark.parametrize(
    "what",
    [
        *SIDE_EVENTS[:3],
        ERROR_EVENT,
        None,
        "Hello",
        7,
        [],
        {},
        {"type": TEXT},
        {"type": TEXT, "data": None},
        {"type": TEXT, "data": "Hello"},
        {"type": TEXT, "data": {}},
        chunk(None),
        chunk(7),
        chunk(["Hello"]),
        chunk(""),
        {"type": "SOMETHING_NEW", "data": {"toolName": "x"}},
    ],
)
def test_whatever_else_comes_is_no_text_and_no_error(what: Any) -> None:
    assert read_chunk(what) == ("", "")
    growing = GrowingAnswer(0.0, lambda kind: pytest.fail(f"told of {kind}"))
    assert growing.add(what, 100.0) is None
    assert growing.text == ""


# Results


@pytest.mark.parametrize(
    "result",
    [
        "The answer.",
        {"output": "The answer."},
        {"output": "The answer.", "steps": [1, 2], "content": "not this"},
        {"output": {"content": "The answer."}},
        {"output": [ai()]},
        {"content": "The answer."},
        [human(), ai()],
        [{"role": "user", "content": "?"}, {"role": "assistant", "content": "The answer."}],
        [human(), ai("Earlier."), human(), ai()],
        [human(), ai(), {"type": "tool", "content": "x"}, {"role": "tool", "content": "x"}],
        [human(), ai(), ai("")],
        [human(), ai([{"type": "text", "text": "The "}, {"type": "text", "text": "answer."}])],
        [human(), ai(["The ", "answer."])],
        [human(), ai([{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "The answer."}])],
        [human(), ai([{"type": "text", "text": "The answer."}, {"type": "tool_use", "name": "find", "input": {}}])],
        {"content": [{"type": "thinking", "text": "Hm."}, "The ", {"text": "answer."}]},
        [human(), ai(), human(), ai(), ai([{"type": "tool_use", "name": "find", "input": {}}])],
        [SimpleNamespace(type="human", content="The question?"), SimpleNamespace(type="ai", content="The answer.")],
        (ai(), {"type": "system", "content": "x"}),
        JitList([human(), ai()]),
        SimpleNamespace(value="The answer."),
        SimpleNamespace(value={"output": "The answer."}),
        SimpleNamespace(value=[human(), ai()]),
        SimpleNamespace(value={"output": SimpleNamespace(value="The answer.")}),
        SimpleNamespace(content="The answer."),
    ],
    ids=str,
)
def test_the_answer_is_found_in_every_shape_of_result(result: Any) -> None:
    assert read_result(result) == "The answer."


@pytest.mark.parametrize(
    "result",
    [
        None,
        "",
        {},
        [],
        (),
        JitList(),
        {"output": ""},
        {"output": None},
        {"output": []},
        [human()],
        [human(), ai("")],
        [ai(None)],
        SimpleNamespace(value=""),
        SimpleNamespace(value=[]),
        SimpleNamespace(value={"output": ""}),
        SimpleNamespace(value=None),
        SimpleNamespace(content=None),
        SimpleNamespace(type="ai", content=None),
        [human(), SimpleNamespace(type="ai", content=None)],
        {"output": SimpleNamespace(value=None)},
        [human(), ai("old"), human(), ai("")],
        [human(), ai("old"), {"role": "user", "content": "?"}, {"role": "assistant", "content": None}],
        [human(), ai("old"), human()],
        [human(), ai("old"), human(), {"type": "tool", "content": "x"}],
        JitList([human(), ai("old"), human(), ai("")]),
        [SimpleNamespace(type="human", content="?"), ai("old"), SimpleNamespace(type="human", content="?")],
        [human(), ai([{"type": "tool_use", "name": "find", "input": {"text": "x"}}])],
        {"content": [{"type": "reasoning", "text": "Hm."}]},
        [human(), {"type": "ai", "tool_calls": [{"name": "find", "args": {"text": "x"}}]}],
        [human(), {"type": "tool_use", "name": "find", "input": {"text": "x"}}],
    ],
    ids=str,
)
def test_where_nothing_is_said_the_text_is_empty(result: Any) -> None:
    assert read_result(result) == ""


def test_other_data_is_shown_as_a_person_can_read_it() -> None:
    assert read_result(42) == "42"
    assert read_result({"城市": "上海", "days": 3}) == '{\n  "城市": "上海",\n  "days": 3\n}'


# The growing text


def test_all_text_is_kept_in_order() -> None:
    growing = GrowingAnswer(0.0)
    assert growing.text == ""
    for number in range(200):
        growing.add(chunk(f"{number} "), number * 0.01)
    assert growing.text == "".join(f"{number} " for number in range(200))


def test_what_is_shown_is_everything_so_far() -> None:
    times = evenly(100.0, 0.1)
    answer = stream(times, 100.0)
    whole = "".join(f"{number} " for number in range(len(times)))
    assert len(answer.shown) > 5
    for at, text in answer.shown:
        came = sum(time <= at for time in times)
        # At the very moment that a piece comes, an update that was due shows what was there before.
        assert text in {"".join(f"{number} " for number in range(many)) for many in (came - 1, came)}
    assert answer.growing.text == whole


def test_an_update_is_asked_for_once_until_it_is_shown() -> None:
    growing = GrowingAnswer(0.0)
    assert growing.add(chunk("a"), 0.1) == 2.0
    assert [growing.add(chunk(letter), 0.2) for letter in "bcd"] == [None] * 3
    assert growing.show(2.0) == "abcd"
    due = growing.add(chunk("e"), 2.1)
    assert due is not None
    assert due > 2.1
    assert [growing.add(chunk(letter), due + 9) for letter in "fghijkl"] == [None] * 7
    assert growing.show(due + 10) == "abcdefghijkl"


def test_each_unknown_type_is_told_with_its_text() -> None:
    told: list[str] = []
    growing = GrowingAnswer(0.0, told.append)
    for what in (chunk("a"), chunk("b", "NEW"), chunk("c", "NEWER"), *SIDE_EVENTS):
        growing.add(what, 0.0)
    assert told == ["NEW", "NEWER", "SOMETHING_NEW"]
    assert growing.text == "abcnot part of the answer"


# What stands above the text while it grows

THOUGHT, TOOL_BEGINS, TOOL_ENDS, _ = SIDE_EVENTS
USING = "Using a tool ..."


def test_what_the_agent_thinks_is_shown_above_the_text_only_if_it_is_wanted() -> None:
    growing = GrowingAnswer(0.0, show_reasoning=True)
    assert growing.add(THOUGHT, 0.1) == 2.0, "it is worth an update"
    assert growing.show(2.0) == "> 💭 Let me think."
    growing.add(chunk(" Hm,\nwell.", "REASONING_SUMMARY"), 3.0)
    growing.add(chunk("30 days."), 3.0)
    assert growing.show(4.0) == "> 💭 Let me think. Hm, well.\n\n30 days."
    assert growing.text == "30 days."

    silent = GrowingAnswer(0.0, using_tool=USING)
    assert silent.add(THOUGHT, 0.1) is None
    assert silent.show(2.0) == ""


@pytest.mark.parametrize("size", [1, 7, 150, 1000])
def test_of_a_long_thought_the_end_is_shown(size: int) -> None:
    thought = " ".join(map(str, range(1000)))
    growing = GrowingAnswer(0.0, show_reasoning=True)
    for start in range(0, len(thought), size):
        growing.add(chunk(thought[start : start + size], "REASONING"), 0.1)
    assert growing.show(1.0) == f"> 💭 …{thought[-200:]}"


def test_that_a_tool_is_at_work_is_shown_while_it_is_and_never_its_name() -> None:
    growing = GrowingAnswer(0.0, using_tool=USING)
    growing.add(chunk("I look it up."), 0.1)
    assert growing.show(1.0) == "I look it up."
    shown = []
    # One begins while another is at work; one ends that nobody knows of.
    for number, event in enumerate([TOOL_BEGINS, TOOL_BEGINS, TOOL_ENDS, TOOL_ENDS, TOOL_ENDS, TOOL_BEGINS, TOOL_ENDS]):
        now = 100.0 * (number + 1)
        shown.append((growing.add(event, now) is not None, growing.show(now)))
    with_tool, without = f"> {USING}\n\nI look it up.", "I look it up."
    assert shown == [
        (True, with_tool),
        (False, with_tool),
        (False, with_tool),
        (True, without),
        (False, without),
        (True, with_tool),
        (True, without),
    ]
    assert growing.text == "I look it up."
    assert growing.add(TOOL_BEGINS, 1000.0) is not None and "Orders" not in growing.show(1000.0)

    silent = GrowingAnswer(0.0, show_reasoning=True)
    assert silent.add(TOOL_BEGINS, 0.1) is None
    assert silent.show(2.0) == ""


@pytest.mark.parametrize("kind", ["INTERRUPT", "TOOL_CALL_INTERRUPT", "interruptChatCallback", "REASONING_INTERRUPT"])
def test_an_interrupt_is_noticed_and_nothing_of_it_is_shown(kind: str) -> None:
    growing = GrowingAnswer(0.0, pytest.fail, show_reasoning=True, using_tool=USING)
    for event in (THOUGHT, TOOL_BEGINS, TOOL_ENDS, chunk("Wait.")):
        growing.add(event, 0.1)
    before = growing.show(1.0)
    assert not growing.is_interrupted
    assert growing.add(chunk("May I delete it?", kind), 9.0) is None
    assert growing.is_interrupted
    assert growing.show(20.0) == before
    assert growing.text == "Wait."


def test_no_text_is_lost_when_many_threads_stream() -> None:
    growing = GrowingAnswer(0.0)
    start = threading.Barrier(9)
    due: list[float] = []
    shown: list[str] = []

    def add(letter: str) -> None:
        start.wait()
        for number in range(300):
            at = growing.add(chunk(letter), number * 0.05)
            if at is not None:
                due.append(at)

    threads = [threading.Thread(target=add, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    start.wait()
    now = 0.0
    while any(thread.is_alive() for thread in threads) or due:
        if due:
            now = max(now, due.pop())
            shown.append(growing.show(now))
    assert sorted(growing.text) == sorted("abcdefgh" * 300)
    assert all(growing.text.startswith(text) for text in shown)
    assert shown == sorted(shown, key=len)
    assert 0 < len(shown) < 2 * MAX_UPDATES


# The pace


def test_the_fifth_piece_is_the_first_that_is_shown() -> None:
    answer = stream([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 1.0)
    assert answer.shown == [(0.5, "0 1 2 3 4 ")]


def test_only_text_counts_as_a_piece() -> None:
    growing = GrowingAnswer(0.0)
    for _ in range(10):
        for event in (*SIDE_EVENTS[:3], ERROR_EVENT, chunk("")):
            assert growing.add(event, 0.1) is None
    assert [growing.add(chunk(letter), 0.1) for letter in "abcde"] == [2.0, None, None, None, 0.1]


def test_fewer_pieces_are_shown_two_seconds_after_the_start() -> None:
    assert stream([1000.1, 1001.9], 1010.0, started=1000.0).shown == [(1002.0, "0 1 ")]
    assert stream([1000.0, 1001.9, 1001.9, 1001.9, 1001.95], 1010.0, started=1000.0).times == [1001.95]


def test_a_piece_that_comes_later_than_that_is_shown_at_once() -> None:
    assert stream([1002.0], 1010.0, started=1000.0).shown == [(1002.0, "0 ")]
    assert stream([1060.0], 1070.0, started=1000.0).shown == [(1060.0, "0 ")]


def test_what_came_before_a_pause_is_shown_before_the_pause_is_over() -> None:
    times = evenly(1.5, 1.5 / 199)
    answer = stream(times, 3600.0)
    at, text = answer.shown[-1]
    assert len(text.split()) == len(times) == 200
    assert at <= 1.5 + 2.0
    assert len(answer.shown) == 2


@pytest.mark.parametrize("pause", [0.5, 3.0, 30.0, 600.0])
@pytest.mark.parametrize("burst", [1, 4, 5, 200])
def test_no_pause_hides_text_for_more_than_fifteen_seconds(burst: int, pause: float) -> None:
    times = [round_ * pause + 0.005 * number for round_ in range(4) for number in range(burst)]
    answer = stream(times, LONG_AFTER)
    assert longest_wait_for_a_piece(times, answer, LONG_AFTER) <= 15.0


@pytest.mark.parametrize("first", [0.0, 1.5, 4.0, 60.0])
def test_an_answer_of_ten_seconds_is_updated_six_times_at_most(first: float) -> None:
    for every in (0.001, 0.02, 0.1, 0.3, 0.7, 1.0, 2.5, 6.0):
        answer = stream(evenly(10.0, every, first), first + 10.0)
        assert 2 <= len(answer.shown) + 1 <= 6, f"a piece every {every} s"


def test_an_irregular_answer_of_ten_seconds_is_updated_six_times_at_most() -> None:
    for seed in range(20):
        first = seed * 0.3
        answer = stream(irregularly(10.0, seed, first), first + 10.0)
        assert 2 <= len(answer.shown) + 1 <= 6, f"seed {seed}"


@pytest.mark.parametrize("seconds", [60.0, 150.0, 600.0, 3600.0])
def test_an_answer_of_any_length_is_updated_twenty_times_at_most(seconds: float) -> None:
    for every in (0.02, 0.1, 0.5, 1.0, 5.0, 20.0):
        assert len(stream(evenly(seconds, every), LONG_AFTER).shown) + 1 <= MAX_UPDATES == 20, f"every {every} s"


RATES = [0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 1.7, 2.5, 4.0, 5.0, 6.0]


def of_two_minutes() -> list[list[float]]:
    return [*(evenly(120.0, every) for every in RATES), *(irregularly(120.0, seed) for seed in range(9))]


@pytest.mark.parametrize("first", [0.0, 1.9, 4.0, 60.0])
def test_an_answer_of_two_minutes_never_stands_still(first: float) -> None:
    for number, pieces in enumerate(of_two_minutes()):
        times, end = [first + time for time in pieces], first + 120.0
        answer = stream(times, end)
        assert answer.times[0] - first <= 2.0, f"answer {number}"
        gaps = [later - earlier for earlier, later in itertools.pairwise([*answer.times, end])]
        assert max(gaps) <= 15.0, f"answer {number}"
        assert longest_wait_for_a_piece(times, answer, end) <= 15.0, f"answer {number}"


@pytest.mark.parametrize("first", [0.0, 0.7, 5.0])
def test_an_answer_of_two_minutes_leaves_updates_for_a_place_in_the_queue(first: float) -> None:
    places = len(questions._PLACE_AFTER)
    began = sum(questions._PLACE_AFTER) + first  # the agent said its first word, and the card has shown all the places
    left = MAX_UPDATES - places - 1 - 1  # without "thinking" and the final one
    for number, pieces in enumerate(of_two_minutes()):
        times, end = [began + time for time in pieces], began + 120.0
        shown = stream(times, end).times[:left]
        gaps = [later - earlier for earlier, later in itertools.pairwise([began, *shown, end])]
        assert max(gaps) <= 15.0, f"answer {number}"


@pytest.mark.parametrize("every", [0.02, 0.1, 0.5, 1.0, 3.0])
def test_the_intervals_grow(every: float) -> None:
    times = stream(evenly(600.0, every), 600.0).times
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(later > earlier - every for earlier, later in itertools.pairwise(gaps)), "but for when a piece comes"
    assert gaps[0] < 5 < gaps[-1]
