"""Requests: every field is used, harmless or refused by name; and what any of them may hold."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ch07.config import ANSWER_TOKENS
from ch07.generation.decoding import Sampling
from ch07.serving.api_errors import ApiError
from ch07.serving.request_fields import (
    BOOKKEEPING,
    COMPLETION_TOKENS,
    MAX_MESSAGES,
    UNSUPPORTED,
    USED_IN_CHAT,
    USED_IN_COMPLETIONS,
    Message,
    parse_chat,
    parse_completion,
    parse_json,
)

HELLO = {"model": "small", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "small", "prompt": "Once"}


def chat(**fields):
    return parse_chat({**HELLO, **fields}, "small")


def completion(**fields):
    return parse_completion({**TEXT, **fields}, "small")


def said(**message):
    return chat(messages=[{"role": "user", "content": "Hello", **message}])


# --- every field that OpenAI has ----------------------------------------------------------------
def fields_of_openai(base):
    return set(base.__annotations__)


def test_no_field_of_openai_is_unknown():
    """The official client's own list: each field is used, or ignored on purpose, or refused."""
    from openai.types import completion_create_params as text
    from openai.types.chat import completion_create_params as of_chat

    known = {*BOOKKEEPING, *UNSUPPORTED, "stream"}
    assert fields_of_openai(of_chat.CompletionCreateParamsBase) <= known | set(USED_IN_CHAT)
    assert fields_of_openai(text.CompletionCreateParamsBase) <= known | set(USED_IN_COMPLETIONS)
    assert not set(BOOKKEEPING) & set(UNSUPPORTED)


@pytest.mark.parametrize("name", BOOKKEEPING)
def test_bookkeeping_changes_nothing(name):
    assert chat(**{name: {"any": ["value"]}}) == chat()


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_refused_unless_it_asks_for_nothing(name):
    assert chat(**{name: None}) == chat()
    for harmless in UNSUPPORTED[name]:
        assert chat(**{name: harmless}) == chat()
    for value in ([{"type": "function"}], 2, 0.5, True, "required", {"type": "json_schema"}):
        with pytest.raises(ApiError, match=f"^{name} is not supported") as caught:
            chat(**{name: value})
        assert (caught.value.param, caught.value.status) == (name, 400)


@pytest.mark.parametrize("value", [1.0, True])
def test_a_number_of_another_type_does_not_pass_for_1(value):
    with pytest.raises(ApiError, match="n is not supported"):
        chat(n=value)


def test_a_misspelt_field_is_an_error():
    with pytest.raises(ApiError, match="unrecognized field 'max_token'"):
        chat(max_token=5)
    with pytest.raises(ApiError, match="unrecognized field 'messages'"):
        completion(messages=[])
    with pytest.raises(ApiError, match=r"unrecognized field 'contents' in messages\[0\]"):
        said(contents="x")


# --- what is used -------------------------------------------------------------------------------
def test_what_is_not_given_has_its_default():
    limits = chat().limits
    assert limits.max_new_tokens == ANSWER_TOKENS
    assert completion().limits.max_new_tokens == COMPLETION_TOKENS
    assert (limits.sampling, limits.seed, limits.stop, limits.stream) == (
        Sampling(),
        None,
        (),
        False,
    )
    assert chat(temperature=None, top_p=None, seed=None, stop=None, stream=None) == chat()


def test_all_that_is_given_arrives():
    limits = chat(
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        seed=3,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
    ).limits
    assert limits.max_new_tokens == 7 and limits.sampling == Sampling(0.5, 5, 0.9)
    assert (limits.seed, limits.stop) == (3, ("a", "b"))
    assert limits.stream and limits.include_usage
    assert chat(stop="one").limits.stop == ("one",)
    assert completion(prompt=["Once"]) == completion()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**6 + 1}, "max_tokens"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 1, "top_p": 0}, "top_p"),
        ({"temperature": 1, "top_p": 1.5}, "top_p"),
        ({"temperature": 1, "top_k": 0}, "top_k"),
        ({"top_p": 0.5}, "top_p"),
        ({"top_k": 5}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": ["x" * 1000]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
        ({"truncation": "middle"}, "truncation"),
        ({"truncation": ["auto"]}, "truncation"),
        ({"model": 5}, "model"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(fields, param):
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert len(str(caught.value)) < 300


def test_another_model_is_not_found():
    with pytest.raises(ApiError, match="no model 'gpt-4o' here; this server has 'small'") as caught:
        chat(model="gpt-4o")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


# --- messages -----------------------------------------------------------------------------------
def test_messages_in_all_their_forms():
    request = chat(
        messages=[
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "Add."}], "input": "1 and 1"},
            {"role": "assistant", "content": "2", "refusal": None, "tool_calls": None},
            {"role": "user", "content": [{"type": "text", "text": t} for t in ("And", "then?")]},
        ]
    )
    assert request.messages == (
        Message("system", "Be short."),
        Message("user", "Add.", "1 and 1"),
        Message("assistant", "2"),
        Message("user", "And\nthen?"),
    )


