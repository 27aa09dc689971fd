"""A conversation becomes the prompt of training; what a model never learned to read is refused."""

import pytest
from chat_model import MARKS, STYLE, small_llama, small_tokenizer
from served import REMEMBERS, SINGLE, trained, untrained_model

from ch07.data.chat_dataset import encode_chat_prompt, make_dataset
from ch07.data.token_text import END_LABEL
from ch07.data.tokenizer import end_token_id
from ch07.models.saved_run import TrainedModel
from ch07.serving.api_errors import ApiError
from ch07.serving.prompts import chat_prompt, completion_prompt, describe_prompt
from ch07.serving.request_fields import parse_chat, parse_completion
from instruction_dataset import BOOK_STYLE, encode_prompt


@pytest.fixture
def single(tokenizer):
    return trained()


@pytest.fixture
def remembers(tokenizer):
    return trained(conversations=REMEMBERS)


@pytest.fixture
def chat_model():
    return TrainedModel("small", small_llama(), small_tokenizer(), STYLE, REMEMBERS)


def user(text, **more):
    return {"role": "user", "content": text, **more}


def model_said(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def prompt_of(run, *messages, **fields):
    return chat_prompt(run, parse_chat({"model": "m", "messages": list(messages), **fields}, "m"))


def test_a_single_question_is_the_prompt_of_training(single, tokenizer):
    entry = {"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"}
    prompt = prompt_of(single, user("  Add the numbers.\n", input=" 2 and 3 "))
    row = make_dataset([entry], tokenizer, BOOK_STYLE, "all")[0]
    assert prompt.token_ids == encode_prompt(entry, tokenizer, BOOK_STYLE)
    assert row[: len(prompt.token_ids)] == prompt.token_ids


@pytest.mark.parametrize("name", ["remembers", "chat_model"])
def test_a_conversation_is_the_prompt_of_training(name, request):
    run = request.getfixturevalue(name)
    entry = {
        "system": "Be short.",
        "history": [{"instruction": "Name a fruit.", "input": "", "output": "Lime"}],
        "instruction": "And its plural?",
        "input": "",
        "output": "Limes",
    }
    messages = [
        system("Be short."),
        user("Name a fruit."),
        model_said(" Lime\n"),
        user("And its plural?"),
    ]
    prompt = prompt_of(run, *messages)
    row = make_dataset([entry], run.tokenizer, run.style, "all")[0]
    assert prompt.token_ids == encode_chat_prompt(entry, run.tokenizer, run.style)
    assert row[: len(prompt.token_ids)] == prompt.token_ids


def test_a_model_of_single_questions_refuses_earlier_turns_or_says_that_it_left_them_out(single):
    messages = [user("Name a fruit."), model_said("Lime"), user("And its plural?")]
    with pytest.raises(ApiError, match="tuned on single questions") as caught:
        prompt_of(single, *messages)
    assert (caught.value.status, caught.value.code) == (400, "single_questions")
    prompt = prompt_of(single, *messages, truncation="auto")
    assert prompt.token_ids == prompt_of(single, user("And its plural?")).token_ids
    assert prompt.n_forgotten == 1


@pytest.mark.parametrize("conversations", [SINGLE, {"turns": 3, "system": False}])
def test_a_system_message_that_was_never_trained_is_refused(conversations, tokenizer):
    run = trained(conversations=conversations)
    with pytest.raises(ApiError, match="trained without system messages"):
        prompt_of(run, system("Be short."), user("Hello"))
    assert prompt_of(run, system(""), user("Hello")).token_ids  # an empty one says nothing


def test_a_conversation_that_is_too_long_is_refused_or_loses_its_oldest_turns(remembers):
    context = remembers.model.config.context_length
    messages = []
    for i in range(40):
        messages += [user(f"Question {i}?"), model_said("An answer of a few words.")]
    messages.append(user("The last one?"))
    with pytest.raises(ApiError, match="reads at most 256") as caught:
        prompt_of(remembers, *messages)
    assert caught.value.code == "context_length_exceeded"
    prompt = prompt_of(remembers, *messages, truncation="auto", max_tokens=50)
    assert 0 < prompt.n_forgotten < 40
    assert context - 50 - 30 < len(prompt.token_ids) <= context - 50  # as many as fit, no fewer
    text = remembers.tokenizer.decode(prompt.token_ids)
    assert "The last one?" in text and "Question 39?" in text and "Question 0?" not in text


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([model_said("Hello")], "messages[0].role"),
        ([user("a"), user("b")], "messages[1].role"),
        ([user("a"), model_said("b")], "messages"),
        ([system("a")], "messages"),
        ([user("a"), model_said("b"), system("c"), user("d")], "messages[2].role"),
        ([user("  \n")], "messages[0].content"),
        ([system("a"), user("a"), model_said("b"), user("")], "messages[3].content"),
    ],
)
def test_turns_that_are_no_conversation_are_refused(remembers, messages, param):
    with pytest.raises(ApiError) as caught:
        prompt_of(remembers, *messages)
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["remembers", "chat_model"])
def test_what_a_user_types_is_ordinary_text(name, request):
    """Marks and end-of-text, in questions, inputs, earlier answers and system messages."""
    run = request.getfixturevalue(name)
    typed = " ".join([*MARKS, "### Response:"])
    special = {run.tokenizer.encode_single_token(mark) for mark in run.tokenizer.special_tokens_set}

    def count_special(text):
        messages = [system(text), user(text, input=text), model_said(text), user(text)]
        return sum(i in special for i in prompt_of(run, *messages).token_ids)

    assert count_special(typed) == count_special("a")


def test_a_text_is_continued_as_it_is(single, tokenizer):
    text = " Once <|endoftext|> upon\n"
    request = parse_completion({"model": "m", "prompt": text}, "m")
    prompt = completion_prompt(single, request)
    assert prompt.token_ids == tokenizer.encode_ordinary(text)
    assert tokenizer.decode(prompt.token_ids) == text


def test_a_text_beyond_the_context_is_refused(single):
    request = parse_completion({"model": "m", "prompt": "word " * 300}, "m")
    with pytest.raises(ApiError, match="301 tokens, but this model reads at most 256"):
        completion_prompt(single, request)


@pytest.mark.parametrize("name", ["single", "remembers", "chat_model"])
def test_the_view_is_the_prompt_and_nothing_else(name, request):
    run = request.getfixturevalue(name)
    messages = [user("Add <b>.", input="1 and 1")]
    if name != "single":
        messages = [system("Be 好."), user("One?"), model_said("1"), *messages]
    prompt = prompt_of(run, *messages)
    view = describe_prompt(run, prompt)
    assert [token["id"] for token in view["tokens"]] == prompt.token_ids
    text = "".join(part["text"] for part in view["parts"])
    assert text == run.tokenizer.decode(prompt.token_ids)
    assert {part["role"] for part in view["parts"]} == {token["role"] for token in view["tokens"]}
    n_ends = sum(token["role"] == "end" for token in view["tokens"])
    assert n_ends == (0 if name == "single" else 1)  # after the earlier answer
    for token in view["tokens"]:
        is_end = token["id"] == end_token_id(run.tokenizer)
        assert (token["text"] == END_LABEL) == is_end
    assert view["context_length"] == run.model.config.context_length


def test_the_model_of_these_tests_has_the_context_that_they_assume():
    assert untrained_model().config.context_length == 256
