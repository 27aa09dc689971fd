"""Every setting of a training run, defined once: its default, help, range and choices.

The command line, the checks and the page docs/reference/settings.md are all made from the
fields below. Imports nothing heavy, so that `--help` answers at once.

The command line stays argparse: every reader knows it, and it starts fast. Importing tyro took ten
times as long as importing argparse, typer thirty and jsonargparse fifty times (`python -X
importtime`, the best of three), and each phrases usage errors in its own way.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ch07.utils.errors import OptionError
from ch07.utils.validation import has_lone_surrogate

METHODS = ("full", "lora", "prefix")  # what is trained: all weights, or an adapter beside them
PROMPT_STYLES = ("book", "alpaca", "chinese-alpaca", "question-answer", "phi3", "chatml", "llama-3")
LOSS_ON = ("all", "response", "last-response")  # which targets are counted
# Whose token ids and labels a run trains on: this project's, or another's.
ROW_FORMS = ("own", "alpaca", "chinese-alpaca", "chatglm", "lamini")
# The tokens at which the other projects cut a row, unless another limit is given.
ROW_LENGTHS = {"alpaca": 512, "chinese-alpaca": 512, "lamini": 2048}
CHATGLM_LENGTH = 64  # of a question, and of an answer, each with its special tokens
# The tokens of a pair whose log-probabilities are counted.
COUNTED_PARTS = {
    "answer-and-end": ("answer", "end"),
    "answer": ("answer",),
    "header-and-answer": ("header", "answer"),
    "header-answer-and-end": ("header", "answer", "end"),
}
DEFAULT_COUNTED = "answer-and-end"
LOGS = ("tensorboard",)  # what --log can write besides metrics.jsonl
ANSWER_TOKENS = 256  # the most tokens of an answer, unless another limit is given
RANDOM_START = "gpt2-tiny"  # the one size that no weights are published for

# Defaults that depend on where training starts. A model with random weights needs many passes and a
# high learning rate. A trained one keeps what it knows only if its weights change slowly (the
# book's section 7.6). An adapter is itself untrained, so its learning rate is high again.
RECIPES: dict[str, dict[str, Any]] = {
    "random": {"epochs": 6, "batch_size": 48, "lr": 2.5e-3},
    "trained": {"epochs": 2, "batch_size": 8, "lr": 5e-5},
    "lora": {"epochs": 2, "batch_size": 8, "lr": 3e-4},
    "prefix": {"epochs": 2, "batch_size": 8, "lr": 1e-2},
    # Plain text, whose every token is a target: rows are long, and there are few steps.
    "text": {"epochs": 1, "batch_size": 8, "lr": 5e-3, "allowed_max_length": 128},
}
# The best settings measured for fine-tuning on 1,000 of the bundled rows.
AFTER_PRETRAINING = "--train-rows 1000 --epochs 12 --batch-size 16 --lr 2.5e-3 --optimizer muon"
WITHOUT_PRETRAINING = "--train-rows 1000 --epochs 24 --batch-size 16 --lr 5e-3"
RUN_RECIPES = ("random", "trained", "lora", "prefix")  # those of `finetune`
RECIPE_TITLES = {
    "random": "random weights",
    "trained": "trained weights",
    "lora": "LoRA",
    "prefix": "a prefix",
    "text": "plain text",
}

# DPO, from a model that was fine-tuned already. The first rate is the book's, for 355M weights; so
# few steps of it leave a small model unchanged.
PREFER_LR = "5e-6"
PREFER_LR_OF_SMALL_MODELS = "5e-5"

# Which commands have a flag for a setting.
ALL = ("finetune", "doctor", "pretrain")
ROWS = ("finetune", "doctor")  # not for plain text, which has no rows
TRAINING = ("finetune", "pretrain")  # `doctor` trains nothing
FINETUNE = ("finetune",)
PREFER = ("prefer",)
MAX_COUNT = 10**9
MAX_SEED = 2**31 - 1


def setting(
    default: Any,
    *,
    help: str,
    commands: Sequence[str],
    default_means: str | None = None,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    may_change_on_resume: bool = False,
) -> Any:
    """A dataclass field with its help, its range and the commands that have a flag for it.

    `default_means` is what a default of None stands for. `minimum` and `maximum` are allowed
    values, `above` is not. `may_change_on_resume`: the setting may differ when a
    run is resumed.
    """
    metadata = {
        "help": help,
        "commands": tuple(commands),
        "default_means": default_means,
        "choices": None if choices is None else tuple(choices),
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "may_change_on_resume": may_change_on_resume,
    }
    return dataclasses.field(default=default, metadata=metadata)


def count_setting(
    default: int | None, *, help: str, commands: Sequence[str], **options: Any
) -> Any:
    """A setting that is a whole number of at least 1; `options` are those of `setting`."""
    return setting(default, help=help, commands=commands, minimum=1, maximum=MAX_COUNT, **options)


# --- settings that `prefer` has, too: what is shown while a run trains ----------------------------
SAMPLE_TOKENS = 40  # the longest answer that is shown at an evaluation, unless another is asked for


def sample_tokens_setting(commands: Sequence[str]) -> Any:
    """How long the answers are that are shown at evaluations."""
    return setting(
        SAMPLE_TOKENS,
        help="longest answer to a held-out question that is shown at an evaluation, in tokens; "
        "0: none is shown",
        commands=commands,
        minimum=0,
        maximum=MAX_COUNT,
        may_change_on_resume=True,
    )


def watch_setting(commands: Sequence[str]) -> Any:
    """Whether a page is written that follows the training."""
    return setting(
        False,
        help="write watch.html in the run folder at each evaluation, a page with the losses and "
        "answers so far, and open it in the browser",
        commands=commands,
        may_change_on_resume=True,
    )


def log_setting(commands: Sequence[str]) -> Any:
    """Which other program's log files are written."""
    return setting(
        None,
        help="also write losses and answers as event files for TensorBoard",
        commands=commands,
        choices=LOGS,
        may_change_on_resume=True,
    )


