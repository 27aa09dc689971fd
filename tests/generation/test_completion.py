"""One interface for all text generators: options, scripts, runs, and servers that misbehave."""

import json
import socket
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import torch
from completion_server import Handler, ollama, openai, serving

from ch07 import __version__
from ch07.generation.backends import complete_with_model, open_backend, read_script
from ch07.generation.completion import (
    Completion,
    CompletionError,
    PromptRejected,
    SchemaUnsupported,
    finished_completion,
    scripted,
)
from ch07.generation.decoding import Continuation
from ch07.generation.http_backend import complete_at_url
from ch07.generation.respond import respond
from ch07.utils.errors import DataError, OptionError
from collate import END_OF_TEXT
from gpt_model import GPTModel
from instruction_dataset import BOOK_STYLE

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(url, prompt="Hello", waits=None, options=(), **how):
    """One answer, where nobody waits for long."""
    waits = [] if waits is None else waits
    complete = complete_at_url(url, "m", **{"sleep": waits.append, "timeout": 10, **how})
    return complete(prompt, **dict(options))


# --- options and scripts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"stop": "\n"}, "must be a list of texts"),
        ({"stop": [""]}, "none of them ''"),
        ({"seed": -1}, "seed is -1"),
        ({"system": ""}, "the system message must be text"),
        ({"schema": "object"}, "must be a JSON schema: a dict"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        scripted(["x"])("Hello", **options)


@pytest.mark.parametrize("prompt", ["", None, "half \ud800"])
def test_a_prompt_is_text(prompt):
    with pytest.raises(ValueError, match="the prompt"):
        scripted(["x"])(prompt)


def test_a_script_is_read_in_order_and_its_end_is_an_error():
    complete = scripted(["a", Completion("b", "length"), CompletionError("no")], first=1)
    assert complete("?") == Completion("b", "length")
    with pytest.raises(CompletionError, match=r"^no$"):
        complete("?")
    with pytest.raises(CompletionError, match="the script has no more answers"):
        complete("?")
    assert scripted(str.upper)("abc").text == "ABC"


def test_a_limit_comes_before_a_stop_string_as_at_a_server():
    complete = scripted(lambda prompt: "one two three. four")
    assert complete("?", max_new_tokens=2, stop=["three"]) == Completion("one two", "length")
    assert complete("?", max_new_tokens=3, stop=["three"]) == Completion("one two ", "stop")
    assert complete("?", stop=["four", "two"]) == Completion("one ", "stop")
    assert complete("?", max_new_tokens=5) == Completion("one two three. four", "stop")


# --- servers ------------------------------------------------------------------------------------


def test_the_request_to_openai_and_more_stop_strings_than_it_takes(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    options = {"max_new_tokens": 9, "temperature": 1.0, "top_p": 0.5, "seed": 3, "system": "Be."}
    with serving((200, openai("one\n20. two"))) as stub:
        answer = ask(stub.url + "/v1", options={**options, "stop": ["a", "b", "c", "d", "\n20"]})
    assert answer == Completion("one", "stop")
    ((path, headers, body),) = stub.asked
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 9,
        "temperature": 1.0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["a", "b", "c", "d"],
    }


@pytest.mark.parametrize(
    "given", ["", "/v1", "/v1/completions", "/v1/chat/completions", "/v1/chat/completions/"]
)
@pytest.mark.parametrize("raw", [False, True])
def test_however_much_of_the_path_is_given_the_address_is_right(given, raw):
    with serving((200, openai("ok"))) as stub:
        ask(stub.url + given, raw=raw)
    assert stub.asked[0][0] == ("/v1/completions" if raw else "/v1/chat/completions")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("/v1beta/openai/chat/completions", "/v1beta/openai/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
        ("/api/v1/", "/api/v1/chat/completions"),
        ("/compatible-mode/v1", "/compatible-mode/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/v2", "/v2/chat/completions"),
        ("/deployments/mine/chat/completions", "/deployments/mine/v1/chat/completions"),
        ("/proxy", "/proxy/v1/chat/completions"),
        ("/version2", "/version2/v1/chat/completions"),
    ],
)
def test_a_version_in_the_address_is_taken_as_given(given, asked):
    with serving((200, openai("ok"))) as stub:
        ask(stub.url + given)
    assert stub.asked[0][0] == asked


def test_the_server_is_told_who_asks():
    with serving((200, openai("ok"))) as stub:
        ask(stub.url)
    assert stub.asked[0][1]["User-Agent"] == f"ch07/{__version__}"


