"""AdamW or Muon: every weight in one optimizer, both learn, both come back from disk."""

import pytest
import torch

from ch07.runs.checkpoint import load_checkpoint, save_checkpoint
from ch07.training.optimizers import choose_optimizer
from gpt_model import GPTModel
from train_loop import TrainSettings, TrainState, train_step

CONFIG = {"vocab_size": 30, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
IDS = torch.arange(12)[None]
BATCH = [(IDS, IDS + 1)]


def made(name, seed=0, **options):
    model = GPTModel(CONFIG, torch.Generator().manual_seed(seed))
    return model, choose_optimizer(name, model, 1e-2, 0.1, **options)


def step(model, optimizer, n=1):
    return [
        train_step(BATCH, model, optimizer, "cpu", 1e-2, TrainSettings()).item() for _ in range(n)
    ]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_weight_has_one_optimizer_and_learns(name):
    model, optimizer = made(name)
    owned = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(map(id, model.parameters()))
    before = [p.clone() for p in model.parameters()]
    losses = step(model, optimizer, 20)
    assert losses[-1] < losses[0] / 2
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_muon_gets_the_matrices_of_the_blocks_and_nothing_else():
    model, optimizer = made("muon")
    adamw, muon = optimizer.parts
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(p.ndim == 2 for p in muon.param_groups[0]["params"])
    assert {names[id(p)].split(".")[0] for p in muon.param_groups[0]["params"]} == {"trf_blocks"}
    decayed = {names[id(p)] for p in adamw.param_groups[0]["params"]}
    assert decayed == {"tok_emb.weight", "pos_emb.weight"}


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize(
    ("given", "expected"), [({}, 0.95), ({"beta2": 0.99}, 0.99), ({"beta2": 0}, 0.0)]
)
def test_beta2_is_adamws(name, given, expected):
    _, optimizer = made(name, **given)
    groups = [group for group in optimizer.param_groups if "betas" in group]  # Muon has none
    assert groups and all(group["betas"] == (0.9, expected) for group in groups)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_resumed_equals_uninterrupted(name, tmp_path):
    whole = made(name)
    step(*whole, 6)
    first = made(name)
    step(*first, 3)
    save_checkpoint(tmp_path, *first, TrainState(step=3))
    second = made(name, seed=1)
    step(*second, 1)
    load_checkpoint(tmp_path, *second)
    step(*second, 3)
    for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_resumed_optimizer_follows_the_learning_rate(name, tmp_path):
    """Loading gives an optimizer new groups; those are the ones whose rate has to be set."""
    save_checkpoint(tmp_path, *made(name), TrainState(step=0))
    model, optimizer = made(name, seed=1)
    load_checkpoint(tmp_path, model, optimizer)
    train_step(BATCH, model, optimizer, "cpu", 0.125, TrainSettings())
    parts = getattr(optimizer, "parts", [optimizer])
    assert {group["lr"] for part in parts for group in part.param_groups} == {0.125}


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="no optimizer 'sgd'; choose one of adamw, muon"):
        made("sgd")
