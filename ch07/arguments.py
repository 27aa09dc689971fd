"""What each command can be told: its arguments, their help, and what they may be.

Imports nothing heavy, so that `--help` answers at once.
"""

import argparse
from dataclasses import fields

from ch07.options import RECIPES, FinetuneOptions

HELP = {
    "data": "JSON or JSONL file in Alpaca form, or a token store (default: the bundled toy "
    "instructions)",
    "model": "gpt2-tiny (random weights), gpt2-small, -medium, -large or -xl (published ones, "
    "downloaded once), or a folder or file with weights",
    "out": "run folder (default: the next free runs/N)",
    "epochs": "passes over the training rows",
    "batch_size": "rows in a batch",
    "lr": "learning rate at its peak",
    "warmup_steps": "updates until the learning rate is at its peak",
    "weight_decay": "AdamW's weight decay",
    "optimizer": "auto is muon for a model that starts from random weights, else adamw",
    "accumulation_steps": "batches that make up one update",
    "train_rows": "train on so many of the training rows, of all families alike; what is held out "
    "stays the same",
    "seed": "of weights, order, dropout and split",
    "loss_on": "count all targets, or those of the response only",
    "allowed_max_length": "cut rows to so many tokens",
    "prompt_style": "how an entry is written as text (default: as the model was trained, or book)",
    "split": "by groups of equal prompts, or by position as in the book",
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
    "loss_on": ("all", "response"),
    "prompt_style": ("book", "alpaca", "chinese-alpaca", "question-answer", "phi3"),
    "split": ("groups", "book"),
    "optimizer": ("auto", "adamw", "muon"),
    "dtype": ("auto", "float32", "bfloat16"),
}
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
FINETUNING = {"random": "{} from random weights", "trained": "{} from trained ones"}  # defaults
FORMATS = ("f32", "f16")
PUBLISHED_SIZES = ("gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl")


def _number(kind, low, high):
    """An argparse type: a number from low to high."""

    def parse(text):
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    parse.__name__ = kind.__name__  # argparse says "invalid int value"
    return parse


TOKENS = _number(int, 0, 10**6)


def make_parser():
    """The parser; what it gives has the name of the command in `command`."""
    parser = argparse.ArgumentParser(
        prog="python -m ch07", description="Instruction fine-tuning by hand."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, text):
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(command=name)
        return sub

    _add_finetune(command("finetune", "train, answer, score (the default command)"))
    _add_pretrain(command("pretrain", "learn to say the next word of plain text"))

    respond = command("respond", "print one answer")
    respond.add_argument("folder", metavar="RUN", help="a run folder")
    respond.add_argument("instruction")
    respond.add_argument("--input", dest="text", default="", help="what the instruction works on")
    _add_generation(respond)

    _add_evaluate(command("evaluate", "score a run on its held-out entries, or on a file"))

    compare = command("compare", "name the first step at which two runs depart, and why")
    compare.add_argument("one", metavar="RUN", help="a run folder")
    compare.add_argument("two", metavar="RUN", help="another")
    compare.add_argument("--json", dest="as_json", action="store_true", help="print JSON")

    _add_doctor(command("doctor", "is this machine, and this data file, ready?"))
    _add_grid(command("grid", "show a batch token by token: id, text, role, target"))
    _add_tokenize(command("tokenize", "write a JSONL file of any size as a store to train on"))
    _add_check(command("check", "check an exercise: the mistake is named, not the line"))

    chat = command("chat", "talk to a run in the terminal")
    chat.add_argument("folder", metavar="RUN", help="a run folder")
    _add_generation(chat)

    export = command("export", "write a run as a folder that Hugging Face's transformers loads")
    export.add_argument("folder", metavar="RUN", help="a run folder")
    export.add_argument("target", metavar="DIR", help="the new folder")
    export.add_argument("--gguf", choices=FORMATS, help="also as one file for llama.cpp")

    verify = command("verify-weights", "hold published weights against what others published")
    verify.add_argument("name", choices=PUBLISHED_SIZES)
    verify.add_argument("--path", help="a file that was downloaded by hand")
    verify.add_argument("--device", default="auto")
    return parser