def refusal(message, **more):
    """The body of a 400 of OpenAI."""
    return 400, json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}})


@pytest.mark.parametrize(
    ("refused", "gone", "new"),
    [
        (
            refusal("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                    "'max_completion_tokens' instead.", code="unsupported_parameter"),
            {"max_tokens"}, {"max_completion_tokens": 9},
        ),
        (
            refusal("Unsupported value: 'temperature' does not support 0.5 with this model.",
                    param="temperature"),
            {"temperature"}, {},
        ),
        (refusal("Invalid argument.", param="top_p"), {"top_p"}, {}),
        (refusal("property 'seed' is unsupported"), {"seed"}, {}),
        ((422, '{"detail": "stop: extra fields not permitted"}'), {"stop"}, {}),
        (refusal("Invalid 'stop': array too long.", param="stop"), {"stop"}, {}),
        (
            refusal("Unrecognized request argument supplied: max_tokens"),
            {"max_tokens"}, {"max_completion_tokens": 9},
        ),
    ],
)  # fmt: skip
def test_a_refused_option_is_changed_and_stays_so(refused, gone, new):
    """Asked again as the server wants it, once; later requests are right at once."""
    options = {"max_new_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"]}
    told = []
    with serving(refused, (200, openai("ok"))) as stub:
        complete = complete_at_url(stub.url, "m", report=told.append)
        for _ in range(2):
            assert complete("Hello", **options).text == "ok"
    first, *later = [body for _, _, body in stub.asked]
    assert len(later) == 2 and later[0] == later[1]
    assert later[0] == {**{k: v for k, v in first.items() if k not in gone}, **new}
    assert len(told) == 1 and all(name in told[0] for name in gone)


def test_two_refusals_after_each_other_are_both_obeyed():
    answers = [refusal("use max_completion_tokens"), refusal("temperature must be 1")]
    with serving(*answers, (200, openai("ok"))) as stub:
        assert ask(stub.url, options={"temperature": 0.3}).text == "ok"
    *_, last = [body for _, _, body in stub.asked]
    assert len(stub.asked) == 3 and "temperature" not in last and "max_completion_tokens" in last


@pytest.mark.parametrize(
    "messages",
    [
        ["use max_completion_tokens", "use max_tokens, please"],
        ["temperature is refused", "use max_completion_tokens", "seed is refused"] * 3,
    ],
)
def test_no_request_is_repeated_for_ever(messages):
    """Each refusal leaves less to be refused, however often a server changes its mind."""
    options = {"temperature": 0.5, "seed": 1}
    with (
        serving(*[refusal(message) for message in messages * 20]) as stub,
        pytest.raises(CompletionError, match="status 400: "),
    ):
        ask(stub.url, options=options)
    assert len(stub.asked) <= 5


SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}


