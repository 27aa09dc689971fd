"""Options -> everything that training needs: a plan that fits this machine, and a model.

The one idea: what costs most comes last. The plan and its cost are worked out first, and only then
are weights loaded, or downloaded.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from ch07.config import FinetuneOptions
from ch07.models import resource_estimate as est
from ch07.models.adapters import LanguageModel, add_adapter, base_model
from ch07.models.architectures import BaseModel, ModelConfig, describe_shape, make_model
from ch07.models.pretrained import find_weights
from ch07.models.residual_dropout import set_residual_dropout
from ch07.models.resize_embeddings import smart_embedding_resize
from ch07.runs.new_run_folder import check_disk_space
from ch07.training.cost_estimate import check_memory, estimate_costs
from ch07.training.optimizers import choose_optimizer
from ch07.training.run_plan import RunPlan, build_plan
from ch07.utils import distributed
from ch07.utils.console import count
from ch07.utils.device import versions
from ch07.utils.malloc_tuning import keep_freed_memory
from instruction_dataset import PromptStyle
from train_loop import TrainSettings

Report = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A run that is ready to start."""

    plan: RunPlan
    model: LanguageModel  # with its adapter if it has one
    trained_model: nn.Module  # the same model, compiled or spread over processes
    optimizer: torch.optim.Optimizer | None  # None: training has finished
    start_sha256: str | None  # of the weights that training starts from; None: random

    @property
    def facts(self) -> dict[str, Any]:
        """What made the run besides its options, for config.json."""
        conversations = self.plan.rows.conversations
        return {
            **({} if conversations is None else {"conversations": conversations}),
            "data_sha256": self.plan.rows.file.sha256,
            "start_sha256": self.start_sha256,
            "rows": {name: len(dataset) for name, dataset in self.plan.rows.datasets.items()},
            "findings": self.plan.log.lines,
            "tokenizer": self.plan.tokenizer.name,
            "versions": versions(self.plan.device),
        }


def build_job(options: FinetuneOptions, report: Report, new: bool = True) -> Job:
    """Make the `Job`; DataError or ValueError says what is wrong.

    `report(text)` shows the reader the rest. Disk space is checked only for a `new` run.
    """
    if not options.shard:  # with --shard, the freed weights of gathered blocks would add up
        keep_freed_memory()
    plan = build_plan(options, report)
    _check_cost(options, plan, report, new)
    model, start_sha256 = _make_model(options, plan)
    model = model_to_train(model, options, plan).to(plan.device)
    return Job(
        plan=plan,
        model=model,
        trained_model=model,
        optimizer=_make_optimizer(options, plan, model),
        start_sha256=start_sha256,
    )


def describe_job(options: FinetuneOptions, job: Job) -> dict[str, Any]:
    """What config.json contains for a job."""
    return describe_run(
        options,
        # from the loaded weights: a published size may differ from the plan, say in dropout
        model_config=base_model(job.model).config,  # type: ignore[arg-type]
        style=job.plan.style,
        settings=job.plan.settings,
        facts=job.facts,
    )


def describe_run(
    options: Any,
    *,
    model_config: ModelConfig,
    style: PromptStyle,
    settings: TrainSettings,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """What config.json contains: options, model shape, prompt style with its text, data, versions.

    `options` is the dataclass of a command's options.
    """
    values = {name: value for name, value in asdict(settings).items() if not callable(value)}
    return {
        "options": asdict(options),
        "model": describe_shape(model_config),
        "prompt_style": asdict(style),
        "settings": values,
        "facts": facts,
    }


# --- several processes, or a compiler -------------------------------------------------------------
def distribute_job(job: Job, options: FinetuneOptions, report: Report) -> Job:
    """The `Job` compiled if asked, and spread over the processes that torchrun started, if any."""
    if options.shard and distributed.get_world_size() == 1:
        report("--shard has no effect without several processes, started by torchrun")
    if options.compile and distributed.get_world_size() == 1:
        return replace(job, trained_model=_compile_model(job, report))
    if options.compile:
        report("--compile has no effect with several processes")
    trained_model = distributed.distribute_model(job.model, options.shard)
    if not distributed.is_sharded(trained_model):
        return replace(job, trained_model=trained_model)
    optimizer = _make_optimizer(options, job.plan, trained_model)
    return replace(job, trained_model=trained_model, optimizer=optimizer)


def _compile_model(job: Job, report: Report) -> nn.Module:
    """The model compiled by `torch.compile`, for batches of any shape; unchanged if that fails."""
    ids = torch.zeros(2, 8, dtype=torch.long)
    settings = job.plan.settings
    try:
        compiled: nn.Module = torch.compile(job.model, dynamic=True)  # type: ignore[assignment]
        loss, _ = settings.batch_loss(ids, ids, compiled, job.plan.device, **settings.loss_options)
        loss.backward()
    except Exception as error:  # a compiler that fails, or is missing, may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        report(f"torch.compile doesn't work here ({reason}); training without it")
        compiled = job.model
    job.model.zero_grad(set_to_none=True)
    return compiled


def gather_job(job: Job) -> Job:
    """The `Job` after training, with a model that is whole on every rank."""
    if not distributed.is_sharded(job.model):
        return replace(job, trained_model=job.model)
    config: ModelConfig = job.model.config  # type: ignore[assignment]
    model = make_model(config).to(job.plan.device)
    weights = dict(model.named_parameters())
    for name, part in job.model.named_parameters():  # one at a time: two models may not fit
        weights[name].data.copy_(distributed.gather_full_weight(part))
    return replace(job, model=model, trained_model=model, optimizer=None)


# --- cost, weights, optimizer ---------------------------------------------------------------------
def _check_cost(options: FinetuneOptions, plan: RunPlan, report: Report, new: bool) -> None:
    """Report memory and time; TooLarge or RunFolderError if a run can't fit, unless forced."""
    costs = estimate_costs(plan, options)
    duration = est.format_duration(costs.seconds)
    report(
        f"estimate: {duration} for {count(costs.steps, 'step')} of training, "
        f"{est.format_bytes(costs.needed)} of memory ({est.format_bytes(costs.free)} are free)"
    )
    check_memory(options, plan, costs)
    if new and not options.force:
        check_disk_space(options.out, est.count_parameters(plan.config)[0])


def _make_model(options: FinetuneOptions, plan: RunPlan) -> tuple[BaseModel, str | None]:
    """The model that training starts from, and the hash of its weights (None: random)."""
    if options.from_random:
        model = make_model(plan.config, torch.Generator().manual_seed(options.seed))
        start_sha256 = None
    else:
        source = plan.source or find_weights(options.model)
        model = source.load()
        start_sha256 = source.sha256()
    return model, start_sha256


def model_to_train(model: BaseModel, options: FinetuneOptions, plan: RunPlan) -> LanguageModel:
    """The model that training starts from with rows for new tokens, dropout and its adapter."""
    model = smart_embedding_resize(model, plan.config.vocab_size)
    set_residual_dropout(model, options.residual_dropout)
    return add_adapter(model, options)


def _make_optimizer(
    options: FinetuneOptions, plan: RunPlan, model: nn.Module
) -> torch.optim.Optimizer:
    return choose_optimizer(
        options.chosen_optimizer,
        model,
        plan.settings.peak_lr,
        options.weight_decay,
        plan.settings.dtype,
        options.beta2,
    )
