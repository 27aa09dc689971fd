"""The pages' own tokenizer: the same ids, texts and pieces as tiktoken, in a browser."""

import random
import sys

import pytest
from browser import open_browser, open_page

from ch07.data.token_text import token_text
from ch07.data.tokenizer import merges_of, vocabulary_files
from ch07.pages.one_file import PAGES
from collate import END_OF_TEXT

SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2009\u200b\u2028\u2029\u202f\u205f\u3000"
SPACES += "\ufeff\u180e"
WORDS = "it's I'll WE'LL don't you've l'été 你好\uff0c世界。 Ünïcödé 👩‍👩‍👧 🙂🙂 ½ Ⅷ ٣٤ 12345 ###"
WORDS += " ... '' _ <|endoftext|>"
TEXTS = [
    "",
    "Below is an instruction that describes a task.\n\n### Instruction:\nName a colour.",
    "Add 2 and 3.\n\n### Response:\n5",
    "it's we'll they've I'm she'd you're 'tis 's 'll' 'LL 'S",
    "  two spaces,   three,\n\n\nnew lines \n \t tab at the end\t\n ",
    "<|endoftext|> stays text <|endoftext|>",
    "你好\uff0c世界。一二三\uff0c天地玄黄\uff0c宇宙洪荒。",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 é \U0001d518\U0001d52b עברית العربية हिन्दी ไทย",
    "1234567890 3.14159 ½ Ⅷ ٣٤ x² H₂O",
    "a\ud7ff\ue000\U0010ffff\x00\x7f\xad\ufffd",
    "".join(f"a{space}b{space}{space} c{space}" for space in SPACES),
]


@pytest.fixture(scope="module")
def page():
    """A page with the script and GPT-2's tokenizer in it."""
    with open_browser() as browser, open_page(browser, "about:blank") as opened:
        opened.add_script_tag(content=(PAGES / "tokenizer.js").read_text(encoding="utf-8"))
        merges = "\n".join(merges_of(vocabulary_files()))
        opened.evaluate("merges => { window.tokenizer = makeTokenizer(merges); }", merges)
        yield opened


def encoded(page, texts):
    return page.evaluate("texts => texts.map((text) => tokenizer.encode(text))", texts)


def random_texts(n, seed=0):
    """Texts of letters of all scripts, white space of all kinds, and words with their traps."""
    chance = random.Random(seed)

    def letter():
        kind = chance.random()
        if kind < 0.25:
            return chance.choice(SPACES)
        if kind < 0.5:
            return chr(chance.randrange(128))
        if kind < 0.75:
            return chance.choice(WORDS.split(" "))
        code = chance.randrange(sys.maxunicode + 1 if chance.random() < 0.3 else 0x3400)
        return "" if 0xD800 <= code < 0xE000 else chr(code)

    return ["".join(letter() for _ in range(chance.randrange(40))) for _ in range(n)]


def test_texts_with_known_traps_have_tiktokens_ids(page, tokenizer):
    for text, ids in zip(TEXTS, encoded(page, TEXTS), strict=True):
        assert ids == tokenizer.encode_ordinary(text), repr(text)


def test_random_texts_have_tiktokens_ids(page, tokenizer):
    texts = random_texts(3000)
    for text, ids in zip(texts, encoded(page, texts), strict=True):
        assert ids == tokenizer.encode_ordinary(text), ascii(text)


def test_ids_decode_to_the_text(page, tokenizer):
    texts = TEXTS + random_texts(300, seed=1)
    decoded = "texts => texts.map((text) => tokenizer.decode(tokenizer.encode(text)))"
    assert page.evaluate(decoded, texts) == texts
    chance = random.Random(2)
    broken = [[chance.randrange(END_OF_TEXT + 1) for _ in range(9)] for _ in range(300)]
    broken += [[chance.randrange(256) for _ in range(9)] for _ in range(300)]  # single bytes
    decoded = page.evaluate("rows => rows.map((ids) => tokenizer.decode(ids))", broken)
    assert decoded == [tokenizer.decode(ids) for ids in broken]


def test_every_token_is_shown_as_the_grid_shows_it(page, tokenizer):
    ids = list(range(END_OF_TEXT + 1))
    pieces = page.evaluate("ids => ids.map((id) => tokenizer.piece(id))", ids)
    assert pieces == [token_text(token_id, tokenizer, END_OF_TEXT) for token_id in ids]
    sizes = page.evaluate("ids => ids.map((id) => tokenizer.size(id))", ids)
    assert sizes == [len(tokenizer.decode_single_token_bytes(token_id)) for token_id in ids]


def test_what_is_no_token_is_refused(page):
    tries = "[-1, 50257, 1.5, '3', null, NaN]"
    for name in ("piece(id)", "size(id)", "decode([id])"):
        refused = f"""{tries}.every((id) => {{
            try {{ tokenizer.{name}; return false; }} catch (error) {{
                return error instanceof RangeError;
            }} }})"""
        assert page.evaluate(refused)


@pytest.mark.parametrize("text", ["ab" * 50_000, "ACGT" * 25_000, " " * 100_000, "?!" * 50_000])
def test_a_long_text_without_a_space_takes_no_quadratic_time(page, tokenizer, text):
    """This takes a fraction of a second; quadratic time would be minutes."""
    timed = """text => {
        const start = performance.now();
        return [tokenizer.encode(text), (performance.now() - start) / 1000];
    }"""
    ids, seconds = page.evaluate(timed, text)
    assert ids == tokenizer.encode_ordinary(text)
    assert seconds < 20