@pytest.mark.parametrize(
    "message",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
        "model.",
        "'response_format.type' must be 'json_schema' or 'text'",
        "This response_format type is unavailable now",
        "This model does not support response format `json_schema`",
        'Either "json_schema" or "grammar" can be specified, but not both',
        "[{'loc': ['body', 'response_format'], 'msg': 'Extra inputs are not permitted'}]",
        "1 validation error for ChatCompletionRequest response_format.type Input should be 'text'",
        "Structured outputs are not supported",
        "failed to parse grammar",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_schema_is_asked_for_in_simpler_ways_once(message, status):
    """`json_object`, which older servers take; then none, and the caller is told so."""
    refused = (status, json.dumps({"error": {"message": message}}))
    told = []
    with serving(refused, (200, openai("{}"))) as stub:
        complete = complete_at_url(stub.url, "m", report=told.append)
        for _ in range(2):
            assert complete("Hello, in JSON", schema=SCHEMA).text == "{}"
    formats = [body["response_format"] for _, _, body in stub.asked]
    named = {"name": "reply", "strict": True, "schema": SCHEMA}
    assert formats[0] == {"type": "json_schema", "json_schema": named}
    assert formats[1:] == [{"type": "json_object"}] * 2
    (line,) = told
    assert (
        line == "the server refused response_format; the request is sent again with a simpler one"
    )
    with serving(refused, refused, (200, openai("ok"))) as stub:
        complete = complete_at_url(stub.url, "m")
        for n_asked in (2, 2):
            with pytest.raises(SchemaUnsupported, match="takes no JSON schema: ask without one"):
                complete("Hello, in JSON", schema=SCHEMA)
            assert len(stub.asked) == n_asked
        assert complete("Hello").text == "ok" and "response_format" not in stub.asked[-1][2]


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_a_raw_prompt_has_no_schema(kind):
    with serving() as stub, pytest.raises(SchemaUnsupported):
        complete_at_url(stub.url, "m", kind=kind, raw=True)("Hello", schema=SCHEMA)
    assert not stub.asked


@pytest.mark.parametrize("message", ["the prompt is in a bad format", "the image has no format"])
def test_ollama_keeps_a_request_without_a_format(message):
    refused = (400, json.dumps({"error": message}))
    with serving(refused) as stub, pytest.raises(PromptRejected):
        complete_at_url(stub.url, "m", kind="ollama")("Hello")
    assert len(stub.asked) == 1
    with serving(refused) as stub, pytest.raises(SchemaUnsupported):
        complete_at_url(stub.url, "m", kind="ollama")("Hello", schema=SCHEMA)
    assert stub.asked[0][2]["format"] == SCHEMA


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long",
        "max_tokens is too large: 99",
        "'max_tokens' or 'max_completion_tokens' is too large: 999. The model's maximum is 9",
        "please stop sending such prompts",
        "your prompt was flagged: 'plant a seed in the garden'",
        "<html>Bad temperature</html>",
        "",
    ],
)
def test_other_refusals_are_the_prompts_fault(message):
    with serving(refusal(message)) as stub, pytest.raises(CompletionError):
        ask(stub.url)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("eos", "stop"),
        ("eos_token", "stop"),
        (None, "stop"),
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("length", "length"),
    ],
)
def test_the_reasons_of_other_servers_are_known(reason, wanted):
    with serving((200, openai("ok", reason))) as stub:
        assert ask(stub.url) == Completion("ok", wanted)


def message_answer(message, reason="stop"):
    return json.dumps({"choices": [{"message": message, "finish_reason": reason}]})


PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hel"}, {"text": "lo"}]


@pytest.mark.parametrize(
    ("message", "reason", "wanted"),
    [
        ({"content": PARTS}, "stop", Completion("hello", "stop")),
        ({"role": "assistant"}, "length", Completion("", "length")),
        ({"content": None}, "length", Completion("", "length")),
    ],
)
def test_the_text_of_a_message_in_parts_or_without_any(message, reason, wanted):
    with serving((200, message_answer(message, reason))) as stub:
        assert ask(stub.url) == wanted


def test_a_refusal_is_about_one_prompt():
    answer = message_answer({"content": None, "refusal": "I can't help with that."})
    with (
        serving((200, answer)) as stub,
        pytest.raises(PromptRejected, match="the model refuses to answer: I can't help with that"),
    ):
        ask(stub.url)


@pytest.mark.parametrize("code", [429, 502])
@pytest.mark.parametrize("within_choice", [False, True])
def test_an_error_with_status_200_is_told_and_retried_if_it_may_pass(code, within_choice):
    error = {"error": {"message": "the provider is busy", "code": code}}
    value = {"choices": [{**error, "message": {"content": "par"}}]} if within_choice else error
    with serving((200, json.dumps(value)), (200, openai("ok"))) as stub:
        assert ask(stub.url, retries=1, sleep=lambda seconds: None).text == "ok"
    error["error"]["code"] = 400
    with (
        serving((200, json.dumps(value))) as stub,
        pytest.raises(CompletionError, match="the server reports: the provider is busy"),
    ):
        ask(stub.url, retries=3, sleep=pytest.fail)


@pytest.mark.parametrize(
    ("body", "headers", "n_asked"),
    [
        ([{"error": {"message": "See billing details. Please retry in 32s."}}], {}, 2),
        ({"error": {"message": "See billing details."}}, {"Retry-After": "3"}, 2),
        ({"error": {"message": "See billing details."}}, {}, 1),
        ({"error": {"message": "No credits.", "type": "insufficient_quota"}}, {}, 1),
    ],
)
def test_a_limit_per_minute_is_no_empty_account(body, headers, n_asked):
    with serving((429, json.dumps(body), headers), (200, openai("ok"))) as stub:
        try:
            assert ask(stub.url, retries=1, sleep=lambda seconds: None).text == "ok"
        except CompletionError:
            assert n_asked == 1
    assert len(stub.asked) == n_asked


