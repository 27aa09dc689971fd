"""The table of commands, and the parser made from it.

Imports nothing heavy, so that `--help` answers at once.
"""

import argparse
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ch07 import __version__
from ch07.commands import data_arguments, run_arguments
from ch07.commands.argument_types import StoreOnce, forget_given
from ch07.utils.console import shell_path, terminal_safe
from ch07.utils.exit_codes import EXIT_USAGE

MAX_MESSAGE = 1000  # characters of a usage error; the longest of ours have about 300


@dataclass(frozen=True)
class Command:
    """A command: its name, its help, its function as "module:function", its arguments."""

    name: str
    help: str
    target: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS = (
    Command(
        "finetune",
        "train, answer, score (the default command)",
        "ch07.commands.finetune:finetune",
        run_arguments.add_finetune,
    ),
    Command(
        "pretrain",
        "learn to predict the next token of plain text",
        "ch07.commands.pretrain:pretrain",
        run_arguments.add_pretrain,
    ),
    Command(
        "respond",
        "print one answer",
        "ch07.commands.chat:respond_once",
        run_arguments.add_respond,
    ),
    Command(
        "evaluate",
        "score a run on its held-out entries, or on a file",
        "ch07.commands.evaluate:evaluate",
        run_arguments.add_evaluate,
    ),
    Command(
        "prefer",
        "train a run on preference pairs (DPO)",
        "ch07.commands.prefer:prefer",
        run_arguments.add_prefer,
    ),
    Command(
        "compare",
        "find the first step at which two runs differ, and why",
        "ch07.commands.compare:compare",
        run_arguments.add_compare,
    ),
    Command(
        "look",
        "write a page that shows a run's answers, losses, predictions and attention",
        "ch07.commands.look:look",
        run_arguments.add_look,
    ),
    Command(
        "doctor",
        "check whether this machine and a data file are ready",
        "ch07.commands.doctor:doctor",
        data_arguments.add_doctor,
    ),
    Command(
        "grid",
        "show a batch token by token: id, text, role, target",
        "ch07.commands.grid:grid",
        data_arguments.add_grid,
    ),
    Command(
        "explore",
        "write the collate explorer, a web page in one file",
        "ch07.commands.explore:explore",
        data_arguments.add_explore,
    ),
    Command(
        "prepare-data",
        "convert any number of rows to JSONL in Alpaca format",
        "ch07.commands.prepare_data:prepare_data",
        data_arguments.add_prepare_data,
    ),
    Command(
        "tokenize",
        "write any number of rows as a token store to train on",
        "ch07.commands.tokenize_data:tokenize_data",
        data_arguments.add_tokenize,
    ),
    Command(
        "curate",
        "choose a few rows of many, and say why the others were left out",
        "ch07.commands.curate:curate",
        data_arguments.add_curate,
    ),
    Command(
        "check",
        "check an exercise and name the mistake",
        "ch07.commands.check:check",
        data_arguments.add_check,
    ),
    Command(
        "grade",
        "grade a class's submissions, and count its mistakes",
        "ch07.commands.grade:grade",
        data_arguments.add_grade,
    ),
    Command(
        "api-calls",
        "write training data with API calls, and score answers as API calls",
        "ch07.commands.api_calls:api_calls",
        data_arguments.add_api_calls,
    ),
    Command(
        "chat",
        "talk to a run or another model in the terminal",
        "ch07.commands.chat:chat",
        run_arguments.add_chat,
    ),
    Command(
        "serve",
        "serve a run or another model: a chat page, and OpenAI's interface",
        "ch07.commands.serve:serve",
        run_arguments.add_serve,
    ),
    Command(
        "export",
        "write a run as a folder that Hugging Face's transformers loads",
        "ch07.commands.export:export",
        run_arguments.add_export,
    ),
    Command(
        "self-instruct",
        "generate instructions from a few seed tasks, with any model",
        "ch07.commands.generate_data:self_instruct",
        data_arguments.add_self_instruct,
    ),
    Command(
        "magpie",
        "generate instructions without seeds, from a chat model",
        "ch07.commands.generate_data:magpie",
        data_arguments.add_magpie,
    ),
    Command(
        "reflect",
        "have a model rewrite a file's rows, one by one",
        "ch07.commands.generate_data:reflect",
        data_arguments.add_reflect,
    ),
    Command(
        "verify-weights",
        "compare published weights with published results",
        "ch07.commands.verify_weights:verify_weights",
        run_arguments.add_verify_weights,
    ),
)
TARGETS = {command.name: command.target for command in COMMANDS}


class _Parser(argparse.ArgumentParser):
    """A parser that suggests what a mistyped flag may have meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("action", None, StoreOnce)
        self.register("action", "store", StoreOnce)

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the arguments; an unknown one is an error here, where the command is known."""
        parsed, unknown = super().parse_known_args(args, namespace)
        forget_given(parsed)
        if unknown and unknown[0].startswith("-"):
            self.error(
                f"no flag {unknown[0]}{did_you_mean(unknown[0], self._option_string_actions)}"
            )
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the message and where to find help; exit code 2."""
        if len(message) > MAX_MESSAGE:  # it quotes an argument that is very long
            half = MAX_MESSAGE // 2
            message = f"{message[:half]} ... {message[-half:]}"
        self.exit(EXIT_USAGE, f"error: {terminal_safe(message)}\n  see {self.prog} --help\n")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest to a mistyped one, as a question; empty if none is near."""
    near = difflib.get_close_matches(word.split("=")[0], list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def make_parser() -> argparse.ArgumentParser:
    """The parser; the name of the command is in the result's `command`."""
    parser = _Parser(prog="python -m ch07", description="Instruction fine-tuning by hand.")
    parser.add_argument("--version", action="version", version=f"ch07 {__version__}")
    common = _Parser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name, help=command.help, description=command.help, parents=[common]
        )
        sub.set_defaults(command=command.name)
        command.add_arguments(sub)
    return parser


def with_command(argv: Sequence[str]) -> list[str]:
    """The words with a command in front: `finetune` if none is named; `help X` is `X --help`."""
    words = list(argv)
    if words[:1] == ["help"]:
        return [*words[1:2], "--help"]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        return ["finetune", *words]
    return words


def check_words(words: Sequence[str]) -> str | None:
    """What is wrong with the words: no path can hold NUL, and the first is a command or a flag."""
    if any("\0" in word for word in words):
        return "an argument contains a NUL character"
    name = words[0]
    if name.startswith("-") or name in TARGETS:
        return None
    if Path(name).is_file():
        command = f"python -m ch07 finetune {shell_path(name)}"
        return f"no command {name!r}; to train on that file: {command}"
    return f"no command {name!r}{did_you_mean(name, TARGETS)}"
