"""`python -m ch07 self-instruct`, `magpie` and `reflect`: rows that a model writes.

    python -m ch07 self-instruct --backend scripted:FILE|RUN|URL --out FILE [--number N]
    python -m ch07 magpie --backend scripted:FILE|RUN|URL --out FILE [--number N]
    python -m ch07 reflect DATA FILE --backend scripted:FILE|RUN|URL

Rows go to FILE as they come, and what was thrown away to FILE.requests.jsonl; the same command goes
on where it stopped.
"""

import json
import os
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from ch07.data.entries import count, lost_rows, read_data, summarize_findings
from ch07.data.prompt_styles import STYLES
from ch07.generation.backends import SCRIPT_PREFIX, check_backend_name, open_backend
from ch07.generation.completion import CompletionError
from ch07.runs import run_folder as rf
from ch07.systems.synthetic_data import row_generators
from ch07.systems.synthetic_data.magpie import LLAMA_3, input_query, magpie_queries
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.systems.synthetic_data.reflection import CRITIC
from ch07.systems.synthetic_data.resumable_jsonl import ResumableJsonl, count_reasons, grow_file
from ch07.systems.synthetic_data.staged_row_generator import (
    StagesSettings,
    generate_tasks_in_stages,
)
from ch07.utils.console import log_rank0, terminal_line, terminal_safe
from ch07.utils.errors import DataError, OptionError
from ch07.utils.paths import check_writable
from instruction_dataset import BOOK_STYLE, PromptStyle

NEIGHBOURS = 5  # rejected tasks that are shown with their nearest neighbour
MOST_REFUSED = 3  # requests in a row: then it isn't their fault
SERVER = ("model", "kind", "timeout", "allow_http")
LLAMA = "llama-3"


def self_instruct(
    backend, out, seeds=None, number=30, patience=10, original=False, stages=False, as_json=False,
    **given,
):  # fmt: skip
    """New instructions from a few, in one answer or in stages; returns 0, or 1 if nothing comes."""
    server, name = _server(backend, given)
    if original and stages:
        raise OptionError("--original is Alpaca's, --stages Self-Instruct's: give one of them")
    kind = StagesSettings if stages else row_generators.SelfInstructSettings
    given = {name: value for name, value in given.items() if value is not None}
    n_examples = given.get("n_examples", kind.n_examples)
    tasks, sha256 = row_generators.load_seeds(
        seeds or row_generators.SEED_TASKS, n_examples, log_rank0
    )
    strict = {} if stages else {"strict": not original}
    settings = kind(name, sha256, unicode=not original, **strict, **given)

    def ask(complete, file):
        pool = NoveltyPool([task["instruction"] for task in [*tasks, *file.rows]], settings.unicode)
        how = {"complete": complete, "seeds": tasks, "pool": pool}
        if stages:
            return partial(generate_tasks_in_stages, rows=file.rows, **how)
        return partial(row_generators.generate_tasks, **how)

    file, enough = _grown(out, settings, ask, number, patience, (backend, server), _tell)
    _report(file, enough, number, patience, as_json)
    return 0 if enough else 1


def magpie(backend, out, template=None, number=30, patience=10, as_json=False, **given):
    """What a tuned model's users ask, and its answers; returns 0, or 1 if nothing comes."""
    server, name = _server(backend, given)
    names = ("pre_query", "post_query", "input_query")
    queries = dict(zip(names, _queries(backend, template), strict=True))
    settings = row_generators.MagpieSettings(backend=name, **queries, **given)

    def ask(complete, file):
        pool = NoveltyPool([row["instruction"] for row in file.rows])
        return partial(row_generators.generate_magpie_row, complete=complete, pool=pool)

    how = (backend, {**server, "raw": True})
    file, enough = _grown(out, settings, ask, number, patience, how, _tell)
    _report(file, enough, number, patience, as_json)
    return 0 if enough else 1


def reflect(path, out, backend, skip_bad_rows=False, as_json=False, **given):
    """Each row of a file gone over again; returns 0."""
    server, name = _server(backend, given)
    data = read_data(path, skip_bad_rows)
    for line in summarize_findings(lost_rows(data.findings)):
        log_rank0(f"data: {line}")
    rows = data.entries
    settings = row_generators.ReflectionSettings(name, data.sha256, len(rows), **given)
    # a run knows no system message, so that what it is told stands in the prompt alone
    system = CRITIC if backend.startswith(SCRIPT_PREFIX) or "://" in backend else None

    def ask(complete, file):
        return partial(
            row_generators.generate_reflected_row, complete=complete, rows=rows, system=system
        )

    how = (backend, {**server, "raw": False})
    file, _ = _grown(out, settings, ask, len(rows), len(rows), how, partial(_tell_row, data.places))
    _report_reflected(file, as_json)
    return 0