def test_the_wait_that_a_server_asks_for_may_be_a_fraction_or_a_date():
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    for wait, least, most in (("7.5", 7.5, 7.5), (later, 25, 31), ("soon", 1, 1)):
        waited = []
        with serving((503, "", {"Retry-After": wait}), (200, openai("ok"))) as stub:
            ask(stub.url, retries=1, sleep=waited.append)
        assert least <= waited[0] <= most


def test_an_answer_without_a_reason_is_whole():
    answer = json.dumps({"choices": [{"message": {"content": "ok"}}]})
    with serving((200, answer)) as stub:
        assert ask(stub.url) == Completion("ok", "stop")


def test_a_quota_that_is_used_up_is_not_asked_again():
    body = json.dumps({"error": {"message": "You exceeded your current quota", "type": "x",
                                 "code": "insufficient_quota"}})  # fmt: skip
    waited = []
    with (
        serving((429, body)) as stub,
        pytest.raises(CompletionError, match="status 429: You exceeded your current quota insuff"),
    ):
        ask(stub.url, waits=waited)
    assert len(stub.asked) == 1 and waited == []


def test_openai_continues_a_raw_prompt_at_its_older_address():
    answer = json.dumps({"choices": [{"text": " there", "finish_reason": "stop"}]})
    with serving((200, answer)) as stub:
        assert ask(stub.url, raw=True, options={"seed": 1}) == Completion(" there", "stop")
    ((path, _, body),) = stub.asked
    assert path == "/v1/completions" and body["prompt"] == "Hello" and "messages" not in body


@pytest.mark.parametrize(
    ("words", "new", "context"),
    [(1, 2048, 4096), (1, 1900, None), (950, 60, None), (980, 60, 4096), (5000, 9, 16384)],
)
def test_ollama_is_asked_for_a_longer_context_when_its_default_is_too_short(
    words, new, context, tokenizer
):
    """Its default reads 2,048 tokens, and what is longer loses its beginning without a word."""
    with serving((200, ollama("x", raw=True))) as stub:
        complete = complete_at_url(stub.url, "m", kind="ollama", raw=True)
        complete(" a" * words, max_new_tokens=new)
    ((_, _, body),) = stub.asked
    assert body["options"].get("num_ctx") == context


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_the_request_to_ollama_has_its_options_where_they_are_read(raw, stream):
    lines = ollama("He", "llo", reason="length", raw=raw).replace("\n", "\n \n\r\n")
    with serving((200, lines)) as stub:
        how = {"kind": "ollama", "raw": raw, "stream": stream}
        options = {"max_new_tokens": 7, "seed": 1, "stop": ["\n"]}
        assert ask(stub.url, options=options, **how) == Completion("Hello", "length")
    ((path, headers, body),) = stub.asked
    assert path == ("/api/generate" if raw else "/api/chat") and "Authorization" not in headers
    assert body.pop("options") == {"num_predict": 7, "temperature": 0.0, "seed": 1, "stop": ["\n"]}
    asked = {"messages": [{"role": "user", "content": "Hello"}]}
    assert body == {
        "model": "m",
        "stream": stream,
        **(asked, {"prompt": "Hello", "raw": True})[raw],
    }


def half(handler):
    handler.reply(200, openai("Hello")[:20], {"Content-Length": "99"})


GOOD = (200, openai("ok"))


@pytest.mark.parametrize(
    ("bad", "waits"),
    [
        ([(429, "busy", {"Retry-After": "7"})], [7]),
        ([(429, "busy", {"Retry-After": "9999"})], [60]),
        ([(500, ""), (503, "<html>"), (502, "")], [1, 2, 4]),
        ([half], [1]),
        ([(200, "", {"Content-Length": 99})], [1]),
        ([(200, openai("Hello")[:20])], [1]),
        ([Handler.hang], [1]),
    ],
)
def test_transient_failures_are_retried_after_a_wait(bad, waits):
    waited = []
    with serving(*bad, GOOD) as stub:
        assert ask(stub.url, waits=waited).text == "ok"
    assert waited == waits and len(stub.asked) == len(bad) + 1


