"""The settings of a run, with their defaults: the one place where they stand.

Imports nothing heavy, so that `--help` answers at once.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FinetuneOptions:
    """What `python -m ch07 finetune` can be told; each field is a flag."""

    data: str | None = None  # a JSON or JSONL file; None: the bundled toy instructions
    model: str = "gpt2-tiny"  # a size that starts from random weights, or a run folder
    out: str | None = None  # the run folder; None: the next free runs/N
    epochs: int = 5
    batch_size: int = 16
    lr: float = 2e-3  # at the peak, after warmup
    warmup_steps: int = 100
    weight_decay: float = 0.1
    optimizer: str = "auto"  # or "adamw", "muon"; auto: muon if the weights start at random
    accumulation_steps: int = 1
    seed: int = 123
    loss_on: str = "response"  # or "all"
    allowed_max_length: int | None = None  # tokens; None: nothing is cut
    prompt_style: str = "book"
    split: str = "groups"  # or "book": by position
    device: str = "auto"
    dtype: str = "auto"  # or "float32", "bfloat16"
    eval_freq: int = 250  # updates between two evaluations
    max_steps: int | None = None
    checkpoint_minutes: float = 5.0
    skip_bad_rows: bool = False


# These may differ between a run and its resumption: they change no number.
FREE_ON_RESUME = ("out", "checkpoint_minutes")
