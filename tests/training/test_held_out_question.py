"""The one question of a run: held out, answerable, the same each time; asking changes nothing."""

import pytest
import torch

from ch07.data.prompt_styles import get_style
from ch07.training.held_out_question import (
    BEGINNING,
    HeldOutQuestion,
    answer_function,
    beginning_of_text,
    question_among,
)
from collate import END_OF_TEXT
from gpt_model import GPTModel

SHAPE = {"vocab_size": 50257, "context_length": 64, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
STYLE = get_style("question-answer")


def entry(instruction, output="yes"):
    return {"instruction": instruction, "input": "", "output": output}


def test_the_first_question_that_fits_is_asked(tokenizer):
    entries = [entry("long " * 100), entry("Is it?"), entry("Was it?")]
    asked = question_among(entries, tokenizer, STYLE, context_length=64)
    assert (asked.question, asked.right) == ("Is it?", "yes")
    assert question_among(entries[:1], tokenizer, STYLE, context_length=64) is None
    assert question_among([], tokenizer, STYLE, context_length=64) is None


def test_a_text_is_continued_from_the_beginning_of_a_document(tokenizer):
    story = tokenizer.encode("Once upon a time there was a small red fox who liked to swim. " * 3)
    row = [1, 2, 3, END_OF_TEXT, *story, END_OF_TEXT, 4]
    asked = beginning_of_text([row, [5, 6]], tokenizer, context_length=64)
    assert asked.prompt == story[:BEGINNING]
    assert asked.question + asked.right == tokenizer.decode(story)
    assert beginning_of_text([story], tokenizer, 64).prompt == story[:BEGINNING]
    assert beginning_of_text([story[:8]], tokenizer, 64).prompt == story[:4], "half is right"
    assert beginning_of_text([story], tokenizer, 4).prompt == story[:3], "room for one token"


@pytest.mark.parametrize("rows", [[], [[7]], [[END_OF_TEXT]], [[]]])
def test_a_text_too_short_to_continue_is_not(tokenizer, rows):
    assert beginning_of_text(rows, tokenizer, 64) is None


def test_an_answer_leaves_model_modes_and_random_numbers_as_they_were(tokenizer):
    model = GPTModel(SHAPE | {"drop_rate": 0.5}, torch.Generator().manual_seed(1))
    model.train()
    model.final_norm.eval()
    weights = [weight.clone() for weight in model.parameters()]
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    held_out = HeldOutQuestion("a", "b", tokenizer.encode("Say it again, Sam."))
    answer_at = answer_function(held_out, model, tokenizer, max_new_tokens=8)
    samples = [answer_at(3), answer_at(3)]
    assert samples[0] == samples[1] and samples[0]["step"] == 3
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in model.modules()] == modes
    assert all(map(torch.equal, weights, model.parameters()))
    assert all(weight.grad is None for weight in model.parameters())