def test_an_incomplete_stream_is_not_an_answer():
    whole = ollama("He", "llo")
    for part in (whole.rsplit("\n", 2)[0] + "\n", whole[:30], ""):
        waited = []
        with serving((200, part), (200, whole)) as stub:
            assert ask(stub.url, waits=waited, kind="ollama", stream=True).text == "Hello"
        assert waited == [1]


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((503, ""), "openai", "gave no answer in 3 attempts; the last error: status 503"),
        ((404, "no"), "openai", "has no model 'm', or the address is wrong"),
        ((401, "no"), "openai", r"denies access \(status 401\): no; is OPENAI_API_KEY set corr"),
        ((403, ""), "openai", r"status 403\); is OPENAI_API_KEY set correctly"),
        ((403, "error code: 1010"), "openai", r"denies access \(status 403\): error code: 1010$"),
        ((404, '{"error": "model m is gone"}'), "openai", r"\(status 404\): model m is gone"),
        ((500, '{"message": "no memory"}'), "openai", "the last error: status 500: no memory"),
        ((400, f"bad: {KEY}\x1b[31m"), "openai", r"status 400: bad: \[key\]\\x1b\[31m"),
        ((200, "<html>Welcome"), "openai", "isn't JSON, but begins with '<html>Welcome'"),
        ((200, '{"text": "x"}'), "openai", "isn't OpenAI's chat interface: its answer has text"),
        ((200, "[1]"), "ollama", "isn't Ollama's interface: its answer has no keys"),
        ((200, '{"message": {"content": 1}}'), "ollama", "isn't Ollama's interface"),
        ((200, '{"error": "no memory"}'), "ollama", "the server reports: no memory"),
        ((200, openai("x", "content_filter")), "openai", "no complete answer: content_filter"),
        ((302, "", {"Location": "/elsewhere"}), "openai", "redirects to another address"),
        ((307, "", {"Location": "/elsewhere"}), "openai", "redirects to another address"),
    ],
)
def test_every_other_failure_is_a_one_line_error(answer, kind, message):
    with serving(answer) as stub, pytest.raises(CompletionError, match=message) as caught:
        ask(stub.url, kind=kind, retries=2, **({"api_key": KEY} if kind == "openai" else {}))
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    assert all(path != "/elsewhere" for path, _, _ in stub.asked)


def test_no_server_at_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(CompletionError, match="is the server running"):
        ask(url)


@pytest.mark.parametrize(
    ("url", "how", "message"),
    [
        ("http://example.org", {}, "over http, where anybody could read them"),
        ("http://127.0.0.1.example.org", {}, "over http"),
        ("http://example.org", {"allow_http": True, "api_key": KEY}, "the key isn't sent"),
        ("ftp://example.org", {}, "is not an address"),
        ("https://", {}, "is not an address"),
        ("https://host:port", {}, "is not an address"),
        ("https://a b", {}, "is not an address"),
        ("https://me:secret@example.org", {}, "must not contain a password"),
        ("https://example.org?a=b", {}, "must not contain"),
        ("https://example.org", {"kind": "other"}, "kind is 'other'"),
        ("https://example.org", {"stream": True}, "for kind ollama only"),
        ("https://example.org", {"api_key": "a\nb"}, "another character that no key can have"),
        ("https://example.org", {"api_key": "Bearer a"}, "a space or another character"),
        ("https://example.org", {"api_key": "a\\b"}, "a space or another character"),
    ],
)
def test_addresses_that_are_refused(url, how, message):
    with pytest.raises(ValueError, match=message) as caught:
        complete_at_url(url, "m", **how)
    assert "secret" not in str(caught.value)


