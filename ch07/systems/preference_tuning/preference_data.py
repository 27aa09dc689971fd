"""Preference data: rows with an instruction and two answers, one preferred over the other.

The one idea: a pair is two rows of instruction data with the same prompt, so the code for single
rows also checks, formats, tokenizes and masks pairs. By default the answer and its end-of-text
token are counted in the loss, and the prompt with its response header is not (`COUNTED_PARTS`).

The format {instruction, input, chosen, rejected} is that of Raschka's preference file
(04_preference-tuning-with-dpo), whose additional key `output` is ignored. Six of its 1,100 rows
have two equal answers: they teach nothing, so such rows are dropped here, and counted.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import tiktoken
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from ch07.config import COUNTED_PARTS, DEFAULT_COUNTED
from ch07.data.chat_dataset import (
    ChatDataset,
    collate_responses,
    count_header_tokens,
    counted_flags,
    drop_oldest_turns,
    make_dataset,
)
from ch07.data.conversations import (
    HH_HEADING,
    as_messages,
    decoded,
    in_list,
    is_messages,
    is_system_message,
    message_text,
)
from ch07.data.data_files import Source
from ch07.data.dataloader import LengthGroupedBatches
from ch07.data.entries import DataFile, load_entries, read_data
from ch07.data.entry_checks import ALPACA_FORM, Entry, check_row
from ch07.data.field_names import (
    ANSWER_NAMES,
    CHAT_NAMES,
    LABEL_NAMES,
    PAIR_NAMES,
    QUESTION_NAMES,
    SIDE_NAMES,
)
from ch07.data.findings import Finding, FindingCounts, FindingSink, RowFault, raise_faulty_rows
from ch07.data.json_objects import ObjectWithRepeatedKey
from ch07.data.prompt_styles import CHATGLM_STYLE
from ch07.data.reference_formats.label_row_dataset import single_question
from ch07.data.row_forms import FileForm, NamedValues
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.systems.preference_tuning.toy_preferences import toy_preferences
from ch07.utils.console import count
from ch07.utils.errors import InputError
from ch07.utils.validation import MAX_LISTED, quote
from collate import END_OF_TEXT
from instruction_dataset import BOOK_STYLE, InstructionDataset, PromptStyle

Pair = dict[str, Any]
SIDES = PAIR_NAMES
REQUIRED_KEYS = ("instruction", *SIDES)
N_TOY_TRAINING_PAIRS = 400
N_TOY_HELD_OUT_PAIRS = 50


def read_preferences(source: Source, skip_bad_rows: bool = False) -> DataFile:
    """The pairs of a file, or of several, as a `DataFile`; DataError lists the faulty rows.

    A pair is a dict with "instruction", "input", "chosen" and "rejected". With `skip_bad_rows`
    faulty rows are dropped; rows with an empty answer or two equal answers always are.
    """
    fields = ("input", *REQUIRED_KEYS)
    return read_data(source, skip_bad_rows, check=check_pair, fields=fields)


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


def check_pair(
    where: str, row: Any, findings: FindingSink, form: FileForm = ALPACA_FORM
) -> Pair | None:
    """The row as a pair with stripped fields, or None; what was found is added to `findings`."""
    if not isinstance(row, dict) or isinstance(row, ObjectWithRepeatedKey):
        return check_row(where, row, findings, form)  # adds what is wrong with the row
    try:
        rows, unread = rows_of_sides(row)
    except RowFault as fault:
        findings.append(Finding(where, fault.level, str(fault), fault.kind))
        return None
    prompts: list[Entry] = []
    answers: dict[str, str] = {}
    pair_findings: dict[Finding, None] = {}  # an ordered set: both sides may give the same finding
    for key in unread:
        text = f"{quote(key)} beside the two answers is not read"
        pair_findings[Finding(where, "note", text)] = None
    for side in SIDES:
        side_findings: list[Finding] = []
        entry = check_row(where, rows[side], side_findings, form)
        for finding in side_findings:
            text = finding.text.replace("'output'", repr(side)).replace("'messages'", repr(side))
            text = text.replace("/output read as instruction/output", " read as instruction")
            pair_findings[replace(finding, text=text)] = None
        if entry is not None:
            answers[side] = entry.pop("output")
            prompts.append(entry)
    if len(answers) == 2 and prompts[0] != prompts[1]:
        text = "'chosen' and 'rejected' answer different questions"
        pair_findings[Finding(where, "error", text)] = None
    elif len(answers) == 2 and answers["chosen"] == answers["rejected"]:
        pair_findings[Finding(where, "dropped", "'chosen' and 'rejected' are the same")] = None
    notes = [finding for finding in pair_findings if finding.level == "note"]
    faults = [finding for finding in pair_findings if finding.level != "note"]
    for finding in [*notes, *faults[:1]]:  # one fault is enough for a row
        findings.append(finding)
    return None if faults else {**prompts[0], **answers}


def rows_of_sides(row: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """({side: a row with the prompt and that side's answer}, keys of other answers, not read).

    The forms of TRL: the prompt is a text or messages, and so are the answers, which may also hold
    the prompt (then it is implicit, as in HH-RLHF and UltraFeedback). RowFault if there is no such
    pair.
    """
    values = NamedValues(row)
    names = {side: _name_of_side(values, side) for side in SIDES}
    used = [name for name in names.values() if name is not None]
    answers = {side: values[name] for side, name in names.items() if name is not None}
    dialogues = {side: read_dialogue(answer) for side, answer in answers.items()}
    has_whole = bool(dialogues) and all(said and len(said) > 1 for said in dialogues.values())
    question = values.first_of((*QUESTION_NAMES, "input"))
    if question is None and not has_whole:
        question = values.first_of(CHAT_NAMES)
    if len(answers) < len(SIDES) or (question is None and not all(dialogues.values())):
        raise RowFault(_missing(row, question, answers))
    prompt_names = [] if question is None else [question]
    others = values.all_of((*ANSWER_NAMES, *CHAT_NAMES))
    unread = [values.keys[name] for name in others if name not in (*prompt_names, *used)]
    own = {values.keys[name] for name in values.all_of((*prompt_names, *used, *LABEL_NAMES))}
    shared = {key: value for key, value in row.items() if key not in {*own, *unread}}
    prompt = None if question is None else _prompt(values, question)
    if question is not None and isinstance(prompt, str) and not any(dialogues.values()):
        # Argilla's pairs ask under "input", which elsewhere is what a question is about
        key = "instruction" if question == "input" else values.keys[question]
        shared[key] = values[question]
        return {side: {**shared, "output": answer} for side, answer in answers.items()}, unread
    rows = {
        side: {**shared, "messages": _messages_of_side(prompt, dialogues[side] or answer, side)}
        for side, answer in answers.items()
    }
    return rows, unread


def _name_of_side(values: NamedValues, side: str) -> str | None:
    """Under which name a row holds this side's answer."""
    name = values.first_of(SIDE_NAMES[side])
    if name is None and side == "chosen" and "rejected_response" in values:
        return values.first_of(("response",))  # ms-swift
    return name


def _missing(row: dict[str, Any], question: str | None, answers: dict[str, Any]) -> str:
    lacking = [] if question is not None else ["instruction"]
    missing = [*lacking, *(side for side in SIDES if side not in answers)]
    keys = ", ".join(quote(str(key)) for key in list(row)[:MAX_LISTED]) or "none"
    return f"missing: {', '.join(map(repr, missing))}; keys found: {keys}"


def _prompt(values: NamedValues, name: str) -> Any:
    """The prompt: a text, or the messages that it consists of."""
    prompt = decoded(values[name])
    if isinstance(prompt, dict) and is_messages(prompt.get("messages")):
        return prompt["messages"]  # OpenAI
    dialogue = read_dialogue(prompt)
    if dialogue is None and isinstance(prompt, str):
        return prompt
    if dialogue is None:
        return as_messages(prompt, "user", values.keys[name])
    if dialogue[-1] == {"role": "Assistant", "content": ""}:
        dialogue.pop()  # the heading of the answer that follows
    return dialogue


def _messages_of_side(prompt: Any, answer: Any, side: str) -> list[Any]:
    """The whole conversation of a side; RowFault if the prompt isn't how it begins."""
    before = [] if prompt is None else as_messages(prompt, "user", "prompt")
    answer = as_messages(answer, "assistant", side)
    if len(answer) == 1:  # the answer alone
        return [*before, *answer]
    asked = [message_text(message) for message in before if not is_system_message(message)]
    said = [message_text(message) for message in answer if not is_system_message(message)]
    if asked != said[: len(asked)]:
        raise RowFault(f"the prompt is not how the conversation under {side!r} begins")
    if any(map(is_system_message, answer)):
        return answer
    return [*filter(is_system_message, before), *answer]


def read_dialogue(value: Any) -> list[Any] | None:
    r"""The messages that an answer consists of; None for a plain text.

    >>> read_dialogue("\n\nHuman: Hi\n\nAssistant: Ho")
    [{'role': 'Human', 'content': 'Hi'}, {'role': 'Assistant', 'content': 'Ho'}]
    """
    value = in_list(decoded(value))
    if is_messages(value):
        return value
    if not isinstance(value, str) or not HH_HEADING.match(value):
        return None
    _, *parts = HH_HEADING.split(value)
    return [
        {"role": role, "content": text} for role, text in zip(parts[::2], parts[1::2], strict=True)
    ]


class PairDataset(Dataset[tuple[Any, Any, int]]):
    """Pairs as token ids: (chosen, rejected, index), each answer as `collate_responses` expects it.

    Both answers follow the same prompt ids. `counted` is one of `COUNTED_PARTS`; the book's
    `PreferenceDataset` and its `custom_collate_fn` have "header-and-answer". ValueError for a pair
    whose fields are not text.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        tokenizer: tiktoken.Encoding,
        style: PromptStyle = BOOK_STYLE,
        counted: str = DEFAULT_COUNTED,
    ) -> None:
        if counted not in COUNTED_PARTS:
            raise InputError(f"counted is {counted!r}: choose one of {', '.join(COUNTED_PARTS)}")
        self.pairs = list(pairs)
        self.tokenizer = tokenizer
        self.style = style
        self.counts_header = "header" in COUNTED_PARTS[counted]
        self.counts_end = "end" in COUNTED_PARTS[counted]
        self.sides = [
            make_dataset(
                [{**pair, "output": pair[side]} for pair in self.pairs],
                tokenizer,
                style,
                "last-response",
            )
            for side in SIDES
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any, int]:
        chosen, rejected = (self._answer(side, index) for side in self.sides)
        return chosen, rejected, index

    def _answer(self, side: InstructionDataset | ChatDataset, index: int) -> Any:
        """A side's item, in which header and end-of-text are counted as this dataset wants it."""
        item: Any = side[index]
        if self.counts_end and not self.counts_header:  # as in a dataset of single rows
            return item
        first, ids = item
        counted = list(counted_flags(first, len(ids)))
        counted[-1] = self.counts_end
        if self.counts_header:
            n_prompt = side.prompt_lengths[index]
            entry = side.data[index]
            n_header = count_header_tokens(entry, ids[:n_prompt], self.tokenizer, self.style)
            counted[n_prompt - n_header : n_prompt] = [True] * n_header
        return counted, ids

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair's longer row: prompt and answer, without the end-of-text token."""
        chosen, rejected = self.sides
        return [max(both) for both in zip(chosen.lengths, rejected.lengths, strict=True)]


def fitting_pairs(
    file: DataFile,
    rows: Sequence[int],
    *,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    context_length: int,
    skip_bad_rows: bool = False,
    counted: str = DEFAULT_COUNTED,
) -> tuple[PairDataset, list[Finding]]:
    """A `PairDataset` of the rows of the file that fit, and a `Finding` for each that does not.

    Conversations lose their oldest turns, and in ChatGLM's style become single questions, as in its
    rows. Answers are never cut, since a cut answer is not the one
    that was preferred. DataError names the pairs that are too long, unless `skip_bad_rows`.
    """
    notes: list[Finding] = []
    pairs: list[Pair] = []
    for row in rows:
        pair, n_dropped = _fit_pair(file.entries[row], tokenizer, style, context_length)
        if n_dropped:
            kind = f"the oldest turns were left out: more than {context_length} tokens"
            text = f"{count(n_dropped, 'turn')} left out, the oldest"
            notes.append(Finding(file.places[row], "note", text, kind))
        pairs.append(single_question(pair) if style == CHATGLM_STYLE else pair)
    dataset = PairDataset(pairs, tokenizer, style, counted)
    too_long = {i for i, length in enumerate(dataset.lengths) if length > context_length}
    if not too_long:
        return dataset, notes
    text = f"more tokens than the model's context of {context_length}"
    errors = [Finding(file.places[rows[i]], "error", text) for i in sorted(too_long)]
    if not skip_bad_rows:
        raise_faulty_rows(file.path, FindingCounts(errors))
    fitting = [pair for i, pair in enumerate(dataset.pairs) if i not in too_long]
    return PairDataset(fitting, tokenizer, style, counted), [*notes, *errors]


def _fit_pair(
    pair: Pair, tokenizer: tiktoken.Encoding, style: PromptStyle, max_length: int
) -> tuple[Pair, int]:
    """(the pair, both of whose conversations fit, how many turns it lost): the same on each side.

    The two answers follow one prompt, so the longer one decides.
    """
    n_dropped = 0
    for side in SIDES:
        entry = {**pair, "output": pair[side]}
        _, n_of_side = drop_oldest_turns(entry, tokenizer, style, max_length)
        n_dropped = max(n_dropped, n_of_side)
    if not n_dropped:
        return pair, 0
    return {**pair, "history": pair["history"][n_dropped:]}, n_dropped


def collate_pairs(
    batch: Sequence[tuple[Any, Any, int]], **options: Any
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """(inputs, targets) of the chosen answers, the same of the rejected ones, pair indices (B,).

    Each side is padded to its own longest row; the book's `custom_collate_fn` pads both to the
    longest of all, which changes no log-probability. `options` are those of `collate_responses`.
    """
    chosen, rejected, indices = zip(*batch, strict=True)
    return (
        collate_responses(chosen, **options),
        collate_responses(rejected, **options),
        torch.tensor(indices),
    )


def pair_loader(
    dataset: PairDataset,
    batch_size: int,
    seed: int | None = None,
    pad_token_id: int = END_OF_TEXT,
) -> DataLoader[tuple[Any, Any, int]]:
    """A DataLoader that uses `collate_pairs`: in order without a seed, length-grouped with one."""
    if seed is None:
        batches = BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
    else:
        batches = LengthGroupedBatches(dataset.lengths, batch_size, seed)
    collate = partial(collate_pairs, pad_token_id=pad_token_id)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate)
