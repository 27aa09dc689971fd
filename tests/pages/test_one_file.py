"""A page as one file: nothing to load, nothing else may run, and data stay data."""

import json

import pytest
from browser import open_browser, open_page, serious_faults

from ch07.pages import one_file
from ch07.pages.one_file import one_file_page
from ch07.utils.errors import InputError

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>A small page</title>
<link rel="stylesheet" href="../base.css">
<link rel="stylesheet" href="page.css">
</head>
<body>
<main><h1>A small page</h1><p id="out">nothing</p></main>
<script src="first.js"></script>
<script src="page.js"></script>
</body>
</html>
"""
HOSTILE = [
    "</script><script>document.title='broken'</script>",
    "<!-- <script>",
    "<img src=x onerror=\"document.title='broken'\">",
    "\u2028 \\ ' \" & &lt; ]]> 你好 🙂",
]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture
def small_page(tmp_path, monkeypatch):
    """A folder of pages with one page in it."""
    base = (one_file.PAGES / "base.css").read_text(encoding="utf-8")
    (tmp_path / "base.css").write_text(base, encoding="utf-8")
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "page.html").write_text(HTML, encoding="utf-8")
    (folder / "page.css").write_text("#out { color: rgb(1, 2, 3); }", encoding="utf-8")
    (folder / "first.js").write_text("'use strict'; const twice = (x) => x + x;", encoding="utf-8")
    script = "document.getElementById('out').textContent = twice(JSON.parse("
    script += "document.getElementById('words').textContent).join('|'));"
    (folder / "page.js").write_text(script, encoding="utf-8")
    monkeypatch.setattr(one_file, "PAGES", tmp_path)
    return tmp_path


def write(folder, data, **options):
    path = folder / "out.html"
    path.write_text(one_file_page("small", data, **options), encoding="utf-8")
    return path.as_uri()


def test_scripts_and_styles_work_and_data_stay_data(small_page, browser):
    with open_page(browser, write(small_page, {"words": HOSTILE})) as page:
        assert page.text_content("#out") == 2 * "|".join(HOSTILE)
        assert page.title() == "A small page"
        colour = page.evaluate("getComputedStyle(document.getElementById('out')).color")
        assert colour == "rgb(1, 2, 3)"
        assert serious_faults(page) == []


def test_data_are_json_in_utf8_or_refused(small_page):
    texts = ["half \ud800", "</script>", "\u2028"]
    page = one_file_page("small", {"words": texts}).encode().decode()
    block = page.split('id="words">')[1].split("</script>")[0]
    assert json.loads(block) == texts
    for number in (float("nan"), float("-inf")):
        with pytest.raises(InputError, match=r"of the page \(words\) .* not finite"):
            one_file_page("small", {"words": [number]})


@pytest.mark.parametrize(
    "attack",
    [
        "const s = document.createElement('script'); s.textContent = 'document.title=1';"
        "document.body.append(s)",
        "document.body.innerHTML = '<img src=x onerror=document.title=1>'",
        "document.body.innerHTML = '<a href=\"javascript:document.title=1\">x</a>';"
        "document.querySelector('a').click()",
    ],
)
def test_the_policy_runs_nothing_that_was_not_in_the_page(small_page, browser, attack):
    address = write(small_page, {"words": ["a"]})
    refused = pytest.raises(AssertionError, match="Content Security Policy")
    with refused, open_page(browser, address) as page:
        page.evaluate(attack)
        page.wait_for_timeout(100)
        assert page.title() == "A small page"


def test_the_policy_lets_nothing_be_fetched(small_page, browser):
    address = write(small_page, {"words": ["a"]})
    with pytest.raises(AssertionError, match="connect"), open_page(browser, address) as page:
        page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")


START_WORKER = """() => new Promise((resolve) => {
  const address = URL.createObjectURL(new Blob(["postMessage(6 * 7)"]));
  const worker = new Worker(address);
  worker.onmessage = (event) => resolve(event.data);
  worker.onerror = () => resolve("refused");
})"""


def test_workers_start_only_where_the_policy_names_them(small_page, browser):
    with open_page(browser, write(small_page, {"words": ["a"]}, workers="blob:")) as page:
        assert page.evaluate(START_WORKER) == 42
    refused = pytest.raises(AssertionError, match="Content Security Policy")
    with refused, open_page(browser, write(small_page, {"words": ["a"]})) as page:
        assert page.evaluate(START_WORKER) == "refused"


@pytest.mark.parametrize(("connect", "found"), [("'none'", "TypeError"), ("data:", "fetched")])
def test_a_worker_may_fetch_what_the_page_may(small_page, browser, connect, found):
    address = write(small_page, {"words": ["a"]}, workers="blob:", connect=connect)
    fetching = (
        "fetch('data:,x').then(() => postMessage('fetched')).catch((e) => postMessage(e.name))"
    )
    with open_page(browser, address) as page:
        assert page.evaluate(START_WORKER.replace("postMessage(6 * 7)", fetching)) == found


def test_a_block_is_json_that_a_parser_reads(small_page):
    text = one_file_page("small", {"words": HOSTILE, "more": {"n": 1}})
    block = text.split('<script type="application/json" id="words">')[1].split("</script>")[0]
    assert json.loads(block) == HOSTILE
    assert text.count('type="application/json"') == 2
    assert "src=" not in text.replace("img src", "") and "<link" not in text


def test_half_a_character_is_escaped_as_json_has_it(small_page):
    """A folder's name may hold bytes that are no UTF-8: Python has them as lone surrogates."""
    text = one_file_page("small", {"words": ["Ana\udce9", "é"]}).encode().decode()
    block = text.split('<script type="application/json" id="words">')[1].split("</script>")[0]
    assert block == '["Ana\\udce9","é"]'
    assert json.loads(block) == ["Ana\udce9", "é"]