def test_the_key_from_the_environment_is_not_sent_over_http(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    sent = []

    def fetch(request, timeout):
        sent.append(dict(request.header_items()))
        raise ConnectionRefusedError

    monkeypatch.setattr("ch07.generation.http_backend.open_url", lambda host: fetch)
    for url in ("https://example.org", "http://example.org"):
        with pytest.raises(CompletionError):
            ask(url, allow_http=True)
    assert ["Authorization" in headers for headers in sent] == [True, False]


# --- runs, and names ----------------------------------------------------------------------------


@pytest.fixture
def run(tokenizer, monkeypatch):
    """A run whose model was never trained: it writes on and on."""
    config = {"emb_dim": 16, "n_heads": 2, "n_layers": 1, "context_length": 128}
    model = GPTModel(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.pos_emb.weight.mul_(40)  # so that it doesn't repeat one token
    run = SimpleNamespace(model=model, tokenizer=tokenizer, style=BOOK_STYLE, conversations=None)
    monkeypatch.setattr("ch07.generation.backends.load_model_to_answer", lambda *given: run)
    return run


def test_a_run_continues_a_prompt_and_answers_an_instruction(run):
    entry = {"instruction": "Name a colour.", "input": ""}
    (expected,) = respond(run.model, run.tokenizer, [entry], run.style, 6)
    complete, raw = complete_with_model("RUN", raw=False), complete_with_model("RUN")
    assert complete("Name a colour.", max_new_tokens=6) == Completion(expected.text, "length")
    prompt = run.style.prompt(entry)
    assert raw(prompt, max_new_tokens=6) == complete("Name a colour.", max_new_tokens=6)
    word = expected.text[3:6]
    stopped = raw(prompt, max_new_tokens=6, stop=[word])
    assert stopped == Completion(expected.text.split(word)[0], "stop")
    assert raw("one " * 120, max_new_tokens=99).finish_reason == "length", "the context is full"
    sampled = [raw("one", max_new_tokens=9, temperature=1.5, seed=s).text for s in (1, 1, 2, 3)]
    assert sampled[0] == sampled[1] and len(set(sampled)) > 1
    with pytest.raises(ValueError, match="this prompt has no system message"):
        raw("one", system="Be.")
    with pytest.raises(ValueError, match="reads at most 128"):
        raw("one " * 200)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_run_writes_nothing_after_a_stop_string(run, temperature, monkeypatch):
    """The answer is that of a run which writes on and is cut, but the rest is never written."""
    options = {"max_new_tokens": 40, "temperature": temperature, "seed": 3}
    complete = complete_with_model("RUN")
    whole = complete("one two", **options).text
    calls = []
    forward = run.model.forward
    monkeypatch.setattr(
        run.model, "forward", lambda *given, **how: calls.append(1) or forward(*given, **how)
    )
    for end in (3, 9, len(whole) // 2):
        word = whole[end : end + 5]
        calls.clear()
        answer = complete("one two", stop=["never written", word], **options)
        assert answer == finished_completion(whole, "length", [word])
        assert len(calls) < 40 and answer.finish_reason == "stop"
    assert complete("one two", stop=["never written"], **options) == Completion(whole, "length")


def test_a_stop_string_in_a_thought_does_not_end_the_answer_of_a_run(run, monkeypatch):
    said = "<think>1. Yes?</think>No. 1. Yes"
    ids = run.tokenizer.encode_ordinary(said)

    def continue_prompt(model, prompt, max_new_tokens, *, on_token, **how):
        row = Continuation(len(ids))
        for token_id in ids:
            row.append(token_id, -1, max_new_tokens, on_token)
            if row.stopped:
                break
        return row

    monkeypatch.setattr("ch07.generation.backends.continue_prompt", continue_prompt)
    assert complete_with_model("RUN")("?", stop=["1."]) == Completion("No. ", "stop")


def test_the_options_of_a_server_and_of_a_run_are_not_mixed_up(run, tmp_path):
    script = tmp_path / "script.json"
    script.write_text('["a"]', encoding="utf-8")
    for name in ("RUN", f"scripted:{script}"):
        with pytest.raises(OptionError, match="is no server: give its address"):
            open_backend(name, model="m")
    with pytest.raises(OptionError, match="--weights int8 is for a model on this machine"):
        open_backend("http://localhost", model="m", weights="int8")


def test_an_answer_that_ends_by_itself_has_the_reason_stop(run):
    with torch.no_grad():
        run.model.pos_emb.weight.zero_()
        run.model.tok_emb.weight.zero_()[END_OF_TEXT] = 1
        run.model.final_norm.bias.fill_(1)
    assert complete_with_model("RUN")("one") == Completion("", "stop")


def test_a_backend_has_a_name(tmp_path, run):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(["a", {"text": "b", "finish_reason": "length"}]), encoding="utf-8")
    assert open_backend(f"scripted:{path}", first=1)("?") == Completion("b", "length")
    assert open_backend("RUN")("one", max_new_tokens=1).finish_reason == "length"
    with serving((200, ollama("ok", raw=True))) as stub:
        assert open_backend(f"{stub.url}/api", model="m", raw=True)("?").text == "ok"
    assert stub.asked[0][0] == "/api/generate" and stub.asked[0][2]["stream"] is True
    with serving(GOOD) as stub:
        assert open_backend(stub.url, model="m")("?").text == "ok"
    with pytest.raises(OptionError, match="needs --model"):
        open_backend("http://localhost")
    with pytest.raises(OptionError, match="over http"):
        open_backend("http://example.org", model="m")


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"text": 1}]', '[{"text": "a", "b": 1}]', "x"])
def test_a_file_that_is_not_a_script_is_refused(tmp_path, text):
    path = tmp_path / "script.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"script\.json"):
        read_script(path)
