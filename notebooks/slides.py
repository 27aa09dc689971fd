"""Makes slides from the stored notebooks: one HTML file per lesson that needs no network.

    python notebooks/slides.py [--out build/slides]

Which cells become slides is written in the cells, as Jupyter's own `slideshow` metadata: "slide"
and "subslide" begin one, "fragment" appears on it at the next key, "notes" goes to the speaker,
"skip" is left out, and a cell without a type continues the slide. A text shows its first sentences
(its last ones with `"shows": "end"`, none with "title") and is whole in the speaker's notes. A
picture takes the place of the code that draws it, and with `"shows": "output"` so does what a cell
prints. What doesn't fit on a slide continues on the next.
"""

import argparse
import math
import re
import sys
import unicodedata
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(HERE))

import rendering  # noqa: E402

import build  # noqa: E402
from ch07.pages.one_file import one_file_page  # noqa: E402

MOST_WORDS = 60  # of a text that a slide shows; the rest is in the notes
# A slide is 1280 x 720 pixels; these are the sizes in slides.css, from which it is reckoned what
# fits. A test measures all slides in a browser.
FRAME = 616  # below the top edge and above the bar
TITLE_LINE = 45  # from one line to the next
TITLE_COLUMNS = 50  # Latin letters in a line
TEXT_LINE = 35
TEXT_COLUMNS = 88
CODE_LINE = 25
CODE_COLUMNS = 103
OUTPUT_LINE = 23
OUTPUT_COLUMNS = 114
TABLE_LINE = 28
TABLE_COLUMNS = 84
CHINESE = 1.9  # width of a Chinese character, in Latin letters
CHINESE_IN_CODE = 2
GAP = 18  # between blocks
EDGE = 24  # above and below the lines of code or output
LOWEST_PICTURE = 360  # a wide picture is shown at least so high
LOWEST_TALL_PICTURE = 500  # a tall one
NARROW_COLUMNS = 32  # of a text beside a picture

WORDS = {
    "en": {
        "slide": "Slide",
        "of": "of",
        "notes": "Notes",
        "overview": "Overview",
        "previous": "Previous slide",
        "next": "Next slide",
        "full": "Full screen",
        "close": "Close",
        "keys": "→ or space: on. ←: back. Home, End: first, last. Esc: overview. N: notes. "
        "F: full screen.",
        "code": "The code of this slide:",
        "longer": "The speaker's notes hold it as text.",
        "title": "Slides",
        "lead": "One file for each lesson. They need no network; copy them wherever you like.",
    },
    "zh-CN": {
        "slide": "幻灯片",
        "of": "/",
        "notes": "备注",
        "overview": "总览",
        "previous": "上一张",
        "next": "下一张",
        "full": "全屏",
        "close": "关闭",
        "keys": "→ 或空格：前进。←：后退。Home、End：第一张、最后一张。Esc：总览。N：备注。"
        "F：全屏。",
        "code": "这张幻灯片的代码：",
        "longer": "讲者备注里有它的文字版。",
        "title": "幻灯片",
        "lead": "每课一个文件，不用联网，可以拷到任何地方。",
    },
}


@dataclass
class Block:
    """A part of a slide, with the pixels that it takes from top to bottom."""

    kind: str  # "text", "list", "table", "code", "output" or "picture"
    html: str
    height: int
    narrow: int = 0  # the same beside a picture; texts alone stand there
    is_fragment: bool = False  # appears at a key
    is_tied: bool = False  # is about the block above it


