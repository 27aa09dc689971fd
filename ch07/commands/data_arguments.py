"""The arguments of the commands that read, check, write or generate data."""

import argparse

from ch07.commands.argument_types import (
    COUNT,
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
from ch07.config import LOSS_ON, PROMPT_STYLES, FinetuneOptions
from ch07.data.field_names import FIELDS
from ch07.exercises.sandbox_limits import EXERCISE_SECONDS

MAGPIE_TEMPLATES = PROMPT_STYLES
DOCUMENTS = ("none", "oracle", "bm25")
PAGE_LANGUAGES = ("en", "zh-CN")
ROWS = "a file of rows: JSON, JSONL, CSV, Parquet and more; a folder; - for standard input"
BUNDLED = f"{ROWS} (default: the bundled data)"


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """The arguments of `doctor`: the data file and the settings of a run."""
    add_data_files(parser, help=setting_help(FinetuneOptions.__dataclass_fields__["data"]))
    parser.add_argument("--write-clean", metavar="FILE", help="write the rows that can be used")
    add_json(parser)
    add_settings(parser, FinetuneOptions, "doctor")


def add_grid(parser: argparse.ArgumentParser) -> None:
    """The arguments of `grid`."""
    add_data_files(parser, help=BUNDLED)
    parser.add_argument("--rows", type=number(int, 1, 1000), default=3, help="the first N rows")
    parser.add_argument(
        "--run",
        dest="folder",
        metavar="RUN",
        help="use the tokenizer and prompt style of a run or model, and show its losses",
    )
    parser.add_argument("--png", metavar="FILE", help="draw a picture instead")
    parser.add_argument(
        "--sentences", action="store_true", help="one line per token, for a screen reader"
    )
    add_json(parser)
    parser.add_argument(
        "--allowed-max-length", type=number(int, 1, 10**6), help="cut rows to this many tokens"
    )
    parser.add_argument("--loss-on", choices=LOSS_ON, default="response")
    parser.add_argument("--prompt-style", choices=PROMPT_STYLES)
    add_skip_bad_rows(parser)


def add_explore(parser: argparse.ArgumentParser) -> None:
    """The arguments of `explore`."""
    parser.add_argument("--out", metavar="FILE.html", required=True, help="the new file")
    add_data_option(parser, BUNDLED)
    parser.add_argument(
        "--rows",
        type=number(int, 1, 1000),
        default=40,
        help="offer the first N rows to choose from (default: 40)",
    )
    parser.add_argument("--language", choices=PAGE_LANGUAGES, default="en")
    add_skip_bad_rows(parser)


def add_prepare_data(parser: argparse.ArgumentParser) -> None:
    """The arguments of `prepare-data`."""
    parser.add_argument("path", metavar="FILE", help=f"{ROWS}; of any size")
    parser.add_argument("out", metavar="OUT", help="the new file")
    parser.add_argument("--limit", type=number(int, 1, 10**12), help="read only the first N rows")
    add_skip_bad_rows(parser)


def add_tokenize(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tokenize`."""
    parser.add_argument("path", metavar="FILE", help=f"{ROWS}; of any size")
    parser.add_argument("folder", metavar="STORE", help="the new folder")
    parser.add_argument("--prompt-style", choices=PROMPT_STYLES)
    parser.add_argument(
        "--allowed-max-length",
        type=number(int, 1, 10**6),
        help="leave the oldest turns out of conversations of more tokens",
    )
    add_skip_bad_rows(parser)


def add_curate(parser: argparse.ArgumentParser) -> None:
    """The arguments of `curate`."""
    parser.add_argument("path", metavar="FILE", help=ROWS)
    parser.add_argument("target", metavar="NEW", help="the new file, .json or .jsonl")
    parser.add_argument("--keep", type=COUNT, required=True, help="rows to choose")
    parser.add_argument(
        "--how",
        choices=("diverse", "longest", "random"),
        default="diverse",
        help="how to choose the rows",
    )
    parser.add_argument("--per-group", type=COUNT, help="with diverse: at most N rows of a family")
    parser.add_argument("--lima", action="store_true", help="apply LIMA's rules for answers, too")
    parser.add_argument(
        "--distinct", choices=FIELDS, help="leave out rows in which this field is a near duplicate"
    )
    parser.add_argument("--seed", type=SEED, default=123, help="random seed of the choice")
    add_skip_bad_rows(parser)
    add_json(parser)


def add_check(parser: argparse.ArgumentParser) -> None:
    """The arguments of `check`."""
    parser.add_argument(
        "path",
        metavar="FILE",
        nargs="?",
        help="your file, a folder of files, or the number or name of an exercise",
    )
    parser.add_argument(
        "--watch", action="store_true", help="check again at each save, until Ctrl-C"
    )
    parser.add_argument("--start", metavar="FOLDER", help="copy the stubs of all exercises there")
    parser.add_argument("--hint", metavar="NAME", help="a hint for an exercise")
    parser.add_argument(
        "--level", type=number(int, 1, 3), default=1, help="of the hint: 3 reveals the most"
    )
    parser.add_argument(
        "--seconds",
        type=number(float, 0.1, 3600),
        default=EXERCISE_SECONDS,
        help="time limit of an exercise",
    )
    add_json(parser)


def add_grade(parser: argparse.ArgumentParser) -> None:
    """The arguments of `grade`."""
    parser.add_argument(
        "folder", metavar="FOLDER", help="has one file NAME.py or one folder NAME for each learner"
    )
    parser.add_argument(
        "--exercise",
        nargs="+",
        default=(),
        metavar="NAME",
        help="only these exercises, by name or number (default: all)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the report to this file")
    parser.add_argument(
        "--jobs", type=number(int, 1, 64), default=1, help="submissions to check at a time"
    )
    parser.add_argument(
        "--time-limit",
        dest="seconds",
        type=number(float, 0.1, 3600),
        default=EXERCISE_SECONDS,
        metavar="SECONDS",
        help=f"of an exercise (default: {EXERCISE_SECONDS:g})",
    )


def add_api_calls(parser: argparse.ArgumentParser) -> None:
    """The arguments of `api-calls`."""
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder, or a responses.json")
    add_data_option(parser, "answer this file's test entries (default: the stored answers)")
    add_skip_bad_rows(parser)
    add_json(parser)
    add_device(parser)
    parser.add_argument(
        "--write", metavar="FILE", help="write training data with API calls instead"
    )
    parser.add_argument(
        "--documents",
        choices=DOCUMENTS,
        help="documentation for each instruction in FILE: none, the right one, or BM25's choice",
    )
    parser.add_argument(
        "--renamed", action="store_true", help="rename keywords in FILE's test entries"
    )


def add_self_instruct(parser: argparse.ArgumentParser) -> None:
    """The arguments of `self-instruct`."""
    parser.add_argument("--seeds", help="a file of tasks (default: 36 bundled ones)")
    add_skip_bad_rows(parser)
    parser.add_argument(
        "--examples",
        dest="n_examples",
        type=number(int, 1, 10),
        help="tasks shown in a prompt (default: 3; with --stages 8)",
    )
    parser.add_argument(
        "--original",
        action="store_true",
        help="stop, parse and filter exactly as Alpaca does (with --stages: as Self-Instruct), "
        "faults included",
    )
    parser.add_argument(
        "--stages",
        action="store_true",
        help="in stages, as in Self-Instruct: instructions, then their kind, then examples",
    )
    _add_growing_file(parser)
    _add_backend(parser)


def add_magpie(parser: argparse.ArgumentParser) -> None:
    """The arguments of `magpie`."""
    parser.add_argument(
        "--template",
        choices=MAGPIE_TEMPLATES,
        help="the chat template around a user's words (default: the one that RUN was trained "
        "with; llama-3 for a URL)",
    )
    _add_growing_file(parser)
    _add_backend(parser, temperature=1.0, max_new_tokens=2048)


def add_reflect(parser: argparse.ArgumentParser) -> None:
    """The arguments of `reflect`."""
    parser.add_argument("path", metavar="DATA", help=ROWS)
    parser.add_argument("out", metavar="OUT", help="JSONL file for the rows; resumed if it exists")
    parser.add_argument(
        "--what",
        choices=("response", "instruction"),
        default="response",
        help="which part to rewrite",
    )
    add_skip_bad_rows(parser)
    _add_backend(parser, temperature=0.0, max_new_tokens=2048)


def _add_growing_file(parser: argparse.ArgumentParser) -> None:
    """The file that new rows are appended to, and when to stop."""
    parser.add_argument(
        "--out", required=True, help="JSONL file for the new rows; resumed if it exists"
    )
    count = number(int, 1, 10**6)
    parser.add_argument("--number", type=count, default=30, help="how many rows to generate")
    parser.add_argument(
        "--patience", type=count, default=10, help="stop after N requests without a new row"
    )
    parser.add_argument(
        "--max-requests", type=count, help="stop after N requests in all (default: no limit)"
    )


def _add_backend(
    parser: argparse.ArgumentParser,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
) -> None:
    """The model that writes, and how it samples; None leaves a value to the generator."""
    parser.add_argument(
        "--backend", required=True, help="scripted:FILE, a run folder, smollm2, or a URL"
    )
    parser.add_argument("--seed", type=SEED, default=123)
    parser.add_argument("--temperature", type=TEMPERATURE, default=temperature)
    parser.add_argument("--top-p", type=TOP_P, default=None if temperature is None else 1.0)
    parser.add_argument("--max-new-tokens", type=number(int, 1, 10**6), default=max_new_tokens)
    parser.add_argument("--model", help="for a URL: which of the server's models to use")
    parser.add_argument("--kind", choices=("openai", "ollama"), help="for a URL: its protocol")
    parser.add_argument(
        "--timeout",
        type=number(float, 1, 3600),
        default=120,
        help="seconds to wait for a reply, and for its next part",
    )
    parser.add_argument(
        "--allow-http", action="store_true", help="allow plain HTTP to other machines"
    )
    add_weights(parser)
    add_device(parser)
    add_json(parser)
