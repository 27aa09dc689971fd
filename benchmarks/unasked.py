"""Can an adapter select a skill that the model has, if the instruction doesn't name it?

    python -m benchmarks.unasked [--out FOLDER] [--json FILE]

The base model of `benchmarks.adapters` knows 22 families. For each of ten of them, all that have
240 training rows whose input contains everything but the task, the instruction becomes "Do it.".
From these rows, each of three methods learns which skill is needed. Exact match is measured on
held-out entries whose input is in none of the base model's training rows. Petrov et al. 2024, "When
Do Prompting and Prefix-Tuning Work?", predict that a prefix can select a skill but hardly teach a
new one. The peer is training all weights. Takes about ten minutes on one core. Finished runs in
FOLDER are reused, so other settings need a new folder.
"""

import shutil
from collections import defaultdict

from benchmarks.adapters import NEW_FAMILIES, PEER, write_data_files
from benchmarks.harness import in_a_folder, in_a_process, row
from ch07.commands.cli import main as ch07
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.runs.run_folder import SCORES
from ch07.utils.atomic_files import read_json, write_json

INSTRUCTION_NEEDED = ("convert", "first or last word", "replace a word", "before or after")
N_TRAIN = 240  # training rows per family, with different inputs
SHARED_ARGUMENTS = ["--epochs", "8", "--batch-size", "16"]
METHODS = {
    PEER: ["--lr", "1e-3"],
    "LoRA": ["--method", "lora", "--lr", "5e-3"],
    "prefix": "--method prefix --lr 1e-2 --prefix-length 16 --prefix-hidden 128".split(),
}


def rows_without_instruction():
    """{family: its rows, each input once, with an instruction that does not name the task}."""
    data = [entry for entry in read_json(DATA_FILE) if entry["input"]]
    trained = {entry["input"] for entry in data if "split" not in entry}
    families = defaultdict(lambda: ({}, {}))
    for entry in data:
        held_out = entry.get("split") == "test"
        is_used = entry["family"] not in (*NEW_FAMILIES, *INSTRUCTION_NEEDED)
        if is_used and ((held_out and entry["input"] not in trained) or "split" not in entry):
            rows = families[entry["family"]][held_out]
            rows.setdefault(entry["input"], {**entry, "instruction": "Do it."})
    return {
        name: [*list(train.values())[:N_TRAIN], *test.values()]
        for name, (train, test) in families.items()
        if len(train) >= N_TRAIN
    }


def once(folder, method, family):
    """Exact match on a family's held-out entries after training on its rows."""
    name = family.replace(" ", "-")
    data, out = folder / f"{name}.json", folder / f"{name}-{method.replace(' ', '-')}"
    write_json(data, rows_without_instruction()[family])
    start = ["--data", str(data), "--model", str(folder / "base"), "--out", str(out)]
    if not (out / SCORES).exists():
        shutil.rmtree(out, ignore_errors=True)  # left by an interrupted benchmark
        assert ch07(["finetune", *start, *SHARED_ARGUMENTS, *METHODS[method]]) == 0
    return read_json(out / SCORES)["exact_match"]


def compare(folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_data_files(folder)
    if not (folder / "base" / SCORES).exists():
        in_a_process("benchmarks.adapters", "--once", folder, "base")
    families = rows_without_instruction()
    found = []
    right = {}
    n_tests = {name: sum(r.get("split") == "test" for r in rows) for name, rows in families.items()}
    for family in families:
        for method in METHODS:
            right[method, family] = in_a_process(
                "benchmarks.unasked", "--once", folder, method, family
            )
            what = f"{method}: {family}, {n_tests[family]} entries"
            found.append(row(what, right[method, family], right[PEER, family], PEER))
    n = sum(n_tests.values())
    for method in METHODS:
        share = sum(right[method, family] * n_tests[family] for family in families) / n
        found.append(row(f"{method}: all {n} entries", share, None, ""))
    return found


if __name__ == "__main__":
    in_a_folder(__doc__, once, compare)
