"""OpenAI's interface over a real connection: with the official client, curl and our own backend."""

import json
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch
from served import REMEMBERS, PausedBatch, chat_body, serving, trained, wait_until

from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.tokenizer import end_token_id
from ch07.generation.decoding import Sampling, generate
from ch07.generation.http_backend import complete_at_url
from ch07.generation.respond import respond
from ch07.utils.errors import InputError


@pytest.fixture(scope="module")
def served(tokenizer):
    with serving() as server:
        yield server


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ask(client, text, **options):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="small", messages=messages, **options)


def expected(served, text, n, **options):
    """(ids, text) of the answer that the model gives alone."""
    run = served.service.run
    prompt = encode_chat_prompt({"instruction": text}, run.tokenizer, run.style)
    ids = generate(run.model, [prompt], n, end_id=end_token_id(run.tokenizer), **options)[0]
    return ids, run.tokenizer.decode(ids)


# --- the official client ------------------------------------------------------------------------
def test_an_answer_is_the_model_s_own(served, client):
    ids, text = expected(served, "Name a fruit.", 9)
    answer = ask(client, "Name a fruit.", max_tokens=9)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", text)
    assert (choice.finish_reason, answer.model, answer.object) == (
        "length",
        "small",
        "chat.completion",
    )
    run = served.service.run
    prompt = encode_chat_prompt({"instruction": "Name a fruit."}, run.tokenizer, run.style)
    usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
    assert usage == (len(prompt), len(ids), len(prompt) + len(ids))


def test_a_stream_is_the_same_answer_in_pieces(client):
    whole = ask(client, "Name a fruit.", max_tokens=30)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    parts = list(ask(client, "Name a fruit.", max_tokens=30, **options))
    *with_choice, last = parts
    assert last.choices == [] and last.usage == whole.usage
    assert [part.usage for part in with_choice] == [None] * len(with_choice)
    deltas = [part.choices[0].delta for part in with_choice]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    reasons = [part.choices[0].finish_reason for part in with_choice]
    assert reasons == [None] * (len(reasons) - 1) + ["length"]
    assert len({part.id for part in parts}) == 1


def test_a_text_is_continued_whole_and_as_a_stream(served, client):
    run = served.service.run
    ids = generate(run.model, [run.tokenizer.encode_ordinary("Once upon")], 12)[0]
    whole = client.completions.create(model="small", prompt="Once upon", max_tokens=12)
    assert whole.choices[0].text == run.tokenizer.decode(ids)
    assert whole.usage.completion_tokens == 12
    parts = client.completions.create(model="small", prompt="Once upon", max_tokens=12, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text


def test_the_models_are_listed(client):
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("small", "model")
    assert client.models.retrieve("small") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_a_seed_and_a_temperature_are_those_of_the_command_line(served, client):
    options = {"sampling": Sampling(1.2, top_p=0.9), "generator": torch.Generator().manual_seed(5)}
    _, text = expected(served, "Name a fruit.", 12, **options)
    answer = ask(client, "Name a fruit.", max_tokens=12, temperature=1.2, top_p=0.9, seed=5)
    assert answer.choices[0].message.content == text


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_before_it(client, stream):
    whole = ask(client, "Name a fruit.", max_tokens=30).choices[0].message.content
    for stop in ([whole[7:15]], [whole[10:11]], [whole[20:22], "never"]):
        first = whole.find(stop[0])
        answer = ask(client, "Name a fruit.", max_tokens=30, stop=stop, stream=stream)
        if stream:
            parts = list(answer)
            text = "".join(part.choices[0].delta.content or "" for part in parts)
            choice = parts[-1].choices[0]
        else:
            text = answer.choices[0].message.content
            choice = answer.choices[0]
        assert text == whole[:first]
        assert (choice.finish_reason, choice.stop_reason) == ("stop", "stop")


def test_errors_are_the_client_s_exceptions(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "Hello", n=2)
    assert (caught.value.param, caught.value.code) == ("n", "unsupported_parameter")
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        ask(client, "Hello", tools=[{"type": "function", "function": {"name": "f"}}])
    with pytest.raises(openai.BadRequestError, match="response_format is not supported"):
        ask(client, "Hello", response_format={"type": "json_object"})
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4o'"):
        client.completions.create(model="gpt-4o", prompt="Hello")
    with pytest.raises(openai.BadRequestError, match="reads at most 256"):
        ask(client, "word " * 300)


def test_all_that_the_client_may_send_besides_is_harmless(client):
    options = {"user": "me", "metadata": {"a": "b"}, "store": False, "n": 1, "logprobs": False}
    options |= {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}}
    options |= {"response_format": {"type": "text"}, "service_tier": "auto"}
    plain = ask(client, "Name a fruit.", max_tokens=5).choices
    assert ask(client, "Name a fruit.", max_tokens=5, **options).choices == plain


