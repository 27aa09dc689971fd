"""Notebook cells as HTML, for slides and handouts: text, mathematics, code, outputs, pictures.

Everything comes from the stored notebooks; no cell is run. markdown-it-py, mdit-py-plugins,
Pygments and docutils, which do the work, come with requirements-docs.txt.
"""

import base64
import re
import struct
from html import escape

from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

FOLDED = re.compile(r"<details>(.*?)</details>", flags=re.S)
SUMMARY = re.compile(r"<summary>(.*?)</summary>\s*", flags=re.S)
COLOURS = re.compile(r"\x1b\[[\d;]*m")
# A full stop or the like, what may close behind it, and how the next sentence begins.
SENTENCE_END = re.compile(r"[.!?][)*\"]*\s+(?=[A-Z*`$\"(\[])|[。！？][”）」’*]*")
ALT_LENGTH = 500  # characters; what is longer stands below the picture's notes as a text


def _math(content: str, options: dict) -> str:
    """TeX as MathML, which browsers draw without fonts or scripts of ours."""
    return tex2mathml(content, as_block=options.get("display_mode", False))


def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    reader.use(dollarmath_plugin, renderer=_math, allow_space=False)
    reader.add_render_rule("link_open", _link_open)
    reader.add_render_rule("link_close", _link_close)
    reader.add_render_rule("fence", _fence)
    return reader


def _is_outside(token: Token) -> bool:
    return str(token.attrs.get("href", "")).startswith(("https://", "http://"))


def _link_open(renderer, tokens, place, options, env) -> str:
    """A link into the project's folder leads nowhere from a page elsewhere; its words stay."""
    token = tokens[place]
    env.setdefault("links", []).append(_is_outside(token))
    return f'<a href="{escape(str(token.attrs["href"]))}">' if _is_outside(token) else "<span>"


def _link_close(renderer, tokens, place, options, env) -> str:
    return "</a>" if env["links"].pop() else "</span>"


def _fence(renderer, tokens, place, options, env) -> str:
    return f'<pre class="code"><code>{escape(tokens[place].content.rstrip())}</code></pre>\n'


MARKDOWN = _markdown()


def text_html(source: str) -> str:
    """Markdown with tables and $...$ as HTML; raw HTML in it is shown as text."""
    return MARKDOWN.render(source)


def inline_html(source: str) -> str:
    """One line of Markdown as HTML, without a paragraph around it."""
    return MARKDOWN.renderInline(source)


def code_html(source: str) -> str:
    """Python as HTML with a class for each kind of token, which the style sheets colour."""
    coloured = highlight(source, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))
    return f'<pre class="code"><code>{coloured.rstrip()}</code></pre>\n'


def output_html(text: str) -> str:
    """What a cell printed."""
    return f'<pre class="output"><samp>{escape(text)}</samp></pre>\n'


def top_level_parts(source: str) -> list[tuple[str, str]]:
    """The parts of a Markdown text, in order: ("heading", "paragraph", "list", ..., its source)."""
    lines = source.split("\n")
    parts = []
    for token in MARKDOWN.parse(source):
        if token.level == 0 and token.map and token.nesting >= 0:
            kind = token.type.removesuffix("_open").removeprefix("bullet_")
            kind = kind.removeprefix("ordered_")
            parts.append((kind, "\n".join(lines[slice(*token.map)]).rstrip()))
    return parts


def split_folded(source: str) -> tuple[str, list[tuple[str, str]]]:
    """A text without its `<details>`, and each of these as (summary, content)."""
    folded = []
    for content in FOLDED.findall(source):
        summary = SUMMARY.search(content)
        folded.append((summary[1] if summary else "", SUMMARY.sub("", content).strip()))
    return FOLDED.sub("", source).strip(), folded


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, English or Chinese; joined, they are the paragraph again.

    What stands in brackets, or is emphasised, stays together.
    """
    parts = [""]
    start = 0
    for found in SENTENCE_END.finditer(paragraph):
        parts[-1] = paragraph[start : found.end()]
        if is_closed(parts[-1]):
            start = found.end()
            parts.append("")
    parts[-1] = paragraph[start:]
    return [part for part in parts if part]


def is_closed(text: str) -> bool:
    """Whether a piece of Markdown closes every bracket and mark that it opens."""
    text = re.sub(r"`[^`]*`", "", text)
    are_even = all(text.count(mark) % 2 == 0 for mark in "*`$")
    pairs = (("(", ")"), ("（", "）"), ("[", "]"))
    return are_even and all(text.count(a) == text.count(b) for a, b in pairs)


def n_words(text: str) -> int:
    """How long a text is to read: words, where two Chinese characters count as one."""
    chinese = re.findall(r"[\u4e00-\u9fff]", text)
    others = re.sub(r"[\u4e00-\u9fff]", " ", text).split()
    return len(others) + (len(chinese) + 1) // 2


def printed(cell: NotebookNode) -> str:
    """What a code cell printed or returned as text, pictures aside, without terminal colours."""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if output.output_type == "stream":
            texts.append(output.text)
        elif "image/png" not in data:
            texts.append(data.get("text/plain", ""))
    return COLOURS.sub("", "\n".join(text.strip("\n") for text in texts)).rstrip()


def pictures(cell: NotebookNode) -> list[tuple[str, str]]:
    """(base64 of a PNG, what it shows in words) for each picture of a code cell."""
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/png" in data:
            found.append(("".join(data["image/png"].split()), data["text/plain"]))
    return found


def picture_size(png: str) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG in base64."""
    return struct.unpack(">II", base64.b64decode(png[:44])[16:24])


def picture_html(png: str, words: str, title: str, longer: str) -> str:
    """A picture as part of the page; `words` are its alternative text, unless they are a table.

    `title` then takes their place, with `longer`, which says where to find them.
    """
    width, height = picture_size(png)
    alt = words if len(words) <= ALT_LENGTH else f"{title}. {longer}"
    shape = ' class="tall"' if height > width else ""
    source = f'src="data:image/png;base64,{png}" alt="{escape(alt)}"'
    return f'<figure{shape}><img {source} width="{width}" height="{height}"></figure>\n'
