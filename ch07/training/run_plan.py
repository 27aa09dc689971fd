"""Options -> what a run will do: checked entries, splits, batches, settings; no weights yet.

The one idea: whatever can be wrong is found here, before the first step, and said with the row
where it stands. A model's shape is enough to look at the data and to reckon what a run will need,
so nothing is loaded, or downloaded, for a run that can't be.
"""

from dataclasses import dataclass, replace

import torch

from ch07.data import dataset_statistics
from ch07.data.dataloader import make_loader
from ch07.data.entries import DataError, DataFile, count, summarize_findings
from ch07.data.pretraining_dataset import load_pretraining_data
from ch07.data.prompt_styles import get_style
from ch07.data.row_checks import checked_datasets
from ch07.data.sources import read_source
from ch07.data.splits import (
    describe_own_split,
    overlap,
    sample_training_rows,
    split_entries,
    split_ignoring_duplicates,
)
from ch07.data.token_store import is_store
from ch07.data.token_store_dataset import (
    checked_stored_datasets,
    data_file_of_store,
    describe_stored_splits,
    open_store,
    split_store,
)
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.models.pretrained import WeightSource, find_weights
from ch07.models.weight_reader import WeightsError
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.utils import distributed
from ch07.utils.device import choose_device, choose_dtype
from ch07.utils.errors import OptionError
from gpt_model import MODEL_SIZES, GPTConfig
from instruction_dataset import PromptStyle
from train_loop import TrainSettings, total_steps


@dataclass(frozen=True)
class RunPlan:
    """A run that could start, but for its weights."""

    config: GPTConfig
    source: (
        WeightSource | None
    )  # of the weights; None: random, or a published size not yet looked for
    style: PromptStyle
    file: DataFile
    findings: list  # of the file and of its rows as tokens: a `Finding` each
    lengths: list  # (tokens, those of the prompt) of each row, used or not
    datasets: dict  # "train", "test", "validation" -> `InstructionDataset`
    limit: int | None  # tokens that a row may have
    alike: list | None  # (held-out entry, training entry, similarity): nearly the same prompts
    place_of: callable  # of a training row, by its number: "row 3" of the reader's file
    train_loader: object
    val_loader: object
    device: torch.device
    settings: TrainSettings
    notes: list  # what was told besides, as that a limit was lowered
    said: list  # all that was told, since a terminal forgets


class Told:
    """A log of what was reported: findings in the data, and notes."""

    def __init__(self, tell):
        self.said, self.notes, self._tell = [], [], tell

    def note(self, text):
        self.notes.append(text)
        self.said.append(text)
        self._tell(text)

    def found(self, text):
        self.said.append(f"data: {text}")
        self._tell(self.said[-1])


def build_plan(options, tell):
    """The `RunPlan`; DataError or ValueError says what is wrong. `tell(text)` hears the rest."""
    told = Told(tell)
    device = choose_device(options.device)
    # a published size has a known shape, and is fetched only when all else is well
    source = None if options.model in MODEL_SIZES else find_weights(options.model)
    config = _config(options.model, source)
    store = open_store(options.data, options.prompt_style) if is_store(options.data) else None
    asked = options if store is None else replace(options, prompt_style=store.style.name)
    style = _style(asked, source, told.note)
    room = config.context_length - options.prefix_columns
    if room < 1:
        raise OptionError(
            f"prefix_length is {options.prefix_length}, but {options.model} reads "
            f"{config.context_length} tokens: no room would be left for text"
        )
    limit = _limit(options.allowed_max_length, room, told.note)
    if options.text:
        rows = load_pretraining_data(options.data, limit, told.found)
    elif store is None:
        rows = _rows(options, style, room, limit, told)
    else:
        rows = _rows_of(store, options, room, limit, told)
    datasets = rows["datasets"]
    _check_splits(rows["file"].path, datasets, rows["findings"], told.note)
    shared = {"loss_on": options.loss_on, "allowed_max_length": limit}
    shared["share"] = distributed.get_rank(), distributed.get_world_size()
    train = make_loader(datasets["train"], options.batch_size, seed=options.seed, **shared)
    return RunPlan(
        **rows,
        config=config,
        source=source,
        style=style,
        limit=limit,
        train_loader=train,
        val_loader=make_loader(datasets["validation"], options.batch_size, **shared),
        device=device,
        settings=_settings(options, choose_dtype(options.dtype, device), train),
        notes=told.notes,
        said=told.said,
    )


