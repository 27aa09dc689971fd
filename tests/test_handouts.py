"""Handouts: two to four pages of A4, nothing cut off, and answers that stand alone at the end."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browser import chromium_path, open_browser, open_page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import handouts  # noqa: E402
import rendering  # noqa: E402
import slides  # noqa: E402

from ch07.exercises.catalogue import exercises  # noqa: E402

LESSONS = [(path, language) for language in handouts.WORDS for path in slides.lessons(language)]
every_lesson = pytest.mark.parametrize(
    ("path", "language"), LESSONS, ids=[f"{language}-{path.stem[:2]}" for path, language in LESSONS]
)


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


def text_of(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def last_cell(path):
    return nbformat.read(path, as_version=4).cells[-1]


def pages_of(pdf):
    """The text of each page."""
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    command = ["pdftotext", "-layout", str(pdf), "-"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return text.removesuffix("\f").split("\f")


# --- on paper ------------------------------------------------------------------------------------


@every_lesson
def test_it_has_two_to_four_pages_and_nothing_is_cut_off(path, language, tmp_path, browser):
    file = tmp_path / "page.html"
    file.write_text(handouts.handout_page(path, language), encoding="utf-8")
    with open_page(browser, file.as_uri(), viewport={"width": 658, "height": 982}) as page:
        paper = page.pdf(prefer_css_page_size=True)
        assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 4
        page.emulate_media(media="print")
        wide = """() => [...document.querySelectorAll("main *")].filter(
          (part) => part.getBoundingClientRect().right > 660
        ).map((part) => part.tagName)"""
        assert page.evaluate(wide) == []
        broken = "[...document.images].filter((image) => image.naturalWidth === 0).length"
        assert page.evaluate(broken) == 0


@pytest.mark.parametrize("language", handouts.WORDS)
def test_chromium_prints_title_page_numbers_and_embedded_fonts(language, tmp_path):
    chromium = chromium_path()
    path = slides.lessons(language)[4]
    pdf = tmp_path / "handout.pdf"
    handouts.print_pdf(chromium, handouts.handout_page(path, language), pdf)
    pages = pages_of(pdf)
    title = slides.title_of(path)
    for number, page in enumerate(pages, start=1):
        assert " ".join(title.split()) in " ".join(page.split())
        assert re.search(rf"{number}\s*/\s*{len(pages)}\s*$", page.rstrip())
    answers = handouts.WORDS[language]["answers"].strip(" ：:")
    assert answers in pages[-1] and not any(answers in page for page in pages[:-1])
    if shutil.which("pdffonts"):
        done = subprocess.run(["pdffonts", str(pdf)], capture_output=True, text=True, check=True)
        embedded = re.findall(r"(yes|no)\s+(?:yes|no)\s+(?:yes|no)\s+\d+\s+\d+$", done.stdout, re.M)
        assert embedded and set(embedded) == {"yes"}


@pytest.mark.skipif(sys.platform == "win32", reason="the fake browser is a script of sh")
def test_a_browser_that_prints_nothing_is_an_error_with_its_words(tmp_path):
    broken = tmp_path / "browser"
    broken.write_text("#!/bin/sh\necho no screen >&2\nexit 3\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"printed no handout\.pdf: no screen"):
        handouts.print_pdf(str(broken), "<p>x</p>", tmp_path / "handout.pdf")


def test_without_a_browser_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(handouts, "find_chromium", lambda: None)
    monkeypatch.setattr(sys, "argv", ["handouts.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        handouts.main()
    assert re.fullmatch(r"error: no Chromium to print with: [^\n]+CHROMIUM=\S+", stopped.value.code)
    assert list(tmp_path.iterdir()) == []


# --- what is on them -----------------------------------------------------------------------------


@every_lesson
def test_all_questions_are_asked_and_answers_come_last(path, language):
    page = text_of(handouts.handout_page(path, language))
    questions, answers = page.split(handouts.WORDS[language]["leave"])
    source, ((_, folded),) = rendering.split_folded(last_cell(path).source)
    asked = re.findall(r"^\d\. (.*)$", source, flags=re.M)
    answered = re.findall(r"^\d\. (.*)$", folded, flags=re.M)
    assert len(asked) == len(answered) >= 3
    for question in asked:
        assert text_of(rendering.inline_html(question)) in questions
    for answer in answered:
        words = text_of(rendering.inline_html(answer))
        assert words in answers and words not in questions


@every_lesson
def test_it_shows_an_idea_in_code_or_picture_and_says_where_the_code_is(path, language):
    page = handouts.handout_page(path, language)
    notebook = nbformat.read(path, as_version=4)
    shown = [cell for cell in notebook.cells if "handout" in cell.metadata.get("tags", [])]
    assert 2 <= len(shown) <= 4
    for cell in shown:
        drawn = [png in page for png, _ in rendering.pictures(cell)]
        assert all(drawn) if drawn else rendering.code_html(cell.source) in page
    places = handouts.used_places(notebook, shown)
    assert places
    for name, (file, lines) in places.items():
        first, last = (int(number) for number in (lines.split("-") * 2)[:2])
        text = (ROOT / file).read_text(encoding="utf-8").split("\n")
        assert re.search(rf"\b{name}\b", "\n".join(text[first - 1 : last])), (name, file, lines)
        assert re.match(r"@|def |class |\w+", text[first - 1]), (name, file, lines)


@pytest.mark.parametrize("path", slides.lessons("en"), ids=lambda path: path.stem[:2])
def test_the_exercises_of_a_lesson_are_those_that_its_text_names(path):
    """The metadata says in numbers what the last cell says in words."""
    named = set()
    for words in re.findall(
        r"exercises? ([\d, and]+|\d+ to \d+) of `python -m ch07 check`", last_cell(path).source
    ):
        numbers = [int(number) for number in re.findall(r"\d+", words)]
        named |= set(range(numbers[0], numbers[1] + 1)) if " to " in words else set(numbers)
    assert set(last_cell(path).metadata.get("exercises", [])) == named


def test_each_exercise_belongs_to_a_lesson_and_shows_its_first_hint_alone():
    numbers = [
        n for path in slides.lessons("en") for n in last_cell(path).metadata.get("exercises", [])
    ]
    assert sorted(numbers) == list(range(1, len(exercises()) + 1))
    for path in slides.lessons("en"):
        page = handouts.handout_page(path, "en")
        questions, answers = page.split(handouts.WORDS["en"]["leave"])
        for number in last_cell(path).metadata.get("exercises", []):
            hints = [handouts.escape(hint) for hint in exercises()[number - 1].hints]
            assert hints[0] in questions and hints[1] not in questions and hints[2] not in questions
            assert hints[1] in answers and hints[2] in answers
            assert handouts.solution_place(exercises()[number - 1], handouts.WORDS["en"]) in answers
