"""Options -> what a run will do: checked rows, batches, settings; no weights yet.

The one idea: whatever can be wrong is found here, before the first step, and reported with the row
it is about. A model's shape is enough to look at the data and to estimate what a run will need, so
nothing is loaded, or downloaded, for a run that can't start.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import tiktoken
import torch
from torch.utils.data import DataLoader

from ch07.config import FinetuneOptions
from ch07.data.byte_pair_vocabulary import END_OF_TEXT_MARK, END_OF_TURN_MARK, add_marks
from ch07.data.dataloader import Batch, make_loader
from ch07.data.loaded_rows import LoadedRows
from ch07.data.prompt_styles import get_style
from ch07.data.reference_formats.label_row_dataset import ROW_MARKS, ROW_STYLES
from ch07.data.row_loading import load_rows
from ch07.data.token_store import TokenStore, is_store
from ch07.data.token_store_dataset import open_store
from ch07.data.tokenizer import end_token_id, load_tokenizer
from ch07.models.architectures import ModelConfig
from ch07.models.model_slice import choose_for_training
from ch07.models.pretrained import WeightSource, find_weights
from ch07.models.resource_estimate import Batches
from ch07.training.batch_sizes import count_batch_sizes
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.repeated_shapes import limit_kernels, should_round
from ch07.training.shared_beginning import sum_loss_with_shared_beginning
from ch07.utils import distributed
from ch07.utils.compute_choice import ComputeChoice
from ch07.utils.device import choose_device
from ch07.utils.errors import OptionError
from ch07.utils.run_log import RunLog
from gpt_model import MODEL_SIZES, GPTConfig
from instruction_dataset import PromptStyle
from train_loop import BatchLoss, TrainSettings, sum_loss, total_steps

BATCHES_COUNTED = 100  # to know the usual size of one


@dataclass(frozen=True)
class RunPlan:
    """Everything that a run needs, except its weights."""

    config: ModelConfig
    source: WeightSource | None  # None: random weights, or a published size not looked for yet
    tokenizer: tiktoken.Encoding
    style: PromptStyle
    rows: LoadedRows
    allowed_max_length: int | None  # tokens a row may have, at most the model's context
    train_loader: DataLoader[Batch]
    val_loader: DataLoader[Batch]
    device: torch.device
    compute: ComputeChoice
    settings: TrainSettings
    log: RunLog


def build_plan(options: FinetuneOptions, report: Callable[[str], None]) -> RunPlan:
    """The `RunPlan`; DataError or ValueError says what is wrong.

    `report(text)` shows the reader what was found in the data, and each setting that was changed.
    """
    log = RunLog(report)
    device = choose_device(options.device)
    config, source = find_model(options.model)
    tokenizer = load_tokenizer() if source is None else source.tokenizer()
    tokenizer = _with_new_tokens(tokenizer, options, log)
    config = replace(config, vocab_size=tokenizer.n_vocab)
    store = None
    if isinstance(options.data, str) and is_store(options.data):
        store = open_store(options.data, options.prompt_style, tokenizer)
    style = _choose_style(options, source, store, log)
    context_length = _context_length(options, config)
    allowed_max_length = options.allowed_max_length
    if allowed_max_length is not None and allowed_max_length > context_length:
        log.note(f"allowed_max_length exceeds the model's context; using {context_length}")
        allowed_max_length = context_length
    rows = load_rows(
        options,
        store=store,
        tokenizer=tokenizer,
        style=style,
        context_length=context_length,
        allowed_max_length=allowed_max_length,
        log=log,
    )
    train_loader, val_loader = _make_loaders(
        options, rows, allowed_max_length, end_token_id(tokenizer)
    )
    limit_kernels(config.emb_dim)  # before the products of the measurement
    sizes = _usual_sizes(options, config, rows, train_loader, allowed_max_length)
    compute = _choose_compute(options, config, sizes, device)
    return RunPlan(
        config=config,
        source=source,
        tokenizer=tokenizer,
        style=style,
        rows=rows,
        allowed_max_length=allowed_max_length,
        train_loader=train_loader,
        val_loader=val_loader,
        device=device,
        compute=compute,
        settings=_settings(options, config, device, compute.dtype, train_loader),
        log=log,
    )


def _usual_sizes(
    options: FinetuneOptions,
    config: ModelConfig,
    rows: LoadedRows,
    train_loader: DataLoader[Batch],
    allowed_max_length: int | None,
) -> Batches:
    """The sizes of the first batches of an epoch."""
    return count_batch_sizes(
        rows.datasets["train"],
        islice(train_loader.batch_sampler or (), BATCHES_COUNTED),
        limit=allowed_max_length,
        loss_on=options.loss_on,
        share_beginning=_shares_beginning(options, config),
    )


def _choose_compute(
    options: FinetuneOptions, config: ModelConfig, sizes: Batches, device: torch.device
) -> ComputeChoice:
    """Number format and threads, measured where the options leave them open.

    From here on PyTorch computes with so many threads.
    """
    tokens = round(statistics.mean(sizes.tokens))
    targets = round(statistics.mean(sizes.targets))
    compute = choose_for_training(config, tokens, targets, device, options.dtype, options.threads)
    torch.set_num_threads(compute.threads)
    return compute


def _make_loaders(
    options: FinetuneOptions,
    rows: LoadedRows,
    allowed_max_length: int | None,
    pad_token_id: int,
) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """The loaders of training and validation rows, each with this rank's share of every batch."""
    make = partial(
        make_loader,
        batch_size=options.batch_size,  # type: ignore[arg-type]  # set by the recipe, if not given
        loss_on=options.loss_on,
        allowed_max_length=allowed_max_length,
        pad_token_id=pad_token_id,
        share=(distributed.get_rank(), distributed.get_world_size()),
    )
    train = make(rows.datasets["train"], seed=options.seed, chunk_batches=options.chunk_batches)
    return train, make(rows.datasets["validation"])


