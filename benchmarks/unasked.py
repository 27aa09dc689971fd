"""Can an adapter choose a skill that the model has, where the instruction doesn't say which?

    python -m benchmarks.unasked [--out FOLDER] [--json FILE]

The model of `benchmarks.adapters` knows 22 families. For ten of them in turn, all that have 250
rows whose input says everything but what to do, the instruction becomes "Do it."; each of three
ways learns from these rows which of its skills is wanted. Exact match is that of all held-out
entries of the ten families, none of them seen by the model in any form. Petrov et al. 2024, "When
Do Prompting and Prefix-Tuning Work?", expect a prefix to choose well, and to teach badly. "Peer" is
training all weights. It takes about twenty minutes on one core, and reuses the runs in FOLDER.
"""

import json
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.adapters import NEW, PEER, divided
from benchmarks.measured import in_a_process, parser, report, row
from ch07.cli import main as ch07
from ch07.files import read_json, write_json
from ch07.run_folder import SCORES
from ch07.toy_instructions.build import DATA_FILE

SAYS_MORE = ("convert", "first or last word", "replace a word", "before or after")
FEWEST = 250  # rows of a family, with different inputs
SHARED = ["--epochs", "8", "--batch-size", "16"]
WAYS = {
    PEER: ["--lr", "1e-3"],
    "LoRA": ["--method", "lora", "--lr", "5e-3"],
    "prefix": "--method prefix --lr 1e-2 --prefix-length 16 --prefix-hidden 128".split(),
}


def unasked():
    """{family: its rows, each input once, with an instruction that doesn't say what to do}."""
    families = defaultdict(dict)
    for entry in read_json(DATA_FILE):
        if entry["input"] and entry["family"] not in (*NEW, *SAYS_MORE):
            families[entry["family"]].setdefault(entry["input"], {**entry, "instruction": "Do it."})
    found = {name: list(rows.values()) for name, rows in families.items()}
    return {name: first_rows(rows) for name, rows in found.items() if len(rows) >= FEWEST}


def first_rows(rows):
    """So many of the training rows, and all that are held out."""
    kept = [row for row in rows if "split" in row]
    return [row for row in rows if "split" not in row][:FEWEST] + kept


def once(folder, way, family):
    """The share of held-out entries that are right after learning from a family's rows."""
    name = family.replace(" ", "-")
    data, out = folder / f"{name}.json", folder / f"{name}-{way.replace(' ', '-')}"
    write_json(data, unasked()[family])
    start = ["--data", str(data), "--model", str(folder / "base"), "--out", str(out)]
    if not (out / SCORES).exists():
        assert ch07(["finetune", *start, *SHARED, *WAYS[way]]) == 0
    return read_json(out / SCORES)["exact_match"]


def compare(folder):
    folder.mkdir(parents=True, exist_ok=True)
    divided(folder)
    if not (folder / "base" / SCORES).exists():
        in_a_process("benchmarks.adapters", "--once", folder, "base")
    families, found, right = unasked(), [], {}
    n_tests = {name: sum(r.get("split") == "test" for r in rows) for name, rows in families.items()}
    for family in families:
        for way in WAYS:
            right[way, family] = in_a_process("benchmarks.unasked", "--once", folder, way, family)
            what = f"{way}: {family}, {n_tests[family]} entries"
            found.append(row(what, right[way, family], right[PEER, family], PEER))
    n = sum(n_tests.values())
    for way in WAYS:
        share = sum(right[way, family] * n_tests[family] for family in families) / n
        found.append(row(f"{way}: all {n} entries", share, None, ""))
    return found


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, help="keep the runs in this folder")
    arguments.add_argument("--once", nargs=3, help="for inner use")
    given = arguments.parse_args()
    if given.once:
        folder, way, family = given.once
        return print(json.dumps(once(Path(folder), way, family)))
    with tempfile.TemporaryDirectory() as place:
        report(compare(given.out or Path(place)), given.json)


if __name__ == "__main__":
    main()
