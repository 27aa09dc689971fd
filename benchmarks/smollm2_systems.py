"""A judge of 135 million parameters, and a model that learns from its own answers.

    python -m benchmarks.smollm2_systems --data FILE --split book [--out FOLDER] [--only NAME ...]

SmolLM2 is fine-tuned on 300 training rows ("start"). Then:

- judge: it answers the test rows, and SmolLM2 as published grades these answers, the reference
  answers, and the reference answers of other rows. A judge that can be used gives the second the
  highest score and the third the lowest, and its scores agree with those of the metrics.
- best of four: for each of the other training rows, "start" draws four answers. Nobody shows it
  the right one; ROUGE-L with it only decides which of the four is best. "start" is trained further
  on these best answers alone.
- DPO: "start" is trained to prefer the best of the four to the worst (`prefer`), with three
  learning rates.
- right answers: "start" is trained further on the same rows with their own answers.

The scores are those of the test rows. A run that is in the folder already is not trained again.
Takes about an hour on two cores.
"""

import json
import random
from pathlib import Path

import torch

from benchmarks.harness import parser, report, row
from benchmarks.smollm2 import examine, print_result, test_entries
from ch07.commands.cli import main as ch07
from ch07.data.entries import read_data
from ch07.data.splits import sample_rows, split_ignoring_prompts, split_rows
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.judge_scores import SCALES
from ch07.evaluation.llm_judge import judge, summarise
from ch07.evaluation.metrics import rouge_l
from ch07.generation.backends import open_backend
from ch07.generation.decoding import Sampling
from ch07.generation.respond import respond
from ch07.models.saved_run import load_trained_model
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json, write_json

MODEL = "smollm2"
SEED = 123
FIRST_ROWS = 300  # that "start" learns from
DRAWN = 4  # answers for each further row
SMALLEST_DIFFERENCE = 0.1  # in ROUGE-L, between the two answers of a pair
NEW_TOKENS = 64
JUDGED = 100  # answers
MAX_REPLY_TOKENS = 64  # of the judge, which writes a sentence where a number would do
LONG = ("scores", "replies")  # what isn't printed of a judgement
FURTHER = ["--method", "full", "--epochs", "1", "--lr", "5e-5"]
RUNS = {  # name -> command, its data, and further arguments
    "best of four": ("finetune", "best.json", FURTHER),
    "right answers": ("finetune", "right.json", FURTHER),
    "DPO, 2e-6": ("prefer", "pairs.json", ["--lr", "2e-6"]),
    "DPO, 5e-6": ("prefer", "pairs.json", ["--lr", "5e-6"]),
    "DPO, 2e-5": ("prefer", "pairs.json", ["--lr", "2e-5"]),
}
SCORES = ("loss", "exact_match", "token_f1", "rouge_l")


def further_entries(data, split):
    """The training rows that "start" does not see."""
    entries = read_data(data).entries
    if split == "groups":
        train = split_rows(entries, seed=SEED)["train"]
    else:
        train = split_ignoring_prompts(split, len(entries), SEED)["train"]
    families = [entries[i].get("family") for i in train]
    seen = set(sample_rows(families, FIRST_ROWS, SEED))
    return [entries[i] for number, i in enumerate(train) if number not in seen]


def train_start(folder, data, split):
    """Train "start", if it isn't there yet."""
    target = folder / "start"
    if not (target / run_folder.SCORES).exists():
        arguments = ["--model", MODEL, "--data", data, "--split", split, "--out", str(target)]
        assert ch07(["finetune", *arguments, "--train-rows", str(FIRST_ROWS)]) == 0
    return str(target)


# --- learning from its own answers --------------------------------------------------------------
def draw_answers(name, entries):
    """For each entry, the answers that a model draws with temperature 1."""
    trained = load_trained_model(name)
    repeated = [entry for entry in entries for _ in range(DRAWN)]
    answers = respond(
        trained.model,
        trained.tokenizer,
        repeated,
        trained.style,
        NEW_TOKENS,
        sampling=Sampling(temperature=1.0),
        generator=torch.Generator().manual_seed(SEED),
    )
    texts = [answer.text.strip() for answer in answers]
    return [texts[start : start + DRAWN] for start in range(0, len(texts), DRAWN)]


def ranked(entry, texts):
    """The answers that are not empty, from the best to the worst, each with its ROUGE-L."""
    scored = [(rouge_l(text, entry["output"]), text) for text in texts if text]
    return sorted(scored, key=lambda pair: pair[0], reverse=True)


