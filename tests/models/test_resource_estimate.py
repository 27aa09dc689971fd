"""Estimates of memory and time: they grow with the run, agree with measurements, and stop a run."""

import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from strangers import a_run

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data.dataloader import make_loader
from ch07.models import resource_estimate as est
from ch07.models.resource_estimate import Batches
from ch07.training import cost_estimate
from ch07.training.run_plan import build_plan
from ch07.utils.device import available_memory
from gpt_model import MODEL_SIZES, GPTConfig
from instruction_dataset import InstructionDataset

SIZES = {name: GPTConfig(**size) for name, size in MODEL_SIZES.items()}
ONE = Batches([800], [320])


def test_batches_are_counted_as_they_are_collated(entries, tokenizer):
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=True)
    for limit in (None, 30):
        loader = make_loader(dataset, 2, "response", limit, seed=1)
        counted = Batches.from_lengths(
            loader.batch_sampler, dataset.lengths, dataset.prompt_lengths, limit
        )
        real = list(loader)
        # a row is input and target for its end-of-text too, so a batch is one column wider here
        columns = [len(inputs) * (inputs.shape[1] + (limit is None)) for inputs, _ in real]
        triples = zip((x.numel() for x, _ in real), counted.tokens, columns, strict=True)
        assert all(low <= n <= high for low, n, high in triples)
        targets = [int((targets != -100).sum()) for _, targets in real]
        assert counted.targets == targets


@pytest.mark.parametrize("name", ["gpt2-tiny", "gpt2-small", "gpt2-xl"])
def test_parameters_are_counted_without_memory(name):
    n, blocks = est.count_parameters(SIZES[name])
    published = {"gpt2-tiny": 7_357_312, "gpt2-small": 124_439_808, "gpt2-xl": 1_557_611_200}
    assert n == published[name] and 0 < blocks < n


def test_more_costs_more():
    order = [est.training_bytes(config, ONE, "bfloat16") for config in SIZES.values()]
    assert order == sorted(order)
    times = [
        est.step_seconds(config, ONE, "float32", torch.device("cpu")) for config in SIZES.values()
    ]
    assert times == sorted(times)
    small = SIZES["gpt2-small"]
    assert est.training_bytes(small, Batches([800, 8000], [320, 320]), "float32") > order[1]
    assert est.training_bytes(small, ONE, "float32", optimizer="muon") < est.training_bytes(
        small, ONE, "float32"
    )
    assert est.answering_bytes(small) < est.answering_bytes(small, 64) < order[2] * 2


@pytest.mark.parametrize(
    ("name", "dtype", "batches", "measured"),
    [  # peak memory in MB of four training steps, base of the process left out
        ("gpt2-tiny", "bfloat16", Batches([2400], [720]), 832),
        ("gpt2-small", "bfloat16", Batches([800], [320]), 2833),
        ("gpt2-small", "float32", Batches([800], [320]), 2799),
        ("gpt2-small", "bfloat16", Batches([3200], [1280]), 4610),
        ("gpt2-medium", "bfloat16", Batches([800], [320]), 7071),
    ],
)
def test_the_estimate_of_memory_agrees_with_measurements(name, dtype, batches, measured):
    estimate = est.training_bytes(SIZES[name], batches, dtype) - est.PROCESS_BYTES
    assert 0.9 < estimate / (measured * 2**20) < 1.12


