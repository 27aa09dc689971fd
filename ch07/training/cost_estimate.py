"""What a plan will need of this machine: memory and time, and what to do if there is too little.

The one idea: both follow from shapes alone. They are estimates, not promises.
"""

from dataclasses import dataclass

import torch

from ch07.config import FinetuneOptions
from ch07.models import resource_estimate as est
from ch07.models.adapters import add_adapter
from ch07.models.architectures import ModelConfig
from ch07.models.empty_model import empty_model
from ch07.training.batch_sizes import count_batch_sizes
from ch07.training.muon import count_operations
from ch07.training.run_plan import RunPlan
from ch07.utils import distributed
from ch07.utils.device import available_memory
from gpt_model import MODEL_SIZES, GPTConfig
from train_loop import sum_loss, total_steps


@dataclass(frozen=True)
class Costs:
    """What a run will need of each of its processes."""

    needed: float  # bytes
    free: float  # bytes
    steps: int
    seconds: float

    @property
    def fit(self) -> bool:
        """Whether enough memory is free."""
        return self.needed <= self.free


def estimate_costs(plan: RunPlan, options: FinetuneOptions) -> Costs:
    """The `Costs` of a plan: an estimate, not a promise."""
    settings = plan.settings
    batches = training_batches(plan, options)
    on_cpu = plan.device.type == "cpu"
    n_sharing_memory = distributed.local_world_size() if on_cpu else 1
    steps = total_steps(plan.train_loader, settings)
    seconds_per_batch = est.step_seconds(
        plan.config,
        batches,
        settings.dtype,
        plan.device,
        trained=count_trained_parameters(plan.config, options),
        muon_operations=_muon_operations(plan.config, options),
        n_steps=steps * settings.accumulation_steps,
    )
    return Costs(
        needed=_run_bytes(plan.config, batches, plan, options),
        free=available_memory(plan.device) / n_sharing_memory,
        steps=steps,
        seconds=steps * seconds_per_batch * settings.accumulation_steps,
    )


def _run_bytes(
    config: ModelConfig, batches: est.Batches, plan: RunPlan, options: FinetuneOptions
) -> float:
    """Peak memory of the run of a plan, if it had this model and these batches."""
    return est.run_bytes(
        config,
        batches,
        plan.settings.dtype,
        optimizer=options.chosen_optimizer,
        shards=distributed.get_world_size() if options.shard else 1,
        trained=count_trained_parameters(config, options),
    )


def count_trained_parameters(config: ModelConfig, options: FinetuneOptions) -> int | None:
    """How many parameters an adapter has; None if all of the model's are trained."""
    if options.method == "full":
        return None
    with torch.device("meta"):
        model = add_adapter(empty_model(config), options)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training_batches(plan: RunPlan, options: FinetuneOptions) -> est.Batches:
    """The sizes of an epoch's batches."""
    return count_batch_sizes(
        plan.rows.datasets["train"],
        plan.train_loader.batch_sampler or (),
        limit=plan.allowed_max_length,
        loss_on=options.loss_on,
        share_beginning=plan.settings.batch_loss is not sum_loss,
    )


def _muon_operations(config: ModelConfig, options: FinetuneOptions) -> int:
    """The operations of Muon's update of all matrices of the blocks; 0 for another optimizer."""
    if options.chosen_optimizer != "muon":
        return 0
    blocks = empty_model(config).trf_blocks
    return sum(count_operations(p.shape) for p in blocks.parameters() if p.ndim == 2)


def check_memory(options: FinetuneOptions, plan: RunPlan, costs: Costs) -> None:
    """TooLarge, which says what to do, if a run needs more memory than there is, unless forced."""
    if not costs.fit and not options.force:
        raise est.TooLarge(memory_advice(options, plan, costs))


def memory_advice(options: FinetuneOptions, plan: RunPlan, costs: Costs) -> str:
    """What to do about a run that needs more memory than there is, as a sentence."""
    batches = training_batches(plan, options)
    suggestions = []
    smaller_models = [
        name
        for name, size in MODEL_SIZES.items()
        if _run_bytes(GPTConfig(**size), batches, plan, options) <= costs.free
    ]
    if smaller_models and not options.text:  # `pretrain` has one size
        suggestions.append(f"--model {smaller_models[-1]}")
    row_by_row = batches.of_one_row(options.batch_size)  # type: ignore[arg-type]  # set by now
    if _run_bytes(plan.config, row_by_row, plan, options) <= costs.free:
        with_accumulation = "" if options.text else " (with --accumulation-steps)"
        suggestions.append(f"a smaller --batch-size{with_accumulation}")
    if suggestions:
        advice = f"choose {' or '.join(suggestions)}, or try it anyway with --force"
    else:
        advice = "nothing smaller fits; try it anyway with --force"
    return (
        f"{options.model} needs {est.format_bytes(costs.needed)} to be trained on this data, but "
        f"{est.format_bytes(costs.free)} are free: {advice}"
    )
