"""Preference data: rows of an instruction and two answers, of which one was liked better.

The one idea: a pair is two rows of instruction data with the same prompt, so it is checked,
written, tokenized and masked by what does that for any row: the answer and its end-of-text are
counted, the prompt with its response header isn't.

The form {instruction, input, chosen, rejected} is that of Raschka's preference file
(04_preference-tuning-with-dpo), whose further key `output` is passed over. Its 1,100 rows hold six
whose two answers are the same: they teach nothing, so such rows are left out here, and counted.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from ch07.data.dataloader import LengthGroupedBatches
from ch07.data.entries import DataFile, check_rows, load_entries, raise_faulty_rows
from ch07.data.entry_checks import check_row
from ch07.data.json_reader import DUPLICATE_KEY, Finding, parse_rows, read_utf8
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.systems.preference_tuning.toy_preferences import toy_preferences
from ch07.utils.validation import MAX_LISTED, quoted
from collate import custom_collate_response_fn
from instruction_dataset import BOOK_STYLE, InstructionDataset

SIDES = ("chosen", "rejected")
FIELDS = ("instruction", *SIDES)


def read_preferences(path, skip_bad_rows=False):
    """The pairs of a JSON or JSONL file as a `DataFile`; DataError lists what can't be used.

    A pair is a dict with "instruction", "input", "chosen" and "rejected". Faulty rows are left out
    with `skip_bad_rows`; rows with an empty answer or with two equal ones in any case.
    """
    path, findings = Path(path), []
    text, digest = read_utf8(path)
    rows = parse_rows(text, path, findings, lambda row: set(FIELDS) <= set(row))
    fields = ("input", *FIELDS)
    return check_rows(
        path,
        rows,
        digest,
        findings,
        skip_bad_rows=skip_bad_rows,
        check=checked_pair,
        fields=fields,
    )


def toy_file(seed):
    """Toy pairs of the bundled entries, as if they stood in a file: 400 to train on, 50 held out.

    What is held out was so when the bundled data were trained on, too.
    """
    entries = load_entries(DATA_FILE)
    kept = [entry for entry in entries if "split" in entry]
    trained = [entry for entry in entries if "split" not in entry]
    pairs = toy_preferences(trained, 400, seed=seed) + toy_preferences(kept, 50, seed=seed)
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    return DataFile(DATA_FILE, pairs, [f"pair {i}" for i in range(len(pairs))], [], digest)


def checked_pair(where, row, findings):
    """The row as a pair with stripped fields, or None; what was seen goes to `findings`."""
    if not isinstance(row, dict) or DUPLICATE_KEY in row:
        return check_row(where, row, findings)  # says what is wrong with it
    missing = [repr(key) for key in FIELDS if key not in row]
    if missing:
        keys = ", ".join(map(quoted, list(row)[:MAX_LISTED])) or "none"
        what = f"missing: {', '.join(missing)}; keys found: {keys}"
        findings.append(Finding(where, "error", what))
        return None
    shared = {key: value for key, value in row.items() if key not in (*SIDES, "output")}
    answers, seen = {}, {}
    for side in SIDES:
        found = []
        entry = check_row(where, {**shared, "output": row[side]}, found)
        seen |= dict.fromkeys(Finding(f.place, f.level, _renamed(f.text, side)) for f in found)
        answers[side] = entry and entry.pop("output")
        shared = shared if entry is None else entry
    if None not in answers.values() and answers["chosen"] == answers["rejected"]:
        seen[Finding(where, "dropped", "'chosen' and 'rejected' are the same")] = None
    findings += seen
    lost = any(finding.level != "note" for finding in seen)
    return None if lost else {**shared, **answers}


def _renamed(what, side):
    return what.replace("'output'", repr(side))


class PairDataset(Dataset):
    """Pairs as token ids: (chosen, rejected, number), each answer as (prompt_length, ids).

    Both start with the very same prompt ids. ValueError for a pair that isn't text.
    """

    def __init__(self, pairs, tokenizer, style=BOOK_STYLE):
        self.pairs = list(pairs)
        self.sides = [
            InstructionDataset(
                [{**pair, "output": pair[side]} for pair in self.pairs], tokenizer, style, True
            )
            for side in SIDES
        ]

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, number):
        return *(side[number] for side in self.sides), number

    @property
    def lengths(self):
        """Tokens of the longer answer of each pair, prompt included, the end-of-text not."""
        return [max(both) for both in zip(*(side.lengths for side in self.sides), strict=True)]


def pairs_that_fit(file, rows, style, context_length, skip_bad_rows=False):
    """(`PairDataset` of the rows of the file that fit into the model, a `Finding` for each other).

    DataError names the others, unless `skip_bad_rows`: a cut answer isn't the one that was liked.
    """
    dataset = PairDataset([file.entries[row] for row in rows], load_tokenizer(), style)
    long = {i for i, n in enumerate(dataset.lengths) if n > context_length}
    if not long:
        return dataset, []
    text = f"more tokens than the model's context of {context_length}"
    found = [Finding(file.places[rows[i]], "error", text) for i in sorted(long)]
    if not skip_bad_rows:
        raise_faulty_rows(file.path, len(found), found[:MAX_LISTED])
    kept = [pair for i, pair in enumerate(dataset.pairs) if i not in long]
    return PairDataset(kept, load_tokenizer(), style), found


def collate_pairs(batch, **options):
    """((inputs, targets) of the chosen, (inputs, targets) of the rejected, numbers (B,)).

    Each side is padded to its own longest row. `options` are `custom_collate_response_fn`'s.
    """
    *sides, numbers = zip(*batch, strict=True)
    both = (custom_collate_response_fn(side, **options) for side in sides)
    return *both, torch.tensor(numbers)


def pair_loader(dataset, batch_size, seed=None):
    """A DataLoader of `collate_pairs`; in order without a seed, length-grouped with one."""
    if seed is None:
        batches = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
    else:
        batches = LengthGroupedBatches(dataset.lengths, batch_size, seed)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate_pairs)