def test_a_run_prints_its_estimate_and_is_refused_if_it_cannot_fit(
    number_data, tmp_path, monkeypatch, capsys
):
    arguments = ["finetune", "--data", str(number_data), "--max-steps", "1"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().err
    assert re.search(
        r"estimate: about (a|\d+) seconds? for 1 step of training, 0\.\d GB of mem", printed
    )
    monkeypatch.setattr(cost_estimate, "available_memory", lambda device: 3.5e9)
    assert main([*arguments, "--model", "gpt2-xl", "--out", str(tmp_path / "b")]) == 1
    error = capsys.readouterr().err
    assert re.search(r"gpt2-xl needs \d\d GB .* 3.5 GB are free: choose --model gpt2-small", error)
    assert "--force" in error and not (tmp_path / "b").exists()
    monkeypatch.setattr(cost_estimate, "available_memory", lambda device: 1e6)
    assert main([*arguments, "--out", str(tmp_path / "c")]) == 1
    error = capsys.readouterr().err
    assert "nothing smaller fits; try it anyway with --force" in error
    assert main([*arguments, "--out", str(tmp_path / "c"), "--force"]) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_time_is_operations_and_bytes_at_the_speeds_measured_here(monkeypatch, dtype):
    """Six operations per weight and token; with an adapter, four, and only its own update."""
    config = SIZES["gpt2-small"]
    n, in_blocks = est.count_parameters(config)
    share = est.SHARE_OF_SLICE_SPEED[dtype]
    monkeypatch.setattr(est, "slice_speed", lambda *what: 1e9)
    monkeypatch.setattr(est, "adding_speed", lambda device: 1e9)
    told = partial(est.step_seconds, config, ONE, dtype, torch.device("cpu"))
    products = in_blocks * 800 + 768 * 50257 * 320
    logits = est.SOFTMAX_BYTES * 50257 * 320 / 1e9
    update = est.UPDATE_BYTES / 1e9
    assert told() == pytest.approx(6 * products / share / 1e9 + logits + update * n)
    adapter = told(trained=1000)
    assert adapter == pytest.approx(4 * products / share / 1e9 + logits + update * 1000)
    assert told(muon_operations=9e9) - told() == pytest.approx(9 / share)


def test_a_pause_of_one_measurement_says_nothing(monkeypatch):
    durations = iter([0.5, 0.1, 7.0, 0.1, 0.1, 0.1])
    now = [0.0]
    monkeypatch.setattr(est.time, "perf_counter", lambda: now[0])

    def job():
        now[0] += next(durations)

    assert est._seconds(job) == pytest.approx(0.1)


def test_defaults_depend_on_the_initial_weights():
    random, trained = FinetuneOptions(), FinetuneOptions(model="gpt2-medium")
    assert (random.epochs, random.batch_size, random.lr) == (6, 48, 2.5e-3)
    assert (trained.epochs, trained.batch_size, trained.lr) == (2, 8, 5e-5)
    assert FinetuneOptions(model="gpt2-medium", lr=1e-3).lr == 1e-3
    assert (random.chosen_optimizer, trained.chosen_optimizer) == ("muon", "adamw")


def test_large_models_generate_fewer_answers_at_once():
    at_once = [est.answers_at_once(config, 400) for config in SIZES.values()]
    assert at_once == sorted(at_once, reverse=True) and at_once[:2] == [64, 64] and at_once[-1] > 1
    for config, n in zip(SIZES.values(), at_once, strict=True):
        assert n * est.cache_bytes(config, 400) <= est.MAX_CACHE_BYTES
    assert est.cache_bytes(SIZES["gpt2-xl"], 10**6) == est.cache_bytes(SIZES["gpt2-xl"], 1024)


def test_a_run_also_needs_memory_for_its_answers():
    long = Batches([100], [40], longest=1024)
    small = SIZES["gpt2-small"]
    assert est.run_bytes(small, long, "float32") > est.training_bytes(small, long, "float32")
    assert est.run_bytes(small, ONE, "float32") >= est.training_bytes(small, ONE, "float32")


def test_free_memory_is_a_plausible_number():
    assert 2**26 < available_memory(torch.device("cpu")) < 2**46


def test_the_cache_has_the_estimated_size(small_model):
    cache = small_model.new_cache(20)
    small_model(torch.arange(20)[None], cache=cache)
    real = sum(t.numel() * t.element_size() for layer in cache._layers for t in layer)
    assert real == est.cache_bytes(small_model.config, 20)


def test_a_process_that_gets_no_row_is_not_an_error():
    """Of several, where a batch has fewer rows than there are processes."""
    batches = Batches.from_lengths([[], []], [5], [2])
    assert (batches.tokens, batches.targets, batches.longest) == ([1], [0], 5)


def test_the_advice_is_for_the_method_that_was_chosen(number_data, tmp_path):
    """A LoRA needs less than full training: a smaller batch of it may fit where that doesn't."""
    a_run(tmp_path / "run")
    options = FinetuneOptions(
        data=str(number_data), model=str(tmp_path / "run"), method="lora", force=True, batch_size=64
    )
    plan = build_plan(options, lambda text: None)
    batches = cost_estimate.training_batches(plan, options)
    row_by_row = batches.of_one_row(64)
    lora = cost_estimate._run_bytes(plan.config, row_by_row, plan, options)
    full = cost_estimate._run_bytes(plan.config, row_by_row, plan, replace(options, method="full"))
    assert lora < full
    costs = replace(cost_estimate.estimate_costs(plan, options), free=lora + 1)
    assert "a smaller --batch-size" in cost_estimate.memory_advice(options, plan, costs)
