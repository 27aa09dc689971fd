"""What the benchmarks share: work in a process of its own, its peak memory, rows and tables.

The one idea: memory is measured as what a fresh process held at its worst, minus what it held
after its imports; so every measurement gets a process of its own.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def memory(what="VmHWM"):
    """Bytes that this process holds ("VmRSS") or has held at most ("VmHWM"); Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(what + r":\s+(\d+) kB", status)[1]) * 1024


def in_a_process(module, *arguments):
    """What `python -m MODULE ARGUMENTS` prints as JSON."""
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


def row(what, ours, peer, peer_name, floor=None):
    """One measurement; `ratio` is peer over ours, `floor_share` the floor over ours."""
    share = None if floor is None else floor / ours
    return {
        "what": what,
        "ours": ours,
        "peer": peer,
        "peer_name": peer_name,
        "ratio": None if peer is None else peer / ours,
        "floor_share": share,
    }


def report(rows, path=None):
    """Print a table; write JSON if there is a path."""
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
    """The arguments that every benchmark takes."""
    result = argparse.ArgumentParser(description=doc.splitlines()[0])
    result.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    return result
