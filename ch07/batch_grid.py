"""Entries -> the token grid of the batch that they make: where prompts, batches and grids meet.

The one idea: the batch comes from the loader that training uses, and the loss from the model
that was trained, so the grid can't tell another story than the training did.
"""

import torch
import torch.nn.functional as F

from ch07.batching import make_loader
from ch07.prompts import token_roles
from ch07.token_grid import TokenGrid
from instruction_dataset import BOOK_STYLE, InstructionDataset
from train_loop import IGNORE_INDEX


def batch_grid(
    entries, tokenizer, style=BOOK_STYLE, loss_on="response", allowed_max_length=None, model=None
):
    """All entries as one batch, as a `TokenGrid`; with a model, each target's loss as well."""
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=loss_on != "all")
    ((inputs, targets),) = make_loader(dataset, len(dataset), loss_on, allowed_max_length)
    roles = [token_roles(entry, tokenizer, style) for entry in dataset.data]
    losses = None if model is None else token_losses(model, inputs, targets)
    return TokenGrid(inputs, targets, roles, tokenizer, losses)


@torch.no_grad()
def token_losses(model, inputs, targets):
    """Cross-entropy of each position, in nats: inputs and targets (B, T) -> losses (B, T).

    0 where the target is -100, on the model's device; the model's mode is left as it was.
    """
    device, training = next(model.parameters()).device, model.training
    inputs, targets = inputs.to(device), targets.to(device)
    counted = targets != IGNORE_INDEX
    model.eval()
    try:
        logits = model(inputs, wanted=counted)  # (N, V): the head is the widest layer
    finally:
        model.train(training)
    losses = torch.zeros(targets.shape, device=device)
    losses[counted] = F.cross_entropy(logits.float(), targets[counted], reduction="none")
    return losses
