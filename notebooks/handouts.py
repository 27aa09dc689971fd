"""Makes a handout for each lesson, a PDF on A4, from its stored notebook and the exercises.

    python notebooks/handouts.py [--out build/handouts]

On it are the cells tagged "handout", where their functions are defined, the questions of the last
cell with room to write, and the exercises that this cell's metadata names. The answers are on a
last page of their own, which an instructor leaves out when printing. Chromium prints the pages.
"""

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(HERE))

import rendering  # noqa: E402
import slides  # noqa: E402

import build  # noqa: E402
import ch07  # noqa: E402
from ch07.exercises.catalogue import Exercise, find, solution_file  # noqa: E402
from ch07.pages.chromium import find_chromium  # noqa: E402
from ch07.pages.one_file import one_file_page  # noqa: E402

SECONDS = 120  # for a page to be printed
LINES_TO_WRITE_ON = 3
MOST_LINES = 24  # of what a cell printed

WORDS = {
    "en": {
        "places": "Where the code is",
        "name": "name",
        "file": "file",
        "lines": "lines",
        "tasks": "To write yourself",
        "minutes": "minutes",
        "task": "task, stub and first hint",
        "copy": "This copies the stubs into a folder of your own, and checks what you wrote:",
        "more": "Read on",
        "notebook": "the notebook, with all its code and outputs",
        "answers": "Answers: ",
        "place": "{}, lines {}",
        "leave": "For the instructor: leave this page out when you print for participants.",
        "hints": "Hints and solutions",
        "longer": "The notebook has it as text.",
        "stop": "...",
    },
    "zh-CN": {
        "places": "代码在哪里",
        "name": "名称",
        "file": "文件",
        "lines": "行",
        "tasks": "自己动手写",
        "minutes": "分钟",
        "task": "任务、代码骨架和第一条提示（检查器的文字是英文）",
        "copy": "下面两行把代码骨架复制到你自己的目录，并检查你写的代码：",
        "more": "继续阅读",
        "notebook": "笔记本，含全部代码和输出",
        "answers": "答案：",
        "place": "{}，{} 行",
        "leave": "供讲师使用：给学员打印时不要印这一页。",
        "hints": "提示与参考解答",
        "longer": "笔记本里有它的文字版。",
        "stop": "……",
    },
}
COMMANDS = "python -m ch07 check --start my_exercises\npython -m ch07 check my_exercises"


# --- where things are defined ---------------------------------------------------------------------


def module_file(module: str) -> Path | None:
    """The file of a module of this project, found without importing it; None for another's."""
    place = ROOT.joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def place_of(file: Path, name: str) -> tuple[str, str] | None:
    """(path in the project, "first-last line") of a function, class or value of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        names = [getattr(node, "name", "")]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        if name in names:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            lines = str(first) if first == node.end_lineno else f"{first}-{node.end_lineno}"
            return file.relative_to(ROOT).as_posix(), lines
    return None


def used_places(notebook: NotebookNode, shown: list[NotebookNode]) -> dict[str, tuple[str, str]]:
    """{name: where it is defined} for what these cells use of the project, in order."""
    nodes = [node for cell in shown for node in ast.walk(ast.parse(cell.source))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    places = {}
    for cell in notebook.cells:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [alias.name for alias in node.names if alias.name in used]
                found = {name: imported_place(node.module, name) for name in names}
                places |= {name: place for name, place in found.items() if place}
    return places


def imported_place(module: str, name: str) -> tuple[str, str] | None:
    """Where `from module import name` finds it; None outside the project, and for its figures."""
    module = ch07.PUBLIC_NAMES.get(name, module) if module == "ch07" else module
    file = module_file(module)
    is_figure = module.startswith("ch07.visualization")
    return place_of(file, name) if file and not is_figure else None


def solution_place(exercise: Exercise, words: dict[str, str]) -> str:
    """Where an exercise's reference solution is: file and lines."""
    place = place_of(solution_file(exercise), exercise.solution.split(":")[1])
    return words["place"].format(*place) if place else exercise.solution


# --- the parts of a handout -----------------------------------------------------------------------


def title_html(cell: NotebookNode) -> str:
    """The title, what one will know by the end, and which section of the book this is."""
    parts = rendering.top_level_parts(cell.source)
    (title,) = (text.lstrip("# ") for kind, text in parts if kind == "heading")
    aim, _, section = (text for kind, text in parts if kind == "paragraph")
    return (
        f"<h1>{rendering.inline_html(title)}</h1>\n{rendering.text_html(aim)}"
        f'<div class="quiet">{rendering.text_html(section)}</div>\n'
    )


def ideas_html(notebook: NotebookNode, words: dict[str, str]) -> str:
    """The cells tagged "handout", each with the text before it."""
    parts = []
    title = ""
    text = ""
    last = ""  # the title above the cell before
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            from_end = cell.metadata.get("slideshow", {}).get("shows") == "end"
            source, _ = rendering.split_folded(cell.source)
            heading, blocks = slides.text_blocks(source, from_end)
            title = heading or title
            text = "".join(block.html for block in blocks if block.kind == "text")
        elif "handout" in cell.metadata.get("tags", []):
            body = cell_html(cell, title, words)
            head = "" if title == last else f"<h2>{rendering.inline_html(title)}</h2>\n"
            parts.append(f'<section class="whole">{head}{text}{body}</section>')
            last = title
    return "\n".join(parts)


