"""Slides come from the stored notebooks, fit their frames, and need a keyboard and nothing else."""

import itertools
import re
import sys
from pathlib import Path

import nbformat
import pytest
from browser import open_browser, open_page, serious_faults

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import rendering  # noqa: E402
import slides  # noqa: E402

LESSONS = [(path, language) for language in slides.WORDS for path in slides.lessons(language)]
every_lesson = pytest.mark.parametrize(
    ("path", "language"), LESSONS, ids=[f"{language}-{path.stem[:2]}" for path, language in LESSONS]
)
SCREEN = {"viewport": {"width": 1280, "height": 720}}
PHONE = {"viewport": {"width": 360, "height": 640}}
# What is wrong with the slides, each shown with all that is on it.
MISFITS = """() => slides.flatMap((slide, index) => {
  show(index, true);
  const frame = slide.querySelector(".frame");
  const low = [...frame.querySelectorAll("img")].filter((image) => image.clientHeight < 150);
  const wrong = [];
  if (frame.scrollHeight > frame.clientHeight) wrong.push("too tall");
  if (frame.scrollWidth > frame.clientWidth) wrong.push("too wide");
  if (low.length > 0) wrong.push("a picture is too small");
  if ([...frame.querySelectorAll("img")].some((image) => image.naturalWidth === 0)) {
    wrong.push("a picture is broken");
  }
  return wrong.map((words) => `slide ${index + 1}: ${words}`);
})"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All slides, as `make slides` writes them."""
    out = tmp_path_factory.mktemp("slides")
    for path, language in LESSONS:
        place = out / language
        place.mkdir(exist_ok=True)
        (place / f"{path.stem}.html").write_text(slides.page_of(path, language), encoding="utf-8")
    return out


def address(folder, number, language="en"):
    (file,) = (folder / language).glob(f"{number}_*.html")
    return file.as_uri()


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def texts_of(path):
    return [cell for cell in cells_of(path) if cell.cell_type == "markdown"]


def plain(html):
    return " ".join(re.sub(r"<[^>]+>", "", html).split())


# --- in a browser --------------------------------------------------------------------------------


@every_lesson
def test_every_slide_fits_its_frame(path, language, folder, browser):
    with open_page(browser, (folder / language / f"{path.stem}.html").as_uri(), **SCREEN) as page:
        assert page.evaluate(MISFITS) == []
        assert page.evaluate("document.documentElement.scrollHeight") <= 720


@pytest.mark.parametrize("size", [(1920, 1080), (1024, 768), (800, 450)])
def test_slides_grow_and_shrink_with_the_screen(folder, browser, size):
    viewport = {"width": size[0], "height": size[1]}
    with open_page(browser, address(folder, "02"), viewport=viewport) as page:
        misfits = [line for line in page.evaluate(MISFITS) if "small" not in line]
        assert misfits == []


@pytest.mark.parametrize(("number", "language"), [("02", "en"), ("08", "en"), ("09", "zh-CN")])
def test_a_telephone_scrolls_down_and_never_sideways(folder, browser, number, language):
    with open_page(browser, address(folder, number, language), **PHONE) as page:
        wide = """() => slides.filter((slide, index) => {
          show(index, true);
          return document.documentElement.scrollWidth > 360;
        }).map((slide) => slide.id)"""
        assert page.evaluate(wide) == []


def test_keys_lead_from_the_first_slide_to_the_last_and_back(folder, browser):
    """Each step shows the next part; each slide has its own address, and is announced."""
    with open_page(browser, address(folder, "02"), **SCREEN) as page:
        n_slides = page.locator(".slide").count()
        n_fragments = page.locator(".fragment").count()
        assert n_fragments > 5
        seen = [1]
        for _ in range(n_slides + n_fragments - 1):
            hidden = page.evaluate("hiddenFragments().length")
            page.keyboard.press("ArrowRight" if len(seen) % 2 else "Space")
            place = int(page.evaluate("location.hash").removeprefix("#") or 1)
            assert place == seen[-1] + (hidden == 0)
            seen.append(place)
        assert seen[-1] == n_slides and set(seen) == set(range(1, n_slides + 1))
        assert page.evaluate("hiddenFragments().length") == 0
        page.keyboard.press("ArrowRight")
        assert page.evaluate("location.hash") == f"#{n_slides}"
        assert page.text_content("#status").startswith(f"Slide {n_slides} of {n_slides}: ")
        page.keyboard.press("Home")
        assert page.evaluate("location.hash") == "#1"
        page.keyboard.press("End")
        page.keyboard.press("PageUp")
        assert page.evaluate("location.hash") == f"#{n_slides - 1}"
        assert page.evaluate("hiddenFragments().length") == 0  # as it was left


