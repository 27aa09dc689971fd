"""Write training data whose answers are API calls, and score a run's answers as API calls.

    python -m ch07 api-calls --write FILE [--documents none|oracle|bm25] [--renamed]
    python -m ch07 api-calls RUN [--data FILE] [--json]

The one idea: `finetune` trains on this data like on any other, but the run's answers are parsed and
compared as API calls, not letter by letter. Changes nothing in the run folder.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ch07.data.chat_forms import refuse_conversations
from ch07.data.entries import load_entries, read_data
from ch07.data.findings import summarize_findings
from ch07.data.toy_instructions.build import as_json as entries_json
from ch07.generation.respond import respond
from ch07.models.saved_run import load_trained_model
from ch07.runs import run_folder
from ch07.systems.tool_use.api_call_matching import Api
from ch07.systems.tool_use.api_call_metrics import score_api_calls
from ch07.systems.tool_use.toy_api_dataset import build_entries, catalogue_of
from ch07.utils.atomic_files import write_bytes
from ch07.utils.console import count, shell_path, terminal_line
from ch07.utils.device import choose_device
from ch07.utils.errors import InputError, OptionError, RunFolderError
from ch07.utils.paths import check_new_file
from instruction_dataset import Entry

Scores = dict[str, Any]
MAX_CALL_TOKENS = 64  # of an answer
TITLES = {  # the shares, each with its 95 % interval
    "identity": "right call",
    "domain": "right domain",
    "hallucination": "invented",
    "unparsable": "no call",
}


def api_calls(
    *,
    run: str | None = None,
    write: str | None = None,
    documents: str | None = None,
    renamed: bool = False,
    data: str | None = None,
    skip_bad_rows: bool = False,
    as_json: bool = False,
    device: str = "auto",
) -> int:
    """Write the training data, or print the scores of a run's answers; returns 0.

    The answers are those stored in the run folder (or in a file like its responses.json). With
    `data`, the run answers that file's test entries instead.
    """
    if run is not None and write is not None:
        raise OptionError("give either a RUN to score or --write FILE, not both")
    if write is not None:
        if data is not None or as_json or skip_bad_rows:
            raise OptionError("--data, --skip-bad-rows and --json belong to a RUN, not to --write")
        return _write(Path(write), documents or "none", renamed)
    if documents is not None or renamed:
        raise OptionError("--documents and --renamed belong to --write FILE, not to a RUN")
    if run is None:
        raise OptionError("give a RUN to score, or --write FILE")
    if data is None:
        entries, answers = _stored_answers(Path(run))
    else:
        entries, answers = _generate_answers(run, data, device, skip_bad_rows)
    scores = _scores(entries, answers)
    if as_json:
        print(json.dumps(scores, indent=2))
    else:
        print("\n".join(_table(scores)))
    return 0


def _write(path: Path, documents: str, renamed: bool) -> int:
    check_new_file(path, "--write")
    entries = build_entries(documents, renamed)
    write_bytes(path, entries_json(entries).encode(), new=True)
    print(f"{terminal_line(str(path), width=None)}: {len(entries)} entries; train on them with:")
    data = terminal_line(shell_path(path), width=None)
    print(f"  python -m ch07 finetune --data {data} --epochs 60")
    return 0


def _stored_answers(path: Path) -> tuple[list[Entry], list[str]]:
    """Entries and the answers that stand beside them, from a run folder or a file."""
    if path.is_dir():
        run_folder.read_config(path)
        path = path / run_folder.RESPONSES
    if not path.is_file():
        raise RunFolderError(f"no answers to score: there is no file {path}")
    entries = load_entries(path)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry.get("model_response"), str):
            raise InputError(f"{path}: entry {number} has no text under 'model_response'")
    return entries, [entry["model_response"] for entry in entries]


def _generate_answers(
    folder: str, data: str, device: str, skip_bad_rows: bool
) -> tuple[list[Entry], list[str]]:
    """The file's test entries (all entries if none has a split), and the run's answers to them."""
    file = read_data(data, skip_bad_rows)
    refuse_conversations(file.entries, file.places, file.path, "api-calls")
    for line in summarize_findings(file.findings):
        print(terminal_line(f"data: {line}", width=None), file=sys.stderr)
    entries = list(file.entries)
    if any("split" in entry for entry in entries):
        entries = [entry for entry in entries if entry.get("split") == "test"]
    if not entries:
        raise InputError(f"{data}: no entry has the split 'test'")
    catalogue_of([entry["output"] for entry in entries])  # fails before the model is loaded
    run = load_trained_model(folder, choose_device(device))
    answers = respond(run.model, run.tokenizer, entries, run.style, MAX_CALL_TOKENS)
    return entries, [answer.text for answer in answers]


def _score_pairs(pairs: Sequence[tuple[str, str]], catalogue: Sequence[Api]) -> Scores:
    """The scores of (answer, right answer) pairs."""
    answers = [answer for answer, _ in pairs]
    golds = [gold for _, gold in pairs]
    return score_api_calls(answers, golds, catalogue)


def _scores(entries: Sequence[Entry], answers: Sequence[str]) -> Scores:
    """The scores of all entries and, under "families", those of each family."""
    catalogue = catalogue_of([entry["output"] for entry in entries])
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry, answer in zip(entries, answers, strict=True):
        rows[entry.get("family", "")].append((answer, entry["output"]))
    pairs = [pair for family in rows.values() for pair in family]
    scores = _score_pairs(pairs, catalogue)
    scores["families"] = {
        family: _score_pairs(rows[family], catalogue) for family in sorted(rows) if family
    }
    return scores


def _table(scores: Scores) -> Iterator[str]:
    """The lines of a table: for each family and for all, each share with its 95 % interval."""
    families = {terminal_line(name): part for name, part in scores["families"].items()}
    for name, part in (*families.items(), ("all", scores)):
        yield f"{name}, {count(part['n'], 'answer')}:"
        for share, title in TITLES.items():
            n = round(part[share] * part["n"])
            low, high = part[f"{share}_interval"]
            rate = f"{100 * part[share]:.1f} %"
            yield f"  {title:<12} {n:>6} {rate:>9}   {100 * low:.1f} to {100 * high:.1f} %"
    rule = scores["substring_rule"]
    yield (
        f"By Gorilla's substring rule {rule['correct']} of {scores['n']} would be correct "
        f"(the right domain) and {rule['hallucination']} invented."
    )
