"""The settings of a run, with their defaults: the one place where they stand.

Imports nothing heavy, so that `--help` answers at once.
"""

import math
from dataclasses import dataclass, fields

from ch07.utils.errors import OptionError

AT_LEAST_1 = (
    "epochs",
    "batch_size",
    "accumulation_steps",
    "allowed_max_length",
    "eval_freq",
    "max_steps",
    "lora_rank",
    "prefix_length",
    "prefix_hidden",
    "train_rows",
)
METHODS = ("full", "lora", "prefix")  # what is trained: all weights, or an adapter beside them


RANDOM_START = "gpt2-tiny"  # the one size that no weights are published for
# A model that knows nothing sees its rows often and changes fast; one that has learned a language
# already keeps it only if it changes slowly (the book's section 7.6). An adapter starts from
# nothing beside one that has learned, so it changes fast.
RECIPES = {
    "random": {"epochs": 6, "batch_size": 48, "lr": 2.5e-3},
    "trained": {"epochs": 2, "batch_size": 8, "lr": 5e-5},
    "lora": {"epochs": 2, "batch_size": 8, "lr": 3e-4},
    "prefix": {"epochs": 2, "batch_size": 8, "lr": 1e-2},
    # Reading plain text, whose every token is a target: rows are long, and there are few steps.
    "text": {"epochs": 1, "batch_size": 8, "lr": 5e-3, "allowed_max_length": 128},
}


@dataclass(frozen=True)
class FinetuneOptions:
    """What `python -m ch07 finetune` can be told; each field but `text` is a flag."""

    data: str | None = None  # a file, a store, or hf:NAME; None: the bundled toy instructions
    model: str = "gpt2-tiny"  # or a published size, or a folder or file with weights
    out: str | None = None  # the run folder; None: the next free runs/N
    epochs: int | None = None  # these three: None is what suits the model's start, see RECIPES
    batch_size: int | None = None
    lr: float | None = None  # at the peak, after warmup
    warmup_steps: int = 50
    weight_decay: float = 0.1
    method: str = "full"  # or "lora", "prefix": a small adapter beside frozen weights
    lora_rank: int = 8
    lora_alpha: float = 16.0  # the correction counts alpha / rank
    prefix_length: int = 16  # columns in front of every row
    prefix_hidden: int | None = None  # width of the layers that make the prefix; None: no layers
    optimizer: str = "auto"  # or "adamw", "muon"; auto: muon if the weights start at random
    accumulation_steps: int = 1
    train_rows: int | None = None  # so many training rows, of all families alike; None: all
    seed: int = 123
    loss_on: str = "response"  # or "all"
    allowed_max_length: int | None = None  # tokens; None: nothing is cut
    prompt_style: str | None = None  # as the model was trained, else the book's
    split: str = "groups"  # or "book": by position; or "hf": as `datasets` does it
    device: str = "auto"
    dtype: str = "auto"  # or "float32", "bfloat16"
    eval_freq: int = 100  # updates between two evaluations
    max_steps: int | None = None
    checkpoint_minutes: float = 5.0
    skip_bad_rows: bool = False
    force: bool = False  # start also where memory seems too small
    compile: bool = False  # by torch.compile, where that works
    shard: bool = False  # under torchrun: a part of the weights on each process, not a copy
    text: bool = False  # pretraining: `data` is plain text (None: the toy corpus), not rows

    @property
    def from_random(self):
        """Whether training starts from random weights."""
        return self.model == RANDOM_START

    @property
    def chosen_optimizer(self):
        """What "auto" stands for: Muon for random weights, AdamW for trained ones."""
        auto = "muon" if self.from_random else "adamw"
        return auto if self.optimizer == "auto" else self.optimizer

    @property
    def recipe(self):
        """Which of `RECIPES` holds where nothing else is said."""
        if self.text:
            return "text"
        start = "random" if self.from_random else "trained"
        return start if self.method == "full" else self.method

    @property
    def prefix_columns(self):
        """How much of a row's context the prefix takes."""
        return self.prefix_length if self.method == "prefix" else 0

    def __post_init__(self):
        self._check_method()
        for name, value in RECIPES[self.recipe].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in AT_LEAST_1:
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 10**9:
                raise OptionError(f"{name} is {value}, but must be between 1 and 10**9")
        for name in ("data", "model", "out"):
            if getattr(self, name) == "":
                raise OptionError(f"{name} is empty: give a path, or leave the option out")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise OptionError(f"lr is {self.lr}, but must be a number above 0")
        if not 0 < self.lora_alpha < math.inf:
            raise OptionError(f"lora_alpha is {self.lora_alpha}, but must be a number above 0")
        for name in ("weight_decay", "warmup_steps", "checkpoint_minutes"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} is {getattr(self, name)}, but must be 0 or more")
        if self.text and (self.loss_on != "all" or self.train_rows is not None):
            raise OptionError("plain text has no responses or rows: no --loss-on, no --train-rows")
        if not 0 <= self.seed < 2**31:
            raise OptionError(f"seed is {self.seed}, but must be between 0 and 2**31 - 1")

    def _check_method(self):
        """OptionError for a method that isn't known, or that can't be had together with others."""
        if self.method not in METHODS:
            raise OptionError(f"no method {self.method!r}; choose one of {', '.join(METHODS)}")
        for field in fields(self):
            of = field.name.split("_")[0]
            if of in METHODS and of != self.method and getattr(self, field.name) != field.default:
                flag = "--" + field.name.replace("_", "-")
                raise OptionError(f"{flag} is for --method {of}, but the method is {self.method}")
        if self.method == "full":
            return
        if self.from_random:
            raise OptionError(
                f"--method {self.method} trains a little beside weights that have learned, and "
                f"{RANDOM_START} has none yet: say with --model which (a run folder, or gpt2-small)"
            )
        if self.method == "prefix" and self.optimizer == "muon":
            raise OptionError("a prefix has no matrices for muon: leave --optimizer out")
        if self.shard:
            raise OptionError("--shard spreads weights that are trained: it needs --method full")


# These may differ between a run and its resumption: they change no number. Data and weights that
# moved are known by their hashes.
FREE_ON_RESUME = ("out", "checkpoint_minutes", "data", "model", "force", "shard")