def test_an_address_opens_its_slide_and_a_wrong_one_the_nearest(folder, browser):
    for sign, slide in (("#3", "3"), ("#999", "16"), ("#nonsense", "1"), ("#-4", "1")):
        with open_page(browser, address(folder, "02") + sign, **SCREEN) as page:
            assert page.get_attribute(".slide.current", "id") == slide


def test_edges_and_swipes_turn_the_page(folder, browser):
    with open_page(browser, address(folder, "02"), has_touch=True, **SCREEN) as page:
        page.mouse.click(1270, 300)
        assert page.evaluate("location.hash") == "#2"
        hidden = page.evaluate("hiddenFragments().length")
        page.mouse.click(640, 600)  # the middle is for reading
        assert hidden and page.evaluate("hiddenFragments().length") == hidden
        page.mouse.click(5, 300)
        assert page.evaluate("location.hash") == "#1"
        swipe = """([from, to]) => {
          const main = document.getElementById("slides");
          const touch = (x) => new Touch({ identifier: 1, target: main, clientX: x, clientY: 300 });
          main.dispatchEvent(new TouchEvent("touchstart", { touches: [touch(from)] }));
          main.dispatchEvent(new TouchEvent("touchend", { changedTouches: [touch(to)] }));
        }"""
        page.evaluate(swipe, [600, 500])
        assert page.evaluate("location.hash") == "#2"
        page.evaluate(swipe, [500, 600])
        assert page.evaluate("location.hash") == "#1"
        page.evaluate(swipe, [530, 500])  # too short
        assert page.evaluate("location.hash") == "#1"


def test_the_overview_lists_all_slides_and_closes_again(folder, browser):
    with open_page(browser, address(folder, "02"), **SCREEN) as page:
        page.keyboard.press("Escape")
        titles = page.locator("#titles a").all_text_contents()
        assert len(titles) == 16 and titles[0] == "2. Batches by hand"
        page.keyboard.press("ArrowRight")  # the list's own, not the slides'
        assert page.evaluate("location.hash") in ("", "#1")
        page.keyboard.press("Escape")
        assert not page.evaluate("overview.open")
        page.keyboard.press("Escape")
        page.locator("#titles a").nth(6).click()
        assert page.get_attribute(".slide.current", "id") == "7"
        assert not page.evaluate("overview.open")


def test_notes_stand_beside_a_slide_that_still_fits(folder, browser):
    with open_page(browser, address(folder, "08") + "#2", **SCREEN) as page:
        notes = page.locator(".slide.current .notes")
        assert not notes.is_visible()
        page.keyboard.press("n")
        assert notes.is_visible()
        assert "90 wins to 89" in notes.text_content()  # which the slide leaves out
        assert [line for line in page.evaluate(MISFITS) if "small" not in line] == []
        page.keyboard.press("N")
        assert not notes.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("number", "language"), [("02", "en"), ("09", "zh-CN")])
def test_it_has_no_serious_fault_of_accessibility(folder, browser, number, language, scheme):
    where = address(folder, number, language)
    with open_page(browser, where, color_scheme=scheme, **SCREEN) as page:
        for keys in (["ArrowRight"], ["n"], ["Escape"]):
            for key in keys:
                page.keyboard.press(key)
            assert serious_faults(page) == [], keys
        page.keyboard.press("Escape")
        page.evaluate("show(5, true)")
        assert serious_faults(page) == []


