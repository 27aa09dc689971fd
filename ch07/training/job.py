"""Options -> everything that training needs: a plan that fits this machine, and a model.

The one idea: what costs most comes last. The plan is made and reckoned first, and only then are
weights loaded, or downloaded.
"""

from dataclasses import asdict, dataclass, replace

import torch

from ch07.data.entries import count
from ch07.data.tokenizer import load_tokenizer
from ch07.models import resource_estimate as est
from ch07.models.adapters import add_adapter, base_model
from ch07.models.pretrained import find_weights
from ch07.runs.run_lock import check_disk_space
from ch07.training.cost_estimate import estimate_costs, too_large
from ch07.training.optimizers import choose_optimizer
from ch07.training.run_plan import build_plan
from ch07.utils import distributed
from ch07.utils.device import versions
from ch07.utils.malloc_tuning import keep_freed_memory, limit_kernel_cache
from gpt_model import GPTModel
from instruction_dataset import PromptStyle
from train_loop import TrainSettings, calc_loss_batch


def describe_run(options, job):
    """What config.json holds: options, model shape, prompt style with its text, data, versions."""
    settings = {name: v for name, v in asdict(job.settings).items() if not callable(v)}
    return {
        "options": asdict(options),
        "model": asdict(base_model(job.model).config),
        "prompt_style": asdict(job.style),
        "settings": settings,
        "facts": job.facts,
    }


@dataclass(frozen=True)
class Job:
    """A run that is ready to start."""

    style: PromptStyle
    splits: dict  # "train", "test", "validation" -> entries
    train_loader: object
    val_loader: object
    model: torch.nn.Module  # a `GPTModel`, with its adapter if it has one
    trained: torch.nn.Module  # the same model, as several processes train it together
    device: torch.device
    optimizer: object
    settings: TrainSettings
    place_of: callable  # of a training row, by its number: "row 3" of the data file
    facts: dict  # what config.json records beside options, model and style


def build_job(options, tell, new=True):
    """Make the `Job`; DataError or ValueError says what is wrong. `tell(text)` hears the rest."""
    if not options.shard:  # parts are joined and let go for every block: kept, they add up
        keep_freed_memory()
    limit_kernel_cache()
    plan = build_plan(options, tell)
    _check_cost(options, plan, tell, new)
    model, start_sha256 = _make_model(options, plan.config, plan.source)
    model = add_adapter(model, options).to(plan.device)
    return Job(
        style=plan.style,
        splits={name: dataset.data for name, dataset in plan.datasets.items()},
        train_loader=plan.train_loader,
        val_loader=plan.val_loader,
        model=model,
        trained=model,
        device=plan.device,
        optimizer=_optimizer(options, model),
        settings=plan.settings,
        place_of=plan.place_of,
        facts=_facts(plan, start_sha256),
    )


def distribute_job(job, options, tell):
    """The `Job` compiled if asked, and spread over the ranks that torchrun started, if it did."""
    if options.shard and distributed.get_world_size() == 1:
        tell("--shard is for several processes, under torchrun: here it does nothing")
    if options.compile and distributed.get_world_size() == 1:
        return replace(job, trained=_compiled(job, tell))
    if options.compile:
        tell("--compile is for one process: here it does nothing")
    trained = distributed.distribute_model(job.model, options.shard)
    if not distributed.is_sharded(trained):
        return replace(job, trained=trained)
    return replace(job, trained=trained, optimizer=_optimizer(options, trained))


def _compiled(job, tell):
    """The model by `torch.compile`, for batches of any shape; where that fails, as it is."""
    ids = torch.zeros(2, 8, dtype=torch.long)
    try:
        compiled = torch.compile(job.model, dynamic=True)
        calc_loss_batch(ids, ids, compiled, job.device, dtype=job.settings.dtype).backward()
    except Exception as error:  # whatever a compiler raises, or the lack of one
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        tell(f"torch.compile doesn't work here ({why}), so the run goes on without it")
        compiled = job.model
    job.model.zero_grad(set_to_none=True)
    return compiled


def gather_job(job):
    """The `Job` with a model that is whole on every rank."""
    if not distributed.is_sharded(job.model):
        return replace(job, trained=job.model)
    model = GPTModel(job.model.config).to(job.device)
    weights = dict(model.named_parameters())
    for name, part in job.model.named_parameters():  # one at a time: two models may not fit
        weights[name].data.copy_(distributed.gather_full_weight(part))
    return replace(job, model=model, trained=model, optimizer=None)


def _optimizer(options, model):
    name = options.chosen_optimizer
    return choose_optimizer(name, model, options.lr, options.weight_decay)


def _facts(plan, start_sha256):
    """What made the run beside its options."""
    return {
        "data_sha256": plan.file.sha256,
        "start_sha256": start_sha256,
        "rows": {name: len(dataset) for name, dataset in plan.datasets.items()},
        "findings": plan.said,
        "tokenizer": load_tokenizer().name,
        "versions": versions(plan.device),
    }


# --- what it will cost --------------------------------------------------------------------------
def _check_cost(options, plan, tell, new):
    """Tell memory and time; TooLarge or RunFolderError if a run can't fit and nobody insists."""
    costs = estimate_costs(plan, options)
    tell(
        f"estimate: {est.as_time(costs.seconds)} for {count(costs.steps, 'step')} of training, "
        f"{est.as_bytes(costs.needed)} of memory ({est.as_bytes(costs.free)} are free)"
    )
    if costs.needed > costs.free and not options.force:
        raise est.TooLarge(too_large(options, plan, costs))
    if new and not options.force:
        check_disk_space(options.out, est.count_parameters(plan.config)[0])


# --- the model ----------------------------------------------------------------------------------
def _make_model(options, config, source):
    """A GPTModel that can be trained, and the hash of the weights it starts from (or None)."""
    if options.from_random:
        return GPTModel(config, torch.Generator().manual_seed(options.seed)), None
    source = source or find_weights(options.model)
    return source.load(), source.sha256()
