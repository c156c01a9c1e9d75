"""What the page is told of a thing on the desk, as JSON; Markdown is HTML by then. Pure, any thread."""

from __future__ import annotations

import html
import time
from typing import Any

from .desk import Answer, Desk, Item, Line, Message, Shown, Thing, View
from .markdown import render

PICTURE_LINE = "[picture]"
VOICE_SECONDS = 3
_QUOTED = 200  # characters


def change(thing: Thing, desk: Desk) -> dict[str, Any]:
    """`desk` is asked for what a message quotes."""
    if isinstance(thing, Message):
        return {"type": "entry", "entry": _message(thing, desk)}
    if isinstance(thing, Shown):
        return {"type": "entry", "entry": _shown(thing)}
    if isinstance(thing, Item):
        return {"type": "wire", "item": _item(thing)}
    if isinstance(thing, Answer):
        marks = [{"what": what, "ms": round(ms, 1)} for what, ms in list(thing.marks)]
        more = {"question": thing.question, "marks": marks, "over": thing.is_over}
        return {"type": "answer", "answer": {"id": thing.id, **more}}
    return {"type": "log", "line": _line(thing)}


def _message(message: Message, desk: Desk) -> dict[str, Any]:
    quoted = desk.entry(message.quote)
    quote = None
    if quoted:
        text = quoted.text if isinstance(quoted, Message) else quoted.view.title or quoted.view.text
        quote = {"person": quoted.person if isinstance(quoted, Message) else "", "text": text[:_QUOTED]}
    lines = message.text.split("\n") if message.kind == "rich" else []
    return {
        "id": message.id,
        "chat": message.chat,
        "person": message.person,
        "kind": message.kind,
        "text": message.text,
        "seconds": VOICE_SECONDS if message.kind == "voice" else None,
        "parts": [{"picture": True} if line.strip() == PICTURE_LINE else {"text": line} for line in lines],
        "quote": quote,
        "heard": message.heard,
        "time": _clock(message.at),
    }


def _shown(shown: Shown) -> dict[str, Any]:
    return {
        "id": shown.id,
        "chat": shown.chat,
        "with": shown.with_ or None,
        "kind": shown.kind,
        "look": shown.look,
        "state": shown.state,
        "mentions": shown.mentions,
        "view": _view(shown.view),
        "views": {person: _view(view) for person, view in shown.views.items()},
        "time": _clock(shown.at),
    }


def _view(view: View) -> dict[str, Any]:
    draw = render if view.is_markdown else _plain
    return {
        "title": view.title,
        "html": draw(view.text),
        "note": draw(view.note) if view.note else "",
        "buttons": [{"id": button.id, "label": button.label} for button in view.buttons],
    }


def _item(item: Item) -> dict[str, Any]:
    return {
        "n": item.n,
        "time": f"{_clock(item.time)}.{int(item.time * 1000) % 1000:03}",
        "kind": item.kind,
        "direction": item.direction,
        "title": item.title,
        "ok": item.ok,
        "summary": item.summary,
        "ms": None if item.ms is None else round(item.ms, 1),
    }


def _line(line: Line) -> dict[str, Any]:
    return {"n": line.n, "level": line.level, "text": line.text, "time": _clock(line.time)}


def _plain(text: str) -> str:
    return f"<p>{html.escape(text).replace(chr(10), '<br>')}</p>"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