def test_on_paper_each_slide_is_a_page_with_all_its_parts(folder, browser):
    with open_page(browser, address(folder, "02"), **SCREEN) as page:
        n_slides = page.locator(".slide").count()
        paper = page.pdf(prefer_css_page_size=True, print_background=True)
        assert len(re.findall(rb"/Type\s*/Page\b", paper)) == n_slides
        page.emulate_media(media="print")
        hidden = """[...document.querySelectorAll('.fragment')].filter((fragment) =>
          !fragment.checkVisibility({ visibilityProperty: true })).length"""
        assert page.evaluate(hidden) == 0
        assert page.evaluate(
            "[...document.querySelectorAll('.frame')].every(f => f.scrollHeight <= f.clientHeight)"
        )


def test_without_scripts_it_is_a_page_to_read(folder, browser):
    with open_page(browser, address(folder, "02"), java_script_enabled=False, **SCREEN) as page:
        sections = page.locator(".slide")
        assert all(sections.nth(i).is_visible() for i in range(sections.count()))
        assert not page.locator(".bar").is_visible()


def test_the_page_of_links_leads_to_all_lessons(tmp_path, browser, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["slides.py", "--out", str(tmp_path)])
    slides.main()
    assert capsys.readouterr().out.startswith("20 files of slides; open ")
    with open_page(browser, (tmp_path / "index.html").as_uri()) as page:
        links = page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
        assert len(links) == 20 and all((tmp_path / link).is_file() for link in links)
        assert serious_faults(page) == []
        page.locator("a").first.click()
        assert page.title() == "1. Preparing the data"


# --- what is on them -----------------------------------------------------------------------------


@every_lesson
def test_marks_are_those_of_jupyter_and_reach_every_cell(path, language):
    """A lesson begins with a slide, and only known words stand in the metadata."""
    cells = cells_of(path)
    assert cells[0].metadata.slideshow.slide_type == "slide"
    for cell in cells:
        marks = cell.metadata.get("slideshow", {})
        types = {"slide", "subslide", "fragment", "notes", "skip", "-"}
        assert marks.get("slide_type", "-") in types, cell.id
        shows = {"markdown": {"end", "title"}, "code": {"output"}}[cell.cell_type]
        assert marks.get("shows") in {None, *shows}, cell.id


@every_lesson
def test_texts_on_slides_are_short_and_whole_in_the_notes(path, language):
    found = slides.slides_of(nbformat.read(path, as_version=4), slides.WORDS[language])
    notes = plain("".join(note for slide in found for note in slide.notes))
    shown = plain("".join(block.html for slide in found for block in slide.blocks))
    assert len(found) <= 40
    for cell in texts_of(path):
        if cell.metadata.get("slideshow", {}).get("slide_type") == "skip":
            continue
        source, _ = rendering.split_folded(cell.source)
        paragraphs = [
            text for kind, text in rendering.top_level_parts(source) if kind == "paragraph"
        ]
        from_end = cell.metadata.get("slideshow", {}).get("shows") == "end"
        kept = slides.shown_sentences(paragraphs, from_end)
        assert sum(map(rendering.n_words, kept)) <= slides.MOST_WORDS + 20, cell.id
        for text in paragraphs:
            words = plain(rendering.text_html(text))
            assert words in shown or words in notes, (cell.id, words[:80])


@every_lesson
def test_every_picture_of_a_shown_cell_is_there_with_its_words(path, language):
    page = slides.page_of(path, language)
    skipped = {"skip", "notes"}
    for cell in cells_of(path):
        if cell.metadata.get("slideshow", {}).get("slide_type") in skipped:
            continue
        for png, _ in rendering.pictures(cell):
            (alt,) = re.findall(rf'{re.escape(png[-60:])}" alt="([^"]+)"', page)
            assert len(alt) > 15, cell.id


@every_lesson
def test_a_page_loads_nothing(path, language):
    page = slides.page_of(path, language)
    assert not re.search(r'(?:src|srcset|data)="(?!data:)', page)
    assert not re.search(r"<link|@import|url\(", page)
    assert "default-src 'none'" in page and f'<html lang="{language}">' in page