def _rows(options, style, room, limit, told):
    """What a plan holds of a file's rows, all of them in memory."""
    file = read_source(options.data or DATA_FILE, options.skip_bad_rows)
    for line in summarize_findings(file.findings):
        told.found(line)
    splits = _split(file.entries, options, told.found, told.note)
    looked_at = checked_datasets(file, splits, style, options, room, limit)
    datasets, seen, lengths = looked_at
    for line in summarize_findings(seen):
        told.found(line)
    alike = (
        dataset_statistics.near_duplicates_across_splits(datasets) if len(datasets["train"]) else []
    )
    _tell_likeness(datasets, alike, told.found)
    places, trained = file.by_entry, datasets["train"].data
    return {
        "file": file,
        "findings": file.findings + seen,
        "lengths": lengths,
        "datasets": datasets,
        "alike": alike,
        "place_of": lambda i: places[id(trained[i])],
    }


def _rows_of(store, options, room, limit, told):
    """What a plan holds of the rows of a token store, which stay on the disk."""
    for line in store.about["findings"]:
        told.found(line)
    splits = split_store(store, options)
    datasets, seen = checked_stored_datasets(store, splits, options, room, limit)
    for line in summarize_findings(seen):
        told.found(line)
    for line in describe_stored_splits(store, datasets, options.split != "groups"):
        told.found(line)
    rows = datasets["train"].rows
    return {
        "file": data_file_of_store(store),
        "findings": seen,
        "lengths": [],
        "datasets": datasets,
        "alike": None,
        "place_of": lambda i: f"line {store.lines[rows[i]]}",
    }


def _check_splits(path, datasets, findings, note):
    if not len(datasets["train"]):
        why = "".join(f"\n  {line}" for line in summarize_findings(findings))
        raise DataError(f"{path}: no row is left to train on{why}")
    if not len(datasets["test"]):
        note("data: no test rows, so nothing will be scored")
    if not len(datasets["validation"]):
        note("data: no validation rows, so there will be no validation loss")


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


def _split(entries, options, found, note):
    own, blind = sum("split" in entry for entry in entries), options.split != "groups"
    if own:
        note(f"data: {describe_own_split(own, len(entries), blind)}")
    if blind:
        splits = split_ignoring_duplicates(options.split, entries, options.seed)
    else:
        splits = split_entries(entries, seed=options.seed)
    if options.train_rows is not None:
        few = sample_training_rows(splits["train"], options.train_rows, options.seed)
        note(f"data: {len(few):,} of {len(splits['train']):,} training rows are trained on")
        splits["train"] = few
    for name, n in overlap(splits).items():
        if n:
            found(f"{n} of {len(splits[name])} {name} prompts are also in training")
    return splits


def _tell_likeness(datasets, alike, found):
    """What a held-out score may owe to memory, and where answers contradict each other."""
    n_held_out = len(datasets["test"]) + len(datasets["validation"])
    n = len({id(held_out) for held_out, _, _ in alike or ()})
    if alike is None:
        found(
            f"more than {dataset_statistics.MAX_COMPARED_ROWS:,} rows are not searched for prompts "
            "nearly the same"
        )
    elif n:
        found(f"{n} of {n_held_out} held-out prompts have nearly the wording of one in training")
    n = len(dataset_statistics.conflicting_answers(datasets["train"].data))
    if n:
        found(f"{count(n, 'training prompt')} asked more than once, with different answers")


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
        cross_entropy=summed_cross_entropy_in_place,
        reduce=distributed.all_reduce_sum,
    )
    # a short run warms up for a tenth of its steps, so that it gets to learn at full rate
    tenth = total_steps(train_loader, settings) // 10
    return replace(settings, warmup_steps=min(options.warmup_steps, tenth))


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