def _add_evaluate(sub):
    sub.add_argument("folder", metavar="RUN", help="a run folder")
    sub.add_argument("--data", help="JSON or JSONL file (default: the run's held-out entries)")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    sub.add_argument("--losses", action="store_true", help="the last logged losses, computed anew")
    sub.add_argument("--skip-bad-rows", action="store_true", help="leave faulty rows out")
    sub.add_argument("--max-new-tokens", type=TOKENS, default=256)
    sub.add_argument("--device", default="auto")


def _add_doctor(sub):
    sub.add_argument("data", nargs="?", default=argparse.SUPPRESS, help=HELP["data"])
    sub.add_argument("--data", default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # as finetune has
    sub.add_argument("--write-clean", metavar="FILE", help="write the rows that can be used")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    _add_options(sub, [field for field in fields(FinetuneOptions) if field.name not in NOT_ASKED])


def _add_finetune(sub):
    _add_options(sub, [field for field in fields(FinetuneOptions) if field.name != "text"])
    start = sub.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with the run in --out")
    start.add_argument("--like", metavar="RUN", help="a new run with the settings of another")


def _add_pretrain(sub):
    sub.add_argument(
        "--corpus",
        dest="data",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="plain text in UTF-8; its documents stand between blank lines, or between "
        "<|endoftext|> (default: stories of the toy instructions' world)",
    )
    sub.add_argument("--resume", action="store_true", help="go on with the run in --out")
    asked = [field for field in fields(FinetuneOptions) if field.name in OF_TEXT]
    _add_options(sub, asked, {"text": "{}"})


def _add_options(sub, asked, starts=FINETUNING):
    """One flag for each field of FinetuneOptions; what isn't given isn't in the namespace."""
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


def _add_grid(sub):
    sub.add_argument("data", nargs="?", help="JSON or JSONL file (default: the bundled data)")
    sub.add_argument("--rows", type=_number(int, 1, 1000), default=3, help="the first N rows")
    sub.add_argument("--run", dest="folder", metavar="RUN", help="with its style and its losses")
    sub.add_argument("--png", metavar="FILE", help="draw a picture instead")
    sub.add_argument("--sentences", action="store_true", help="a line per token, to be read aloud")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    sub.add_argument("--allowed-max-length", type=_number(int, 1, 10**6), help="tokens of a row")
    sub.add_argument("--loss-on", choices=CHOICES["loss_on"], default="response")
    sub.add_argument("--prompt-style", choices=CHOICES["prompt_style"])
    sub.add_argument("--skip-bad-rows", action="store_true", help="leave faulty rows out")


def _add_tokenize(sub):
    sub.add_argument("path", metavar="FILE", help="a JSONL file, read line by line")
    sub.add_argument("folder", metavar="STORE", help="the new folder")
    sub.add_argument("--prompt-style", choices=CHOICES["prompt_style"])
    sub.add_argument("--skip-bad-rows", action="store_true", help=HELP["skip_bad_rows"])


def _add_check(sub):
    sub.add_argument("path", metavar="FILE", nargs="?", help="your file, or a folder of them")
    sub.add_argument("--start", metavar="FOLDER", help="copy the stubs of all exercises there")
    sub.add_argument("--hint", metavar="NAME", help="a hint for an exercise")
    sub.add_argument("--level", type=_number(int, 1, 3), default=1, help="1, 2 or 3: says more")
    sub.add_argument("--seconds", type=_number(float, 0.1, 3600), default=10.0, help="time limit")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")


def _add_generation(sub):
    temperature, share = _number(float, 0.0, 1e6), _number(float, 1e-9, 1.0)
    sub.add_argument("--max-new-tokens", type=TOKENS, default=256)
    sub.add_argument("--temperature", type=temperature, default=0.0, help="0: the likeliest token")
    sub.add_argument("--top-k", type=_number(int, 1, 10**6), help="among the k likeliest tokens")
    sub.add_argument("--top-p", type=share, help="among the fewest tokens with this share")
    sub.add_argument("--seed", type=_number(int, 0, 2**31 - 1), help="of sampling")
    sub.add_argument("--device", default="auto")