def listed(data: str | Sequence[str] | None) -> list[str]:
    """The files of the setting `data`: none, one or several.

    >>> listed(None), listed("a.json"), listed(["a.json", "b.json"])
    ([], ['a.json'], ['a.json', 'b.json'])
    """
    if data is None:
        return []
    return [data] if isinstance(data, str) else list(data)


def flag_of(name: str) -> str:
    """The flag of a setting: `--max-steps` for `max_steps`."""
    return "--" + name.replace("_", "-")


def check_ranges(config: Any) -> None:
    """OptionError for the first setting whose value is outside its range or its choices."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None or isinstance(value, bool) or not field.metadata:
            continue
        choices = field.metadata["choices"]
        if choices is not None and value not in choices:
            known = ", ".join(choices)
            raise OptionError(f"{field.name} is {value!r}, but must be one of {known}")
        wanted = range_sentence(field.metadata)
        if wanted and not _in_range(value, field.metadata):
            raise OptionError(f"{field.name} is {value}, but must be {wanted}")


def _in_range(value: float, metadata: Mapping[str, Any]) -> bool:
    low = metadata["minimum"]
    above = metadata["above"]
    high = metadata["maximum"]
    if not math.isfinite(value):
        return False
    if above is not None and value <= above:
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def range_sentence(metadata: Mapping[str, Any]) -> str:
    """The allowed range in words, as in "between 1 and 10**9"; empty if there is no limit."""
    low = metadata["minimum"]
    above = metadata["above"]
    high = metadata["maximum"]
    if low is not None and high is not None:
        return f"between {_format_limit(low)} and {_format_limit(high)}"
    if above is not None and high is not None:
        return f"above {_format_limit(above)} and at most {_format_limit(high)}"
    if above is not None:
        return f"a number above {_format_limit(above)}"
    return "" if low is None else f"{_format_limit(low)} or more"


def _format_limit(limit: float) -> str:
    names: dict[float, str] = {MAX_COUNT: "10**9", MAX_SEED: "2**31 - 1"}
    return names.get(limit, f"{limit:g}")


@dataclass(frozen=True)
class FinetuneOptions:
    """The settings of `python -m ch07 finetune`, and of `pretrain`, which is the same training.

    `epochs`, `batch_size`, `lr` and, for plain text, `allowed_max_length` are None where the recipe
    of the run's start decides (`RECIPES`); after construction they hold its values.
    """

    data: str | list[str] | None = setting(  # noqa: RUF009  (its default is None, not a list)
        None,
        help="files of rows (JSON, JSONL, CSV, Parquet and more), a folder of them, - for standard "
        "input, a token store, toy:instructions or toy:conversations (bundled), or "
        "hf:NAME[:SPLIT], a dataset on the Hugging Face Hub",
        default_means="the bundled toy instructions",
        commands=FINETUNE,
        may_change_on_resume=True,
    )
    model: str = setting(
        RANDOM_START,
        help="gpt2-tiny (random weights), gpt2-small, -medium, -large or -xl (published ones, "
        "downloaded once), smollm2 (in a Python package), or a folder or file with weights",
        commands=ROWS,
        may_change_on_resume=True,
    )
    out: str | None = setting(
        None,
        help="run folder",
        default_means="the next free runs/N",
        commands=TRAINING,
        may_change_on_resume=True,
    )
    epochs: int | None = count_setting(None, help="passes over the training rows", commands=ALL)
    batch_size: int | None = count_setting(None, help="rows in a batch", commands=ALL)
    lr: float | None = setting(None, help="peak learning rate", commands=ALL, above=0)
    warmup_steps: int = setting(
        50, help="updates until the learning rate reaches its peak", commands=ROWS, minimum=0
    )
    weight_decay: float = setting(0.1, help="AdamW's weight decay", commands=ROWS, minimum=0)
    beta2: float = setting(
        0.95,
        help="how much of AdamW's average of squared gradients an update keeps",
        commands=ROWS,
        minimum=0,
        maximum=0.99999,
    )
    method: str = setting(
        "full",
        help="train all weights, or only an adapter: LoRA or a prefix",
        commands=ROWS,
        choices=METHODS,
    )
    lora_rank: int = count_setting(8, help="rank of LoRA's corrections", commands=ROWS)
    lora_alpha: float = setting(
        16.0, help="LoRA's corrections are scaled by alpha / rank", commands=ROWS, above=0
    )
    prefix_length: int = count_setting(
        16, help="columns of the prefix in front of every row", commands=ROWS
    )
    prefix_hidden: int | None = count_setting(
        None,
        help="while training, compute the prefix with two layers of this width",
        commands=ROWS,
    )
    prefix_dropout: float = setting(
        0.0,
        help="share of the prefix that dropout sets to zero in training, as in P-tuning v2",
        commands=ROWS,
        minimum=0,
        maximum=0.99,
    )
    residual_dropout: float = setting(
        0.0,
        help="dropout rate of the last block, to which the rates rise evenly from 0 in the first "
        "(LIMA: 0.3)",
        commands=ROWS,
        minimum=0,
        maximum=0.99,
    )
    optimizer: str = setting(
        "auto",
        help="auto is muon for a model that starts from random weights, else adamw",
        commands=ROWS,
        choices=("auto", "adamw", "muon"),
    )
    accumulation_steps: int = count_setting(
        1, help="batches that make up one update", commands=ROWS
    )
    chunk_batches: int = count_setting(
        50,
        help="sort rows by length within so many batches, to save padding; 1: lengths are mixed",
        commands=ROWS,
    )
    train_rows: int | None = count_setting(
        None,
        help="train on this many of the training rows, spread over all families; the held-out rows "
        "stay the same",
        commands=ROWS,
    )
    seed: int = setting(
        123,
        help="random seed of weights, order, dropout and split",
        commands=ALL,
        minimum=0,
        maximum=MAX_SEED,
    )
    loss_on: str = setting(
        "response",
        help="count all targets, only those of responses, or of a conversation's last response",
        commands=ROWS,
        choices=LOSS_ON,
    )
    allowed_max_length: int | None = count_setting(
        None, help="cut rows to this many tokens", commands=ALL
    )
    rows: str = setting(
        "own",
        help="train on this project's token ids and labels, or on exactly those of another project "
        "(docs/reference/systems)",
        commands=ROWS,
        choices=ROW_FORMS,
    )
    corrected: bool = setting(
        False,
        help="with --rows: mend the other project's faults, such as prompts so long that nothing "
        "of the answer is left",
        commands=ROWS,
    )
    max_source_length: int | None = count_setting(
        None,
        help="with --rows chatglm, or with --corrected: cut prompts to this many tokens",
        default_means=f"{CHATGLM_LENGTH} for chatglm, else none",
        commands=ROWS,
    )
    max_target_length: int | None = count_setting(
        None,
        help="with --rows chatglm, or with --corrected: cut answers to this many tokens, their end "
        "included",
        default_means=f"{CHATGLM_LENGTH} for chatglm, else none",
        commands=ROWS,
    )
    end_of_turn: bool = setting(
        False,
        help="end answers with a new token for this purpose, as LIMA does, not with end-of-text",
        commands=ROWS,
    )
    prompt_style: str | None = setting(
        None,
        help="how an entry is written as text",
        default_means="as the model was trained, or book",
        commands=ROWS,
        choices=PROMPT_STYLES,
    )
    split: str = setting(
        "groups",
        help="groups keeps equal prompts together, book splits by position, and hf is "
        "train_test_split of Hugging Face's datasets (which makes no validation set)",
        commands=ROWS,
        choices=("groups", "book", "hf"),
    )
    device: str = setting("auto", help="auto, cpu, cuda or mps", commands=ALL)
    dtype: str = setting(
        "auto",
        help="number format of matrix products; auto is the faster one, measured at the start",
        commands=ALL,
        choices=("auto", "float32", "bfloat16"),
    )
    shared_beginning: str = setting(
        "once",
        help="compute what all rows of a batch begin with once, or for each row; the result is "
        "the same up to rounding",
        commands=FINETUNE,
        choices=("once", "per-row"),
    )
    threads: int | None = count_setting(
        None,
        help="threads of matrix products on a CPU",
        default_means="as many as are fastest now",
        commands=ALL,
        may_change_on_resume=True,
    )
    eval_freq: int = count_setting(100, help="updates between two evaluations", commands=TRAINING)
    sample_tokens: int = sample_tokens_setting(TRAINING)
    watch: bool = watch_setting(TRAINING)
    log: str | None = log_setting(TRAINING)
    max_steps: int | None = count_setting(None, help="stop after this many updates", commands=ALL)
    checkpoint_minutes: float = setting(
        5.0,
        help="minutes between two checkpoints",
        commands=TRAINING,
        minimum=0,
        may_change_on_resume=True,
    )
    skip_bad_rows: bool = setting(
        False,
        help="leave faulty rows out (and count them) instead of refusing the file",
        commands=ALL,
    )
    force: bool = setting(
        False,
        help="start even if memory or disk space seems too small",
        commands=ALL,
        may_change_on_resume=True,
    )
    compile: bool = setting(
        False,
        help="speed up training with torch.compile, after up to a minute of compiling",
        commands=FINETUNE,
    )
    shard: bool = setting(
        False,
        help="under torchrun, spread the weights over the processes instead of copying them",
        commands=FINETUNE,
        may_change_on_resume=True,
    )
    text: bool = setting(  # `pretrain` sets it; `data` is then plain text, not rows
        False, help="train on plain text", commands=()
    )

    @property
    def from_random(self) -> bool:
        """Whether training starts from random weights."""
        return self.model == RANDOM_START

    @property
    def chosen_optimizer(self) -> str:
        """What "auto" stands for: Muon for random weights, AdamW for trained ones."""
        auto = "muon" if self.from_random else "adamw"
        return auto if self.optimizer == "auto" else self.optimizer

    @property
    def recipe(self) -> str:
        """The key of `RECIPES` whose values are the defaults of this run."""
        if self.text:
            return "text"
        start = "random" if self.from_random else "trained"
        return start if self.method == "full" else self.method

    @property
    def prefix_columns(self) -> int:
        """How many columns of a row's context the prefix takes."""
        return self.prefix_length if self.method == "prefix" else 0

    def __post_init__(self) -> None:
        self._check_method()
        self._check_rows()
        for name, value in RECIPES[self.recipe].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_ranges(self)
        paths = [("data", path) for path in listed(self.data)]
        for name, path in [*paths, ("model", self.model), ("out", self.out)]:
            if path == "":
                raise OptionError(f"{name} is empty: give a path, or leave the option out")
            if name != "out" and has_lone_surrogate(path or ""):  # config.json couldn't store it
                raise OptionError(f"the path of {name} isn't valid UTF-8: rename the file")
        if self.text and (self.loss_on != "all" or self.train_rows is not None):
            raise OptionError(
                "plain text has no responses or rows: leave out --loss-on and --train-rows"
            )

    def _check_rows(self) -> None:
        """OptionError for a setting that would do nothing with these rows."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, remedy in self._unused_with_rows().items():
            if getattr(self, name) != defaults[name]:
                raise OptionError(f"{flag_of(name)} has no use with --rows {self.rows}: {remedy}")

    def _unused_with_rows(self) -> dict[str, str]:
        """{setting that the rows don't use: what to do instead}."""
        limits = ("max_source_length", "max_target_length")
        if self.rows == "own":
            return dict.fromkeys(("corrected", *limits), "choose another project's rows")
        decided = "these rows determine it, so leave it out"
        unused: dict[str, str] = dict.fromkeys(("loss_on", "prompt_style", "end_of_turn"), decided)
        if self.rows == "chatglm":
            unused["allowed_max_length"] = "use --max-source-length and --max-target-length"
        elif self.rows == "lamini":
            unused["corrected"] = "use --rows own --prompt-style question-answer"
            unused |= dict.fromkeys(limits, "use --allowed-max-length")
        elif not self.corrected:
            unused |= dict.fromkeys(limits, "use --allowed-max-length, or add --corrected")
        return unused

    def _check_method(self) -> None:
        """OptionError for an unknown method, or one that doesn't fit the other settings."""
        if self.method not in METHODS:
            raise OptionError(f"no method {self.method!r}; choose one of {', '.join(METHODS)}")
        for field in dataclasses.fields(self):
            owner = field.name.split("_")[0]  # lora_rank is a setting of the method lora
            if owner not in METHODS or owner == self.method:
                continue
            if getattr(self, field.name) != field.default:
                flag = flag_of(field.name)
                raise OptionError(
                    f"{flag} is for --method {owner}, but the method is {self.method}"
                )
        if self.method == "full":
            return
        if self.from_random:
            raise OptionError(
                f"--method {self.method} trains an adapter on a trained model, but "
                f"{RANDOM_START} starts from random weights: choose a trained model with --model "
                "(a run folder, or gpt2-small)"
            )
        if self.method == "prefix" and self.optimizer == "muon":
            raise OptionError("a prefix has no matrices for muon: leave --optimizer out")
        if self.shard:
            raise OptionError("--shard spreads weights that are trained: it needs --method full")


@dataclass(frozen=True)
class PreferOptions:
    """The settings of `python -m ch07 prefer`."""

    model: str  # the folder of the run to start from
    data: str | None = None  # a file of pairs; None: toy pairs, with a full stop and without
    out: str | None = setting(
        None, help="run folder", default_means="the next free runs/N", commands=PREFER
    )
    beta: float = setting(
        0.1,
        help="larger values keep the model closer to RUN",
        commands=PREFER,
        minimum=1e-12,
        maximum=1e6,
    )
    label_smoothing: float = setting(
        0.0,
        help="assumed share of pairs whose labels are swapped",
        commands=PREFER,
        minimum=0,
        maximum=0.499,
    )
    reduction: str = setting(
        "sum",
        help="how the log-probabilities of an answer's tokens are combined",
        commands=PREFER,
        choices=("sum", "mean"),
    )
    counted: str = setting(
        DEFAULT_COUNTED,
        help="which tokens of a pair are counted: those of the answer, the end-of-text token after "
        "it, the response header before it (### Response:); the book's notebook takes the mean of "
        "header-and-answer",
        commands=PREFER,
        choices=tuple(COUNTED_PARTS),
    )
    epochs: int = count_setting(1, help="passes over the pairs", commands=PREFER)
    batch_size: int = count_setting(8, help="pairs in a batch", commands=PREFER)
    lr: float | None = setting(
        None,
        help="peak learning rate",
        default_means=f"{PREFER_LR}; small models {PREFER_LR_OF_SMALL_MODELS}",
        commands=PREFER,
        minimum=1e-12,
        maximum=1e6,
    )
    seed: int = setting(
        123, help="random seed of order and split", commands=PREFER, minimum=0, maximum=MAX_SEED
    )
    eval_freq: int = count_setting(10, help="updates between two evaluations", commands=PREFER)
    sample_tokens: int = sample_tokens_setting(PREFER)
    watch: bool = watch_setting(PREFER)
    log: str | None = log_setting(PREFER)
    max_steps: int | None = count_setting(
        None, help="stop after this many updates", commands=PREFER
    )
    checkpoint_minutes: float = setting(
        5.0, help="minutes between two checkpoints", commands=PREFER, minimum=0, maximum=1e6
    )
    skip_bad_rows: bool = setting(False, help="leave faulty rows out", commands=PREFER)
    device: str = setting("auto", help="auto, cpu, cuda or mps", commands=PREFER)
    optimizer: str = "adamw"  # fixed, but recorded in config.json

    def __post_init__(self) -> None:
        check_ranges(self)


# How runs of older versions computed, whose config.json doesn't mention these settings. All other
# settings that they lack had what is the default now.
OPTIONS_OF_OLDER_VERSIONS = {"shared_beginning": "per-row"}

# Settings that may differ between a run and its resumption: they change no number, except for the
# number of threads, which changes last bits. Data and weights that have moved are recognised by
# their hashes.
MAY_CHANGE_ON_RESUME = tuple(
    field.name
    for field in dataclasses.fields(FinetuneOptions)
    if field.metadata["may_change_on_resume"]
)


def default_text(field: dataclasses.Field[Any], recipes: Sequence[str] = RUN_RECIPES) -> str:
    """A setting's default in words; where the recipes decide, the value of each of them."""
    if field.default is None:
        if field.metadata["default_means"] is not None:
            return field.metadata["default_means"]
        if recipes and all(field.name in RECIPES[name] for name in recipes):
            values = [f"{RECIPES[name][field.name]} for {RECIPE_TITLES[name]}" for name in recipes]
            return ", ".join(values)
        return "none"
    if isinstance(field.default, bool):
        return "off"
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
