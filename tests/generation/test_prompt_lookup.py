"""Guessed tokens change nothing but the number of calls, whatever is guessed."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.generation.decoding import continue_prompts
from ch07.generation.prompt_lookup import Pace, TokenIndex, continue_with_lookup
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.models.quantization import quantize_layers
from gpt_model import GPTModel

END = 96
N_IDS = 97
CONTEXT = 48


def new_model(scale=0.3):
    config = {
        "vocab_size": N_IDS,
        "context_length": CONTEXT,
        "emb_dim": 24,
        "n_heads": 3,
        "n_layers": 2,
    }
    model = GPTModel(config, torch.Generator().manual_seed(0))
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(scale * torch.randn(weight.shape, generator=stream))
    return model.eval()


def behind_a_prefix():
    generator = torch.Generator().manual_seed(3)
    base = new_model()
    return PrefixTuned(base, PrefixEncoder(base.config, 5, generator=generator)).eval()


MODELS = {
    "varied": new_model(),
    "repeating": new_model(scale=0.02),  # soon writes the same tokens again and again
    "prefix": behind_a_prefix(),
    "int8": quantize_layers(new_model(), "int8"),
}


@pytest.fixture(autouse=True)
def always_guess(monkeypatch):
    """Guess whatever the clock says, so that a test does the same on every machine."""
    monkeypatch.setattr(Pace, "guessing_pays", lambda self: True)


def guesses(monkeypatch, guess):
    """Let `guess(token_ids so far, longest)` make the guesses."""
    monkeypatch.setattr(
        TokenIndex, "guess", lambda self, longest: guess(self.token_ids, longest)[:longest]
    )


def count_calls(model):
    """A list that grows with each call of the model."""
    calls = []
    model.register_forward_hook(lambda *given: calls.append(1))
    return calls


# --- the same answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_answers_are_those_of_ordinary_decoding(name, data):
    few_ids = st.integers(0, data.draw(st.sampled_from([3, 95])))
    model = MODELS[name]
    context = model.config.context_length
    prompt = data.draw(st.lists(few_ids, min_size=1, max_size=context))
    limit = data.draw(st.integers(0, 60))
    (expected,) = continue_prompts(model, [prompt], limit, end_id=END)
    assert continue_with_lookup(model, prompt, limit, end_id=END) == expected


@pytest.mark.parametrize("seed", range(5))
def test_wrong_guesses_change_nothing(monkeypatch, seed):
    numbers = random.Random(seed)
    (expected,) = continue_prompts(MODELS["varied"], [[1, 2, 3]], 40, end_id=END)
    answer = [1, 2, 3, *expected.token_ids]

    def guess(so_far, longest):  # right for some tokens, then wrong
        right = answer[len(so_far) : len(so_far) + numbers.randrange(4)]
        return right + [numbers.randrange(N_IDS) for _ in range(4)]

    guesses(monkeypatch, guess)
    assert continue_with_lookup(MODELS["varied"], [1, 2, 3], 40, end_id=END) == expected


def test_right_guesses_save_calls(monkeypatch):
    model = new_model()
    (expected,) = continue_prompts(model, [[1, 2, 3]], 40, end_id=-1)
    answer = [1, 2, 3, *expected.token_ids]
    guesses(monkeypatch, lambda so_far, longest: answer[len(so_far) :])
    calls = count_calls(model)
    assert continue_with_lookup(model, [1, 2, 3], 40, end_id=-1) == expected
    assert len(calls) == 40 // 5  # four that were guessed, and one more


def test_what_is_guessed_after_the_end_is_dropped(monkeypatch):
    model = MODELS["varied"]
    (plain,) = continue_prompts(model, [[1, 2, 3]], 40, end_id=-1)
    answer = [1, 2, 3, *plain.token_ids]
    end = plain.token_ids[6]
    first = plain.token_ids.index(end)
    guesses(monkeypatch, lambda so_far, longest: answer[len(so_far) :])
    row = continue_with_lookup(model, [1, 2, 3], 40, end_id=end, longest_guess=20)
    assert (row.token_ids, row.stopped) == (plain.token_ids[:first], "end")


def test_the_context_is_never_exceeded(monkeypatch):
    guesses(monkeypatch, lambda so_far, longest: [7] * 9)
    for n in range(CONTEXT - 6, CONTEXT + 1):
        row = continue_with_lookup(MODELS["varied"], [5] * n, 60, end_id=-1)
        assert row == continue_prompts(MODELS["varied"], [[5] * n], 60, end_id=-1)[0]
        assert (len(row.token_ids), row.stopped) == (CONTEXT - n, "context")


def test_an_answer_that_repeats_itself_takes_fewer_calls():
    model = new_model(scale=0.02)
    (expected,) = continue_prompts(model, [[1, 2, 3]], 40, end_id=-1)
    calls = count_calls(model)
    assert continue_with_lookup(model, [1, 2, 3], 40, end_id=-1) == expected
    assert len(calls) < 40


@pytest.mark.parametrize(
    ("prompt", "limit", "message"),
    [([], 5, "no token"), ([1] * 49, 5, "49 tokens"), ([1], -1, "can't be below 0")],
)
def test_bad_input(prompt, limit, message):
    with pytest.raises(ValueError, match=message):
        continue_with_lookup(MODELS["varied"], prompt, limit)


# --- where guesses come from --------------------------------------------------------------------


def test_guesses_follow_the_latest_place_with_the_same_two_tokens():
    index = TokenIndex([1, 2, 3, 1, 2, 4, 1, 2])
    assert index.guess(longest=9) == [4, 1, 2]
    index.append(5)
    assert index.guess(longest=9) == []
    for token_id in (9, 1, 2):
        index.append(token_id)
    assert index.guess(longest=2) == [5, 9]
    assert index.guess(longest=0) == []
    assert TokenIndex([]).guess(4) == TokenIndex([7]).guess(4) == []


# --- when guessing pays -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds_guessed", "tokens_guessed", "pays"),
    [(2.0, 3, True), (2.0, 2, True), (4.0, 3, False), (1.0, 1, True), (1.1, 1, False)],
)
def test_guessing_ends_where_it_does_not_pay(monkeypatch, seconds_guessed, tokens_guessed, pays):
    monkeypatch.undo()  # the real rule
    now = [0.0]
    pace = Pace(clock=lambda: now[0])

    def call(guessed, seconds, n_tokens):
        pace.start()
        now[0] += seconds
        pace.stop(guessed, n_tokens)
        now[0] += 100  # time between calls isn't counted

    for i in range(3):
        assert pace.guessing_pays(), f"after {i} calls of each kind"
        call(True, seconds_guessed, tokens_guessed)
        call(False, 1.0, 1)
    assert pace.guessing_pays() == pays


def test_each_call_but_that_of_the_prompt_is_measured_as_what_it_was(monkeypatch):
    monkeypatch.undo()
    seen = []
    monkeypatch.setattr(Pace, "stop", lambda self, guessed, n: seen.append((guessed, n)))
    guesses(monkeypatch, lambda so_far, longest: [0][: len(so_far) % 2])
    calls = count_calls(MODELS["varied"])
    row = continue_with_lookup(MODELS["varied"], [1, 2, 3], 12, end_id=-1)
    assert len(row.token_ids) == 12 and len(seen) == len(calls) - 1
    assert {guessed for guessed, _ in seen} == {True, False}
    assert all(n == 1 for guessed, n in seen if not guessed)
