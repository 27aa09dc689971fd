"""The API key is in no message and in no file, however a server writes it."""

import base64
import html
import json
import traceback
from urllib.parse import quote

import pytest
from completion_server import openai, serving
from hypothesis import given
from hypothesis import strategies as st

from ch07.generation.completion import CompletionError
from ch07.generation.http_backend import complete_at_url
from ch07.generation.key_mask import key_mask

KEY = "sk-Proj_a/very+secret=Key&0<23>4\"5'6%789"
PLAIN_KEY = "sk-Proj-AbCdEf0123456789ghijKLMN"


def escaped(form):
    """A function that writes every character in one form."""
    return lambda text: "".join(form.format(ord(letter)) for letter in text)


def in_json(text):
    return json.dumps(text)[1:-1]


def in_base64(before, after="", encode=base64.b64encode):
    return lambda key: encode(f"{before}{key}{after}".encode()).decode()


WAYS = {
    "as it is": str,
    "capitals": str.upper,
    "small letters": str.lower,
    "in JSON": in_json,
    "in JSON, twice": lambda key: in_json(in_json(key)),
    "in JSON, three times": lambda key: in_json(in_json(in_json(key))),
    "with escaped slashes": lambda key: key.replace("/", "\\/"),
    "as \\u": escaped("\\u{:04x}"),
    "as \\u in capitals": escaped("\\u{:04X}"),
    "as \\u, twice": escaped("\\\\u{:04x}"),
    "one character as \\u": lambda key: key.replace("-", "\\u002d"),
    "as \\u{}": escaped("\\u{{{:x}}}"),
    "as \\x": escaped("\\x{:02x}"),
    "in an address": lambda key: quote(key, safe=""),
    "in an address, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "as %": escaped("%{:02X}"),
    "as % in small letters": escaped("%{:02x}"),
    "in HTML": html.escape,
    "in HTML, twice": lambda key: html.escape(html.escape(key)),
    "as &#": escaped("&#{};"),
    "as &#0": escaped("&#00{};"),
    "as &#x": escaped("&#x{:x};"),
    "as &#X in capitals": escaped("&#X{:X};"),
    "by HTML names": lambda key: key.replace("/", "&sol;").replace("_", "&lowbar;"),
    "in an address, in HTML": lambda key: html.escape("".join(f"%26%23{ord(c)}%3B" for c in key)),
    "in hexadecimal": lambda key: key.encode().hex(),
    "in hexadecimal, in capitals": lambda key: key.encode().hex().upper(),
    "in hexadecimal, divided": lambda key: key.encode().hex(":"),
    "in base64": in_base64(""),
    "in base64, after one byte": in_base64("a", "b"),
    "in base64, after two bytes": in_base64("ab", "bc"),
    "in base64, as a header": in_base64("Authorization: Bearer ", "\r\nHost: a"),
    "in base64 for addresses": in_base64("??>", "", base64.urlsafe_b64encode),
    "in base64 in an address": lambda key: quote(in_base64("~~~")(key), safe=""),
    "in base64, in lines": lambda key: base64.encodebytes(b"ab" * 20 + key.encode()).decode(),
    "on two lines": lambda key: key[:9] + "\n" + key[9:],
    "on two lines, in JSON": lambda key: key[:9] + "\\r\\n" + key[9:],
    "with invisible characters": "\u200b".join,
    "with invisible characters, in JSON": "\\u200b".join,
    "in UTF-16": lambda key: key.encode("utf-16-be").decode("latin-1"),
}


