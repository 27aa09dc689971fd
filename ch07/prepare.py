"""Options -> everything that training needs: checked entries, loaders, a model.

The one idea: whatever can be wrong is found here, before the first step, and said with the row
where it stands.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ch07 import run_folder as rf
from ch07.batching import check_lengths, make_loader
from ch07.data import SHOWN, DataError, count, read_data, summary
from ch07.files import sha256_of
from ch07.machine import choose_device, choose_dtype, keep_freed_memory, versions
from ch07.optimizers import choose_optimizer
from ch07.prompts import get_style
from ch07.splits import overlap, positional_split, split_entries
from ch07.tokenizer import load_tokenizer
from ch07.toy_instructions.build import DATA_FILE
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import InstructionDataset, PromptStyle
from train_loop import TrainSettings, total_steps

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


def prepare(options, tell):
    """Make the `Job`; DataError or ValueError says what is wrong. `tell(text)` hears the rest."""
    said = []  # kept in config.json, since a terminal forgets

    def note(text):
        said.append(text)
        tell(text)

    keep_freed_memory()
    device = choose_device(options.device)
    style = get_style(options.prompt_style)
    model = _make_model(options.model, options.seed).to(device)
    path = DATA_FILE if options.data is None else options.data
    file = read_data(path, options.skip_bad_rows)
    for line in summary(file.findings):
        note(f"data: {line}")
    splits = _split(file.entries, options, note)
    limit = _limit(options.allowed_max_length, model.config.context_length, note)
    places = {id(entry): place for entry, place in zip(file.entries, file.places, strict=True)}
    datasets = {}
    for name, entries in splits.items():
        rows = _Rows(entries, places, style, options)
        datasets[name] = rows.checked(model.config.context_length, limit, note)
    if not len(datasets["train"]):
        raise DataError(f"{path}: no row is left to train on")
    if not len(datasets["validation"]):
        note("data: no validation rows, so there will be no validation loss")
    shared = {"loss_on": options.loss_on, "allowed_max_length": limit}
    train = make_loader(datasets["train"], options.batch_size, seed=options.seed, **shared)
    return Job(
        style=style,
        splits={name: dataset.data for name, dataset in datasets.items()},
        train_loader=train,
        val_loader=make_loader(datasets["validation"], EVAL_BATCH_SIZE, **shared),
        model=model,
        device=device,
        optimizer=_optimizer(options, model),
        settings=_settings(options, choose_dtype(options.dtype, device), train),
        facts={
            "data_sha256": file.sha256,
            "start_sha256": _start_hash(options.model),
            "rows": {name: len(dataset) for name, dataset in datasets.items()},
            "findings": said,
            "tokenizer": load_tokenizer().name,
            "versions": versions(),
        },
    )


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


def _start_hash(name):
    """What the weights started from: None for random ones, else the hash of the run's weights."""
    return None if name in MODEL_SIZES else sha256_of(Path(name) / rf.MODEL)


def _optimizer(options, model):
    from_random = options.model in MODEL_SIZES
    auto = "muon" if from_random else "adamw"
    name = auto if options.optimizer == "auto" else options.optimizer
    return choose_optimizer(name, model, options.lr, options.weight_decay)


class _Rows:
    """The entries of one split on their way to a dataset, with their places in the file."""

    def __init__(self, entries, places, style, options):
        self.entries, self.places, self.style, self.options = entries, places, style, options

    def checked(self, context_length, limit, note):
        """The dataset without rows that can't be used: they are refused, or dropped and named."""
        dataset = self._dataset(self.entries)
        report = check_lengths(dataset, context_length, limit)
        if dataset.seam_rows:
            note(
                f"data: prompt and answer of {count(len(dataset.seam_rows), 'row')} would merge "
                "into other tokens if tokenized at once; their ids are joined: "
                + self._named(dataset.seam_rows, dataset)
            )
        if report.cut:
            cut = f"{count(len(report.cut), 'row')} cut at {report.limit} tokens, end-of-text lost"
            note(f"data: {cut}: {self._named(report.cut, dataset)}")
        context = f"more tokens than the model's context of {context_length}"
        unusable = [
            (report.too_long, f"with {context}"),
            (report.unreadable, f"whose prompt has {context}"),
        ]
        if self.options.loss_on == "response":
            lost = f"whose whole answer is cut off at {report.limit} tokens"
            unusable.append((report.answerless, lost))
        for rows, reason in unusable:
            self._drop(rows, reason, dataset, note)
        bad = {i for rows, _ in unusable for i in rows}
        kept = [entry for i, entry in enumerate(self.entries) if i not in bad]
        return self._dataset(kept) if bad else dataset

    def _dataset(self, entries):
        with_prompt_length = self.options.loss_on == "response"
        return InstructionDataset(entries, load_tokenizer(), self.style, with_prompt_length)

    def _drop(self, rows, reason, dataset, note):
        if not rows:
            return
        what = f"{count(len(rows), 'row')} {reason}: {self._named(rows, dataset)}"
        if not self.options.skip_bad_rows:
            raise DataError(
                f"{what}. Shorten them, choose another --allowed-max-length, or leave them out "
                "with --skip-bad-rows"
            )
        note(f"data: left out: {what}")

    def _named(self, rows, dataset):
        shown = [
            f"{self.places[id(self.entries[i])]} ({dataset.lengths[i]} tokens)"
            for i in rows[:SHOWN]
        ]
        return ", ".join(shown) + (", ..." if len(rows) > SHOWN else "")


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
