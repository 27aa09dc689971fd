"""`python -m ch07 self-instruct`: new instructions from a few, by any model, and what was rejected.

    python -m ch07 self-instruct --backend scripted:FILE|RUN|URL --out FILE [--number N]

Rows go to FILE as they come, and why others didn't to FILE.requests.jsonl; the same command goes on
where it stopped.
"""

import json
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from ch07.backends import open_backend
from ch07.completion import CompletionError
from ch07.data import count
from ch07.json_rows import DataError
from ch07.options import OptionError
from ch07.report import printable, safe
from ch07.systems.growing import SEED_TASKS, GrowingFile, Settings, grow, load_seeds, reasons

NEIGHBOURS = 5  # rejected tasks that are shown with their nearest neighbour


def self_instruct(
    backend, out, seeds=None, number=30, patience=10, original=False, as_json=False, **given
):
    """Make requests until `out` has so many rows, and report; returns 0, or 1 if nothing comes."""
    out = Path(out)
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise OptionError(f"{out} can't be written: give --out a file in a folder that exists")
    server = {name: given.pop(name) for name in ("model", "kind", "timeout", "allow_http")}
    tasks, sha256 = load_seeds(seeds or SEED_TASKS, given["n_examples"])
    name = backend if server["model"] is None else f"{backend} {server['model']}"
    strict = {"strict": not original, "unicode": not original}
    settings = Settings(backend=name, seeds_sha256=sha256, **strict, **given)
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            file = GrowingFile(out, settings)
            complete = open_backend(backend, first=len(file.requests), **server)
            enough = _grown(file, complete, tasks, number, patience)
    except Timeout:
        raise DataError(f"another process is writing {out}: wait for it") from None
    _report(file, enough, number, patience, as_json)
    return 0 if enough else 1


def _grown(file, complete, tasks, number, patience):
    def tell(request):
        done = f"{request['accepted']} new, {len(request['rejected'])} rejected"
        print(f"request {request['request'] + 1}: {done}", file=sys.stderr)

    print(safe(f"{file.path}: {len(file.rows)} of {number} rows so far"), file=sys.stderr)
    try:
        return grow(file, complete, tasks, number, patience, tell)
    except CompletionError:
        has = f"{file.path} has {count(len(file.rows), 'row')}"
        print(safe(f"{has}: the same command goes on from there"), file=sys.stderr)
        raise


def _report(file, enough, number, patience, as_json):
    rejected = reasons(file.requests)
    if as_json:
        found = {"rows": len(file.rows), "wanted": number, "requests": len(file.requests)}
        print(json.dumps({**found, "enough": enough, "rejected": rejected}, indent=2))
        return
    n = sum(rejected.values())
    print(
        f"{count(len(file.requests), 'request')}: {count(len(file.rows), 'row')} kept, {n} rejected"
    )
    for reason, times in rejected.items():
        print(f"  {times:>6}  {reason}")
    near = [r for q in file.requests for r in q["rejected"] if "nearest" in r]
    for task in near[-NEIGHBOURS:]:
        print(f"  too near ({task['score']:.2f}): {printable(task['instruction'])}")
        print(f"                   to: {printable(task['nearest'])}")
    if not enough:
        print(
            f"Given up: the last {count(patience, 'request')} brought nothing new. The model may "
            "not know the form of the prompt (a small one writes no tasks), or it repeats itself: "
            "try a larger model, more --patience, or another temperature."
        )
    if file.rows:
        print(safe(f"Train on it: python -m ch07 finetune --data {file.path}"))