@pytest.mark.parametrize("key", [KEY, PLAIN_KEY], ids=["odd", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_the_key_is_masked_however_it_is_written(way, key):
    written = WAYS[way](key)
    masked = key_mask(key)(f"wrong: {written} (asked)")
    if "base64" not in way:
        assert masked.replace("\0", "") == "wrong: [key] (asked)"
        return
    assert masked.startswith("wrong: ") and "[key]" in masked and masked.endswith(" (asked)")
    n_masked = len(f"wrong: {written} (asked)") - len(masked) + len("[key]")
    assert n_masked > len(key) * 4 / 3 - 2, "but for a character that belongs to its neighbour, too"


@given(st.text(max_size=40))
def test_other_texts_stay(text):
    assert key_mask(PLAIN_KEY)(text) == text
    assert key_mask(None)(text) == key_mask("")(text) == text


def shown(error):
    """All that --verbose shows of an exception."""
    return "".join(traceback.format_exception(error))


def bodies(written):
    """A server's ways to echo a key: a page, a message, a list, and an error within an answer."""
    return [
        f"<p>Your key: {written}",
        json.dumps({"error": {"message": f"wrong key: {written}", "code": written}}),
        json.dumps({"detail": [{"msg": "wrong", "input": {"authorization": written}}]}),
        json.dumps({"error": f"wrong key: {written}"}),
        f'{{"error": {{"message": "{written}"}}}}',
        f'{{"{written}": 1}}',
        "x" * 290 + written,
        written,
    ]


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("way", ["as it is", "as \\u", "in an address", "in base64"])
@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_a_key_that_a_server_echoes_is_not_shown(status, way, kind):
    written = WAYS[way](PLAIN_KEY)
    for body in bodies(written):
        answer = (status, body, {"Retry-After": PLAIN_KEY, "Location": f"/{PLAIN_KEY}"})
        with serving(answer) as stub, pytest.raises(CompletionError) as caught:
            complete_at_url(stub.url, "m", api_key=PLAIN_KEY, kind=kind, retries=0)("Hello")
        assert stub.asked[0][1]["Authorization"] == f"Bearer {PLAIN_KEY}"
        for secret in (PLAIN_KEY, written, PLAIN_KEY[:12], written[:16]):
            assert secret not in shown(caught.value)


def test_half_a_key_at_the_end_of_a_text_that_is_too_long_is_not_shown():
    n_bytes = 64_000
    for body in (PLAIN_KEY * (n_bytes // len(PLAIN_KEY) + 1), " " * (n_bytes - 9) + PLAIN_KEY):
        with serving((400, body)) as stub, pytest.raises(CompletionError) as caught:
            complete_at_url(stub.url, "m", api_key=PLAIN_KEY)("Hello")
        assert PLAIN_KEY[:6] not in shown(caught.value)
    cut = (400, "x" + PLAIN_KEY[:-3], {"Content-Length": 99})
    with serving(cut) as stub, pytest.raises(CompletionError, match="incomplete") as caught:
        complete_at_url(stub.url, "m", api_key=PLAIN_KEY)("Hello")
    assert PLAIN_KEY[:6] not in shown(caught.value)


def test_a_key_in_an_answer_is_not_part_of_the_text():
    for way in ("as it is", "in base64"):
        with serving((200, openai(f"It is {WAYS[way](PLAIN_KEY)}."))) as stub:
            answer = complete_at_url(stub.url, "m", api_key=PLAIN_KEY)("Which key?")
        assert answer.text == "It is [key]."


def test_a_placeholder_is_an_ordinary_word_in_an_answer():
    for key in ("none", "EMPTY", "content", "x"):
        with serving((200, openai("None of the content is EMPTY."))) as stub:
            complete = complete_at_url(stub.url, "m", api_key=key)
            assert complete("Hello").text == "None of the content is EMPTY."


def test_what_the_server_says_about_options_is_obeyed_without_the_key():
    refusal = json.dumps({"error": {"message": f"{PLAIN_KEY}: seed is unsupported"}})
    told = []
    with serving((400, refusal), (200, openai("ok"))) as stub:
        complete = complete_at_url(stub.url, "m", api_key=PLAIN_KEY, report=told.append)
        assert complete("Hello", seed=1).text == "ok"
    assert told == ["the server refused seed; the request is sent again without it"]
