"""Can an adapter choose a skill that the model has, where the instruction doesn't say which?

    python -m benchmarks.unasked [--out FOLDER] [--json FILE]

The model of `benchmarks.adapters` knows 22 families. For ten of them in turn, all that have 240
training rows whose input says everything but what to do, the instruction becomes "Do it."; each of
three ways learns from these rows which of its skills is wanted. Exact match is that of the held-out
entries with an input that none of the model's training rows had. Petrov et al. 2024, "When Do
Prompting and Prefix-Tuning Work?", expect a prefix to choose well, and to teach badly. "Peer" is
training all weights. It takes about ten minutes on one core; finished runs in FOLDER are taken as
they are, so a change of settings needs a new one.
"""

import shutil
from collections import defaultdict

from benchmarks.adapters import NEW, PEER, divided
from benchmarks.measured import in_a_folder, in_a_process, row
from ch07.commands.cli import main as ch07
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.runs.run_folder import SCORES
from ch07.utils.atomic_files import read_json, write_json

SAYS_MORE = ("convert", "first or last word", "replace a word", "before or after")
N_TRAIN = 240  # training rows of a family, with different inputs
SHARED = ["--epochs", "8", "--batch-size", "16"]
WAYS = {
    PEER: ["--lr", "1e-3"],
    "LoRA": ["--method", "lora", "--lr", "5e-3"],
    "prefix": "--method prefix --lr 1e-2 --prefix-length 16 --prefix-hidden 128".split(),
}


def unasked():
    """{family: its rows, each input once, with an instruction that doesn't say what to do}."""
    data = [entry for entry in read_json(DATA_FILE) if entry["input"]]
    trained = {entry["input"] for entry in data if "split" not in entry}
    families = defaultdict(lambda: ({}, {}))
    for entry in data:
        held_out = entry.get("split") == "test"
        own = entry["family"] not in (*NEW, *SAYS_MORE)
        if own and ((held_out and entry["input"] not in trained) or "split" not in entry):
            rows = families[entry["family"]][held_out]
            rows.setdefault(entry["input"], {**entry, "instruction": "Do it."})
    return {
        name: [*list(train.values())[:N_TRAIN], *test.values()]
        for name, (train, test) in families.items()
        if len(train) >= N_TRAIN
    }


def once(folder, way, family):
    """The share of held-out entries that are right after learning from a family's rows."""
    name = family.replace(" ", "-")
    data, out = folder / f"{name}.json", folder / f"{name}-{way.replace(' ', '-')}"
    write_json(data, unasked()[family])
    start = ["--data", str(data), "--model", str(folder / "base"), "--out", str(out)]
    if not (out / SCORES).exists():
        shutil.rmtree(out, ignore_errors=True)  # what an interrupted benchmark has left
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


if __name__ == "__main__":
    in_a_folder(__doc__, once, compare)