def write_further_data(folder, name, entries):
    """best.json, right.json and pairs.json: what the further training learns from."""
    if (folder / "pairs.json").exists():
        return
    best_rows = []
    pairs = []
    for entry, texts in zip(entries, draw_answers(name, entries), strict=True):
        asked = {key: entry.get(key, "") for key in ("instruction", "input")}
        answers = ranked(entry, texts)
        if not answers:
            continue
        best_score, best = answers[0]
        worst_score, worst = answers[-1]
        best_rows.append({**asked, "output": best})
        if best_score - worst_score >= SMALLEST_DIFFERENCE:
            pairs.append({**asked, "chosen": best, "rejected": worst})
    write_json(folder / "best.json", best_rows)
    write_json(folder / "right.json", entries)
    write_json(folder / "pairs.json", pairs)
    print(f"{len(entries)} rows: {len(best_rows)} with an answer, {len(pairs)} pairs", flush=True)


def train_further(folder, name):
    """Train one of `RUNS` from "start", if it isn't there yet."""
    target = folder / name.replace(", ", "-").replace(" ", "-")
    command, data, arguments = RUNS[name]
    if (target / run_folder.MODEL).exists():
        return str(target)
    start = str(folder / "start")
    where = ["--out", str(target)]
    if command == "prefer":
        assert ch07(["prefer", start, str(folder / data), *where, *arguments]) == 0
    else:
        given = ["--model", start, "--data", str(folder / data), *where, *arguments]
        assert ch07(["finetune", *given]) == 0
    return str(target)


def examined(folder, name, run, entries):
    """What `examine` finds, computed once."""
    result = folder / f"{Path(run).name}.json"
    if not result.exists():
        found, texts = examine(run, entries)
        write_json(result, {**found, "answers": texts})
    found = read_json(result)
    print_result(name, found)
    return found


# --- the judge ----------------------------------------------------------------------------------
def graded(complete, entries, answers, scale):
    """The judge's summary about some answers to the entries."""
    judgement = judge(complete, entries, answers, SCALES[scale], max_new_tokens=MAX_REPLY_TOKENS)
    return {**summarise(judgement, entries, answers), "replies": judgement.replies}


def examine_judge(folder, entries, answers):
    """Grade the model's answers, the right ones, and right ones of other rows; on both scales."""
    result = folder / "judge.json"
    if not result.exists():
        complete = open_backend(MODEL, raw=False, weights="int8")
        entries = entries[:JUDGED]
        answers = answers[:JUDGED]
        order = list(range(len(entries)))
        random.Random(SEED).shuffle(order)
        outputs = [entry["output"] for entry in entries]
        others = [""] * len(outputs)
        for place, i in enumerate(order):  # each row gets the answer of the next one
            others[i] = outputs[order[(place + 1) % len(order)]]
        kinds = {"its own": answers, "right": outputs, "of another row": others}
        found = {
            scale: {kind: graded(complete, entries, texts, scale) for kind, texts in kinds.items()}
            for scale in SCALES
        }
        write_json(result, found)
    for scale, kinds in read_json(result).items():
        for kind, summary in kinds.items():
            summary = {name: value for name, value in summary.items() if name not in LONG}
            print(f"judge, {scale}, answers {kind}: {json.dumps(summary)}", flush=True)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--data", default=str(DATA_FILE))
    arguments.add_argument("--split", default="groups", choices=("groups", "book", "hf"))
    arguments.add_argument("--out", default="runs/smollm2_systems", help="a folder for the runs")
    arguments.add_argument("--only", nargs="+", choices=("judge", *RUNS), default=["judge", *RUNS])
    given = arguments.parse_args()
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)
    entries = test_entries(given.data, given.split, SEED)
    start = train_start(folder, given.data, given.split)
    before = examined(folder, "start", start, entries)
    if "judge" in given.only:
        examine_judge(folder, entries, before["answers"])
    write_further_data(folder, start, further_entries(given.data, given.split))
    rows = []
    for name in given.only:
        if name == "judge":
            continue
        found = examined(folder, name, train_further(folder, name), entries)
        for what in SCORES:
            rows.append(row(f"{name}: {what}", found[what], before[what], "start"))
    report(rows, given.json)


if __name__ == "__main__":
    main()
