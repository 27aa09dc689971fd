"""`python -m ch07 self-instruct`, `magpie` and `reflect`: rows that a model writes.

    python -m ch07 self-instruct --backend scripted:FILE|RUN|URL --out FILE [--number N]
    python -m ch07 magpie --backend scripted:FILE|RUN|URL --out FILE [--number N]
    python -m ch07 reflect DATA FILE --backend scripted:FILE|RUN|URL

Rows are appended to FILE as they come, and a record of each request, with what it rejected, to
FILE.requests.jsonl. The same command resumes where it stopped.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ch07.data.chat_forms import refuse_conversations
from ch07.data.entries import read_data
from ch07.data.findings import lost_rows, summarize_findings
from ch07.data.prompt_styles import STYLES
from ch07.generation.backends import SCRIPT_PREFIX, check_backend_name, open_backend
from ch07.generation.completion import Complete, CompletionError
from ch07.models.pretrained import find_weights
from ch07.models.saved_run import conversations_of, is_run
from ch07.runs import run_folder
from ch07.systems.synthetic_data import row_generators
from ch07.systems.synthetic_data.magpie import LLAMA_3, input_query, magpie_queries
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.systems.synthetic_data.reflection import CRITIC
from ch07.systems.synthetic_data.resumable_jsonl import (
    Limits,
    MakeRequest,
    Request,
    ResumableJsonl,
    count_reasons,
    grow_file,
)
from ch07.systems.synthetic_data.staged_row_generator import (
    StagesSettings,
    generate_tasks_in_stages,
    machine_instructions,
)
from ch07.utils.console import count, log_rank0, shell_path, terminal_line, terminal_safe
from ch07.utils.errors import DataError, OptionError
from ch07.utils.exit_codes import EXIT_FAILED
from ch07.utils.paths import check_writable
from instruction_dataset import BOOK_STYLE, PromptStyle

MAX_SHOWN_NEIGHBOURS = 5  # rejected tasks that are shown with their nearest neighbour
BACKEND_OPTIONS = ("model", "kind", "timeout", "allow_http", "device", "weights")
LLAMA_3_TEMPLATE = "llama-3"

# Makes the requests of one file, which it gets with what the file has so far.
MakeRequestMaker = Callable[[ResumableJsonl], MakeRequest]


@dataclass(frozen=True)
class Backend:
    """The model that writes: its address, and what `open_backend` needs besides."""

    address: str
    options: dict[str, Any]  # of `open_backend`

    @property
    def name(self) -> str:
        """The name that is recorded in each row."""
        parts = [self.address]
        if self.options["model"] is not None:
            parts.append(self.options["model"])
        if self.options["weights"] != "float32":
            parts.append(self.options["weights"])
        return " ".join(parts)

    @property
    def is_local_run(self) -> bool:
        """Whether it is a run folder: neither a script nor a server."""
        return not self.address.startswith(SCRIPT_PREFIX) and "://" not in self.address

    @property
    def takes_system(self) -> bool:
        """Whether it reads a system message: each server does, and a run that has learned to."""
        if not self.is_local_run:
            return True
        return bool((conversations_of(self.address) or {}).get("system"))

    def connect(self, first_answer: int, **options: Any) -> Complete:
        """Its `complete`; a script starts with answer number `first_answer`."""
        return open_backend(
            self.address, first=first_answer, report=log_rank0, **self.options, **options
        )


def self_instruct(
    *,
    backend: str,
    out: str,
    seeds: str | None = None,
    skip_bad_rows: bool = False,
    number: int = 30,
    patience: int = 10,
    max_requests: int | None = None,
    original: bool = False,
    stages: bool = False,
    as_json: bool = False,
    **given: Any,
) -> int:
    """Generate instructions from seed tasks; returns 0, or 1 if there are fewer than `number`.

    `given` holds the options of the server and the settings that were given; None stands for the
    default of the method. With `stages`, the method is Self-Instruct's, with two more requests for
    each instruction, otherwise Alpaca's; with `original`, its faults are included.
    """
    model, given = _take_backend(backend, given)
    given = {name: value for name, value in given.items() if value is not None}
    settings_type = StagesSettings if stages else row_generators.SelfInstructSettings
    tasks, seeds_sha256 = row_generators.load_seeds(
        seeds or row_generators.SEED_TASKS,
        given.get("n_examples", settings_type.n_examples),
        log_rank0,
        skip_bad_rows,
    )
    parser = {"original": original} if stages else {"strict": not original}
    settings = settings_type(model.name, seeds_sha256, unicode=not original, **parser, **given)

    def request_maker(file: ResumableJsonl) -> MakeRequest:
        known = [task["instruction"] for task in tasks]
        if stages:
            known += machine_instructions(file.requests)
        else:
            known += [row["instruction"] for row in file.rows]
        make_request = partial(
            generate_tasks_in_stages if stages else row_generators.generate_tasks,
            complete=model.connect(_answers_used(file)),
            seeds=tasks,
            pool=NoveltyPool(known, settings.unicode),
            settings=settings,
        )
        return partial(make_request, requests=file.requests) if stages else make_request

    limits = Limits(number, patience, max_requests)
    return _grow_and_report(out, settings, request_maker, limits, as_json)


def magpie(
    *,
    backend: str,
    out: str,
    template: str | None = None,
    number: int = 30,
    patience: int = 10,
    max_requests: int | None = None,
    as_json: bool = False,
    **given: Any,
) -> int:
    """Generate instructions and answers without seeds, from a chat model; returns 0.

    The model continues the text that precedes a user's words in its chat template. Returns 1 if
    there are fewer rows than `number`.
    """
    model, given = _take_backend(backend, given)
    pre_query, post_query, between = _queries(model, template)
    settings = row_generators.MagpieSettings(
        backend=model.name,
        pre_query=pre_query,
        post_query=post_query,
        input_query=between,
        **given,
    )

    def request_maker(file: ResumableJsonl) -> MakeRequest:
        return partial(
            row_generators.generate_magpie_row,
            complete=model.connect(_answers_used(file), raw=True),
            pool=NoveltyPool([row["instruction"] for row in file.rows]),
            settings=settings,
        )

    limits = Limits(number, patience, max_requests)
    return _grow_and_report(out, settings, request_maker, limits, as_json)


def reflect(
    *,
    path: str,
    out: str,
    backend: str,
    skip_bad_rows: bool = False,
    as_json: bool = False,
    **given: Any,
) -> int:
    """Have a model rewrite each row of a file; returns 0."""
    model, given = _take_backend(backend, given)
    data = read_data(path, skip_bad_rows)
    refuse_conversations(data.entries, data.places, data.path, "reflect")
    for line in summarize_findings(lost_rows(data.findings)):
        log_rank0(f"data: {line}")
    n_rows = len(data.entries)
    settings = row_generators.ReflectionSettings(model.name, data.sha256, n_rows, **given)

    def request_maker(file: ResumableJsonl) -> MakeRequest:
        return partial(
            row_generators.generate_reflected_row,
            complete=model.connect(_answers_used(file), raw=False),
            rows=data.entries,
            system=CRITIC if model.takes_system else None,
            settings=settings,
        )

    def log_row(request: Request) -> None:
        change = "unchanged" if request["rejected"] else "rewritten"
        log_rank0(f"{data.places[request['request']]}: {change}")

    limits = Limits(n_rows, patience=n_rows)
    file, _ = _grow(out, settings, request_maker, limits, log_row)
    _report_reflected(file, as_json)
    return 0


def _take_backend(address: str, given: Mapping[str, Any]) -> tuple[Backend, dict[str, Any]]:
    """(the backend with its options, the other options)."""
    check_backend_name(address)
    options = {name: given[name] for name in BACKEND_OPTIONS}
    others = {name: value for name, value in given.items() if name not in BACKEND_OPTIONS}
    return Backend(address, options), others


# --- the texts around a user's words --------------------------------------------------------------
def _queries(model: Backend, template: str | None) -> tuple[str, str, str | None]:
    """The texts before, after and between a user's words: of a template, or of the run.

    A server's template is Llama 3's, which has no input.
    """
    if template is None and model.is_local_run:
        return _queries_of_run(model.address)
    if template == LLAMA_3_TEMPLATE or (template is None and "://" in model.address):
        return *LLAMA_3, None
    return _queries_of_style(STYLES[template] if template else BOOK_STYLE)


def _queries_of_style(style: PromptStyle) -> tuple[str, str, str | None]:
    return *magpie_queries(style), input_query(style)


def _queries_of_run(folder: str) -> tuple[str, str, str | None]:
    if not is_run(folder):
        return _queries_of_style(find_weights(folder).style or BOOK_STYLE)
    config = run_folder.read_config(folder)
    if config["options"].get("loss_on") == "response":
        log_rank0(
            f"{folder} was trained on responses only, so the instructions that it writes will not "
            "make sense: use a run of `finetune --loss-on all`, which is trained on both"
        )
    return _queries_of_style(PromptStyle(**config["prompt_style"]))


# --- the file that grows ------------------------------------------------------------------------
def _grow_and_report(
    out: str, settings: Any, request_maker: MakeRequestMaker, limits: Limits, as_json: bool
) -> int:
    """Let the file grow, print what came of it, and return the exit code."""
    file, given_up = _grow(out, settings, request_maker, limits, _log_request)
    _report(file, limits, given_up, as_json)
    return 0 if given_up is None else EXIT_FAILED


def _grow(
    out: str,
    settings: Any,
    request_maker: MakeRequestMaker,
    limits: Limits,
    on_request: Callable[[Request], None],
) -> tuple[ResumableJsonl, str | None]:
    """(the file, why it was given up or None): resumed, and locked against other processes."""
    path = Path(out)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"{path} can't be written: name a file in a folder that exists")
    check_writable(path, os.W_OK)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            file = ResumableJsonl(path, settings)
            make_request = request_maker(file)
            log_rank0(f"{file.path}: {len(file.rows)} of {limits.number} rows so far")
            make_request = partial(row_generators.stop_if_all_refused, file, make_request)
            return file, grow_file(file, make_request, limits, on_request)
    except Timeout:
        raise DataError(f"another process is writing {path}: wait for it") from None
    except CompletionError:
        log_rank0(f"{path} has {count(len(file.rows), 'row')}: the same command resumes it")
        raise


def _answers_used(file: ResumableJsonl) -> int:
    """How many answers the requests so far have used up."""
    return sum(request.get("answers", 1) for request in file.requests)


# --- what is printed ------------------------------------------------------------------------------
def _log_request(request: Request) -> None:
    outcome = f"{request['accepted']} new, {len(request['rejected'])} rejected"
    log_rank0(f"request {request['request'] + 1}: {outcome}")


def _report(file: ResumableJsonl, limits: Limits, given_up: str | None, as_json: bool) -> None:
    reasons = count_reasons(file.requests)
    if as_json:
        summary = {
            "rows": len(file.rows),
            "wanted": limits.number,
            "requests": len(file.requests),
            "enough": given_up is None,
            "rejected": reasons,
        }
        print(json.dumps(summary, indent=2))
        return
    n_requests = count(len(file.requests), "request")
    n_rows = count(len(file.rows), "row")
    print(f"{n_requests}: {n_rows} kept, {sum(reasons.values())} rejected")
    _print_reasons(reasons)
    _print_nearest(file)
    if given_up is not None:
        print(
            f"Given up: {given_up}. If most were rejected, the model may not know the prompt's "
            "format (a small one writes no tasks), or it repeats itself: try more --patience or, "
            "with another --out, a larger model or another temperature."
        )
    _print_next_command(file)


def _report_reflected(file: ResumableJsonl, as_json: bool) -> None:
    reasons = count_reasons(file.requests)
    n_reflected = sum(row["reflected"] for row in file.rows)
    if as_json:
        summary = {"rows": len(file.rows), "reflected": n_reflected, "as before": reasons}
        print(json.dumps(summary, indent=2))
        return
    print(f"{n_reflected} of {count(len(file.rows), 'row')} rewritten; the others are unchanged:")
    _print_reasons(reasons)
    if n_reflected:
        _print_next_command(file)
    else:
        print("Nothing was rewritten, so there is nothing new to train on.")


def _print_reasons(reasons: Mapping[str, int]) -> None:
    for reason, n in reasons.items():
        print(f"  {n:>6}  {terminal_line(reason)}")


def _print_nearest(file: ResumableJsonl) -> None:
    """The tasks that were rejected last as too similar, each with its nearest neighbour."""
    similar = [
        rejected
        for request in file.requests
        for rejected in request["rejected"]
        if rejected["reason"] == row_generators.TOO_SIMILAR and "nearest" in rejected
    ]
    for task in similar[-MAX_SHOWN_NEIGHBOURS:]:
        print(f"  too near ({task['score']:.2f}): {terminal_line(task['instruction'])}")
        print(f"                   to: {terminal_line(task['nearest'])}")


def _print_next_command(file: ResumableJsonl) -> None:
    if file.rows:
        path = shell_path(file.path)
        print(terminal_safe(f"Train on it: python -m ch07 finetune --data {path}"))