def test_a_conversation_goes_on_with_the_client_s_own_messages():
    run = trained(conversations=REMEMBERS)
    with serving(run) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="x") as client:
        messages = [{"role": "system", "content": "Be."}, {"role": "user", "content": "One?"}]
        first = client.chat.completions.create(model="small", messages=messages, max_tokens=4)
        messages += [first.choices[0].message, {"role": "user", "content": "Two?"}]
        second = client.chat.completions.create(model="small", messages=messages, max_tokens=4)
        said = first.choices[0].message.content.strip()
        history = [{"instruction": "One?", "input": "", "output": said}]
        entry = {"system": "Be.", "instruction": "Two?", "input": "", "history": history}
        (answer,) = respond(run.model, run.tokenizer, [entry], run.style, 4)
        assert second.choices[0].message.content == answer.text


# --- several at once ----------------------------------------------------------------------------
def test_clients_that_share_batches_get_the_answers_that_they_get_alone(served, client):
    """More of them than rows; of different lengths, whole and as streams, sampled ones between."""
    stream = random.Random(0)
    words = "lime plum red blue seven eight wolf fox".split()

    def order(number):
        text = " ".join(stream.choices(words, k=stream.randint(1, 20)))
        return text, stream.randint(1, 40), number % 2 == 0, number % 3 == 0

    orders = [order(number) for number in range(12)]

    def answer(one):
        text, n, as_stream, sampled = one
        options = {"temperature": 1.5, "seed": 3} if sampled else {}
        got = ask(client, text, max_tokens=n, stream=as_stream, **options)
        if not as_stream:
            return got.choices[0].message.content
        return "".join(part.choices[0].delta.content or "" for part in got)

    with ThreadPoolExecutor(len(orders)) as pool:
        answers = list(pool.map(answer, orders))
    for one, text in zip(orders, answers, strict=True):
        assert text == answer(one)
        if not one[3]:
            assert text == expected(served, one[0], one[1])[1]


# --- limits -------------------------------------------------------------------------------------
def test_who_comes_when_the_queue_is_full_is_told_to_come_again():
    run = trained()
    batch = PausedBatch(run, max_rows=1)
    with serving(run, batch=batch, queue=1) as served, ThreadPoolExecutor(2) as pool:
        others = [pool.submit(served.chat, "Hello", max_tokens=2) for _ in range(2)]
        wait_until(lambda: served.engine.n_open == 2)
        body = json.dumps(chat_body("Hello")).encode()
        headers = {"Content-Type": "application/json"}
        for stream in (b"false", b"true"):
            asked = body[:-1] + b', "stream": ' + stream + b"}"
            status, got, answer = served.request("POST", "/v1/chat/completions", asked, headers)
            assert (status, got["retry-after"]) == (503, "2")
            assert json.loads(answer)["error"]["code"] == "queue_full"
        batch.allow(20)
        assert [other.result()[0] for other in others] == [200, 200]
        assert served.chat("Hello", max_tokens=1)[0] == 200


def test_an_answer_that_takes_too_long_ends_where_it_is():
    run = trained()
    batch = PausedBatch(run)
    with serving(run, batch=batch) as served, ThreadPoolExecutor(1) as pool:
        batch.allow(3)
        writing = pool.submit(served.chat, "Hello", max_tokens=50)
        wait_until(lambda: batch.n_admitted == 1 and batch.has_paused)
        (ticket,) = served.engine._open
        ticket.cancel("time")  # as its timer does
        status, answer = writing.result()
        (choice,) = answer["choices"]
        assert status == 200 and answer["usage"]["completion_tokens"] == 4
        assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "time")
        assert served.engine.n_open == 0


