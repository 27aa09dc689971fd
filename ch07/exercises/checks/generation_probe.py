"""What exercise 12 is checked with: a model that can be watched, and prompts to answer."""

import contextlib
import copy
import numbers

import torch

from ch07.exercises.checks.collate_common import kind
from ch07.exercises.report import call_function, expect
from gpt_model import GPTConfig, GPTModel

CONFIG = GPTConfig(vocab_size=97, context_length=24, emb_dim=24, n_heads=3, n_layers=2)
PROMPTS = [[5, 17, 3, 80, 41, 9, 60], [12], [33, 34, 35, 36]]
NEW = 6


def make_model(drop_rate=0.0):
    """Random weights far from the initial ones, so that each position says something else."""
    stream = torch.Generator().manual_seed(3)
    model = GPTModel(GPTConfig(**{**vars(CONFIG), "drop_rate": drop_rate}), stream)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.4 * torch.randn(weight.shape, generator=stream))
    return model


@contextlib.contextmanager
def watched(model):
    """Notes what the model is given, its mode, and whether gradients are recorded."""
    seen = []

    def note(module, given):
        seen.append((given[0] if given else None, module.training, torch.is_grad_enabled()))

    handle = model.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def called(function, model, prompts, n=NEW, case="", **options):
    """The answers as lists, or a `Mistake` that says why they can't be that."""
    mine = copy.deepcopy(prompts)
    result = call_function(function, model, mine, n, case=case, **options)
    expect(
        mine == prompts,
        "batch-mutated",
        "The new ids were appended to the caller's prompts: work on a copy.",
    )
    expect(
        isinstance(result, tuple | list) and len(result) == len(prompts),
        "no-lists",
        f"Expected {len(prompts)} lists of new ids, got {kind(result)}.",
    )
    rows = [row.tolist() if isinstance(row, torch.Tensor) else row for row in result]
    expect(
        all(
            isinstance(row, list) and all(isinstance(i, numbers.Integral) for i in row)
            for row in rows
        ),
        "no-lists",
        f"Each answer is a list of whole numbers, but here is {kind(next(iter(rows), None))}.",
    )
    return rows


def answers_table(result, expected):
    """What came back, and what should have."""
    lines = []
    for mine, right in zip(result, expected, strict=True):
        lines += [f"returned {mine[:20]}", f"expected {right[:20]}"]
    return "\n".join(lines)
