"""Label rows as a dataset: what `finetune --rows` trains on.

The one idea: a row of labels without its first element is our row of targets. So the flags that
`collate_responses` expects can be read off the labels, and the same code trains on this project's
rows and on another project's.

The styles of `ROW_STYLES` end where the rows' answers begin, so a model is prompted with what it
was trained on. A ChatGLM conversation becomes a single question that holds all its rounds; its
first round is asked as it stands, although the original trains on it with "[Round 0]" before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tiktoken

from ch07.config import CHATGLM_LENGTH, ROW_LENGTHS, FinetuneOptions
from ch07.data.chat_dataset import CountedRows
from ch07.data.entry_checks import Entry
from ch07.data.field_names import COUNTS
from ch07.data.findings import Level
from ch07.data.prompt_styles import (
    ALPACA_STYLE,
    BARE_STYLE,
    CHATGLM_STYLE,
    CHINESE_ALPACA_STYLE,
    GMASK,
    SOP,
)
from ch07.data.reference_formats.alpaca_labels import LabelRow, LabelRows, label_rows
from ch07.data.reference_formats.chatglm_labels import SpecialTokens, chat_prompt, chatglm_rows
from ch07.data.reference_formats.lamini_rows import lamini_rows
from ch07.data.row_checks import Found
from ch07.data.tokenizer import end_token_id
from collate import END_OF_TEXT, IGNORE_INDEX
from instruction_dataset import PromptStyle, encode_prompt

ROW_STYLES: dict[str, PromptStyle] = {
    "alpaca": ALPACA_STYLE,
    "chinese-alpaca": CHINESE_ALPACA_STYLE,
    "chatglm": CHATGLM_STYLE,
    "lamini": BARE_STYLE,
}
ROW_MARKS = {"chatglm": (GMASK, SOP)}  # which a vocabulary must have for them
JOINT_ROWS = ("alpaca", "lamini")  # prompt and answer are tokenized as one text
ROWS_AT_ONCE = 1000  # lists of ids take about twenty times the memory of arrays


@dataclass(frozen=True)
class RowForm:
    """Which project's rows are made, whether corrected, and how long they may be in tokens."""

    name: str  # a key of `ROW_STYLES`
    corrected: bool = False
    max_length: int = 512
    max_source_length: int | None = None
    max_target_length: int | None = None

    @property
    def style(self) -> PromptStyle:
        """How these rows write an entry's prompt."""
        return ROW_STYLES[self.name]


def row_form(options: FinetuneOptions, context_length: int) -> RowForm:
    """The form that the options ask for; `max_length` is at most the context."""
    length = options.allowed_max_length or ROW_LENGTHS.get(options.rows, context_length)
    default = CHATGLM_LENGTH if options.rows == "chatglm" else None
    return RowForm(
        name=options.rows,
        corrected=options.corrected,
        max_length=min(length, context_length),
        max_source_length=options.max_source_length or default,
        max_target_length=options.max_target_length or default,
    )


class LabelRowDataset(CountedRows):
    """Label rows as items (counted, ids) for `collate_responses`.

    A row that has lost its end has the flag False there. `prompt_lengths` are the tokens of the
    whole prompt; `answer_starts` are what a truncated row has of it.
    """

    def __init__(self, n_vocab: int, end_id: int = END_OF_TEXT) -> None:
        super().__init__(n_vocab)
        self.end_id = end_id
        self.answer_starts: list[int] = []

    def append_label_row(self, entry: Entry, row: LabelRow, prompt_length: int) -> None:
        """Add a row, the entry that it was made from, and the tokens of its whole prompt."""
        ids = row.ids
        counted = [label != IGNORE_INDEX for label in row.labels]
        if counted:
            counted[0] = False  # nothing predicts the first token
        if not row.has_end(self.end_id):
            ids = [*ids, self.end_id]
            counted.append(False)
        self.append(entry, ids, counted, prompt_length)
        self.answer_starts.append(row.n_prompt)


def make_label_dataset(
    entries: Sequence[Entry],
    tokenizer: tiktoken.Encoding,
    form: RowForm,
    context_length: int,
) -> tuple[LabelRowDataset, Found]:
    """(a dataset with a row for each entry, what was found): rows that can't be used are errors.

    An entry that gives no row still has one in the dataset, so that rows keep their numbers; it is
    reported as an error, or as dropped.
    """
    end_id = end_token_id(tokenizer)
    dataset = LabelRowDataset(tokenizer.n_vocab, end_id)
    found: dict[int, tuple[Level, str]] = {}
    sources = _with_first_rounds(entries, form)
    for start in range(0, len(entries), ROWS_AT_ONCE):
        chunk = entries[start : start + ROWS_AT_ONCE]
        rows = _rows_or_reasons(sources[start : start + ROWS_AT_ONCE], tokenizer, form)
        for entry, row in zip(chunk, rows, strict=True):
            number = len(dataset)
            entry = single_question(entry) if form.name == "chatglm" else entry
            prompt = encode_prompt(entry, tokenizer, form.style)
            if len(prompt) > context_length:
                text = f"the prompt alone exceeds the model's context of {context_length}"
                found[number] = ("error", text)
            elif not isinstance(row, LabelRow):
                found[number] = row
            elif row.cut or row.n_counted == 0:
                found[number] = ("note", _what_is_lost(row, form, end_id))
            if not isinstance(row, LabelRow):
                row = LabelRow(prompt, [IGNORE_INDEX] * len(prompt))
            dataset.append_label_row(entry, row, len(prompt))
    return dataset, found


