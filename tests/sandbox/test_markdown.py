"""Markdown in the page: what a person sees of an answer, and that no text can harm the page or hold it up."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest

from tests.sandbox.agent import FAQ_FOLDER
from tests.sandbox.markdown import render

TAGS = re.compile("a|blockquote|br|code|em|h[1-6]|hr|li|ol|p|pre|s|span|strong|table|tbody|td|th|thead|tr|ul")
ATTRIBUTES = {"class", "href", "rel", "start", "target", "title"}


class Page(HTMLParser):
    """Fails on what must not be in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        html.encode("utf-8")
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert TAGS.fullmatch(tag) and {name for name, _ in attrs} <= ATTRIBUTES, (tag, attrs)
        if tag == "a":
            values = dict(attrs)
            assert (values["target"], values["rel"]) == ("_blank", "noopener noreferrer")
            self.links.append(values["href"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**a** *b* `c` ~~d~~", "<p><strong>a</strong> <em>b</em> <code>c</code> <s>d</s></p>\n"),
        ("one\ntwo", "<p>one<br />\ntwo</p>\n"),
        ("##### five", "<h5>five</h5>\n"),
        ("> said", "<blockquote>\n<p>said</p>\n</blockquote>\n"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n'),
        ("```py\n<a> & b\n```", '<pre><code class="language-py">&lt;a&gt; &amp; b\n</code></pre>\n'),
        ("<b>x</b> & <script>", "<p>&lt;b&gt;x&lt;/b&gt; &amp; &lt;script&gt;</p>\n"),
        ("<div>\nx\n</div>", "<p>&lt;div&gt;<br />\nx<br />\n&lt;/div&gt;</p>\n"),
        ("![a *cat*](http://x/c.png)", '<p><span class="image" title="http://x/c.png">🖼 a cat</span></p>\n'),
        ("[see](docs/a.md)", '<p><span class="link" title="docs/a.md">see</span></p>\n'),
        (
            '[go](https://x/?a=1&b=2 "there")',
            '<p><a href="https://x/?a=1&amp;b=2" title="there" target="_blank" rel="noopener noreferrer">go</a></p>\n',
        ),
        ("", ""),
        ("\ud83d\ude04", "<p>😄</p>\n"),
        ("\ud83d \0 &#xD800;", "<p>� � �</p>\n"),
    ],
)
def test_what_is_drawn(text: str, html: str) -> None:
    assert render(text) == html
    Page(html)


def test_a_table() -> None:
    html = render("| a | b |\n| --- | --: |\n| 1 | `2` |\n")
    assert "<thead>\n<tr>\n<th>a</th>\n" in html and '<td class="right"><code>2</code></td>' in html


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[a](HTTP://x) <mailto:a@b.c> <a@b.c>", ["HTTP://x", "mailto:a@b.c", "mailto:a@b.c"]),
        ("[a](dingtalk://dingtalkclient/page/link?url=x)", ["dingtalk://dingtalkclient/page/link?url=x"]),
        ("[a][1] **[b](https://y)**\n\n[1]: https://x", ["https://x", "https://y"]),
        ("[![shield](https://s)](https://x)", ["https://x"]),
        ("[a](javascript:alert(1)) [b](JaVaScRiPt:x) <javascript:x> [c](vbscript:x) [d](data:text/html,x)", []),
        ("[a](<java\tscript:x>) [b](&#1;javascript:x) [c](java&#10;script:x) [d](%6Aavascript:x)", []),
        ("[a][1] [b](file:///etc) [c](//evil) [d](/x) [e](#f) [g]() [h](javascript://x)\n\n[1]: javascript:x", []),
        ("![a](javascript:x) ![b](data:image/png;base64,x)", []),
        ('[a](https://x"onclick=alert(1)) ![a"onerror=x](x"onerror=y)', ["https://x%22onclick=alert(1)"]),
    ],
)
def test_links(text: str, links: list[str]) -> None:
    assert Page(render(text)).links == links


def test_an_image_that_is_its_own_address() -> None:
    assert len(render(f"![x](data:image/png;base64,{'A' * 10_000})")) < 300


def test_an_answer_while_it_grows() -> None:
    """Every beginning of it is a page."""
    for file in sorted(FAQ_FOLDER.iterdir()):
        text = file.read_text(encoding="utf-8")
        for end in range(0, len(text), 97):
            Page(render(text[:end]))


NASTY = {
    **{
        sign: sign * (20_000 // len(sign))
        for sign in ("[", "![", "*", "**", "_", "`", "> ", ">", "- ", "1. ", "&", "<")
    },
    **{
        sign: sign * (20_000 // len(sign)) for sign in ("[](", "[[]", "[a]\n", "#\n", "a\n", "- a\n", "*a_ ", "|", "\\")
    },
    "nested list": "".join(f"{'  ' * depth}- a\n" for depth in range(440)),
    "nested quotes": "".join(f"{'>' * depth} a\n" for depth in range(440)),
    "backticks": " ".join("`" * length for length in range(440)),
    "brackets": "[" * 10_000 + "]" * 10_000,
    "wide table": "|a" * 3_000 + "|\n" + "|-" * 3_000 + "|\n" + "|b" * 3_000,
    "references": "".join(f"[{n}]: x\n" for n in range(1000)) + "".join(f"[{n}]" for n in range(1000)),
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_any_text_becomes_a_page(text: str) -> None:
    Page(render(text))


def test_a_text_that_is_too_long_for_a_card_is_shown_as_it_is_from_there_on() -> None:
    text = "**line**\n" * 3000
    html = render(text)
    assert html.startswith("<p><strong>line</strong><br />\n") and html.endswith("**line**\n</pre>\n")
    assert html.count("line") == 3000
    assert Page(render("<" * 30_000)).text.count("<") == 30_000


def test_threads_may_draw_at_the_same_time() -> None:
    texts = [f"# {n}\n\n- [a](https://{n})" for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(render, texts)) == [render(text) for text in texts]
