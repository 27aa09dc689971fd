"""What a run can be told: a flag for each option, its help, and what it may be.

Imports nothing heavy, so that `--help` answers at once.
"""

import argparse

from ch07.config import METHODS, RECIPES

HELP = {
    "data": "JSON or JSONL file in Alpaca form, a token store, or hf:NAME[:SPLIT], a dataset on "
    "the Hugging Face Hub (default: the bundled toy instructions)",
    "model": "gpt2-tiny (random weights), gpt2-small, -medium, -large or -xl (published ones, "
    "downloaded once), or a folder or file with weights",
    "out": "run folder (default: the next free runs/N)",
    "epochs": "passes over the training rows",
    "batch_size": "rows in a batch",
    "lr": "learning rate at its peak",
    "warmup_steps": "updates until the learning rate is at its peak",
    "weight_decay": "AdamW's weight decay",
    "method": "train all weights, or an adapter beside them: LoRA, or a prefix",
    "lora_rank": "rank of LoRA's corrections",
    "lora_alpha": "they count alpha / rank",
    "prefix_length": "columns of the prefix, in front of every row",
    "prefix_hidden": "make the prefix by two layers of this width while it is trained",
    "optimizer": "auto is muon for a model that starts from random weights, else adamw",
    "accumulation_steps": "batches that make up one update",
    "train_rows": "train on so many of the training rows, of all families alike; what is held out "
    "stays the same",
    "seed": "of weights, order, dropout and split",
    "loss_on": "count all targets, or those of the response only",
    "allowed_max_length": "cut rows to so many tokens",
    "prompt_style": "how an entry is written as text (default: as the model was trained, or book)",
    "split": "by groups of equal prompts, by position as in the book, or as train_test_split of "
    "Hugging Face's datasets (which validates nothing)",
    "device": "auto, cpu, cuda or mps",
    "dtype": "number format of matrix products",
    "eval_freq": "updates between two evaluations",
    "max_steps": "stop after so many updates",
    "checkpoint_minutes": "minutes between two checkpoints",
    "skip_bad_rows": "leave faulty rows out (and count them) instead of refusing the file",
    "force": "start although memory or disk seem too small",
    "compile": "let torch.compile make training faster, after up to a minute of its own work",
    "shard": "under torchrun, spread the weights over the processes instead of copying them",
}
CHOICES = {
    "method": METHODS,
    "loss_on": ("all", "response"),
    "prompt_style": ("book", "alpaca", "chinese-alpaca", "question-answer", "phi3"),
    "split": ("groups", "book", "hf"),
    "optimizer": ("auto", "adamw", "muon"),
    "dtype": ("auto", "float32", "bfloat16"),
    "documents": ("none", "oracle", "bm25"),
    "how": ("diverse", "longest", "random"),
    "what": ("response", "instruction"),
}
CHOICES["template"] = (*CHOICES["prompt_style"], "llama-3")
TYPES = {
    int: int,
    int | None: int,
    float: float,
    float | None: float,
    str: str,
    str | None: str,
}
NOT_ASKED = (  # of a doctor
    "data", "out", "checkpoint_minutes", "eval_freq", "compile", "shard", "text"
)  # fmt: skip
OF_TEXT = (  # what pretraining is asked
    "out epochs max_steps batch_size lr allowed_max_length seed eval_freq checkpoint_minutes "
    "device dtype force"
).split()
FINETUNING = {
    "random": "{} from random weights",
    "trained": "{} from trained ones",
    "lora": "{} for LoRA",
    "prefix": "{} for a prefix",
}  # defaults
FORMATS = ("f32", "f16")
PUBLISHED_SIZES = ("gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl")


def number(kind, low, high):
    """An argparse type: a number from low to high."""

    def parse(text):
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    parse.__name__ = kind.__name__  # argparse says "invalid int value"
    return parse


TOKENS = number(int, 0, 10**6)


def add_options(sub, asked, starts=FINETUNING):
    """One flag for each of these fields of `FinetuneOptions`; what isn't given isn't there."""
    for field in asked:
        flag = "--" + field.name.replace("_", "-")
        text = HELP[field.name]
        if field.type is bool:
            sub.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)
            continue
        shown = "" if field.default is None else f" (default: {field.default})"
        if all(field.name in RECIPES[start] for start in starts):
            values = [said.format(RECIPES[start][field.name]) for start, said in starts.items()]
            shown = f" (default: {', '.join(values)})"
        sub.add_argument(
            flag,
            type=TYPES[field.type],
            choices=CHOICES.get(field.name),
            default=argparse.SUPPRESS,
            help=text + shown,
        )