@dataclass
class Slide:
    """One slide: a title, what stands below it, and what the speaker alone sees."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def body(self) -> int:
        """Pixels below the title."""
        return FRAME - TITLE_LINE * n_lines(self.title, TITLE_COLUMNS) - GAP

    def stacks(self, blocks: list[Block]) -> bool:
        """Whether these blocks fit below each other."""
        return sum(block.height + GAP for block in blocks) - GAP <= self.body

    def stands_beside(self, blocks: list[Block]) -> bool:
        """Whether they are one picture and texts that fit beside it."""
        texts = [block for block in blocks if block.kind == "text"]
        drawn = [block for block in blocks if block.kind == "picture"]
        is_pair = len(drawn) == 1 and len(texts) == len(blocks) - 1
        return is_pair and sum(block.narrow + GAP for block in texts) - GAP <= self.body

    def holds(self, more: list[Block]) -> bool:
        """Whether there is room for these blocks, too."""
        blocks = [*self.blocks, *more]
        return self.stacks(blocks) or self.stands_beside(blocks)


def n_lines(text: str, columns: int, chinese: float = CHINESE) -> int:
    """How many lines a text takes when it is wrapped at so many columns of Latin letters."""
    total = 0
    for line in text.split("\n"):
        n_wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
        total += max(1, math.ceil((len(line) + (chinese - 1) * n_wide) / columns))
    return total


# --- cells become blocks -------------------------------------------------------------------------


def leading(parts: list[str], most: int) -> int:
    """How many of these sentences have at most so many words together; always at least one."""
    total = 0
    for number, part in enumerate(parts):
        total += rendering.n_words(part)
        if total > most and number:
            return number
    return len(parts)


def shown_sentences(paragraphs: list[str], from_end: bool) -> list[str]:
    """The paragraphs, cut to the sentences that a slide has room for."""
    marked = [(i, own) for i, text in enumerate(paragraphs) for own in rendering.sentences(text)]
    if from_end:
        marked.reverse()
    kept = marked[: leading([own for _, own in marked], MOST_WORDS)]
    if from_end:
        kept.reverse()
    return ["".join(own for j, own in kept if j == i) for i in range(len(paragraphs))]


def text_blocks(source: str, from_end: bool) -> tuple[str, list[Block]]:
    """The heading of a text ("" without one) and the blocks that a slide shows of it."""
    parts = rendering.top_level_parts(source)
    heading = next((text.lstrip("# ") for kind, text in parts if kind == "heading"), "")
    paragraphs = [text for kind, text in parts if kind == "paragraph"]
    shown = iter(shown_sentences(paragraphs, from_end))
    blocks = []
    for kind, text in parts:
        if kind == "paragraph":
            own = next(shown)
            blocks += [paragraph_block(own)] if own else []
        elif kind == "list":
            blocks += list_blocks(text)
        elif kind in ("table", "fence"):
            blocks.append(Block("table", rendering.text_html(text), height_of(kind, text)))
    return heading, blocks


def paragraph_block(text: str) -> Block:
    """A paragraph, below or beside other blocks."""
    line = " ".join(text.split())
    heights = [TEXT_LINE * n_lines(line, columns) for columns in (TEXT_COLUMNS, NARROW_COLUMNS)]
    return Block("text", rendering.text_html(text), *heights)


def height_of(kind: str, text: str) -> int:
    """The pixels of a table, or of a fenced piece of code."""
    lines = text.split("\n")
    if kind == "fence":
        return CODE_LINE * (len(lines) - 2) + EDGE
    rows = [lines[0], *lines[2:]]
    return sum(TABLE_LINE * n_lines(row, TABLE_COLUMNS) + 16 for row in rows)


def list_blocks(source: str) -> list[Block]:
    """A list, in as many pieces as it takes slides."""
    items = re.split(r"\n(?=(?:\d+\.|-) )", source)
    heights = [TEXT_LINE * n_lines(item, TEXT_COLUMNS - 4) + 8 for item in items]
    pieces: list[list[int]] = [[]]
    for number, height in enumerate(heights):
        taken = sum(heights[i] for i in pieces[-1])
        if pieces[-1] and taken + height > FRAME - TITLE_LINE - 2 * GAP:
            pieces.append([])
        pieces[-1].append(number)
    return [
        Block("list", text_of(items, piece), sum(heights[i] for i in piece)) for piece in pieces
    ]


def text_of(items: list[str], piece: list[int]) -> str:
    """Some items of a list as HTML."""
    return rendering.text_html("\n".join(items[i] for i in piece))


def output_blocks(text: str) -> list[Block]:
    """What a cell printed, in as many pieces as it takes slides, divided at empty lines."""
    room = FRAME - TITLE_LINE - 2 * GAP - EDGE
    pieces: list[str] = []
    for paragraph in re.split(r"\n(?=\n)", text):
        lines = [paragraph] if output_height(paragraph) <= room else paragraph.split("\n")
        for line in lines:
            longer = f"{pieces[-1]}\n{line}" if pieces else ""
            if pieces and output_height(longer) <= room:
                pieces[-1] = longer
            else:
                pieces.append(line)
    pieces = [piece.strip("\n") for piece in pieces if piece.strip()]
    return [
        Block(
            "output",
            rendering.output_html(piece),
            output_height(piece) + EDGE,
            is_fragment=True,
            is_tied=True,
        )
        for piece in pieces
    ]


def output_height(text: str) -> int:
    """The pixels of printed lines."""
    return OUTPUT_LINE * n_lines(text, OUTPUT_COLUMNS, CHINESE_IN_CODE)


def code_blocks(cell: NotebookNode, title: str, words: dict[str, str]) -> list[Block]:
    """The code of a cell and what it printed; or its pictures, in place of the code."""
    blocks = []
    if not hides_code(cell):
        height = CODE_LINE * n_lines(cell.source, CODE_COLUMNS, CHINESE_IN_CODE) + EDGE
        blocks.append(Block("code", rendering.code_html(cell.source), height))
    drawn = rendering.pictures(cell)
    if rendering.printed(cell) and not drawn:
        blocks += output_blocks(rendering.printed(cell))
    for png, alt in drawn:
        width, height = rendering.picture_size(png)
        least = LOWEST_TALL_PICTURE if height > width else LOWEST_PICTURE
        html = rendering.picture_html(png, alt, title, words["longer"])
        blocks.append(Block("picture", html, least))
    return blocks


def hides_code(cell: NotebookNode) -> bool:
    """Whether a slide shows what a cell gives, and not the cell itself."""
    shows = cell.metadata.get("slideshow", {}).get("shows")
    return shows == "output" or bool(rendering.pictures(cell))


# --- blocks become slides ------------------------------------------------------------------------


def slides_of(notebook: NotebookNode, words: dict[str, str]) -> list[Slide]:
    """The slides of a notebook, in order."""
    slides: list[Slide] = []
    title = ""
    for cell in notebook.cells:
        marks = cell.metadata.get("slideshow", {})
        kind = marks.get("slide_type", "-")
        if kind == "skip" or cell.id == build.BADGE:
            continue
        if kind == "notes":
            slides[-1].notes += notes_of(cell, words, whole=True)
            continue
        heading = ""
        if cell.cell_type == "markdown":
            source, _ = rendering.split_folded(cell.source)
            heading, blocks = text_blocks(source, marks.get("shows") == "end")
            blocks = [] if marks.get("shows") == "title" else blocks
        else:
            blocks = code_blocks(cell, title, words)
        title = heading or title
        if kind in ("slide", "subslide"):
            slides.append(Slide(title))
        if kind == "fragment" and blocks:
            blocks[0].is_fragment = True
            blocks[0].is_tied = True
        first = slides[-1]
        add_blocks(slides, blocks)
        shown = slides[-1] if cell.cell_type == "code" else first
        shown.notes += notes_of(cell, words, whole=False)
    return slides


def add_blocks(slides: list[Slide], blocks: list[Block]) -> None:
    """Put blocks on the last slide, and on new ones with its title when it is full.

    A block that is about the one above it takes that one along, if both fit and something stays.
    """
    for block in blocks:
        full = slides[-1]
        if full.blocks and not full.holds([block]):
            slides.append(Slide(full.title))
            above = full.blocks[-1]
            if block.is_tied and len(full.blocks) > 1 and slides[-1].holds([above, block]):
                slides[-1].blocks.append(full.blocks.pop())
        slides[-1].blocks.append(block)
        slides[-1].blocks[0].is_fragment = False  # an empty slide would show nothing


def notes_of(cell: NotebookNode, words: dict[str, str], whole: bool) -> list[str]:
    """What the speaker sees of a cell: the whole text, folded answers, code that isn't shown."""
    if cell.cell_type == "markdown":
        text, folded = rendering.split_folded(cell.source)
        text = re.sub(r"^#+ .*\n*", "", text, flags=re.M)
        notes = [rendering.text_html(text)] if whole or is_cut(cell, text) else []
        for summary, content in folded:
            notes.append(f"<h3>{escape(summary)}</h3>\n{rendering.text_html(content)}")
        return notes
    notes = []
    if hides_code(cell):
        notes.append(f"<p>{escape(words['code'])}</p>\n{rendering.code_html(cell.source)}")
    if rendering.pictures(cell) or whole:
        texts = [rendering.printed(cell), *(alt for _, alt in rendering.pictures(cell))]
        notes += [rendering.output_html(text) for text in texts if text]
    return notes


