"""Shared by the benchmarks: work in separate processes, peak memory, rows and tables.

The one idea: memory is the peak of a fresh process minus what it used after its imports, so every
measurement gets a process of its own. Speed is measured in turns: each contestant works briefly
while all others wait, so a machine that slows down slows all of them, and their ratio stays.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def memory(what="VmHWM"):
    """The memory of this process in bytes, now ("VmRSS") or at its peak ("VmHWM"); Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(what + r":\s+(\d+) kB", status)[1]) * 1024


def in_a_process(module, *arguments):
    """Run `python -m MODULE ARGUMENTS`; returns the JSON on the last line of its output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise RuntimeError(f"{module} {arguments}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Worker:
    """`python -m MODULE ARGUMENTS` in a process that waits for its turn; see `serve`."""

    def __init__(self, module, *arguments):
        command = [sys.executable, "-m", module, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, encoding="utf-8", **pipes)
        self.first = self._answer()

    def turn(self):
        """Let the worker work once; returns its result."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        """Let the worker end, and wait for it."""
        self.process.communicate()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended: {self.process.wait()}")
        return json.loads(line)


def serve(first, work):
    """In a worker: print `first`, then the result of `work()` for each line of input."""
    print(json.dumps(first), flush=True)
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


def in_turns(module, contestants, options, rounds, optional=()):
    """Run the contestants in turns; two dicts: each one's first line, and its turns' results.

    A contestant is a tuple of words; `python -m MODULE --as CONTESTANT OPTIONS` is its worker. The
    first round is a warm-up and is not counted. An `optional` contestant that can't start is named
    and left out.
    """
    workers = {}
    for c in contestants:
        try:
            workers[c] = Worker(module, "--as", *c, *options)
        except RuntimeError as error:
            if c not in optional:
                raise
            print(f"{' '.join(map(str, c))} takes no part: {error}", flush=True)
    turns = {c: [] for c in workers}
    for i in range(rounds + 1):
        for c, worker in workers.items():
            turn = worker.turn()
            if i:
                turns[c].append(turn)
            print(f"{i}/{rounds} {' '.join(map(str, c))}: {turn['speed']:.1f} a second", flush=True)
    for worker in workers.values():
        worker.close()
    return {c: worker.first for c, worker in workers.items()}, turns


def contest_main(doc, n, contest, compare):
    """The `main` of a contest: runs one contestant (of `n` words), or all and prints the table."""
    from ch07.data.toy_instructions.build import DATA_FILE
    from gpt_model import MODEL_SIZES

    result = parser(doc)
    result.add_argument("--data", default=str(DATA_FILE), help="a data file; the bundled one")
    result.add_argument("--model", default="gpt2-small", choices=MODEL_SIZES)
    result.add_argument("--rounds", type=int, default=5)
    result.add_argument("--as", dest="who", nargs=n, help="used internally")
    given = result.parse_args()
    if given.who:
        return contest(*given.who, given.model, given.data)
    report(compare(given), given.json)


def faster_dtype():
    """The number format in which a model of GPT-2 small's width trains faster here."""
    import torch

    from ch07.models.model_slice import USUAL_TARGETS, USUAL_TOKENS, choose_for_training
    from gpt_model import MODEL_SIZES, GPTConfig

    small = GPTConfig(**MODEL_SIZES["gpt2-small"])
    return choose_for_training(small, USUAL_TOKENS, USUAL_TARGETS, torch.device("cpu")).dtype


def matrix_peak(dtype, size=2048, tries=20):
    """Operations per second of a (size, size) matrix product at present: the median of tries."""
    import torch

    a = torch.randn(size, size).to(getattr(torch, dtype))
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds)


def bandwidth(n_bytes=512 * 2**20, tries=10):
    """Bytes per second read at present, the median of tries.

    What is timed is a matrix times a vector, as when a model writes a single token. (Summing the
    numbers reads them at half that speed on some processors.)
    """
    import torch

    width = 1024
    matrix = torch.ones(n_bytes // (4 * width), width)
    vector = torch.ones(width)
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        matrix @ vector
        seconds.append(time.perf_counter() - started)
    return n_bytes / statistics.median(seconds)


def speeds(what, ours, peer, peer_name, limits=None):
    """A row for two lists of speeds measured in turns: their medians, and that of the ratios."""
    median = statistics.median
    result = row(what, median(ours), peer and median(peer), peer_name)
    if peer:
        result["ratio"] = median(a / b for a, b in zip(ours, peer, strict=True))
    if limits:
        shares = [a / limit for a, limit in zip(ours, limits, strict=True)]
        result["floor_share"] = median(shares)
    return result


def row(what, ours, peer, peer_name, floor=None):
    """A row for one cost: `ratio` is peer / ours, `floor_share` is floor / ours."""
    share = None if floor is None else floor / ours
    return {
        "what": what,
        "ours": ours,
        "peer": peer,
        "peer_name": peer_name,
        "ratio": peer / ours if peer and ours else None,
        "floor_share": share,
    }


def report(rows, path=None):
    """Print the table; also write it as JSON if there is a path."""
    print(f"{'what':<44}{'ours':>14}{'peer':>14}  {'peer is':<22}{'ratio':>7}{'floor':>7}")
    for r in rows:
        peer = "" if r["peer"] is None else f"{r['peer']:,.4g}"
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.2f}"
        share = "" if r["floor_share"] is None else f"{100 * r['floor_share']:.0f} %"
        print(
            f"{r['what']:<44}{r['ours']:>14,.4g}{peer:>14}  {r['peer_name'] or '':<22}"
            f"{ratio:>7}{share:>7}"
        )
    if path is not None:
        Path(path).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def parser(doc):
    """A parser with the arguments that every benchmark takes."""
    result = argparse.ArgumentParser(description=doc.splitlines()[0])
    result.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    return result


def in_a_folder(doc, once, compare):
    """The `main` of a benchmark that keeps its runs in a folder, each made in its own process.

    `compare(folder)` returns the rows; `once(folder, ...)`, called with `--once`, makes one run.
    """
    arguments = parser(doc)
    arguments.add_argument("--out", type=Path, help="keep the runs in this folder")
    arguments.add_argument("--once", nargs="+", help="used internally")
    given = arguments.parse_args()
    if given.once:
        folder, *which = given.once
        return print(json.dumps(once(Path(folder), *which)))
    with tempfile.TemporaryDirectory() as place:
        report(compare(given.out or Path(place)), given.json)
