"""A checkpoint to resume from is a place in this run: its counters agree with the run's batches."""

import pytest
from strangers import SHAPE

from ch07.runs.checkpoint import save_checkpoint
from ch07.runs.run_folder import CHECKPOINT
from ch07.training.resume import restore_checkpoint
from ch07.utils.errors import RunFolderError
from gpt_model import GPTModel
from train_loop import TrainSettings, TrainState, make_optimizer

RECORD = {
    "step": 0, "epoch": 0.0, "tokens_seen": 0, "lr": 0.0, "seconds": 0.0,
    "train_loss": 3.0, "val_loss": None,
}  # fmt: skip
BATCHES = [None] * 5  # of an epoch; with two to a step that is three steps


def restored(folder, config=None, **state):
    """What comes of a checkpoint with this state, before its first update."""
    model = GPTModel({**SHAPE, "vocab_size": 7})
    optimizer = make_optimizer(model.parameters())
    state = {"skipped": state.get("step", 0), "history": [RECORD], **state}
    save_checkpoint(folder / CHECKPOINT, model, optimizer, TrainState(**state))
    return restore_checkpoint(
        folder,
        config or {},
        model,
        optimizer,
        train_loader=BATCHES,
        settings=TrainSettings(num_epochs=2, accumulation_steps=2),
        report=lambda text: None,
    )


@pytest.mark.parametrize(
    ("epoch", "batch", "step"),
    [(0, 0, 0), (0, 2, 1), (0, 4, 2), (0, 5, 3), (1, 0, 3), (1, 2, 4), (1, 5, 6), (2, 0, 6)],
)
def test_a_place_in_the_run(tmp_path, epoch, batch, step):
    state = restored(tmp_path, epoch=epoch, batch=batch, step=step)
    assert (state.epoch, state.batch, state.step) == (epoch, batch, step)


@pytest.mark.parametrize(
    ("epoch", "batch", "step"),
    [(0, 0, 1), (1, 0, 2), (1, 0, 4), (0, 6, 3), (0, 12, 6), (2, 2, 7), (5, 0, 15), (0, 10**9, 6)],
)
def test_no_place_in_the_run(tmp_path, epoch, batch, step):
    with pytest.raises(RunFolderError, match="start a new run"):
        restored(tmp_path, epoch=epoch, batch=batch, step=step)


def test_tokens_are_counted_but_for_pairs(tmp_path):
    history = [{**RECORD, "tokens_seen": None}]
    restored(tmp_path / "pairs", {"preference": {}}, history=history)
    with pytest.raises(RunFolderError, match="tokens_seen is missing"):
        restored(tmp_path / "rows", history=history)
