"""Preference data: rows with an instruction and two answers, one preferred over the other.

The one idea: a pair is two rows of instruction data with the same prompt, so the code for single
rows also checks, formats, tokenizes and masks pairs: the answer and its end-of-text token are
counted in the loss, the prompt with its response header is not.

The format {instruction, input, chosen, rejected} is that of Raschka's preference file
(04_preference-tuning-with-dpo), whose additional key `output` is ignored. Six of its 1,100 rows
have two equal answers: they teach nothing, so such rows are dropped here, and counted.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tiktoken
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from ch07.data.dataloader import LengthGroupedBatches
from ch07.data.entries import DataFile, check_rows, load_entries, raise_faulty_rows
from ch07.data.entry_checks import check_row
from ch07.data.json_reader import DUPLICATE_KEY, Finding, parse_rows, read_utf8
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.systems.preference_tuning.toy_preferences import toy_preferences
from ch07.utils.validation import MAX_LISTED, quote
from collate import custom_collate_response_fn
from instruction_dataset import BOOK_STYLE, InstructionDataset, PromptStyle

Pair = dict[str, Any]
SIDES = ("chosen", "rejected")
REQUIRED_KEYS = ("instruction", *SIDES)
N_TOY_TRAINING_PAIRS = 400
N_TOY_HELD_OUT_PAIRS = 50


def read_preferences(path: str | Path, skip_bad_rows: bool = False) -> DataFile:
    """The pairs of a JSON or JSONL file as a `DataFile`; DataError lists the faulty rows.

    A pair is a dict with "instruction", "input", "chosen" and "rejected". With `skip_bad_rows`
    faulty rows are dropped; rows with an empty answer or two equal answers always are.
    """
    path = Path(path)
    findings: list[Finding] = []
    text, digest = read_utf8(path)
    rows = parse_rows(text, path, findings, lambda row: set(REQUIRED_KEYS) <= set(row))
    fields = ("input", *REQUIRED_KEYS)
    return check_rows(
        path,
        rows,
        digest,
        findings,
        skip_bad_rows=skip_bad_rows,
        check=check_pair,
        fields=fields,
    )


def load_toy_preferences(seed: int) -> DataFile:
    """Toy pairs made from the bundled entries, as a `DataFile`: 400 for training, 50 held out.

    The held-out pairs come from entries that are held out in the bundled data, too.
    """
    entries = load_entries(DATA_FILE)
    held_out = [entry for entry in entries if "split" in entry]
    training = [entry for entry in entries if "split" not in entry]
    pairs = toy_preferences(training, N_TOY_TRAINING_PAIRS, seed=seed)
    pairs += toy_preferences(held_out, N_TOY_HELD_OUT_PAIRS, seed=seed)
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    return DataFile(DATA_FILE, pairs, [f"pair {i}" for i in range(len(pairs))], [], digest)


def check_pair(where: str, row: Any, findings: list[Finding]) -> Pair | None:
    """The row as a pair with stripped fields, or None; what was found is added to `findings`."""
    if not isinstance(row, dict) or DUPLICATE_KEY in row:
        return check_row(where, row, findings)  # adds what is wrong with the row
    missing = [repr(key) for key in REQUIRED_KEYS if key not in row]
    if missing:
        keys = ", ".join(map(quote, list(row)[:MAX_LISTED])) or "none"
        what = f"missing: {', '.join(missing)}; keys found: {keys}"
        findings.append(Finding(where, "error", what))
        return None
    shared = {key: value for key, value in row.items() if key not in (*SIDES, "output")}
    answers: dict[str, str | None] = {}
    pair_findings: dict[Finding, None] = {}  # an ordered set: both sides may give the same finding
    for side in SIDES:
        side_findings: list[Finding] = []
        entry = check_row(where, {**shared, "output": row[side]}, side_findings)
        for finding in side_findings:
            text = finding.text.replace("'output'", repr(side))
            pair_findings[Finding(finding.place, finding.level, text)] = None
        if entry is None:
            answers[side] = None
        else:
            answers[side] = entry.pop("output")
            shared = entry
    if None not in answers.values() and answers["chosen"] == answers["rejected"]:
        pair_findings[Finding(where, "dropped", "'chosen' and 'rejected' are the same")] = None
    findings += pair_findings
    unusable = any(finding.level != "note" for finding in pair_findings)
    return None if unusable else {**shared, **answers}


class PairDataset(Dataset[tuple[Any, Any, int]]):
    """Pairs as token ids: (chosen, rejected, index), each answer as (prompt_length, ids).

    Both answers follow the same prompt ids. ValueError for a pair whose fields are not text.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        tokenizer: tiktoken.Encoding,
        style: PromptStyle = BOOK_STYLE,
    ) -> None:
        self.pairs = list(pairs)
        self.sides = [
            InstructionDataset(
                [{**pair, "output": pair[side]} for pair in self.pairs], tokenizer, style, True
            )
            for side in SIDES
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        chosen, rejected = self.sides
        return chosen[index], rejected[index], index

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair's longer row: prompt and answer, without the end-of-text token."""
        chosen, rejected = self.sides
        return [max(both) for both in zip(chosen.lengths, rejected.lengths, strict=True)]


def fitting_pairs(
    file: DataFile,
    rows: Sequence[int],
    *,
    style: PromptStyle,
    context_length: int,
    skip_bad_rows: bool = False,
) -> tuple[PairDataset, list[Finding]]:
    """A `PairDataset` of the rows of the file that fit, and a `Finding` for each that does not.

    Answers are never cut, since a cut answer is not the one that was preferred. DataError names
    the pairs that are too long, unless `skip_bad_rows`.
    """
    dataset = PairDataset([file.entries[row] for row in rows], load_tokenizer(), style)
    too_long = {i for i, length in enumerate(dataset.lengths) if length > context_length}
    if not too_long:
        return dataset, []
    text = f"more tokens than the model's context of {context_length}"
    findings = [Finding(file.places[rows[i]], "error", text) for i in sorted(too_long)]
    if not skip_bad_rows:
        raise_faulty_rows(file.path, len(findings), findings[:MAX_LISTED])
    fitting = [pair for i, pair in enumerate(dataset.pairs) if i not in too_long]
    return PairDataset(fitting, load_tokenizer(), style), findings


def collate_pairs(
    batch: Sequence[tuple[Any, Any, int]], **options: Any
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """(inputs, targets) of the chosen answers, the same of the rejected ones, pair indices (B,).

    Each side is padded to its own longest row. `options` are those of `custom_collate_response_fn`.
    """
    chosen, rejected, indices = zip(*batch, strict=True)
    return (
        custom_collate_response_fn(chosen, **options),
        custom_collate_response_fn(rejected, **options),
        torch.tensor(indices),
    )


def pair_loader(
    dataset: PairDataset, batch_size: int, seed: int | None = None
) -> DataLoader[tuple[Any, Any, int]]:
    """A DataLoader that uses `collate_pairs`: in order without a seed, length-grouped with one."""
    if seed is None:
        batches = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
    else:
        batches = LengthGroupedBatches(dataset.lengths, batch_size, seed)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate_pairs)
