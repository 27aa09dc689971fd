"""In bfloat16 a narrow model sees few sizes, so that compiled kernels are used again."""

from itertools import islice

import pytest
import torch

from ch07.config import FinetuneOptions
from ch07.training import repeated_shapes
from ch07.training.repeated_shapes import (
    KERNELS_OF_NARROW_MODELS,
    TARGETS,
    limit_kernels,
    pad_targets,
    should_round,
)
from ch07.training.run_plan import build_plan
from gpt_model import MODEL_SIZES

PRODUCTS_PER_LAYER_SHAPE = 3  # of a linear layer: forward, and the gradients of input and weight
LAYER_SHAPES = 3  # of a block: width to width, width to 4 widths, and back
BATCHES = 120  # of each of two epochs


class SizeRecorder(torch.nn.Module):
    """A model that notes how many tokens it reads and how many logits it is asked for."""

    def __init__(self):
        super().__init__()
        self.tokens = []
        self.targets = []

    def forward(self, token_ids, wanted, cache=None):
        self.tokens.append(token_ids.numel())
        self.targets.append(len(wanted[0]))
        return torch.zeros(len(wanted[0]), 1)  # nobody looks at them


def sizes_of_batches(dtype, loss_on="response"):
    options = FinetuneOptions(dtype=dtype, threads=1, loss_on=loss_on)
    plan = build_plan(options, lambda text: None)
    model = SizeRecorder()
    for epoch in (0, 1):
        plan.train_loader.batch_sampler.set_epoch(epoch)
        for batch in islice(plan.train_loader, BATCHES):
            plan.settings.batch_loss(*batch, model, "cpu", cross_entropy=lambda *_: 0)
    return model


@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_the_kernels_of_all_sizes_of_the_default_run_are_kept(loss_on):
    sizes = sizes_of_batches("bfloat16", loss_on)
    n_kernels = len(set(sizes.tokens)) * LAYER_SHAPES * PRODUCTS_PER_LAYER_SHAPE
    n_kernels += len(set(sizes.targets)) * PRODUCTS_PER_LAYER_SHAPE
    assert n_kernels < KERNELS_OF_NARROW_MODELS
    assert all(n % TARGETS == 0 for n in sizes.targets)


def test_rounding_adds_few_tokens_and_few_targets():
    exact = sizes_of_batches("float32")
    rounded = sizes_of_batches("bfloat16")
    assert len(set(rounded.targets)) < len(set(exact.targets)) / 4
    assert sum(rounded.tokens) < 1.03 * sum(exact.tokens)
    for tokens, more in zip(exact.tokens, rounded.tokens, strict=True):
        assert tokens <= more < 1.15 * tokens
    for targets, more in zip(exact.targets, rounded.targets, strict=True):
        assert targets <= more < targets + TARGETS


def test_only_narrow_models_in_bfloat16_on_a_cpu_are_rounded():
    """In float32 nothing is compiled, and a GPU's kernels take any size."""
    cpu = torch.device("cpu")
    rounded = [
        name for name, size in MODEL_SIZES.items() if should_round(cpu, "bfloat16", size["emb_dim"])
    ]
    assert rounded == ["gpt2-tiny"]
    assert not should_round(cpu, "float32", 128)
    assert not should_round(torch.device("cuda"), "bfloat16", 128)


def test_a_narrow_model_keeps_more_kernels(monkeypatch):
    kept = []
    monkeypatch.setattr(repeated_shapes, "limit_kernel_cache", kept.append)
    limit_kernels(128)
    limit_kernels(768)
    assert kept[0] > kept[1] > 0


@pytest.mark.parametrize("n", [0, 1, TARGETS - 1, TARGETS, TARGETS + 1])
def test_what_is_added_does_not_count(n):
    rows = torch.arange(n)
    times = torch.full((n,), 3)
    wanted, targets, padded_times = pad_targets((rows, rows + 1), rows + 2, times)
    length = len(targets)
    assert length % TARGETS == 0 and n <= length < n + TARGETS
    assert wanted[0][:n].equal(rows) and wanted[1][:n].equal(rows + 1)
    assert targets[:n].equal(rows + 2) and padded_times[:n].equal(times)
    assert not padded_times[n:].any()
