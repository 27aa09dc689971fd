"""The book: it builds without a warning, every link leads somewhere, and it needs no network."""

import doctest
import json
import posixpath
import re
import resource
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import open_browser, open_page, serious_faults

from ch07.commands.parser import COMMANDS, make_parser
from ch07.exercises.museum.collection import EXHIBITS

ROOT = Path(__file__).resolve().parent.parent
EXTENSIONS = ROOT / "docs" / "book" / "extensions"
HOMES = {"en": "en/docs/book/index.html", "zh-CN": "zh-CN/docs/zh-CN/book/index.html"}
# One page of each kind: axe takes seconds for each.
SAMPLE = (
    "index.html",
    *HOMES.values(),
    "en/notebooks/02_batches_by_hand.html",
    "en/docs/reference/settings.html",
    "en/docs/book/reference/flags.html",
    "en/docs/book/reference/chapter_files.html",
    "en/_modules/collate.html",
    "zh-CN/notebooks/zh-CN/09_adapters_api_calls_and_preferences.html",
)
STILL = "*, *::before, *::after { transition: none !important; animation: none !important }"
MAX_SECONDS = 150  # of processor time, for both languages; two cores take half a minute


class Page(HTMLParser):
    """What a page links to, loads and names."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.pictures = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Note the addresses and the name of one element."""
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "prefetch"):
            self.loads.append(given["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "img":
            self.pictures.append(given)

    handle_startendtag = handle_starttag


@pytest.fixture(scope="module")
def book(tmp_path_factory, run_command):
    """The folder of the built book."""
    folder = tmp_path_factory.mktemp("book")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_command("docs/book/build.py", folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr and "ERROR" not in done.stderr
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < MAX_SECONDS
    return folder


@pytest.fixture(scope="module")
def pages(book):
    """Every page of the book, by its path."""
    paths = [path for path in book.rglob("*.html") if "_static" not in path.parts]
    assert len(paths) > 80
    return {path: Page(path) for path in paths}


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def extensions():
    """The book's own extensions, importable."""
    sys.path.insert(0, str(EXTENSIONS))
    yield
    sys.path.remove(str(EXTENSIONS))


def test_the_folder_holds_the_book_alone(book):
    assert {path.name for path in book.iterdir()} == {"en", "zh-CN", "index.html"}


def test_every_link_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme in ("https", "http", "mailto"), (path, link)
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            target = Path(posixpath.normpath(target))
            fragment = unquote(parts.fragment)
            if not target.is_file() or (
                fragment and target in pages and fragment not in pages[target].ids
            ):
                broken.append((path.name, link))
    assert not broken


def test_nothing_is_loaded_from_another_host(book, pages):
    for path, page in pages.items():
        for address in page.loads:
            assert not urlsplit(address).scheme or address.startswith("data:"), (path, address)
            assert not address.startswith("//"), (path, address)
            if not address.startswith("data:"):
                assert (path.parent / unquote(urlsplit(address).path)).is_file(), (path, address)
    for path in book.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        for address in re.findall(r"url\(\s*[\"']?([^\"')]+)", text):
            assert not urlsplit(address).scheme or address.startswith("data:"), (path, address)
        assert not re.search(r"@import\s+(url\()?[\"']?(https?:)?//", text), path


def test_every_picture_says_what_it_shows(pages):
    for path, page in pages.items():
        for picture in page.pictures:
            assert len(picture.get("alt") or "") > 20, (path, picture["src"])


def test_a_notebooks_pictures_have_the_texts_that_are_stored_beside_them(book, pages):
    for notebook in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        drawn = [o["data"] for o in outputs if "image/png" in o.get("data", {})]
        texts = [" ".join("".join(data["text/plain"]).split()) for data in drawn]
        page = pages[book / "en" / "notebooks" / f"{notebook.stem}.html"]
        assert [" ".join(picture["alt"].split()) for picture in page.pictures] == texts


def test_each_page_leads_to_its_counterpart_and_back(book, pages, extensions):
    from languages import counterpart

    exact = 0
    for path, page in pages.items():
        if path.parent == book or path.name == "collate_explorer.html":
            continue  # they have both languages themselves
        language, *rest = path.relative_to(book).parts
        name = "/".join(rest).removesuffix(".html")
        other = {"en": "zh-CN", "zh-CN": "en"}[language]
        twin = book / other / f"{counterpart(name)}.html"
        expected = twin if twin.is_file() else book / HOMES[other]
        leads_to = [Path(posixpath.normpath(path.parent / link)) for link in page.links]
        assert expected in leads_to, path
        exact += expected == twin
    assert exact >= 2 * 30


@pytest.mark.parametrize(
    "language, words, found",
    [
        ("en", "padding", "notebooks/02_batches_by_hand"),
        ("en", "custom_collate_fn", "docs/book/reference/chapter_files"),
        ("en", "learning rate warmup", "docs/reference/settings"),
        ("zh-CN", "填充", "notebooks/zh-CN/02_batches_by_hand"),
        ("zh-CN", "损失", "notebooks/zh-CN/05_fine_tuning"),
        ("zh-CN", "训练数据", "docs/zh-CN/guides/own_data"),
        ("zh-CN", "LoRA 适配器", "docs/zh-CN/results/adapters"),
        ("zh-CN", "词", "notebooks/zh-CN/01_preparing_the_data"),
    ],
)
def test_search_works_from_a_disk(book, browser, language, words, found):
    address = (book / language / "search.html").as_uri()
    with open_page(browser, f"{address}?q={words}") as page:
        page.wait_for_selector("#search-results li a")
        results = page.eval_on_selector_all(
            "#search-results li a", "links => links.map(l => l.href)"
        )
        assert any(f"/{found}.html" in result for result in results)


def test_a_search_for_what_is_nowhere_says_so(book, browser):
    for language, words in (("en", "zyxwvut"), ("zh-CN", "龘靐齉")):
        address = (book / language / "search.html").as_uri()
        with open_page(browser, f"{address}?q={words}") as page:
            page.wait_for_function(
                "document.querySelector('.search-summary')?.innerText.length > 5"
            )
            assert page.locator("#search-results li a").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(book, browser, scheme):
    for name in SAMPLE:
        address = (book / name).as_uri()
        with open_page(browser, address, color_scheme=scheme) as page:
            page.add_style_tag(content=STILL)  # a colour on its way to another may be too pale
            assert serious_faults(page) == [], name


def test_no_page_is_wider_than_a_phone(pages, browser):
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    wide = []
    for path in pages:
        page.goto(path.as_uri(), wait_until="load")
        if page.evaluate("document.documentElement.scrollWidth") > 360:
            wide.append(path.name)
    context.close()
    assert not wide


def test_on_paper_there_is_the_text_alone(book, browser):
    with open_page(browser, (book / "en/notebooks/02_batches_by_hand.html").as_uri()) as page:
        page.emulate_media(media="print")
        for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article"):
            assert not page.locator(part).first.is_visible(), part
        assert page.locator("h1").first.is_visible()


def test_the_museum_shows_the_mistakes_that_contain_the_words(book, browser):
    address = (book / "en/docs/book/reference/museum.html").as_uri()
    with open_page(browser, address) as page:
        shown = page.locator("section section section:visible")
        assert shown.count() == len(EXHIBITS)
        for words in ("end-of-text", "llama-cookbook", "torch.roll", "no mistake has these words"):
            page.fill("#catalogue-words", words)
            pieces = words.lower().split()
            expected = [e for e in EXHIBITS if all(w in _text(e) for w in pieces)]
            assert shown.count() == len(expected), words
            count = page.text_content("#catalogue-count")
            assert count == f"{len(expected)} of {len(EXHIBITS)}"


def _text(exhibit):
    """What the museum's page says of an exhibit, in lower case."""
    title = exhibit.diagnosis.replace("-", " ")
    return f"{title} {exhibit.story} {exhibit.seen} {exhibit.source}".lower()


def test_the_page_of_flags_has_every_flag(book):
    text = (book / "en/docs/book/reference/flags.html").read_text(encoding="utf-8")
    plain = re.sub(r"<[^>]+>", "", text)
    for command in COMMANDS:
        assert f'id="{command.name}"' in text
    parsers = next(a for a in make_parser()._actions if a.choices and not a.option_strings)
    for parser in parsers.choices.values():
        for action in parser._actions:
            assert all(flag in plain for flag in action.option_strings if flag != "-h")


def test_the_first_cells_of_the_table_of_contents_are_the_chapters(pages, book):
    home = pages[book / HOMES["en"]]
    chapters = [link for link in home.links if "/notebooks/" in link]
    names = [Path(link).stem for link in dict.fromkeys(chapters)]
    assert sorted(names) == sorted(p.stem for p in (ROOT / "notebooks").glob("[0-9]*.ipynb"))


def test_chinese_is_cut_into_characters_and_pairs(extensions):
    from chinese_search import SearchByPairs

    split = SearchByPairs({}).split("填充的 token, GPT2 好")
    assert split == ["token", "GPT2", "填", "充", "的", "填充", "充的", "好"]


@pytest.mark.parametrize(
    "written, mended",
    [
        (["No `<|endoftext|>` here."], [r"No `<\|endoftext\|>` here."]),
        (["Rows of `Cell`s."], [r"Rows of `Cell`\ s."]),
        (["Wrong:", "- one", "  more", "- two"], ["Wrong:", "", "- one", "  more", "- two"]),
        ([">>> a | b", "1 | 2", "", "a | b"], [">>> a | b", "1 | 2", "", r"a \| b"]),
    ],
)
def test_docstrings_are_mended_for_sphinx(extensions, written, mended):
    from docstrings import mend_docstring

    lines = list(written)
    mend_docstring(None, "function", "name", None, None, lines)
    assert lines == mended


def test_the_examples_of_the_extensions_are_true(extensions):
    import languages

    assert doctest.testmod(languages).failed == 0