def is_cut(cell: NotebookNode, text: str) -> bool:
    """Whether a slide leaves out sentences of this text."""
    paragraphs = [own for kind, own in rendering.top_level_parts(text) if kind == "paragraph"]
    shows = cell.metadata.get("slideshow", {}).get("shows")
    return shows == "title" or shown_sentences(paragraphs, shows == "end") != paragraphs


# --- slides become pages -------------------------------------------------------------------------


def slide_html(number: int, n_slides: int, slide: Slide, words: dict[str, str]) -> str:
    """One slide with its notes."""
    rank = "h1" if number == 1 else "h2"
    parts = []
    for block in slide.blocks:
        fragment = " fragment" if block.is_fragment else ""
        parts.append(f'<div class="block {block.kind}{fragment}">{block.html}</div>')
    notes = ""
    if slide.notes:
        named = f'class="notes" tabindex="0" aria-label="{words["notes"]}"'
        notes = f"<aside {named}>{''.join(slide.notes)}</aside>\n"
    label = f"{words['slide']} {number} {words['of']} {n_slides}"
    beside = "" if slide.stacks(slide.blocks) or not slide.blocks else " beside"
    title = f"<{rank}>{rendering.inline_html(slide.title)}</{rank}>"
    return (
        f'<section class="slide" id="{number}" role="group" aria-roledescription="{words["slide"]}"'
        f' aria-label="{label}">\n<div class="frame{beside}">{title}\n'
        f"{''.join(parts)}</div>\n{notes}</section>\n"
    )


