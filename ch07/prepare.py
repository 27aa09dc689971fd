"""Options -> everything that training needs: checked entries, loaders, a model.

The one idea: whatever can be wrong is found here, before the first step, and said with the row
where it stands. What costs most comes last: a model's shape and the data are looked at, then what
the run will need, and only then are weights loaded, or downloaded.
"""

from dataclasses import dataclass, replace

import torch

from ch07 import estimate as est
from ch07.batching import make_loader
from ch07.checked_rows import checked_datasets
from ch07.claim import check_space
from ch07.data import DataError, count, read_data, summary
from ch07.machine import (
    available_memory,
    choose_device,
    choose_dtype,
    keep_freed_memory,
    versions,
)
from ch07.optimizers import choose_optimizer
from ch07.prompts import get_style
from ch07.splits import overlap, positional_split, split_entries
from ch07.tokenizer import load_tokenizer
from ch07.toy_instructions.build import DATA_FILE
from ch07.weight_files import WeightsError
from ch07.weights import find_weights
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import PromptStyle
from train_loop import TrainSettings, total_steps


@dataclass(frozen=True)
class Job:
    """A run that is ready to start."""

    style: PromptStyle
    splits: dict  # "train", "test", "validation" -> entries
    train_loader: object
    val_loader: object
    model: GPTModel
    device: torch.device
    optimizer: object
    settings: TrainSettings
    places: dict  # id of an entry -> "row 3", its place in the data file
    facts: dict  # what config.json records beside options, model and style


def prepare(options, tell, new=True):
    """Make the `Job`; DataError or ValueError says what is wrong. `tell(text)` hears the rest."""
    said = []  # kept in config.json, since a terminal forgets

    def note(text):
        said.append(text)
        tell(text)

    keep_freed_memory()
    device = choose_device(options.device)
    # a published size has a known shape, and is fetched only when all else is well
    source = None if options.model in MODEL_SIZES else find_weights(options.model)
    config = _config(options.model, source)
    style = _style(options, source, note)
    path = DATA_FILE if options.data is None else options.data
    file = read_data(path, options.skip_bad_rows)
    for line in summary(file.findings):
        note(f"data: {line}")
    splits = _split(file.entries, options, note)
    limit = _limit(options.allowed_max_length, config.context_length, note)
    datasets = checked_datasets(file, splits, style, options, config.context_length, limit, note)
    if not len(datasets["train"]):
        raise DataError(f"{path}: no row is left to train on")
    if not len(datasets["validation"]):
        note("data: no validation rows, so there will be no validation loss")
    shared = {"loss_on": options.loss_on, "allowed_max_length": limit}
    train = make_loader(datasets["train"], options.batch_size, seed=options.seed, **shared)
    settings = _settings(options, choose_dtype(options.dtype, device), train)
    _check_cost(options, config, train, limit, settings, device, tell, new)
    model, start_sha256 = _make_model(options, config, source)
    model = model.to(device)
    return Job(
        style=style,
        splits={name: dataset.data for name, dataset in datasets.items()},
        train_loader=train,
        val_loader=make_loader(datasets["validation"], options.batch_size, **shared),
        model=model,
        device=device,
        optimizer=choose_optimizer(
            options.chosen_optimizer, model, options.lr, options.weight_decay
        ),
        settings=settings,
        places=file.by_entry,
        facts=_facts(file, start_sha256, datasets, said),
    )


def _facts(file, start_sha256, datasets, said):
    """What made the run beside its options."""
    return {
        "data_sha256": file.sha256,
        "start_sha256": start_sha256,
        "rows": {name: len(dataset) for name, dataset in datasets.items()},
        "findings": said,
        "tokenizer": load_tokenizer().name,
        "versions": versions(),
    }


def _style(options, source, note):
    """The style that was asked for, else the one that the model was trained with, or the book's."""
    trained = None if source is None else source.style
    if options.prompt_style is None:
        return get_style(trained or "book")
    if trained not in (None, options.prompt_style):
        note(
            f"prompt: {options.model} was trained with the style {trained!r}, but this run uses "
            f"{options.prompt_style!r}"
        )
    return get_style(options.prompt_style)


