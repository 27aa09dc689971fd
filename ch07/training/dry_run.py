"""The longest batch, trained on once: what an estimate can't know is seen before the run.

The one idea: if the batch that holds most goes through forward, backward and update, all others
will. Weights that lie on the disk are used; those that must be fetched are random here, since
neither memory nor time depend on what they are.
"""

import time
from dataclasses import dataclass

import psutil
import torch

from ch07.models.adapters import add_adapter
from ch07.training.cost_estimate import training_batches
from ch07.training.optimizers import choose_optimizer
from ch07.utils.malloc_tuning import keep_freed_memory, limit_kernel_cache
from gpt_model import GPTModel
from train_loop import calc_loss_batch, train_step

PATIENCE = 4.0  # seconds that a step may be expected to take
SLOW = 2.0  # seconds: a step that took longer isn't done again, although the first also allocates
FEW = 4  # rows that are enough to see whether a device computes as the CPU does
# Relative difference of a loss; bfloat16 has 8 bits, float32 on other devices other sums.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class DryRun:
    """What one training step on the longest batch took, and the loss in both ways."""

    rows: int
    tokens: int  # of each row, padding included
    seconds: float
    peak_bytes: int  # of this process
    loss: float  # of a few rows, on the device and in the format of training
    loss_on_cpu: float  # of the same rows, in float32
    tolerance: float = TOLERANCE["float32"]  # relative

    @property
    def agrees(self):
        """Whether the device computes what the CPU computes, as far as its format allows."""
        return abs(self.loss - self.loss_on_cpu) <= self.tolerance * abs(self.loss_on_cpu)


def dry_run(plan, options):
    """The `DryRun` of a plan; RuntimeError where the device or its memory fails."""
    keep_freed_memory()
    limit_kernel_cache()
    stream = torch.Generator().manual_seed(options.seed)
    model = GPTModel(plan.config, stream) if plan.source is None else plan.source.load()
    model = add_adapter(model, options)
    inputs, targets = longest_batch(plan, options)
    few = inputs[:FEW], targets[:FEW]
    kinds = {"dtype": plan.settings.dtype, "ignore_index": plan.settings.ignore_index}
    with torch.no_grad():
        loss_on_cpu = calc_loss_batch(*few, model.eval(), "cpu").item()
        model = model.to(plan.device)
        loss = calc_loss_batch(*few, model, plan.device, **kinds).item()
    optimizer = choose_optimizer(options.chosen_optimizer, model, options.lr, options.weight_decay)
    for _ in range(2):
        started = time.perf_counter()
        window = [(inputs, targets)]
        step = train_step(window, model.train(), optimizer, plan.device, 1e-9, plan.settings)
        step.item()  # a GPU has finished when its number is read
        seconds = time.perf_counter() - started
        if seconds > SLOW:
            break
    return DryRun(
        rows=len(inputs),
        tokens=inputs.shape[1],
        seconds=seconds,
        peak_bytes=_peak_bytes(plan.device),
        loss=loss,
        loss_on_cpu=loss_on_cpu,
        tolerance=TOLERANCE[plan.settings.dtype],
    )


def longest_batch(plan, options):
    """(inputs, targets) of the batch with the most positions, as the loader makes it."""
    tokens = training_batches(plan, options).tokens
    rows = list(plan.train_loader.batch_sampler)[tokens.index(max(tokens))]
    dataset = plan.datasets["train"]
    return plan.train_loader.collate_fn([dataset[i] for i in rows])


def _peak_bytes(device):
    """Of the GPU; else of this process, which keeps what it freed (`keep_freed_memory`)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