def test_who_gets_no_turn_within_the_time_limit_is_told_so():
    run = trained()
    with serving(run, batch=PausedBatch(run), time_limit=0.3) as served:
        for stream in (False, True):
            status, answer = served.chat("Hello", stream=stream)
            assert (status, answer["error"]["code"]) == (503, "busy")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place(stream):
    run = trained()
    batch = PausedBatch(run)
    with serving(run, batch=batch) as served:
        batch.allow(3)
        with pytest.raises(TimeoutError):
            body = json.dumps(chat_body("Hello", max_tokens=100, stream=stream))
            headers = {"Content-Type": "application/json"}
            served.request("POST", "/v1/chat/completions", body, headers, timeout=0.3)
        served.wait_until_idle()
        assert batch.n_admitted == 0
        batch.allow(50)
        assert served.chat("Hello", max_tokens=3)[0] == 200


def test_answers_that_are_being_written_end_with_a_reason_when_the_server_stops():
    run = trained()
    batch = PausedBatch(run)
    with serving(run, batch=batch) as served, ThreadPoolExecutor(2) as pool:
        batch.allow(3)
        writing = pool.submit(served.chat, "Hello", max_tokens=100)
        wait_until(lambda: batch.n_admitted == 1 and batch.has_paused)
        served.server.should_exit = True
        status, answer = writing.result()
        assert status == 200 and answer["choices"][0]["stop_reason"] == "shutdown"
        served.thread.join(30)
        assert not served.thread.is_alive()


def test_a_failure_of_the_model_is_an_error_for_those_who_waited_and_for_no_others():
    run = trained()
    batch = PausedBatch(run)
    with serving(run, batch=batch) as served:
        proper = batch._write_tokens
        batch._write_tokens = lambda: [][0]
        batch.allow(1)
        status, answer = served.chat("Hello")
        assert (status, answer["error"]["code"]) == (500, "model_failed")
        assert [type(failure) for failure in served.failures] == [IndexError]
        batch._write_tokens = proper
        batch.allow(10)
        assert served.chat("Hello", max_tokens=3)[0] == 200


def test_an_answer_that_cannot_even_begin_stops_no_other(monkeypatch):
    run = trained()
    with serving(run) as served:
        submit = served.engine._batch.submit
        faults = [ValueError("a bug"), InputError("no such prompt")]

        def fail(*given, **options):
            raise faults.pop(0)

        monkeypatch.setattr(served.engine._batch, "submit", fail)
        assert served.chat("Hello")[0] == 500
        status, answer = served.chat("Hello")
        assert (status, answer["error"]["message"]) == (400, "no such prompt")
        assert [str(failure) for failure in served.failures] == ["a bug"]
        monkeypatch.setattr(served.engine._batch, "submit", submit)
        assert served.chat("Hello", max_tokens=2)[0] == 200


# --- other clients ------------------------------------------------------------------------------
def curl(*arguments):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, check=True, timeout=60)
    return done.stdout.decode()


def test_curl_gets_an_answer_and_a_stream(served):
    address = f"{served.url}/v1/chat/completions"
    header = ["-H", "Content-Type: application/json"]
    body = chat_body("Name a fruit.", max_tokens=9)
    whole = json.loads(curl(address, *header, "-d", json.dumps(body)))
    lines = curl("-N", address, *header, "-d", json.dumps({**body, "stream": True})).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    text = "".join(part["choices"][0]["delta"].get("content", "") for part in parts)
    assert text == whole["choices"][0]["message"]["content"]
    assert "there is nothing at this address" in curl(
        f"{served.url}/v1/embeddings", *header, "-d", "{}"
    )
    assert "another method" in curl(address)


@pytest.mark.parametrize("raw", [False, True])
def test_our_own_backend_gets_the_answer_that_the_model_gives_it(served, raw):
    """The circle is closed: what asks servers asks ours."""
    complete = complete_at_url(f"{served.url}/v1", "small", raw=raw)
    run = served.service.run
    for options in ({}, {"stop": ["dispatcher"]}, {"temperature": 1.0, "seed": 3, "top_p": 0.9}):
        answer = complete("Name a fruit.", max_new_tokens=12, **options)
        ids = run.tokenizer.encode_ordinary("Name a fruit.")
        if not raw:
            ids = encode_chat_prompt({"instruction": "Name a fruit."}, run.tokenizer, run.style)
        how = {}
        if "temperature" in options:
            how = {"sampling": Sampling(1.0, top_p=0.9)}
            how["generator"] = torch.Generator().manual_seed(3)
        text = run.tokenizer.decode(generate(run.model, [ids], 12, **how)[0])
        for stop in options.get("stop", []):
            text = text.partition(stop)[0]
        assert answer.text == text