def find_model(name: str) -> tuple[ModelConfig, WeightSource | None]:
    """(shape, source of the weights) of a name or path.

    The source is None for a size of GPT-2, whose shape is known: published weights are downloaded
    only after all other checks.
    """
    if name in MODEL_SIZES:
        return GPTConfig(**MODEL_SIZES[name]), None
    source = find_weights(name)
    return source.config, source


def _with_new_tokens(
    tokenizer: tiktoken.Encoding, options: FinetuneOptions, log: RunLog
) -> tiktoken.Encoding:
    """The tokenizer with the marks that the options need, if it lacks any."""
    if options.end_of_turn:
        return _with_end_of_turn(tokenizer, options)
    marks = ROW_MARKS.get(options.rows, ())
    with_marks = add_marks(tokenizer, marks)
    if with_marks.n_vocab > tokenizer.n_vocab and options.method != "full":
        log.note(
            f"{options.model} lacks the tokens {' and '.join(marks)}, and --method "
            f"{options.method} doesn't train them: they stay the mean of all tokens"
        )
    return with_marks


def _with_end_of_turn(tokenizer: tiktoken.Encoding, options: FinetuneOptions) -> tiktoken.Encoding:
    """The tokenizer with a token that ends a turn.

    OptionError if it has one of its own already, or if the new one couldn't be learned.
    """
    end = tokenizer.decode([end_token_id(tokenizer)])
    if end not in (END_OF_TEXT_MARK, END_OF_TURN_MARK):
        raise OptionError(
            f"{options.model} ends a turn with a token of its own already, {end}: leave "
            "--end-of-turn out"
        )
    if end != END_OF_TURN_MARK and options.method != "full":
        raise OptionError(
            f"--end-of-turn adds a token, which --method {options.method} would not train: use "
            "--method full"
        )
    return add_marks(tokenizer, (END_OF_TURN_MARK,), end=END_OF_TURN_MARK)


def _choose_style(
    options: FinetuneOptions, source: WeightSource | None, store: TokenStore | None, log: RunLog
) -> PromptStyle:
    """The style of the store or the options, else that of the model's training, or the book's.

    A note says so if the model was trained with another style.
    """
    if options.rows != "own":
        return ROW_STYLES[options.rows]
    trained_style = None if source is None else source.style
    chosen = options.prompt_style if store is None else store.style.name
    if chosen is None and trained_style is None:
        vocabulary = None if source is None else source.vocabulary
        if vocabulary is not None and vocabulary.template is not None:
            log.note(
                "prompt: the model's chat template is not one of the styles here, so this run uses "
                "'book'"
            )
        return get_style("book")
    if chosen is None:
        assert trained_style is not None
        return trained_style
    if trained_style is None:
        return get_style(chosen)
    if store is None and trained_style.name == chosen:  # perhaps with a text of the model's own
        return trained_style
    if trained_style.name != chosen:
        log.note(
            f"prompt: {options.model} was trained with the style {trained_style.name!r}, but this "
            f"run uses {chosen!r}"
        )
    return get_style(chosen)


def _context_length(options: FinetuneOptions, config: ModelConfig) -> int:
    """How many tokens of a row fit into the context after the prefix; OptionError if none do."""
    context_length = config.context_length - options.prefix_columns
    if context_length < 1:
        raise OptionError(
            f"prefix_length is {options.prefix_length}, but {options.model} reads "
            f"{config.context_length} tokens: nothing would be left for the text"
        )
    return context_length


def _shares_beginning(options: FinetuneOptions, config: ModelConfig) -> bool:
    """Whether what all rows of a batch begin with is read once.

    With dropout, each copy of a beginning would have its own activations dropped, so it can't be.
    """
    rates = (config.drop_rate, options.residual_dropout, options.prefix_dropout)
    return options.shared_beginning == "once" and not any(rates)


def _batch_loss(
    options: FinetuneOptions, config: ModelConfig, device: torch.device, dtype: str
) -> BatchLoss:
    """What computes the loss of a batch."""
    if not _shares_beginning(options, config):
        return sum_loss
    return partial(
        sum_loss_with_shared_beginning,
        prefix_length=options.prefix_columns,
        round_sizes=should_round(device, dtype, config.emb_dim),
    )


def _settings(
    options: FinetuneOptions,
    config: ModelConfig,
    device: torch.device,
    dtype: str,
    train_loader: DataLoader[Batch],
) -> TrainSettings:
    settings = TrainSettings(
        num_epochs=options.epochs,  # type: ignore[arg-type]  # set by the recipe, if not given
        max_steps=options.max_steps,
        peak_lr=options.lr,  # type: ignore[arg-type]
        accumulation_steps=options.accumulation_steps,
        eval_freq=options.eval_freq,
        dtype=dtype,
        seed=options.seed,
        cross_entropy=summed_cross_entropy_in_place,
        batch_loss=_batch_loss(options, config, device, dtype),
        reduce=distributed.all_reduce_sum,
    )
    # a short run warms up for a tenth of its steps, so that it learns at full rate for most of it
    tenth = total_steps(train_loader, settings) // 10
    return replace(settings, warmup_steps=min(options.warmup_steps, tenth))
