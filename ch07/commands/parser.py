"""The commands, and what each of them can be told.

Imports nothing heavy, so that `--help` answers at once.
"""

import argparse
from dataclasses import fields

from ch07.commands.arguments import (
    CHOICES,
    FORMATS,
    HELP,
    NOT_ASKED,
    OF_TEXT,
    PUBLISHED_SIZES,
    TOKENS,
    add_options,
    number,
)
from ch07.commands.system_arguments import (
    add_api_calls,
    add_curate,
    add_magpie,
    add_prefer,
    add_prepare,
    add_reflect,
    add_self_instruct,
)
from ch07.config import FinetuneOptions


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

    add_prefer(command("prefer", "train a run on pairs: which answer is liked better (DPO)"))

    _add_compare(command("compare", "name the first step at which two runs depart, and why"))
    _add_doctor(command("doctor", "is this machine, and this data file, ready?"))
    _add_grid(command("grid", "show a batch token by token: id, text, role, target"))

    add_curate(command("curate", "choose few rows out of many, and say why not the others"))
    add_prepare(command("prepare-data", "write rows of any form as JSONL in Alpaca form"))
    _add_tokenize(command("tokenize", "write a JSONL file of any size as a store to train on"))
    _add_check(command("check", "check an exercise: the mistake is named, not the line"))
    add_api_calls(command("api-calls", "data that asks for API calls, and answers judged as such"))

    chat = command("chat", "talk to a run in the terminal")
    chat.add_argument("folder", metavar="RUN", help="a run folder")
    _add_generation(chat)

    _add_export(command("export", "write a run as a folder that Hugging Face's transformers loads"))
    add_self_instruct(command("self-instruct", "new instructions from a few, by any model"))
    add_magpie(command("magpie", "new instructions from none, by a model that has users"))
    add_reflect(command("reflect", "have a model write a file's rows anew, one by one"))
    _add_verify(command("verify-weights", "hold published weights against what others published"))
    return parser


def _add_evaluate(sub):
    sub.add_argument("folder", metavar="RUN", help="a run folder")
    sub.add_argument("--data", help="JSON or JSONL file (default: the run's held-out entries)")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--losses", action="store_true", help="the last logged losses, computed anew")
    judges = "a language model scores too: an address, a run folder, or scripted:FILE"
    what.add_argument("--judge", metavar="BACKEND", help=judges)
    sub.add_argument("--judge-model", metavar="NAME", help="which of a server's models")
    sub.add_argument("--judge-scale", choices=("0-100", "1-5"), default="0-100")
    sub.add_argument("--skip-bad-rows", action="store_true", help="leave faulty rows out")
    sub.add_argument("--max-new-tokens", type=TOKENS, default=256)
    sub.add_argument("--device", default="auto")


def _add_export(sub):
    sub.add_argument("folder", metavar="RUN", help="a run folder")
    sub.add_argument("target", metavar="DIR", help="the new folder")
    sub.add_argument("--gguf", choices=FORMATS, help="also as one file for llama.cpp")


def _add_compare(sub):
    sub.add_argument("one", metavar="RUN", help="a run folder")
    sub.add_argument("two", metavar="RUN", help="another")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")


def _add_doctor(sub):
    sub.add_argument("data", nargs="?", default=argparse.SUPPRESS, help=HELP["data"])
    sub.add_argument("--data", default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # as finetune has
    sub.add_argument("--write-clean", metavar="FILE", help="write the rows that can be used")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    add_options(sub, [field for field in fields(FinetuneOptions) if field.name not in NOT_ASKED])


def _add_finetune(sub):
    add_options(sub, [field for field in fields(FinetuneOptions) if field.name != "text"])
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
    add_options(sub, asked, {"text": "{}"})


def _add_grid(sub):
    sub.add_argument("data", nargs="?", help="JSON or JSONL file (default: the bundled data)")
    sub.add_argument("--rows", type=number(int, 1, 1000), default=3, help="the first N rows")
    sub.add_argument("--run", dest="folder", metavar="RUN", help="with its style and its losses")
    sub.add_argument("--png", metavar="FILE", help="draw a picture instead")
    sub.add_argument("--sentences", action="store_true", help="a line per token, to be read aloud")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    sub.add_argument("--allowed-max-length", type=number(int, 1, 10**6), help="tokens of a row")
    sub.add_argument("--loss-on", choices=CHOICES["loss_on"], default="response")
    sub.add_argument("--prompt-style", choices=CHOICES["prompt_style"])
    sub.add_argument("--skip-bad-rows", action="store_true", help="leave faulty rows out")


def _add_tokenize(sub):
    sub.add_argument("path", metavar="FILE", help="JSONL, perhaps gzip, read line by line")
    sub.add_argument("folder", metavar="STORE", help="the new folder")
    sub.add_argument("--prompt-style", choices=CHOICES["prompt_style"])
    sub.add_argument("--skip-bad-rows", action="store_true", help=HELP["skip_bad_rows"])


def _add_verify(sub):
    sub.add_argument("name", choices=PUBLISHED_SIZES)
    sub.add_argument("--path", help="a file that was downloaded by hand")
    sub.add_argument("--device", default="auto")


def _add_check(sub):
    sub.add_argument("path", metavar="FILE", nargs="?", help="your file, or a folder of them")
    sub.add_argument("--start", metavar="FOLDER", help="copy the stubs of all exercises there")
    sub.add_argument("--hint", metavar="NAME", help="a hint for an exercise")
    sub.add_argument("--level", type=number(int, 1, 3), default=1, help="1, 2 or 3: says more")
    sub.add_argument("--seconds", type=number(float, 0.1, 3600), default=10.0, help="time limit")
    sub.add_argument("--json", dest="as_json", action="store_true", help="print JSON")


def _add_generation(sub):
    temperature, share = number(float, 0.0, 1e6), number(float, 1e-9, 1.0)
    sub.add_argument("--max-new-tokens", type=TOKENS, default=256)
    sub.add_argument("--temperature", type=temperature, default=0.0, help="0: the likeliest token")
    sub.add_argument("--top-k", type=number(int, 1, 10**6), help="among the k likeliest tokens")
    sub.add_argument("--top-p", type=share, help="among the fewest tokens with this share")
    sub.add_argument("--seed", type=number(int, 0, 2**31 - 1), help="of sampling")
    sub.add_argument("--device", default="auto")
