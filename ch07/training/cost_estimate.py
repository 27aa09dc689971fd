"""What a plan will need of this machine: memory and time, and what to do if there is too little.

The one idea: shapes are enough to know. Estimates, not promises.
"""

from dataclasses import dataclass

import torch

from ch07.models import resource_estimate as est
from ch07.models.adapters import add_adapter
from ch07.utils import distributed
from ch07.utils.device import available_memory
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import total_steps


@dataclass(frozen=True)
class Costs:
    """What a run will need, of each of its processes: bytes, and seconds for so many steps."""

    needed: float
    free: float
    steps: int
    seconds: float


def estimate_costs(plan, options):
    """The `Costs` of a plan: an estimate, not a promise."""
    dtype, loader = plan.settings.dtype, plan.train_loader
    batches = training_batches(plan, options)
    steps = total_steps(loader, plan.settings)
    trained = count_trained_parameters(plan.config, options)
    step = est.step_seconds(plan.config, batches, dtype, plan.device, frozen=trained is not None)
    shared = distributed.local_world_size() if plan.device.type == "cpu" else 1
    shards = distributed.get_world_size() if options.shard else 1
    kinds = {"optimizer": options.chosen_optimizer, "shards": shards, "trained": trained}
    return Costs(
        needed=est.run_bytes(plan.config, batches, dtype, **kinds),
        free=available_memory(plan.device) / shared,
        steps=steps,
        seconds=steps * step * plan.settings.accumulation_steps,
    )


def count_trained_parameters(config, options):
    """How many parameters an adapter has; None where all of the model's are trained."""
    if options.method == "full":
        return None
    with torch.device("meta"):
        model = add_adapter(GPTModel(config), options)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training_batches(plan, options):
    """What the batches of an epoch hold, as `estimate.Batches`."""
    dataset = plan.datasets["train"]
    prompts = dataset.prompt_lengths if options.loss_on == "response" else [0] * len(dataset)
    return est.Batches.from_lengths(
        plan.train_loader.batch_sampler, dataset.lengths, prompts, plan.limit
    )


def too_large(options, plan, costs):
    """What to do about a run that needs more memory than there is, as a sentence."""
    batches, dtype = training_batches(plan, options), plan.settings.dtype

    def fits(config, batches, optimizer="adamw"):
        return est.run_bytes(config, batches, dtype, optimizer=optimizer) <= costs.free

    smaller = [name for name, size in MODEL_SIZES.items() if fits(GPTConfig(**size), batches)]
    ways = [f"--model {smaller[-1]}"] if smaller else []
    if fits(plan.config, batches.of_one_row(options.batch_size), options.chosen_optimizer):
        ways.append("a smaller --batch-size (with --accumulation-steps)")
    return (
        f"{options.model} needs {est.as_bytes(costs.needed)} to be trained on this data, but "
        f"{est.as_bytes(costs.free)} are free: "
        + (f"choose {' or '.join(ways)}, or " if ways else "nothing smaller fits; ")
        + "try it all the same with --force"
    )
