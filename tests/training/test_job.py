"""A job may be compiled: the same numbers, or a sentence and the model as it is."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch

from ch07.config import FinetuneOptions
from ch07.models.adapters import add_adapter
from ch07.training.job import build_job, distribute_job
from ch07.training.shared_beginning import sum_loss_with_shared_beginning
from train_loop import TrainSettings, calc_loss_batch, make_optimizer, train_step


@pytest.fixture
def job(number_data, tmp_path, small_model):
    """With a model so small that it compiles in seconds."""
    options = FinetuneOptions(data=str(number_data), out=str(tmp_path / "run"))
    job = build_job(options, lambda text: None)
    settings = replace(job.plan.settings, dtype="float32")
    return replace(job, model=small_model, plan=replace(job.plan, settings=settings))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_a_compiled_adapter_learns_the_same(job, small_model, monkeypatch, method):
    """And the weights beside it stay as they are."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    ids, losses = torch.randint(0, 97, (3, 21)), {}
    ids[:, :8] = ids[0, :8]  # a beginning to share
    short = {"prefix_length": 4} if method == "prefix" else {}
    options = FinetuneOptions(compile=True, method=method, model="gpt2-small", **short)
    batch_loss = partial(sum_loss_with_shared_beginning, prefix_length=options.prefix_columns)
    settings = replace(job.plan.settings, batch_loss=batch_loss)
    job = replace(job, plan=replace(job.plan, settings=settings))
    for compiles in (True, False):
        model = add_adapter(copy.deepcopy(small_model), options)
        frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
        asked = replace(job, model=model, trained_model=model)
        trained = distribute_job(asked, replace(options, compile=compiles), print).trained_model
        assert (trained is model) != compiles
        optimizer = make_optimizer(p for p in model.parameters() if p.requires_grad)
        losses[compiles] = [
            train_step([(ids, ids)], trained, optimizer, "cpu", 1e-2, settings).item()
            for _ in range(3)
        ]
        now = dict(model.named_parameters())
        assert frozen and all(now[name].equal(weight) for name, weight in frozen.items())
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert losses[True][-1] < losses[True][0]


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_computes_the_same(job, small_model, monkeypatch):
    said = []
    # the graph as it is, without the compiler's last part, which takes ten seconds here
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled = distribute_job(job, FinetuneOptions(compile=True), said.append).trained_model
    assert not said
    assert compiled is not small_model and all(p.grad is None for p in small_model.parameters())
    ids = torch.randint(0, 97, (3, 21))
    losses = [calc_loss_batch(ids, ids, model, "cpu") for model in (compiled, small_model)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    optimizer = make_optimizer(small_model.parameters())
    before = small_model.final_norm.weight.clone()
    train_step([(ids, ids)], compiled, optimizer, "cpu", 1e-2, TrainSettings())
    assert not before.equal(small_model.final_norm.weight)


def test_where_it_cannot_be_compiled_it_is_said(job, small_model, monkeypatch):
    class Uncompilable(torch.nn.Module):
        def __init__(self, model, dynamic):
            super().__init__()

        def forward(self, *arguments, **options):
            raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", Uncompilable)
    said = []
    assert (
        distribute_job(job, FinetuneOptions(compile=True), said.append).trained_model is small_model
    )
    assert said == ["torch.compile doesn't work here (no C++ compiler); training without it"]


def test_a_jobs_optimizer_and_batches_are_those_of_the_options(number_data):
    options = FinetuneOptions(
        data=str(number_data), threads=1, dtype="float32", beta2=0.98, chunk_batches=3
    )
    job = build_job(options, lambda text: None)
    adamw = [group for group in job.optimizer.param_groups if "betas" in group]
    assert {group["betas"] for group in adamw} == {(0.9, 0.98)}
    assert job.plan.train_loader.batch_sampler.chunk_batches == 3