def _with_first_rounds(entries: Sequence[Entry], form: RowForm) -> Sequence[Entry]:
    """The entries with the empty history that a first round has in ChatGLM's files of chats.

    Reading a file drops it. The corrected rows do without it: the first question of a chat is asked
    as it stands, so they have it so, too.
    """
    in_chats = any("history" in entry for entry in entries)
    if form.name != "chatglm" or form.corrected or not in_chats:
        return entries
    return [{"history": [], **entry} for entry in entries]


def _rows_or_reasons(
    entries: Sequence[Entry], tokenizer: tiktoken.Encoding, form: RowForm
) -> Iterator[LabelRow | tuple[Level, str]]:
    """For each entry its row, or the level of the finding and why there is none."""
    chats: dict[int, tuple[Level, str]] = {}
    for i, entry in enumerate(entries):
        fault = _chat_fault(entry, form)
        if fault is not None:
            chats[i] = fault
    usable = [i for i in range(len(entries)) if i not in chats]
    made = _make_rows([entries[i] for i in usable], tokenizer, form)
    level: Level = "dropped" if form.name == "chatglm" else "error"
    dropped: dict[int, tuple[Level, str]] = {}
    for i, reason in made.dropped:
        dropped[usable[i]] = level, reason
    rows = iter(made.rows)
    for i in range(len(entries)):
        if i in chats:
            yield chats[i]
        elif i in dropped:
            yield dropped[i]
        else:
            yield next(rows)


def _chat_fault(entry: Entry, form: RowForm) -> tuple[Level, str] | None:
    """What an entry has that the rows have no place for: (level of the finding, its text)."""
    if entry.get("system"):
        return "error", f"a system message, which --rows {form.name} doesn't have"
    if "history" in entry and form.name != "chatglm":
        return "error", f"a conversation, but --rows {form.name} has single questions"
    if not entry.get(COUNTS, True):
        return (
            "dropped",
            "its last answer, the only one that --rows chatglm learns, has the weight 0",
        )
    return None


def _make_rows(entries: Sequence[Entry], tokenizer: tiktoken.Encoding, form: RowForm) -> LabelRows:
    if form.name == "lamini":
        return lamini_rows(entries, tokenizer, form.max_length)
    if form.name == "chatglm":
        return chatglm_rows(
            [with_pairs(entry) for entry in entries],
            tokenizer,
            chatglm_tokens(tokenizer),
            max_source_length=form.max_source_length or CHATGLM_LENGTH,
            max_target_length=form.max_target_length or CHATGLM_LENGTH,
            original=not form.corrected,
        )
    return label_rows(
        entries,
        tokenizer,
        form.style,
        joint=form.name in JOINT_ROWS,
        original=not form.corrected,
        max_length=form.max_length,
        max_prompt_length=form.max_source_length,
        max_answer_length=form.max_target_length,
        skip_bad_rows=True,
    )


def chatglm_tokens(tokenizer: tiktoken.Encoding) -> SpecialTokens:
    """The ids of ChatGLM's marks in a tokenizer that has them (`add_marks`)."""
    return SpecialTokens(
        gmask=tokenizer.encode_single_token(GMASK),
        bos=tokenizer.encode_single_token(SOP),
        eos=end_token_id(tokenizer),
    )


def with_pairs(entry: Entry) -> dict[str, Any]:
    """The entry with its earlier turns as ChatGLM has them: [(question, answer), ...]."""
    if "history" not in entry:
        return entry
    pairs = [(BARE_STYLE.prompt(turn), turn["output"]) for turn in entry["history"]]
    return {**entry, "history": pairs}


def single_question(entry: Entry) -> Entry:
    """The entry with all rounds of a conversation in its instruction, as ChatGLM reads them.

    The first round is a question without rounds.
    """
    if not entry.get("history"):
        return entry
    pairs = with_pairs(entry)["history"]
    others = {key: value for key, value in entry.items() if key not in ("history", "input")}
    question = chat_prompt(BARE_STYLE.prompt(entry), pairs)
    return {**others, "instruction": question, "input": ""}


def _what_is_lost(row: LabelRow, form: RowForm, end_id: int) -> str:
    """What a limit has cost a row; Lamini's rows never have an end-of-text to lose."""
    if row.n_counted == 0:
        return "cut so short that nothing of the answer is left to learn"
    parts = " and ".join(row.cut)
    end_lost = form.name != "lamini" and not row.has_end(end_id)
    return f"{parts} cut, end-of-text lost" if end_lost else f"{parts} cut"
