"""Token ids and labels as in ChatGLM-6B's P-tuning, original and corrected.

The one idea: two special tokens separate question and answer. [gMASK] marks the place where text is
missing, and bos begins that text: question, [gMASK], bos, answer, eos. Labels are -100 up to and
including [gMASK], so bos itself is learned. Source: THUDM/ChatGLM-6B, ptuning/main.py,
`preprocess_function_train`.

A chat is one text of numbered rounds. The original truncates it on the right, so that a long chat
loses its current question first, and with it the words that prompt for an answer; the corrected
rows drop the oldest rounds first. The original also finds bos by value, so that a bos within a
question starts the labels too early; here its position is known. In the original, training and
evaluation format a chat's first round differently: `chat_prompt` shows both, and the rows of an
evaluation are in chatglm_evaluation.py. Knows nothing of models; GPT-2 lacks two of the special
tokens, for which `smart_embedding_resize` makes room.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import tiktoken

from ch07.data.prompt_styles import BARE_STYLE
from ch07.data.reference_formats.alpaca_labels import LabelRow, LabelRows
from ch07.utils.errors import InputError
from collate import END_OF_TEXT
from instruction_dataset import check_fields
from train_loop import IGNORE_INDEX

History = Sequence[Sequence[str]]  # (question, answer) pairs, the oldest first

ROUND_TEMPLATE = "[Round {}]\n问：{}\n答：{}"  # noqa: RUF001


class SpecialTokens(NamedTuple):
    """Ids of the special tokens; [gMASK] and bos default to the first two after GPT-2's 50,257."""

    gmask: int = END_OF_TEXT + 1
    bos: int = END_OF_TEXT + 2
    eos: int = END_OF_TEXT


def chat_prompt(question: str, history: History | None = None, training: bool = True) -> str:
    r"""The text before the answer; `history` is [(question, answer), ...], or None outside a chat.

    In a chat's first round, training adds "[Round 0]", but evaluation and the demo send the bare
    question: a model trained this way is prompted in a format that it has not learned.

    >>> chat_prompt("Why?", [("Who?", "I.")])
    '[Round 0]\n问：Who?\n答：I.\n[Round 1]\n问：Why?\n答：'
    >>> chat_prompt("Why?", []), chat_prompt("Why?", [], training=False)
    ('[Round 0]\n问：Why?\n答：', 'Why?')
    """  # noqa: RUF002 (the colons are Chinese)
    if history is None or (not history and not training):
        return question
    rounds = [*history, (question, "")]
    texts = [ROUND_TEMPLATE.format(i, *turns) for i, turns in enumerate(rounds)]
    return "\n".join(texts)


def chatglm_row(
    prompt: Sequence[int],
    answer: Sequence[int],
    special_tokens: SpecialTokens = SpecialTokens(),
    *,
    original: bool = False,
    answer_cut: bool = False,
) -> LabelRow:
    """The `LabelRow` of a prompt and an answer, both token ids; a cut answer gets no eos.

    With `original` the labels begin at the first id that equals bos, and a cut answer ends in eos.

    >>> row = chatglm_row([1, 2, 3], [4, 5], SpecialTokens(gmask=90, bos=91, eos=99))
    >>> row.ids, row.labels
    ([1, 2, 3, 90, 91, 4, 5, 99], [-100, -100, -100, -100, 91, 4, 5, 99])
    """
    asked = [*prompt, special_tokens.gmask, special_tokens.bos]
    ids = [*asked, *answer]
    if original or not answer_cut:
        ids.append(special_tokens.eos)
    n_masked = ids.index(special_tokens.bos) if original else len(prompt) + 1
    labels = [IGNORE_INDEX] * n_masked + ids[n_masked:]
    return LabelRow(ids, labels, n_prompt=len(asked))


def chatglm_rows(
    entries: Iterable[dict[str, Any]],
    tokenizer: tiktoken.Encoding,
    special_tokens: SpecialTokens = SpecialTokens(),
    *,
    max_source_length: int = 64,
    max_target_length: int = 64,
    original: bool = False,
) -> LabelRows:
    """`LabelRows` of entries, which may have a "history" of [question, answer] pairs.

    Lengths include the special tokens: a source of 64 has at most 63 tokens of text, a target of 64
    at most 62. As in the original, an entry without a question or without an answer is dropped; it
    is listed in `dropped`. ValueError for a field that is not text, for limits that leave no text,
    and for a malformed history.
    """
    _check_lengths(max_source_length, max_target_length)
    max_prompt_tokens = max_source_length - 1
    max_answer_tokens = max_target_length - 2
    result = LabelRows([], [])
    for i, entry in enumerate(entries):
        check_fields(i, entry)
        question = BARE_STYLE.prompt(entry)
        if not question:
            result.dropped.append((i, "the question is empty"))
            continue
        if not entry["output"]:
            result.dropped.append((i, "the answer is empty"))
            continue
        history = _checked_history(i, entry)
        prompt = tokenizer.encode_ordinary(chat_prompt(question, history))
        answer = tokenizer.encode_ordinary(entry["output"])
        prompt_cut = len(prompt) > max_prompt_tokens
        answer_cut = len(answer) > max_answer_tokens
        if prompt_cut and history is not None and not original:
            prompt = _shortened_chat(question, history, tokenizer, max_prompt_tokens)
        elif prompt_cut:
            prompt = prompt[:max_prompt_tokens]
        row = chatglm_row(
            prompt,
            answer[:max_answer_tokens],
            special_tokens,
            original=original,
            answer_cut=answer_cut,
        )
        cut = [
            name for name, was_cut in (("prompt", prompt_cut), ("answer", answer_cut)) if was_cut
        ]
        result.rows.append(row._replace(cut=tuple(cut)))
    return result


def _check_lengths(max_source_length: int, max_target_length: int) -> None:
    limits = {
        "max_source_length (--max-source-length)": (max_source_length, 2),
        "max_target_length (--max-target-length)": (max_target_length, 3),
    }
    for name, (length, least) in limits.items():
        if type(length) is not int or length < least:
            raise InputError(
                f"{name} is {length!r}, but must be an int of at least {least}, to leave room for "
                "text beside the special tokens"
            )


def _shortened_chat(
    question: str, history: History, tokenizer: tiktoken.Encoding, max_tokens: int
) -> list[int]:
    """At most `max_tokens` ids of a chat's prompt: the oldest rounds are dropped first.

    The remaining rounds are numbered from 0. If the last question alone is too long, its beginning
    is dropped, so that the words that prompt for an answer stay.
    """
    ids: list[int] = []
    for start in range(1, len(history) + 1):
        ids = tokenizer.encode_ordinary(chat_prompt(question, history[start:]))
        if len(ids) <= max_tokens:
            return ids
    if not history:
        ids = tokenizer.encode_ordinary(chat_prompt(question, history))
    return ids[-max_tokens:]


def _checked_history(i: int, entry: dict[str, Any]) -> History | None:
    history = entry.get("history")
    if history is None or (isinstance(history, list) and all(map(_is_text_pair, history))):
        return history
    raise InputError(
        f"entry {i}: 'history' is {history!r}, but must be a list of [question, answer] pairs"
    )


def _is_text_pair(pair: Any) -> bool:
    return (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(text, str) for text in pair)
    )
