"""What is timed is of the model's own kind, of the batches' size, and takes a moment."""

import time

import pytest
import torch

from ch07.models import model_slice
from ch07.models.model_slice import ModelSlice, choose_for_training, use_fastest_threads
from gpt_model import MODEL_SIZES, GPTConfig

CPU = torch.device("cpu")
SIZES = {name: GPTConfig(**size) for name, size in MODEL_SIZES.items()}
BATCHES = [(1, 0), (50, 3), (800, 320), (10**6, 10**5)]  # tokens, targets


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("tokens", "targets"), BATCHES)
@pytest.mark.parametrize("limit", [model_slice.OPERATIONS, model_slice.OPERATIONS_OF_CHOICE])
def test_it_is_of_the_batches_size_or_takes_a_moment(name, tokens, targets, limit):
    part = ModelSlice(SIZES[name], tokens, targets, CPU, limit)
    n_tokens = part.token_ids.numel()
    least = model_slice.MIN_TOKENS + model_slice.COLUMNS
    assert part.operations <= 1.2 * limit or n_tokens <= least
    assert n_tokens <= max(tokens + model_slice.COLUMNS // 2, model_slice.COLUMNS)
    assert n_tokens >= min(tokens, model_slice.MIN_TOKENS)
    block = part.model.trf_blocks[0]
    assert sum(p.numel() for p in block.parameters()) <= 12.1 * model_slice.MAX_WIDTH**2


def test_a_small_model_is_measured_with_whole_batches():
    config = SIZES["gpt2-tiny"]
    part = ModelSlice(config, 800, 320, CPU)
    assert part.token_ids.numel() == 800 and len(part.wanted[0]) == 320
    in_block = sum(p.numel() for p in part.model.trf_blocks.parameters())
    head = config.emb_dim * (config.vocab_size // config.n_layers)
    assert part.operations == 6 * (in_block * 800 + head * 320)
    assert part.model.config.n_heads == config.n_heads


def test_a_step_computes_all_gradients_and_an_answer_none(monkeypatch):
    part = ModelSlice(SIZES["gpt2-tiny"], 64, 20, CPU)
    seen = []

    def look(set_to_none):
        seen.append([p.grad is not None for p in part.model.parameters()])

    monkeypatch.setattr(part.model, "zero_grad", look)
    part.answer("float32")
    assert not any(p.grad is not None for p in part.model.parameters())
    part.step("bfloat16")
    assert all(seen[0]) and len(seen) == 1


@pytest.mark.parametrize("name", ["gpt2-tiny", "gpt2-small", "gpt2-xl"])
def test_choosing_takes_a_moment_and_is_done_once(name):
    before = torch.get_num_threads()
    choose_for_training(SIZES[name], 500, 100, CPU)  # PyTorch loads its libraries
    started = time.process_time()
    first = choose_for_training(SIZES[name], 501, 100, CPU)
    took = time.process_time() - started
    assert took < 3 * before
    assert torch.get_num_threads() == before and first.threads in range(1, before + 1)
    assert choose_for_training(SIZES[name], 501, 100, CPU) is first


def test_what_is_given_is_kept():
    choice = choose_for_training(SIZES["gpt2-tiny"], 64, 20, CPU, "bfloat16", 1)
    assert (choice.dtype, choice.threads, choice.reason) == ("bfloat16", 1, "")


@pytest.mark.parametrize("rows", [1, 64])
def test_answering_uses_a_number_of_threads_that_there_is(rows):
    before = torch.get_num_threads()
    try:
        use_fastest_threads(SIZES["gpt2-tiny"], rows, CPU)
        assert 1 <= torch.get_num_threads() <= before
    finally:
        torch.set_num_threads(before)
