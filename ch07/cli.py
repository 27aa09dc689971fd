"""The command line: arguments in, an exit code out. `python -m ch07 --help` lists the commands.

Exit codes: 0 ok, 1 it failed or the data is bad, 2 wrong usage, 130 interrupted. Heavy imports
happen inside the commands, so that `--help` answers at once.
"""

import argparse
import io
import os
import sys
from dataclasses import fields

from ch07.options import RECIPES, FinetuneOptions, OptionError

# Large pages for large tensors on Linux, where they save a tenth of a training step. PyTorch reads
# this when it first allocates (c10/core/impl/alloc_cpu.cpp), so it comes before its import.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

EXPECTED = (ValueError, RuntimeError, OSError)  # a person can act on these without a traceback

HELP = {
    "data": "JSON or JSONL file in Alpaca form (default: the bundled toy instructions)",
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
    "seed": "of weights, order, dropout and split",
    "loss_on": "count all targets, or those of the response only",
    "allowed_max_length": "cut rows to so many tokens",
    "prompt_style": "how an entry is written as text",
    "split": "by groups of equal prompts, or by position as in the book",
    "device": "auto, cpu, cuda or mps",
    "dtype": "number format of matrix products",
    "eval_freq": "updates between two evaluations",
    "max_steps": "stop after so many updates",
    "checkpoint_minutes": "minutes between two checkpoints",
    "skip_bad_rows": "leave faulty rows out (and count them) instead of refusing the file",
    "force": "start although memory or disk seem too small",
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


def main(argv=None):
    """Parse the arguments, run the command, and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "finetune")  # `python -m ch07` is `python -m ch07 finetune`
    arguments = vars(_parser().parse_args(argv))
    command, verbose = arguments.pop("run"), arguments.pop("verbose")
    _prepare_streams()
    try:
        code = command(**arguments)
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be told
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except EXPECTED as error:
        if verbose:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1


def _prepare_streams():
    """Letters that a terminal or file can't take are escaped; a closed stream is an empty one."""
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    elif hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


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


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m ch07", description="Instruction fine-tuning by hand."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, text):
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(run=run)
        return sub

    _add_finetune(command("finetune", _finetune, "train, answer, score (the default command)"))

    respond = command("respond", _respond, "print one answer")
    respond.add_argument("folder", metavar="RUN", help="a run folder")
    respond.add_argument("instruction")
    respond.add_argument("--input", dest="text", default="", help="what the instruction works on")
    _add_generation(respond)

    evaluate = command("evaluate", _evaluate, "score a run on its held-out entries, or on a file")
    evaluate.add_argument("folder", metavar="RUN", help="a run folder")
    evaluate.add_argument("--data", help="JSON or JSONL file (default: the run's held-out entries)")
    evaluate.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    evaluate.add_argument("--skip-bad-rows", action="store_true", help="leave faulty rows out")
    evaluate.add_argument("--max-new-tokens", type=TOKENS, default=256)
    evaluate.add_argument("--device", default="auto")

    _add_grid(command("grid", _grid, "show a batch token by token: id, text, role, target"))

    _add_check(command("check", _check, "check an exercise: the mistake is named, not the line"))

    chat = command("chat", _chat, "talk to a run in the terminal")
    chat.add_argument("folder", metavar="RUN", help="a run folder")
    _add_generation(chat)
    return parser


def _add_finetune(sub):
    """One flag for each field of FinetuneOptions; what isn't given isn't in the namespace."""
    for field in fields(FinetuneOptions):
        flag = "--" + field.name.replace("_", "-")
        text = HELP[field.name]
        if field.type is bool:
            sub.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)
            continue
        shown = "" if field.default is None else f" (default: {field.default})"
        if field.name in RECIPES["random"]:
            values = [RECIPES[start][field.name] for start in ("random", "trained")]
            shown = " (default: {} from random weights, {} from trained ones)".format(*values)
        sub.add_argument(
            flag,
            type=TYPES[field.type],
            choices=CHOICES.get(field.name),
            default=argparse.SUPPRESS,
            help=text + shown,
        )
    sub.add_argument("--resume", action="store_true", help="go on with the run in --out")


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


def _finetune(resume, **given):
    from ch07.finetune import finetune

    return finetune(given, resume)


def _respond(**arguments):
    from ch07.chat import respond_once

    return respond_once(**arguments)


def _evaluate(**arguments):
    from ch07.evaluate import evaluate

    return evaluate(**arguments)


def _grid(**arguments):
    from ch07.grid import grid

    return grid(**arguments)


def _check(**arguments):
    from ch07.check import check

    return check(**arguments)


def _chat(**arguments):
    from ch07.chat import chat

    return chat(**arguments)
