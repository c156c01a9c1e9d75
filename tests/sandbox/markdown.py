"""Markdown as DingTalk's cards show it: text -> HTML that may be put into a page as it is.

HTML in a text shows as text, images are not fetched, and only harmless addresses become links. Pure, any thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

# What is longer is shown as it is from there on. No card takes nearly as much, and a text of nothing but brackets takes
# more than ten microseconds for each of them.
_MOST = 20_000
_HARMLESS = re.compile(r"(?:https?|dingtalk)://|mailto:|tel:", re.IGNORECASE)
_LONGEST_TITLE = 200  # an image may be its own address


def render(text: str) -> str:
    """Any text will do, also the beginning of one."""
    # Two halves of a character come together, one alone cannot be sent as UTF-8.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    cut = len(text) if len(text) <= _MOST else text.rfind("\n", 0, _MOST) + 1 or _MOST
    html: str = _MARKDOWN.render(text[:cut])
    return html + (f"<pre>{escape(text[cut:])}</pre>\n" if text[cut:] else "")


class _Markdown(MarkdownIt):
    def validateLink(self, url: str) -> bool:
        """Any address makes a link, or its text would show as Markdown; `_finish_links` decides which of them stay."""
        return True


def _align_cells(state: StateCore) -> None:
    """By a class: the page takes no styles from HTML."""
    for token in state.tokens:
        if token.type in ("th_open", "td_open") and (style := token.attrs.pop("style", None)):
            token.attrs["class"] = str(style).removeprefix("text-align:")


def _finish_links(state: StateCore) -> None:
    """Links open in a new tab; those that lead nowhere from a card, or to harm, only say where to."""
    tag = ""
    for block in state.tokens:
        for token in block.children or ():
            if token.type == "link_open":
                address = str(token.attrs["href"])
                if _HARMLESS.match(address):
                    tag = "a"
                    token.attrs |= {"target": "_blank", "rel": "noopener noreferrer"}
                else:
                    tag = "span"
                    token.attrs = {"class": "link", "title": address[:_LONGEST_TITLE]}
            if token.type in ("link_open", "link_close"):
                token.tag = tag


def _image(renderer: Any, tokens: Sequence[Token], at: int, options: Mapping[str, Any], env: Any) -> str:
    address = str(tokens[at].attrs["src"])[:_LONGEST_TITLE]
    alt = renderer.renderInlineAsText(tokens[at].children or [], options, env)
    return f'<span class="image" title="{escape(address)}">🖼 {escape(alt)}</span>'


def _markdown() -> MarkdownIt:
    markdown = _Markdown("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    markdown.core.ruler.push("align_cells", _align_cells)
    markdown.core.ruler.push("finish_links", _finish_links)
    markdown.add_render_rule("image", _image)
    markdown.render("It puts its rules in order when it is first used, which threads must not do at the same time.")
    return markdown


_MARKDOWN = _markdown()
