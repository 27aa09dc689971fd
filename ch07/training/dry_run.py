"""Train once on the longest batch, to find out before the run what an estimate can't know.

The one idea: if the largest batch gets through forward, backward and update, all others will.
Weights on this disk are used; those that must be downloaded are random here, since neither memory
nor time depends on their values.
"""

import time
from dataclasses import dataclass

import psutil
import torch

from ch07.config import FinetuneOptions
from ch07.data.dataloader import Batch
from ch07.models.architectures import make_model
from ch07.training.cost_estimate import training_batches
from ch07.training.job import model_to_train
from ch07.training.optimizers import choose_optimizer
from ch07.training.run_plan import RunPlan
from ch07.utils.malloc_tuning import keep_freed_memory
from train_loop import calc_loss_batch, train_step

MAX_STEP_SECONDS = 4.0  # that a step may be expected to take
# A slower step isn't repeated, although the first one also allocates memory.
MAX_REPEATED_STEP_SECONDS = 2.0
ROWS_COMPARED = 4  # enough rows to see whether a device computes what the CPU computes
# Relative difference of a loss: bfloat16 has 8 bits; other devices add float32 in other orders.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class DryRun:
    """What one training step on the longest batch took, and the loss on device and CPU."""

    rows: int
    tokens: int  # of each row, including padding
    seconds: float
    peak_bytes: int  # of this process
    loss: float  # of a few rows, on the device and in the number format of training
    loss_on_cpu: float  # of the same rows, in float32
    tolerance: float = TOLERANCE["float32"]  # relative

    @property
    def agrees(self) -> bool:
        """Whether the device computes what the CPU computes, as far as the format allows."""
        return abs(self.loss - self.loss_on_cpu) <= self.tolerance * abs(self.loss_on_cpu)


def dry_run(plan: RunPlan, options: FinetuneOptions) -> DryRun:
    """The `DryRun` of a plan; RuntimeError if the device or its memory fails,
    FloatingPointError if it computes no finite number."""
    keep_freed_memory()
    generator = torch.Generator().manual_seed(options.seed)
    model = make_model(plan.config, generator) if plan.source is None else plan.source.load()
    model = model_to_train(model, options, plan)
    inputs, targets = longest_batch(plan, options)
    few = (inputs[:ROWS_COMPARED], targets[:ROWS_COMPARED])
    settings = plan.settings
    with torch.no_grad():
        loss_on_cpu = calc_loss_batch(*few, model.eval(), "cpu").item()
        model = model.to(plan.device)
        loss = calc_loss_batch(
            *few,
            model,
            plan.device,
            dtype=settings.dtype,
            ignore_index=settings.ignore_index,
        ).item()
    model.train()
    optimizer = choose_optimizer(
        options.chosen_optimizer,
        model,
        settings.peak_lr,
        options.weight_decay,
        settings.dtype,
        options.beta2,
    )
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        loss_of_step = train_step(
            [(inputs, targets)], model, optimizer, plan.device, 1e-9, settings
        )
        if loss_of_step is not None:
            loss_of_step.item()  # a GPU has finished when its number is read
        seconds = time.perf_counter() - started
        if seconds > MAX_REPEATED_STEP_SECONDS:
            break
    return DryRun(
        rows=len(inputs),
        tokens=inputs.shape[1],
        seconds=seconds,
        peak_bytes=_peak_bytes(plan.device),
        loss=loss,
        loss_on_cpu=loss_on_cpu,
        tolerance=TOLERANCE[settings.dtype],
    )


def longest_batch(plan: RunPlan, options: FinetuneOptions) -> Batch:
    """(inputs, targets) of the batch with the most positions, as the loader makes it."""
    sizes = training_batches(plan, options).tokens
    longest = sizes.index(max(sizes))
    loader = plan.train_loader
    rows = list(loader.batch_sampler or ())[longest]
    dataset = plan.rows.datasets["train"]
    return loader.collate_fn([dataset[i] for i in rows])  # type: ignore[return-value]


def _peak_bytes(device: torch.device) -> int:
    """Of the GPU; else of this process, which keeps what it freed (`keep_freed_memory`)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