def test_the_official_client_s_own_message_comes_back():
    """A client appends the answer as it is to the conversation."""
    from openai.types.chat import ChatCompletionMessage

    message = ChatCompletionMessage(role="assistant", content="2").model_dump()
    messages = [*HELLO["messages"], message, {"role": "user", "content": "More"}]
    assert chat(messages=messages).messages[1] == Message("assistant", "2")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": None}, "messages[0].content"),
        ({"content": 5}, "messages[0].content"),
        ({"content": []}, "messages[0].content"),
        ({"content": "half \ud83d"}, "messages[0].content"),
        ({"input": "half \udc00"}, "messages[0].input"),
        ({"input": 5}, "messages[0].input"),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content[0]"),
        ({"content": ["text"]}, "messages[0].content[0]"),
        ({"content": [{"type": "text"}]}, "messages[0].content[0]"),
        ({"role": "tool"}, "messages[0].role"),
        ({"role": None}, "messages[0].role"),
        ({"role": ["user"]}, "messages[0].role"),
        ({"name": "Anna"}, "messages[0].name"),
        ({"tool_calls": [{}]}, "messages[0].tool_calls"),
        ({"content": "x" * 100_001}, "messages[0].content"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(message, param):
    with pytest.raises(ApiError) as caught:
        said(**message)
    assert caught.value.param == param


@pytest.mark.parametrize("messages", [None, [], {}, "Hello", ["Hello"], [None]])
def test_what_is_no_list_of_messages_is_refused(messages):
    with pytest.raises(ApiError, match="messages"):
        chat(messages=messages)


def test_there_is_a_limit_of_messages_and_of_all_their_characters():
    with pytest.raises(ApiError, match="at most 1,000 are read"):
        chat(messages=HELLO["messages"] * (MAX_MESSAGES + 1))
    long = {"role": "user", "content": "x" * 60_000}
    with pytest.raises(ApiError, match="120,000 characters together"):
        chat(messages=[long, long])


@pytest.mark.parametrize(
    "prompt", [None, "", [], [1, 2], ["a", "b"], [[1]], 5, "\ud800", "x" * 10**6]
)
def test_a_text_that_cannot_be_continued_is_refused(prompt):
    with pytest.raises(ApiError) as caught:
        completion(prompt=prompt)
    assert caught.value.param == "prompt"


# --- the body -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object, but is a list"),
        (b"null", "must be a JSON object, but is a null"),
        (b"{", "not valid JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "Infinity is no number"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"x": {"a": 1, "a": 2}}', "'a' appears twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":' + b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' + b"1" * 5000 + b"}", "not valid JSON"),
    ],
    ids=range(13),
)
def test_a_body_that_is_no_object_is_refused(body, message):
    with pytest.raises(ApiError, match=message):
        parse_json(body)


odd_texts = st.sampled_from(["", "user", "text", "auto", "\ud83d", "</script>", "x" * 300])
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | odd_texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "input"]), inner)
    ),
    max_leaves=6,
)
names = st.sampled_from([*USED_IN_CHAT, *UNSUPPORTED, *BOOKKEEPING, "prompt", "odd"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields=st.dictionaries(names, any_json, max_size=5), parse=st.booleans())
def test_whatever_comes_is_a_request_or_an_error_that_can_be_sent(fields, parse):
    """Never another exception, and never a message that UTF-8 can't hold."""
    whole = {**(HELLO if parse else TEXT), **fields}
    try:
        (parse_chat if parse else parse_completion)(whole, "small")
    except ApiError as error:
        json.dumps([str(error), error.param], ensure_ascii=False).encode()