def cell_html(cell: NotebookNode, title: str, words: dict[str, str]) -> str:
    """The pictures of a cell, or its code and what it printed."""
    drawn = rendering.pictures(cell)
    if drawn:
        return "".join(rendering.picture_html(p, alt, title, words["longer"]) for p, alt in drawn)
    lines = rendering.printed(cell).split("\n")
    rest = [words["stop"]] if len(lines) > MOST_LINES else []
    output = rendering.output_html("\n".join(lines[:MOST_LINES] + rest))
    return rendering.code_html(cell.source) + output


def places_html(notebook: NotebookNode, words: dict[str, str]) -> str:
    """A table of the functions that the shown cells use; "" if there is none."""
    shown = [cell for cell in notebook.cells if "handout" in cell.metadata.get("tags", [])]
    places = used_places(notebook, shown)
    rows = "".join(
        f"<tr><td><code>{name}</code></td><td><code>{file}</code></td><td>{lines}</td></tr>\n"
        for name, (file, lines) in places.items()
    )
    if not rows:
        return ""
    head = "".join(f"<th>{words[key]}</th>" for key in ("name", "file", "lines"))
    table = f"<h2>{words['places']}</h2>\n<table><tr>{head}</tr>\n{rows}</table>"
    return f'<section class="whole">{table}</section>'


def questions_html(source: str) -> str:
    """The questions of a lesson's last cell, with lines to write on, but not for code to write."""
    heading, blocks = slides.text_blocks(source, False)
    lines = '<div class="line"></div>' * LINES_TO_WRITE_ON
    asked = "".join(block.html for block in blocks).split("</li>")
    items = [item if "ch07 check" in item else item + lines for item in asked[:-1]]
    return f"<h2>{rendering.inline_html(heading)}</h2>\n{'</li>'.join([*items, asked[-1]])}"


def tasks_html(exercises: list[Exercise], words: dict[str, str]) -> str:
    """The exercises to write, with their first hints; "" if the lesson has none."""
    if not exercises:
        return ""
    rows = "".join(
        f"<tr><td>{e.number}</td><td><code>{e.name}</code><br>{e.minutes} {words['minutes']}</td>"
        f"<td>{escape(e.title)}: <code>{e.stub}</code><br>{escape(e.hints[0])}</td></tr>\n"
        for e in exercises
    )
    head = f"<tr><th></th><th>{words['name']}</th><th>{words['task']}</th></tr>"
    return (
        f"<section><h2>{words['tasks']}</h2>\n<table>{head}\n{rows}</table>\n"
        f'<p>{words["copy"]}</p>\n<pre class="code"><code>{COMMANDS}</code></pre></section>'
    )


def answers_html(title: str, folded: list, exercises: list[Exercise], words: dict) -> str:
    """The instructor's page: answers, the other hints, and where the solutions are."""
    answers = "".join(rendering.text_html(content) for _, content in folded)
    hints = ""
    if exercises:
        items = "".join(
            f"<li><code>{e.name}</code> ({solution_place(e, words)})"
            f"<ol>{''.join(f'<li>{escape(hint)}</li>' for hint in e.hints[1:])}</ol></li>"
            for e in exercises
        )
        hints = f"<h2>{words['hints']}</h2>\n<ul>{items}</ul>"
    return (
        f'<section class="answers"><h1>{words["answers"]}{rendering.inline_html(title)}</h1>\n'
        f'<p class="quiet">{words["leave"]}</p>\n{answers}{hints}</section>'
    )


def handout_page(path: Path, language: str) -> str:
    """The handout of a lesson as one HTML file, ready to be printed."""
    words = WORDS[language]
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id != build.BADGE]
    title = slides.title_of(path)
    last = notebook.cells[-1]
    source, folded = rendering.split_folded(last.source)
    exercises = [find(number) for number in last.metadata.get("exercises", [])]
    place = path.relative_to(ROOT).as_posix()
    parts = [
        title_html(notebook.cells[0]),
        ideas_html(notebook, words),
        places_html(notebook, words),
        questions_html(source),
        tasks_html(exercises, words),
        f"<h2>{words['more']}</h2>\n<p><code>{place}</code>: {words['notebook']}</p>",
        answers_html(title, folded, exercises, words),
    ]
    values = {"<!-- title -->": escape(title), "<!-- handout -->": "\n".join(parts)}
    return slides.filled(one_file_page("handout"), language, values)


# --- printing -------------------------------------------------------------------------------------


def print_pdf(chromium: str, page: str, out: Path) -> None:
    """Have Chromium print a page of HTML as a PDF; RuntimeError says what it said instead."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page, encoding="utf-8")
        command = [chromium, "--headless", "--disable-gpu", "--no-pdf-header-footer"]
        command += ["--disable-background-networking", f"--user-data-dir={folder}/profile"]
        command += ["--no-sandbox"] if is_root else []
        command += [f"--print-to-pdf={out.resolve()}", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode or not out.exists():
        raise RuntimeError(f"{chromium} printed no {out.name}: {done.stderr.strip()[-500:]}")


def main() -> None:
    """Print the handouts of all lessons in all languages."""
    parser = argparse.ArgumentParser(description="Print a handout for each lesson.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "build" / "handouts")
    out = parser.parse_args().out
    chromium = find_chromium()
    if chromium is None:
        sys.exit(
            "error: no Chromium to print with: install one (apt-get install chromium), or name it "
            "with CHROMIUM=/path/to/it"
        )
    count = 0
    for language in WORDS:
        folder = out if language == "en" else out / language
        folder.mkdir(parents=True, exist_ok=True)
        for path in slides.lessons(language):
            file = folder / f"{path.stem}.pdf"
            file.unlink(missing_ok=True)
            print_pdf(chromium, handout_page(path, language), file)
            count += 1
    print(f"{count} handouts are in {out}")


if __name__ == "__main__":
    main()
