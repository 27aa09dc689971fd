"""Numbers that repeat: what must not change a bit of a run, and what only its rounding."""

import pytest
import torch

from ch07.data.dataloader import make_loader
from ch07.training.optimizers import choose_optimizer
from gpt_model import GPTModel
from instruction_dataset import InstructionDataset
from train_loop import TrainSettings, calc_loss_batch, make_optimizer, train_model, train_step

SHAPE = {"vocab_size": 50257, "context_length": 80, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
ROWS = [{"instruction": f"Say {i}.", "output": f"{i} " * (i % 5 + 1)} for i in range(24)]


@pytest.fixture(scope="module")
def dataset(tokenizer):
    return InstructionDataset(ROWS, tokenizer, with_prompt_length=True)


def trained(dataset, eval_freq=1000, workers=0, stop=None, optimizer="muon"):
    """(weights, records) of a run with dropout; one that stops is gone on with."""
    model = GPTModel(SHAPE | {"drop_rate": 0.2}, torch.Generator().manual_seed(3))
    loader = make_loader(dataset, 4, "response", seed=5, num_workers=workers)
    held_out = make_loader(dataset, 7, "response")
    chosen = choose_optimizer(optimizer, model, 1e-2, 0.1)
    settings = TrainSettings(num_epochs=2, eval_freq=eval_freq, warmup_steps=2)
    arguments = model, loader, held_out, chosen, "cpu", settings
    state = None
    if stop is not None:
        state = train_model(*arguments, on_step=lambda s: s.step == stop, progress=False)
        assert state.step == stop
    state = train_model(*arguments, state, progress=False)
    return list(model.parameters()), state.history


@pytest.fixture(scope="module")
def plain(dataset):
    return trained(dataset)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"eval_freq": 1},
        {"workers": 1},
        {"workers": 4},
        {"stop": 3},
        {"stop": 6},
        {"stop": 8, "workers": 1, "eval_freq": 2},
    ],
    ids=str,
)
def test_nothing_but_the_seed_changes_a_bit(dataset, plain, change):
    weights, history = trained(dataset, **change)
    assert all(torch.equal(a, b) for a, b in zip(weights, plain[0], strict=True))
    for name in ("train_loss", "val_loss", "tokens_seen", "lr"):
        assert history[-1][name] == plain[1][-1][name]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_eight_rows_are_eight_rows_however_they_come(dataset, size):
    """Six updates of AdamW from windows of 8 x 1, 4 x 2, 2 x 4: each loss as that of 1 x 8."""

    def losses(batch_size):
        model = GPTModel(SHAPE, torch.Generator().manual_seed(3))
        optimizer = make_optimizer(model.parameters())
        batches = list(make_loader(dataset, batch_size, "response"))
        n = 8 // batch_size
        windows = [batches[i : i + n] for i in range(0, len(batches), n)] * 2
        settings = TrainSettings()
        return [train_step(w, model, optimizer, "cpu", 1e-3, settings).item() for w in windows]

    # relative: at 10.8, where a loss begins, float32 has steps of 1e-6
    assert losses(size) == pytest.approx(losses(8), rel=1e-6)
    assert losses(size)[-1] < losses(size)[0]


def test_a_bfloat16_run_repeats_too(dataset):
    """Rounding is part of the number, not of the weather."""
    model = GPTModel(SHAPE, torch.Generator().manual_seed(3))
    batch = next(iter(make_loader(dataset, 24, "response")))
    first, again = (calc_loss_batch(*batch, model, "cpu", dtype="bfloat16") for _ in range(2))
    assert torch.equal(first, again)