def page_of(path: Path, language: str) -> str:
    """The slides of a notebook as one HTML file."""
    words = WORDS[language]
    notebook = nbformat.read(path, as_version=4)
    slides = slides_of(notebook, words)
    own = [slide_html(i, len(slides), slide, words) for i, slide in enumerate(slides, start=1)]
    fill = {f"<!-- {key} -->": escape(text) for key, text in words.items() if key != "title"}
    fill["<!-- title -->"] = escape(slides[0].title)
    fill["<!-- slides -->"] = "".join(own)
    return filled(one_file_page("slides", {"words": words}), language, fill)


def filled(page: str, language: str, values: dict[str, str]) -> str:
    """A page in a language, with texts in their places."""
    page = page.replace('<html lang="en">', f'<html lang="{language}">', 1)
    for place, text in values.items():
        page = page.replace(place, text)
    return page


def index_page(names: dict[str, dict[str, str]]) -> str:
    """A page of links: {language: {file: title}}."""
    lists = []
    for language, files in names.items():
        words = WORDS[language]
        links = "".join(
            f'<li><a href="{escape(file)}">{escape(re.sub("^[0-9]+. *", "", title))}</a></li>\n'
            for file, title in files.items()
        )
        lists.append(
            f'<section lang="{language}"><h2>{words["title"]}</h2>\n<p>{words["lead"]}</p>\n'
            f"<ol>\n{links}</ol></section>\n"
        )
    return one_file_page("lessons").replace("<!-- lists -->", "".join(lists))


def lessons(language: str) -> list[Path]:
    """The notebooks in a language, in order."""
    folder = HERE if language == "en" else HERE / language
    return [folder / path.name for path in build.notebooks()]


def title_of(path: Path) -> str:
    """A lesson's title, with its number."""
    first = nbformat.read(path, as_version=4).cells[0].source
    return first.split("\n")[0].lstrip("# ")


def main() -> None:
    """Write the slides of all lessons in all languages, and a page of links to them."""
    parser = argparse.ArgumentParser(description="Make slides from the stored notebooks.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "build" / "slides")
    out = parser.parse_args().out
    names: dict[str, dict[str, str]] = {}
    for language in WORDS:
        names[language] = {}
        for path in lessons(language):
            file = (Path() if language == "en" else Path(language)) / f"{path.stem}.html"
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_text(page_of(path, language), encoding="utf-8")
            names[language][file.as_posix()] = title_of(path)
    (out / "index.html").write_text(index_page(names), encoding="utf-8")
    print(f"{sum(map(len, names.values()))} files of slides; open {out / 'index.html'}")


if __name__ == "__main__":
    main()