def _split(entries, options, note):
    own, by_position = any("split" in entry for entry in entries), options.split == "book"
    if own:
        note(f"data: the file's own 'split' is {'ignored' if by_position else 'used'}")
    splits = positional_split(entries) if by_position else split_entries(entries, seed=options.seed)
    for name, n in overlap(splits).items():
        if n:
            note(f"data: {n} of {len(splits[name])} {name} prompts are also in training")
    return splits


def _limit(allowed_max_length, context_length, note):
    if allowed_max_length is None or allowed_max_length <= context_length:
        return allowed_max_length
    note(f"allowed_max_length is more than the model's context: {context_length} is used")
    return context_length


def _settings(options, dtype, train_loader):
    settings = TrainSettings(
        num_epochs=options.epochs,
        max_steps=options.max_steps,
        peak_lr=options.lr,
        accumulation_steps=options.accumulation_steps,
        eval_freq=options.eval_freq,
        eval_iter=5,
        dtype=dtype,
        seed=options.seed,
    )
    # a short run warms up for a tenth of its steps, so that it gets to learn at full rate
    tenth = total_steps(train_loader, settings) // 10
    return replace(settings, warmup_steps=min(options.warmup_steps, tenth))


# --- what it will cost --------------------------------------------------------------------------


def _check_cost(options, config, train_loader, limit, settings, device, tell, new):
    """Tell memory and time; TooLarge or RunFolderError if a run can't fit and nobody insists."""
    dataset = train_loader.dataset
    prompts = dataset.prompt_lengths if options.loss_on == "response" else [0] * len(dataset)
    batches = est.Batches.of(train_loader.batch_sampler, dataset.lengths, prompts, limit)
    needed = est.run_bytes(config, batches, settings.dtype, options.chosen_optimizer)
    free = available_memory(device)
    steps = total_steps(train_loader, settings)
    step = est.step_seconds(config, batches, settings.dtype, device) * settings.accumulation_steps
    tell(
        f"estimate: {est.as_time(steps * step)} for {count(steps, 'step')} of training, "
        f"{est.as_bytes(needed)} of memory ({est.as_bytes(free)} are free)"
    )
    if needed > free and not options.force:
        smaller = [
            name
            for name in MODEL_SIZES
            if est.run_bytes(GPTConfig(**MODEL_SIZES[name]), batches, settings.dtype) <= free
        ]
        ways = [f"--model {smaller[-1]}"] if smaller else []
        single = batches.of_one_row(options.batch_size)
        if est.run_bytes(config, single, settings.dtype, options.chosen_optimizer) <= free:
            ways.append("a smaller --batch-size (with --accumulation-steps)")
        raise est.TooLarge(
            f"{options.model} needs {est.as_bytes(needed)} to be trained on this data, but "
            f"{est.as_bytes(free)} are free: "
            + (f"choose {' or '.join(ways)}, or " if ways else "nothing smaller fits; ")
            + "try it all the same with --force"
        )
    if new and not options.force:
        check_space(options.out, est.count_parameters(config)[0])


# --- the model ----------------------------------------------------------------------------------


def _config(name, source):
    """The model's shape; WeightsError if its vocabulary isn't GPT-2's."""
    config = GPTConfig(**MODEL_SIZES[name]) if source is None else source.config
    n_vocab = load_tokenizer().n_vocab
    if config.vocab_size != n_vocab:
        raise WeightsError(
            f"{name} has {config.vocab_size:,} tokens, but GPT-2's tokenizer has {n_vocab:,}: it "
            "was trained with another tokenizer"
        )
    return config


def _make_model(options, config, source):
    """A GPTModel that can be trained, and the hash of the weights it starts from (or None)."""
    if options.from_random:
        return GPTModel(config, torch.Generator().manual_seed(options.seed)), None
    source = source or find_weights(options.model)
    return source.load(), source.sha256()