def test_a_hostile_notebook_stays_text():
    """Cells are shown, never run and never read as HTML."""
    bad = "</script><script>document.title = 1</script><img src=x onerror=alert(1)>"
    cells = [
        nbformat.v4.new_markdown_cell(f"# A {bad}\n\n{bad} [x](javascript:alert(1))"),
        nbformat.v4.new_code_cell(f"print({bad!r})"),
    ]
    cells[0].metadata["slideshow"] = {"slide_type": "slide"}
    cells[1].outputs = [nbformat.v4.new_output("stream", text=bad)]
    words = slides.WORDS["en"]
    (slide,) = slides.slides_of(nbformat.v4.new_notebook(cells=cells), words)
    html = slides.slide_html(1, 1, slide, words)
    assert "<script" not in html and "<img" not in html and "href" not in html


# --- the parts -----------------------------------------------------------------------------------


@every_lesson
def test_sentences_joined_are_the_paragraph(path, language):
    for cell in texts_of(path):
        for kind, text in rendering.top_level_parts(cell.source):
            if kind == "paragraph":
                parts = rendering.sentences(text)
                assert "".join(parts) == text
                assert all(part.strip() and rendering.is_closed(part) for part in parts)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("One. Two! Three? Four.", 4),
        ("It costs 2.5 nats (Wang et al. 2023, section 2).", 1),
        ("**Wrong:** look. (In brackets.) `code` follows.", 3),
        ("*Chapter 7, section 7.2. The code is here.* More.", 2),
        ("See (this. And that.) Then `a. B` is *x*.", 2),
        ("一句。两句（对吗？）三句！", 3),
        ("“你好。”他说。", 2),
        ("", 0),
    ],
)
def test_sentences_end_where_a_reader_stops(text, n):
    assert len(rendering.sentences(text)) == n


def test_the_first_or_the_last_sentences_are_shown_never_none():
    parts = ["one two three. ", "four five six. ", "seven eight nine."]
    assert slides.leading(parts, 6) == 2
    assert slides.leading(parts, 1) == 1
    long = " ".join(["word"] * 40) + ". "
    paragraphs = [f"A{long}B{long}", f"C{long}"]
    assert slides.shown_sentences(paragraphs, False) == [f"A{long}", ""]
    assert slides.shown_sentences(paragraphs, True) == ["", f"C{long}"]


def test_long_outputs_are_divided_and_lose_no_line():
    paragraphs = ["\n".join(f"line {i}.{j}" for j in range(9)) for i in range(7)]
    text = "\n\n".join(paragraphs)
    blocks = slides.output_blocks(text)
    assert len(blocks) > 1 and all(block.height < slides.FRAME for block in blocks)
    assert re.findall(r"line \S+", plain("".join(b.html for b in blocks))) == re.findall(
        r"line \S+", text
    )
    for before, after in itertools.pairwise(blocks):
        assert not plain(before.html).endswith("line 6.8") and plain(after.html).startswith("line")


def test_what_does_not_fit_continues_and_an_output_takes_its_code_along():
    title = "A title"
    text = slides.Block("text", "text", 300)
    code = slides.Block("code", "code", 200)
    output = slides.Block("output", "output", 100, 0, True, True)
    found = [slides.Slide(title)]
    slides.add_blocks(found, [text, code, output])
    assert [[block.kind for block in slide.blocks] for slide in found] == [
        ["text"],
        ["code", "output"],
    ]
    assert found[1].title == title


def test_mathematics_is_mathml_and_links_into_the_project_are_words():
    html = rendering.text_html(
        r"Then $Wx + \frac{\alpha}{R}BAx$, see [this](../a.md) or [that](https://e.org)."
    )
    assert "<mfrac>" in html and "$" not in html
    assert "<span>this</span>" in html and '<a href="https://e.org">that</a>' in html


def test_tall_pictures_and_long_words_are_recognised():
    png = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6B"
    assert rendering.picture_size(png) == (2, 3)
    html = rendering.picture_html(png, "x" * 600, "A title", "See the notes.")
    assert 'class="tall"' in html and 'alt="A title. See the notes."' in html
