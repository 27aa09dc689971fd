"""What is timed is of the model's own kind, of the batches' size, and takes a moment."""

from functools import partial

import pytest
import torch

from ch07.models import model_slice
from ch07.models.model_slice import ModelSlice, choose_for_training, use_fastest_threads
from ch07.utils import compute_choice
from gpt_model import MODEL_SIZES, GPTConfig

CPU = torch.device("cpu")
SIZES = {name: GPTConfig(**size) for name, size in MODEL_SIZES.items()}
BATCHES = [(0, 0), (1, 0), (50, 3), (800, 320), (10**6, 10**5)]  # tokens, targets


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("tokens", "targets"), BATCHES)
@pytest.mark.parametrize("limit", [model_slice.OPERATIONS, model_slice.OPERATIONS_OF_CHOICE])
def test_it_is_of_the_batches_size_or_takes_a_moment(name, tokens, targets, limit):
    part = ModelSlice(SIZES[name], tokens, targets, CPU, limit)
    n_tokens = part.token_ids.numel()
    per_token = part.operations / n_tokens
    assert part.operations <= 1.2 * max(limit, model_slice.MIN_TOKENS * per_token)
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


@pytest.fixture
def measured(monkeypatch):
    """Two threads and bfloat16 units. Notes each job: (name, threads, format, operations)."""
    done = []

    def record(name):
        def job(part, dtype):
            done.append((name, torch.get_num_threads(), dtype, part.operations))

        return job

    monkeypatch.setattr(compute_choice, "AVAILABLE_THREADS", 2)
    no_longer = partial(compute_choice.time_in_turns, seconds=0.0)
    monkeypatch.setattr(compute_choice, "time_in_turns", no_longer)
    monkeypatch.setattr(compute_choice, "has_bfloat16_units", lambda device: True)
    for name in ("step", "answer"):
        monkeypatch.setattr(ModelSlice, name, record(name))
    model_slice.choose_for_training.cache_clear()
    before = torch.get_num_threads()
    yield done
    torch.set_num_threads(before)
    model_slice.choose_for_training.cache_clear()


@pytest.mark.parametrize("name", ["gpt2-tiny", "gpt2-small", "gpt2-xl"])
def test_a_choice_tries_all_candidates_takes_a_moment_and_is_made_once(measured, name):
    before = torch.get_num_threads()
    first = choose_for_training(SIZES[name], 500, 100, CPU)
    assert {(job, dtype) for job, _, dtype, _ in measured} == {
        ("step", "float32"),
        ("step", "bfloat16"),
    }
    assert {threads for _, threads, _, _ in measured} == {1, 2}
    assert len(measured) == 2 * 2 * (1 + compute_choice.MIN_ROUNDS)
    assert sum(operations for *_, operations in measured) < 1.2e11  # 2 s at 60 GFLOP/s
    assert torch.get_num_threads() == before and first.threads in (1, 2)
    n = len(measured)
    assert choose_for_training(SIZES[name], 500, 100, CPU) is first and len(measured) == n


def test_what_is_given_is_kept(measured):
    choice = choose_for_training(SIZES["gpt2-tiny"], 64, 20, CPU, "bfloat16", 1)
    assert (choice.dtype, choice.threads, choice.reason) == ("bfloat16", 1, "")
    assert not measured


@pytest.mark.parametrize("rows", [1, 64])
def test_the_threads_for_answering_are_timed_without_gradients(measured, rows):
    use_fastest_threads(SIZES["gpt2-tiny"], rows, CPU)
    assert {(job, threads) for job, threads, _, _ in measured} == {("answer", 1), ("answer", 2)}
    assert torch.get_num_threads() in (1, 2)


def test_building_a_slice_changes_no_random_stream():
    before = torch.get_rng_state()
    ModelSlice(GPTConfig(**MODEL_SIZES["gpt2-tiny"], drop_rate=0.5), 64, 20, CPU).step("float32")
    assert torch.equal(torch.get_rng_state(), before)
