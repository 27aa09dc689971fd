"""Training rows as ChatGLM-6B's P-tuning makes them, and mended.

The one idea: two special tokens stand between question and answer. [gMASK] says that something is
missing, bos begins it: question, [gMASK], bos, answer, eos. Labels are -100 up to [gMASK], so bos
itself is learned. Source: THUDM/ChatGLM-6B, ptuning/main.py, `preprocess_function_train`.

A chat is one text of numbered rounds. The original cuts it on the right, so that of a long chat the
current question is lost first, and with it the words that ask for an answer; here the oldest
rounds go first. The original also looks for bos by value: one inside a question begins the labels
too early; here the place is counted. Training and evaluation differ in the first round:
`chat_prompt` shows both. Knows nothing of models; GPT-2 lacks two of the special tokens, which
`smart_embedding_resize` makes room for.
"""

from typing import NamedTuple

from ch07.systems.reference_formats.alpaca_labels import LabelRow, LabelRows
from collate import END_OF_TEXT
from instruction_dataset import InstructionDataset, PromptStyle
from train_loop import IGNORE_INDEX

ROUND = "[Round {}]\n问：{}\n答：{}"  # noqa: RUF001

# The question as it is: no header, no preamble.
BARE_STYLE = PromptStyle("chatglm", "{instruction}\n{input}", "{instruction}")


class Specials(NamedTuple):
    """Ids of the special tokens; by default the two that would follow GPT-2's 50,257."""

    gmask: int = END_OF_TEXT + 1
    bos: int = END_OF_TEXT + 2
    eos: int = END_OF_TEXT


def chat_prompt(question, history=None, training=True):
    r"""The text before the answer; `history` is [(question, answer), ...], None: no chat at all.

    Without any earlier round, training on chats writes "[Round 0]" all the same, but evaluation and
    the demo ask the bare question: a model so trained meets another first prompt than it learned.

    >>> chat_prompt("Why?", [("Who?", "I.")])
    '[Round 0]\n问：Who?\n答：I.\n[Round 1]\n问：Why?\n答：'
    >>> chat_prompt("Why?", []), chat_prompt("Why?", [], training=False)
    ('[Round 0]\n问：Why?\n答：', 'Why?')
    """  # noqa: RUF002 (the colons are Chinese)
    if history is None or (not history and not training):
        return question
    rounds = [*history, (question, "")]
    texts = [ROUND.format(i, *asked_and_said) for i, asked_and_said in enumerate(rounds)]
    return "\n".join(texts)


def chatglm_row(prompt, answer, specials=Specials(), legacy=False, ended=True):
    """The `LabelRow` of two lists of ids; an answer that was cut isn't `ended`, and has no eos.

    With `legacy` the labels begin at the first bos by value, and eos ends whatever was cut, as in
    the original.

    >>> row = chatglm_row([1, 2, 3], [4, 5], Specials(gmask=90, bos=91, eos=99))
    >>> row.ids, row.labels
    ([1, 2, 3, 90, 91, 4, 5, 99], [-100, -100, -100, -100, 91, 4, 5, 99])
    """
    end = [specials.eos] if ended or legacy else []
    ids = [*prompt, specials.gmask, specials.bos, *answer, *end]
    masked = ids.index(specials.bos) if legacy else len(prompt) + 1
    return LabelRow(ids, [IGNORE_INDEX] * masked + ids[masked:])


def chatglm_rows(
    entries,
    tokenizer,
    specials=Specials(),
    max_source_length=64,
    max_target_length=64,
    legacy=False,
):
    """`LabelRows` of entries, which may have a "history" of [question, answer] pairs.

    Of a source of 64 tokens 63 are text, of a target 62, the special tokens are the other three. An
    entry without a question or without an answer is dropped, as there, but told. ValueError for one
    with neither, for limits that leave no text, and for a history that is none.
    """
    sizes = max_source_length, max_target_length
    if not all(type(size) is int for size in sizes) or sizes[0] < 2 or sizes[1] < 3:
        raise ValueError(
            f"max_source_length {max_source_length!r} and max_target_length {max_target_length!r} "
            "leave no text: they must be ints, at least 2 and 3"
        )
    room, answer_room = max_source_length - 1, max_target_length - 2
    dataset = InstructionDataset(entries, tokenizer, BARE_STYLE, with_prompt_length=True)
    rows, dropped = [], []
    for i, entry in enumerate(dataset.data):
        question, (n, ids) = BARE_STYLE.prompt(entry), dataset[i]
        missing = "question" if not question else "answer" if not entry["output"] else None
        if missing:
            dropped.append((i, f"the {missing} is empty"))
            continue
        history = _checked_history(i, entry)
        prompt, cut = _prompt_ids(question, history, tokenizer, room, legacy)
        if len(ids) - n > answer_room:
            cut = (*cut, "answer")
        answer = ids[n : n + answer_room]
        row = chatglm_row(prompt, answer, specials, legacy, ended="answer" not in cut)
        rows.append(row._replace(cut=cut))
    return LabelRows(rows, dropped)


def _prompt_ids(question, history, tokenizer, room, legacy):
    """(ids, what was cut): at most `room` of them; of a chat the oldest rounds go first.

    What is left is a shorter chat, numbered from 0. Where the last question alone is too long, its
    own beginning goes, so that the words which ask for an answer stay; outside of a chat there are
    none, and it is cut on the right as theirs.
    """
    ids = tokenizer.encode_ordinary(chat_prompt(question, history))
    if len(ids) <= room:
        return ids, ()
    if legacy or history is None:
        return ids[:room], ("prompt",)
    for start in range(1, len(history) + 1):
        ids = tokenizer.encode_ordinary(chat_prompt(question, history[start:]))
        if len(ids) <= room:
            break
    return ids[-room:], ("prompt",)


def _checked_history(i, entry):
    history = entry.get("history")
    pairs = history is None or (
        isinstance(history, list)
        and all(
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(isinstance(text, str) for text in pair)
            for pair in history
        )
    )
    if not pairs:
        raise ValueError(
            f"entry {i}: 'history' is {history!r}, but must be a list of [question, answer] pairs"
        )
    return history