def _server(backend, given):
    """(what a server is told, the backend's name for the rows), taken out of what was given."""
    check_backend_name(backend)
    server = {name: given.pop(name) for name in SERVER}
    return server, backend if server["model"] is None else f"{backend} {server['model']}"


def _queries(backend, template):
    """What stands before, after and between a user's words: as the template has it, or the run.

    A server's template is Llama 3's, which has no input.
    """
    if template is None and not backend.startswith(SCRIPT_PREFIX):
        if "://" not in backend:
            return _queries_of_run(backend)
        template = LLAMA
    if template == LLAMA:
        return *LLAMA_3, None
    style = STYLES[template] if template else BOOK_STYLE
    return *magpie_queries(style), input_query(style)


def _queries_of_run(folder):
    config = rf.read_config(folder)
    if config["options"].get("loss_on") == "response":
        log_rank0(
            f"{folder} learned to answer only, not to ask: what it writes here is not meant. A run "
            "of `finetune --loss-on all` learned both"
        )
    style = PromptStyle(**config["prompt_style"])
    return *magpie_queries(style), input_query(style)


def _grown(out, settings, ask, number, patience, open_with, tell):
    """(the file, whether it has enough rows): one process at a time, from where it stopped."""
    out, (backend, server) = Path(out), open_with
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise OptionError(f"{out} can't be written: give --out a file in a folder that exists")
    check_writable(out, os.W_OK)
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            file = ResumableJsonl(out, settings)
            answered = sum(request.get("answers", 1) for request in file.requests)
            complete = open_backend(backend, first=answered, **server)
            log_rank0(f"{file.path}: {len(file.rows)} of {number} rows so far")
            request = partial(_tolerated, file, partial(ask(complete, file), settings=settings))
            return file, grow_file(file, request, number, patience, tell)
    except Timeout:
        raise DataError(f"another process is writing {out}: wait for it") from None
    except CompletionError:
        log_rank0(f"{out} has {count(len(file.rows), 'row')}: the same command goes on from there")
        raise


def _tolerated(file, ask, k):
    """What `ask(k)` gives; CompletionError if the server refuses all, or several in a row."""
    latest = file.requests[-MOST_REFUSED:]
    rows, request = ask(k=k)
    if "refused" in request and all("refused" in one for one in latest):
        raise CompletionError(request["refused"])
    return rows, request


def _tell_row(places, request):
    now = "as it was" if request["rejected"] else "written anew"
    log_rank0(f"{places[request['request']]}: {now}")


def _tell(request):
    done = f"{request['accepted']} new, {len(request['rejected'])} rejected"
    log_rank0(f"request {request['request'] + 1}: {done}")


def _report(file, enough, number, patience, as_json):
    rejected = count_reasons(file.requests)
    if as_json:
        found = {"rows": len(file.rows), "wanted": number, "requests": len(file.requests)}
        print(json.dumps({**found, "enough": enough, "rejected": rejected}, indent=2))
        return
    n = sum(rejected.values())
    print(
        f"{count(len(file.requests), 'request')}: {count(len(file.rows), 'row')} kept, {n} rejected"
    )
    _print_reasons(rejected)
    near = [r for q in file.requests for r in q["rejected"] if "nearest" in r]
    for task in near[-NEIGHBOURS:]:
        print(f"  too near ({task['score']:.2f}): {terminal_line(task['instruction'])}")
        print(f"                   to: {terminal_line(task['nearest'])}")
    if not enough:
        print(
            f"Given up: the last {count(patience, 'request')} brought nothing new. The model may "
            "not know the form of the prompt (a small one writes no tasks), or it repeats itself: "
            "try more --patience; or, with another --out, a larger model or another temperature."
        )
    _print_next(file)


def _report_reflected(file, as_json):
    kept = count_reasons(file.requests)
    n = sum(row["reflected"] for row in file.rows)
    if as_json:
        print(json.dumps({"rows": len(file.rows), "reflected": n, "as before": kept}, indent=2))
        return
    print(f"{n} of {count(len(file.rows), 'row')} written anew; the others are as they were:")
    _print_reasons(kept)
    _print_next(file)


def _print_reasons(found):
    for reason, times in found.items():
        print(f"  {times:>6}  {terminal_line(reason)}")


def _print_next(file):
    if file.rows:
        print(terminal_safe(f"Train on it: python -m ch07 finetune --data {file.path}"))
