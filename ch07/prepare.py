"""Options -> everything that training needs: checked entries, loaders, a model.

The one idea: whatever can be wrong is found here, before the first step, and said with the row
where it stands.
"""

from dataclasses import asdict, dataclass

import torch

from ch07 import run_folder as rf
from ch07.batching import check_lengths, make_loader
from ch07.data import SHOWN, DataError, read_data, summary
from ch07.files import sha256_of
from ch07.machine import choose_device, choose_dtype, versions
from ch07.optimizers import choose_optimizer
from ch07.prompts import get_style
from ch07.splits import overlap, positional_split, split_entries
from ch07.tokenizer import load_tokenizer
from ch07.toy_instructions.build import DATA_FILE
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import InstructionDataset, PromptStyle
from train_loop import TrainSettings

EVAL_BATCH_SIZE = 64  # rows; the loss doesn't depend on it


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
    facts: dict  # what config.json records beside options, model and style


def prepare(options, note):
    """Make the `Job`; DataError or ValueError says what is wrong. `note(text)` hears the rest."""
    device = choose_device(options.device)
    style = get_style(options.prompt_style)
    path = options.data or DATA_FILE
    file = read_data(path, options.skip_bad_rows)
    for line in summary(file.findings):
        note(f"data: {line}")
    splits = _split(file.entries, options, note)
    model = _make_model(options.model, options.seed).to(device)
    places = {id(entry): place for entry, place in zip(file.entries, file.places, strict=True)}
    datasets = {
        name: _dataset(entries, style, model.config.context_length, options, places, note)
        for name, entries in splits.items()
    }
    if not len(datasets["train"]):
        raise DataError(f"{path}: no row is left to train on")
    if not len(datasets["validation"]):
        note("data: no validation rows, so there will be no validation loss")
    shared = {"loss_on": options.loss_on, "allowed_max_length": options.allowed_max_length}
    return Job(
        style=style,
        splits={name: dataset.data for name, dataset in datasets.items()},
        train_loader=make_loader(
            datasets["train"], options.batch_size, seed=options.seed, **shared
        ),
        val_loader=make_loader(datasets["validation"], EVAL_BATCH_SIZE, **shared),
        model=model,
        device=device,
        optimizer=_optimizer(options, model),
        settings=_settings(options, choose_dtype(options.dtype, device)),
        facts={
            "data_sha256": sha256_of(path),
            "rows": {name: len(dataset) for name, dataset in datasets.items()},
            "findings": [asdict(finding) for finding in file.findings],
            "tokenizer": "gpt2",
            "versions": versions(),
        },
    )


def _split(entries, options, note):
    if options.split == "groups":
        return split_entries(entries, seed=options.seed)
    splits = positional_split(entries)
    for name, n in overlap(splits).items():
        note(f"data: {n} of {len(splits[name])} {name} prompts are also in training")
    return splits


def _make_model(name, seed):
    """A GPTModel with random weights for "gpt2-tiny", or the model of a run folder."""
    if name == "gpt2-tiny":
        config = GPTConfig(**MODEL_SIZES[name])
        return GPTModel(config, torch.Generator().manual_seed(seed))
    if name in MODEL_SIZES:
        raise ValueError(
            f"{name} starts from OpenAI's published weights, which this version can't load yet: "
            "choose gpt2-tiny or a run folder"
        )
    return rf.load_run(name).model.requires_grad_(True)


def _optimizer(options, model):
    from_random = options.model in MODEL_SIZES
    auto = "muon" if from_random else "adamw"
    name = auto if options.optimizer == "auto" else options.optimizer
    return choose_optimizer(name, model, options.lr, options.weight_decay)


def _dataset(entries, style, context_length, options, places, note):
    """The split's InstructionDataset, without rows that can't be trained on; says what it drops."""
    with_prompt_length = options.loss_on == "response"
    dataset = InstructionDataset(entries, load_tokenizer(), style, with_prompt_length)
    report = check_lengths(dataset, context_length, options.allowed_max_length)

    def named(rows):
        shown = [f"{places[id(entries[i])]} ({dataset.lengths[i]} tokens)" for i in rows[:SHOWN]]
        return f"{', '.join(shown)}{', ...' if len(rows) > SHOWN else ''}"

    if (options.allowed_max_length or 0) > context_length:
        note(f"allowed_max_length is more than the model's context: {context_length} is used")
    if dataset.seam_rows:
        note(
            f"data: {len(dataset.seam_rows)} rows whose prompt and answer would merge into other "
            f"tokens if tokenized at once; they are joined by ids: {named(dataset.seam_rows)}"
        )
    if report.cut:
        cut = f"{len(report.cut)} rows lose their end at {report.limit} tokens"
        note(f"data: {cut}: {named(report.cut)}")
    bad = report.too_long or (report.answerless if options.loss_on == "response" else [])
    if not bad:
        return dataset
    reason = (
        f"have more than {report.limit} tokens, the model's context"
        if report.too_long
        else f"lose their whole answer at {report.limit} tokens"
    )
    if not options.skip_bad_rows:
        raise DataError(
            f"{len(bad)} rows {reason}: {named(bad)}. Set --allowed-max-length higher "
            "(or at all), or leave these rows out with --skip-bad-rows"
        )
    note(f"data: left out: {len(bad)} rows that {reason}: {named(bad)}")
    dropped = set(bad)
    kept = [entry for i, entry in enumerate(entries) if i not in dropped]
    return InstructionDataset(kept, load_tokenizer(), style, with_prompt_length)


def _settings(options, dtype):
    return TrainSettings(
        num_epochs=options.epochs,
        max_steps=options.max_steps,
        peak_lr=options.lr,
        warmup_steps=options.warmup_steps,
        accumulation_steps=options.accumulation_steps,
        eval_freq=options.eval_freq,
        eval_iter=5,
        dtype=dtype,
        seed=options.seed,
    )
