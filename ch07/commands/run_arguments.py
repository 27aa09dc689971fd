"""The arguments of the commands that train a run or use one."""

import argparse

from ch07.commands.argument_types import (
    COUNT,
    NEW_TOKENS,
    SEED,
    TEMPERATURE,
    TOP_P,
    add_data_files,
    add_data_option,
    add_device,
    add_json,
    add_settings,
    add_skip_bad_rows,
    add_weights,
    number,
    setting_help,
)
from ch07.config import ANSWER_TOKENS, FinetuneOptions, PreferOptions

GGUF_FORMATS = ("f32", "f16", "q8_0")
WEIGHT_BITS = (16, 24)
PUBLISHED_SIZES = ("gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl")
RUN = "a run folder"
RUN_OR_MODEL = "a run folder, smollm2, or a folder or .gguf file with another model"


def add_finetune(parser: argparse.ArgumentParser) -> None:
    """The arguments of `finetune`."""
    add_data_files(parser, help=setting_help(FinetuneOptions.__dataclass_fields__["data"]))
    add_settings(parser, FinetuneOptions, "finetune", leave_out=("data",))
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="resume the run in --out")
    start.add_argument("--like", metavar="RUN", help="a new run with the settings of another")


def add_pretrain(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pretrain`."""
    parser.add_argument(
        "--corpus",
        dest="data",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="plain text in UTF-8, with blank lines or <|endoftext|> between its documents "
        "(default: stories from the world of the toy instructions)",
    )
    parser.add_argument("--resume", action="store_true", help="resume the run in --out")
    add_settings(parser, FinetuneOptions, "pretrain", recipes=("text",))


def add_prefer(parser: argparse.ArgumentParser) -> None:
    """The arguments of `prefer`."""
    parser.add_argument(
        "model",
        metavar="RUN",
        nargs="?",
        default=argparse.SUPPRESS,
        help=f"{RUN_OR_MODEL}, to start from; it is not changed",
    )
    parser.add_argument(
        "data",
        nargs="?",
        default=argparse.SUPPRESS,
        help="a file of rows with a prompt, chosen and rejected (default: toy pairs)",
    )
    parser.add_argument("--resume", action="store_true", help="resume the run in --out")
    add_settings(parser, PreferOptions, "prefer", recipes=())


def add_respond(parser: argparse.ArgumentParser) -> None:
    """The arguments of `respond`."""
    parser.add_argument("folder", metavar="RUN", help=RUN_OR_MODEL)
    parser.add_argument("instruction")
    parser.add_argument(
        "--input", dest="text", default="", help="what the instruction is applied to"
    )
    _add_sampling(parser)


def add_chat(parser: argparse.ArgumentParser) -> None:
    """The arguments of `chat`."""
    parser.add_argument("folder", metavar="RUN", help=RUN_OR_MODEL)
    _add_sampling(parser)


def add_serve(parser: argparse.ArgumentParser) -> None:
    """The arguments of `serve`."""
    parser.add_argument("folder", metavar="RUN", help=RUN_OR_MODEL)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at (default: 127.0.0.1, this machine alone; others need a key)",
    )
    parser.add_argument(
        "--port",
        type=number(int, 0, 65535),
        default=8000,
        help="(default: 8000; 0: any free one)",
    )
    parser.add_argument(
        "--max-rows",
        type=number(int, 1, 1024),
        default=16,
        help="answers that are written at once (default: 16, or as many as fit into memory)",
    )
    parser.add_argument(
        "--queue",
        type=number(int, 0, 10_000),
        default=64,
        help="answers that may wait for their turn; more are refused (default: 64)",
    )
    parser.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=number(float, 1, 86_400),
        default=120.0,
        help="for one answer, waiting included (default: 120)",
    )
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        help="a file with the key that clients must send (default: CH07_SERVE_KEY, or no key)",
    )
    add_weights(parser)
    add_device(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-new-tokens", type=NEW_TOKENS, default=ANSWER_TOKENS)
    parser.add_argument(
        "--temperature", type=TEMPERATURE, default=0.0, help="0: always the likeliest token"
    )
    parser.add_argument(
        "--top-k", type=number(int, 1, 10**6), help="sample among the k likeliest tokens"
    )
    parser.add_argument(
        "--top-p", type=TOP_P, help="sample among the fewest tokens that have this probability"
    )
    parser.add_argument("--seed", type=SEED, help="random seed of sampling")
    add_weights(parser)
    add_device(parser)


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The arguments of `evaluate`."""
    parser.add_argument("folder", metavar="RUN", help=RUN_OR_MODEL)
    add_data_option(parser, "a file of rows (default: the run's held-out entries)")
    parser.add_argument(
        "--every-turn",
        action="store_true",
        help="score every answer of a conversation, not only the last one",
    )
    parser.add_argument(
        "--as-chatglm",
        action="store_true",
        help="for a run with --rows chatglm: cut prompts and right answers as ChatGLM-6B's "
        "evaluation does, at the run's --max-source-length and --max-target-length",
    )
    add_json(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--losses", action="store_true", help="compute the last logged losses again")
    what.add_argument(
        "--judge",
        metavar="BACKEND",
        help="have a language model score, too: an address, a run folder, smollm2 or scripted:FILE",
    )
    parser.add_argument("--judge-model", metavar="NAME", help="which of the server's models to use")
    parser.add_argument("--judge-scale", choices=("0-100", "1-5"), default="0-100")
    add_skip_bad_rows(parser)
    parser.add_argument("--max-new-tokens", type=NEW_TOKENS, default=ANSWER_TOKENS)
    add_weights(parser)
    add_device(parser)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """The arguments of `compare`."""
    parser.add_argument("one", metavar="RUN", help=RUN)
    parser.add_argument("two", metavar="RUN", help="another run folder")
    add_json(parser)


def add_look(parser: argparse.ArgumentParser) -> None:
    """The arguments of `look`."""
    parser.add_argument("folder", metavar="RUN", help=RUN)
    parser.add_argument("--out", metavar="FILE", help="the new page (default: RUN/look.html)")
    parser.add_argument(
        "--answers",
        type=COUNT,
        metavar="N",
        help="how many held-out answers it shows (default: all, or 20 of a model that is too large "
        "for the page)",
    )
    parser.add_argument(
        "--max-size",
        type=number(float, 0.1, 1e6),
        default=64.0,
        metavar="MB",
        help="how large the page may be; of a model that is too large for it, the page shows "
        "computed answers, and no prompt can be edited (default: 64)",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=WEIGHT_BITS,
        default=24,
        help="bits per weight: 16 are a float16; 24 a float16 and a byte for what it rounds away, "
        "with which logits are within 0.001 of Python's (default: 24)",
    )
    parser.add_argument(
        "--answers-only", action="store_true", help="leave the weights out, even if they fit"
    )
    add_device(parser)


def add_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    parser.add_argument("folder", metavar="RUN", help=RUN)
    parser.add_argument("target", metavar="DIR", help="the new folder")
    parser.add_argument("--gguf", choices=GGUF_FORMATS, help="also write one file for llama.cpp")


def add_verify_weights(parser: argparse.ArgumentParser) -> None:
    """The arguments of `verify-weights`."""
    parser.add_argument("name", choices=PUBLISHED_SIZES)
    parser.add_argument("--path", help="a weights file that you downloaded yourself")
    add_device(parser)
