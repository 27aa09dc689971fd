"""The one held-out question that a run answers at each evaluation, as the book's loop does.

The one idea: the question stays the same, so what changes from answer to answer is the model. It is
the first validation row, since nobody should choose settings by looking at test answers; a run
without validation rows takes the first test row. On plain text the question is the beginning of a
held-out piece. The book's `generate_and_print_sample` (section 5.2) continues one fixed text.

The answer is greedy, so no random number is drawn, and the model's mode is restored: with or
without it, a run ends at the same bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tiktoken

from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.chat_forms import question_line
from ch07.data.loaded_rows import LoadedRows
from ch07.generation.respond import answer_prompts
from ch07.models.adapters import LanguageModel
from ch07.runs.samples import Sample
from collate import END_OF_TEXT
from instruction_dataset import Entry, PromptStyle

BEGINNING = 16  # tokens of a held-out text that the model continues
ENTRIES_TRIED = 100  # in the search for one whose prompt the model can read


@dataclass(frozen=True)
class HeldOutQuestion:
    """A question as a reader sees it, its right answer, and the token ids that the model reads."""

    question: str
    right: str
    prompt: list[int]


# Answers a question at an evaluation, whose step it is given.
AnswerAt = Callable[[int], Sample]


def question_among(
    entries: Sequence[Entry], tokenizer: tiktoken.Encoding, style: PromptStyle, context_length: int
) -> HeldOutQuestion | None:
    """The first entry whose prompt leaves the model a place for an answer; None if none does."""
    for i in range(min(len(entries), ENTRIES_TRIED)):
        entry = entries[i]
        prompt = encode_chat_prompt(entry, tokenizer, style)
        if len(prompt) < context_length:
            return HeldOutQuestion(question_line(entry), entry["output"], prompt)
    return None


def beginning_of_text(
    rows: Sequence[Sequence[int]], tokenizer: tiktoken.Encoding, context_length: int
) -> HeldOutQuestion | None:
    """How the first held-out piece of text begins, or a document within it; None without one."""
    if len(rows) == 0:
        return None
    piece = list(rows[0])
    documents = _split_at(piece, END_OF_TEXT)
    whole = [document for document in documents[1:] if len(document) > BEGINNING]
    document = whole[0] if whole else max(documents, key=len)
    length = min(BEGINNING, context_length - 1, len(document) // 2)
    if length < 1:
        return None
    question = tokenizer.decode(document[:length])
    return HeldOutQuestion(question, tokenizer.decode(document[length:]), document[:length])


def _split_at(token_ids: Sequence[int], separator: int) -> list[list[int]]:
    """The pieces between separators.

    >>> _split_at([1, 2, 0, 3], 0)
    [[1, 2], [3]]
    """
    pieces: list[list[int]] = [[]]
    for token_id in token_ids:
        if token_id == separator:
            pieces.append([])
        else:
            pieces[-1].append(token_id)
    return pieces


def question_of_run(
    rows: LoadedRows,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    context_length: int,
    *,
    text: bool,
) -> HeldOutQuestion | None:
    """The question of a run on these rows; None if nothing is held out. `text`: of plain text."""
    if text:
        return beginning_of_text(rows.datasets["validation"], tokenizer, context_length)  # type: ignore[arg-type]
    held_out = rows.entries("validation") or rows.entries("test")
    return question_among(held_out, tokenizer, style, context_length)


def answer_function(
    held_out: HeldOutQuestion,
    model: LanguageModel,
    tokenizer: tiktoken.Encoding,
    max_new_tokens: int,
) -> AnswerAt:
    """A function that gives the model's answer at present, of at most `max_new_tokens` tokens."""

    def answer_at(step: int) -> Sample:
        (answer,) = answer_prompts(model, tokenizer, [held_out.prompt], max_new_tokens)
        return Sample(
            step=step,
            question=held_out.question,
            right=held_out.right,
            answer=answer.text,
            stopped=answer.stopped,
        )

    return answer_at
