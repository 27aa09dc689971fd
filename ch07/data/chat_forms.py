"""How a conversation is written: the system prompt, and the turns after the first, in each style.

The one idea: a prompt style says how one question is written, and a chat form what changes around
it. The book's form is repeated without its preamble, and a system prompt takes the preamble's place
(so do FastChat and LLaMA-Factory); ChatML and Llama 3 have marks of their own. GPT-2 has no token
for such a mark, so it is written as text; an answer always ends with the one token that ends a
text, whatever the style has there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ch07.data.entry_checks import Entry
from ch07.data.prompt_styles import (
    ALPACA_STYLE,
    CHATML_STYLE,
    CHINESE_ALPACA_STYLE,
    LLAMA_3_STYLE,
    PHI3_STYLE,
    QUESTION_STYLE,
)
from ch07.utils.errors import DataError
from instruction_dataset import BOOK_STYLE, INPUT, INSTRUCTION, RESPONSE_HEADER, PromptStyle

Part = tuple[str, str]  # role and text


@dataclass(frozen=True)
class ChatForm:
    """What is written around the turns of a conversation."""

    system: str  # a system prompt, as a template with {system}
    turn: PromptStyle  # a question after it: the style without its preamble
    between: str = ""  # what comes before each question but the first


_ALPACA_TURN = PromptStyle(
    name="alpaca",
    with_input="\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:",
    no_input="\n\n### Instruction:\n{instruction}\n\n### Response:",
)
_CHINESE_ALPACA_TURN = PromptStyle(
    name="chinese-alpaca",
    with_input="\n\n### Instruction:\n{instruction}\n{input}\n\n### Response: ",
    no_input="\n\n### Instruction:\n{instruction}\n\n### Response: ",
)
_BOOK_TURN = PromptStyle(
    name="book",
    with_input=INSTRUCTION + INPUT + RESPONSE_HEADER,
    no_input=INSTRUCTION + RESPONSE_HEADER,
)

CHAT_FORMS: dict[PromptStyle, ChatForm] = {
    BOOK_STYLE: ChatForm("{system}", _BOOK_TURN),
    ALPACA_STYLE: ChatForm("{system}", _ALPACA_TURN),
    CHINESE_ALPACA_STYLE: ChatForm("{system}", _CHINESE_ALPACA_TURN),
    QUESTION_STYLE: ChatForm("{system}\n\n", QUESTION_STYLE, between="\n\n"),
    PHI3_STYLE: ChatForm("<|system|>\n{system}\n", PHI3_STYLE, between="\n"),
    CHATML_STYLE: ChatForm("<|im_start|>system\n{system}<|im_end|>\n", CHATML_STYLE, between="\n"),
    LLAMA_3_STYLE: ChatForm(
        "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>", LLAMA_3_STYLE
    ),
}


def chat_form(style: PromptStyle) -> ChatForm:
    """The `ChatForm` of a style; for one of a reader's own, its prompt is simply repeated.

    ChatML with a model's own system line has the form of ChatML.
    """
    if style.name == CHATML_STYLE.name and style.no_input.endswith(CHATML_STYLE.no_input):
        return CHAT_FORMS[CHATML_STYLE]
    return CHAT_FORMS.get(style, ChatForm("{system}\n\n", style, between="\n\n"))


def turns_of(entry: Entry) -> list[Entry]:
    """The turns of an entry, each an entry with "instruction" and "output": the last is its own."""
    return [*entry.get("history", ()), entry]


def is_chat(entry: Entry) -> bool:
    """Whether an entry is a conversation (it may have lost its earlier turns), or has a system
    prompt.
    """
    return "history" in entry or bool(entry.get("system"))


def prompt_parts(entry: Entry, style: PromptStyle) -> list[list[Part]]:
    r"""For each turn, what comes before its answer, in pieces: (role, text).

    >>> entry = {"instruction": "And its plural?", "system": "Be short.",
    ...          "history": [{"instruction": "Name a fruit.", "output": "Lime"}]}
    >>> for parts in prompt_parts(entry, BOOK_STYLE):
    ...     print("".join(text for _, text in parts).split("\n\n"))
    ['Be short.', '### Instruction:\nName a fruit.', '### Response:\n']
    ['', '### Instruction:\nAnd its plural?', '### Response:\n']
    """
    form = chat_form(style)
    first, *later = turns_of(entry)
    if entry.get("system"):
        before, after = form.system.split("{system}")
        system = [("template", before), ("system", entry["system"]), ("template", after)]
        parts = [system + form.turn.parts(first)]
    else:
        parts = [style.parts(first)]
    parts += [[("template", form.between), *form.turn.parts(turn)] for turn in later]
    return [[(role, text) for role, text in pieces if text] for pieces in parts]


def describe_conversations(entries: Iterable[Entry]) -> dict[str, Any] | None:
    """{"turns": of the longest conversation, "system": whether any has a system prompt}, or None.

    >>> describe_conversations([{"instruction": "Hi", "output": "Ho", "system": "Be short."}])
    {'turns': 1, 'system': True}
    """
    chats = [entry for entry in entries if is_chat(entry)]
    if not chats:
        return None
    return {
        "turns": max(len(turns_of(entry)) for entry in chats),
        "system": any(entry.get("system") for entry in chats),
    }


def merge_descriptions(
    one: dict[str, Any] | None, other: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The description of two files together, from the descriptions of each.

    A model that was trained elsewhere has "turns" None: of any number.
    """
    if one is None or other is None:
        return one or other
    turns = None
    if one["turns"] is not None and other["turns"] is not None:
        turns = max(one["turns"], other["turns"])
    return {"turns": turns, "system": one["system"] or other["system"]}


def entries_of_turns(entries: Iterable[Entry]) -> list[Entry]:
    """An entry for each turn of each conversation, with the turns before it as its history.

    >>> chat = {"instruction": "b", "output": "B", "history": [{"instruction": "a", "output": "A"}]}
    >>> [(entry["instruction"], len(entry["history"])) for entry in entries_of_turns([chat])]
    [('a', 0), ('b', 1)]
    """
    parts: list[Entry] = []
    for entry in entries:
        history = entry.get("history", [])
        if not history:
            parts.append(entry)
            continue
        for i, turn in enumerate(turns_of(entry)):
            parts.append({**entry, "input": "", **turn, "history": history[:i]})
    return parts


def question_line(entry: Entry, between: str = " ") -> str:
    """What an entry asks, on one line; in a conversation, after the turns before.

    `between` stands between instruction and input.

    >>> question_line({"instruction": "And its plural?", "history": [
    ...     {"instruction": "Name a fruit.", "output": "Lime"}]})
    'Name a fruit. -> Lime; And its plural?'
    """
    earlier = [f"{turn['instruction']} -> {turn['output']}; " for turn in entry.get("history", ())]
    return "".join(earlier) + between.join(
        part for part in (entry["instruction"], entry.get("input")) if part
    )


def prompt_text(entry: Entry) -> str:
    """All that was said before the answer, for comparisons: "And its plural?" alone says little."""
    earlier = [f"{turn['instruction']} {turn['output']}" for turn in entry.get("history", ())]
    return " ".join([*earlier, f"{entry['instruction']} {entry.get('input') or ''}"])


def refuse_conversations(
    entries: Sequence[Entry], places: Sequence[str], path: object, purpose: str
) -> None:
    """DataError that names the first conversation: `purpose` can use only single rows."""
    for entry, place in zip(entries, places, strict=True):
        if is_chat(entry):
            raise DataError(
                f"{path}: {place} is a conversation or has a system prompt, but {purpose} takes "
                "single questions and answers"
            )


def full_prompt(entry: Entry, style: PromptStyle) -> str:
    """Everything before the last answer, as text; an earlier answer's end is not a text."""
    return full_prompt_with_ends(entry, style, end="")


def full_prompt_with_ends(entry: Entry, style: PromptStyle, end: str) -> str:
    """Everything before the last answer, with `end` after each earlier answer."""
    texts: list[str] = []
    for turn, parts in zip(turns_of(entry), prompt_parts(entry, style), strict=True):
        texts += [text for _, text in parts]
        if turn is not entry:
            texts += [turn["output"], end]
    return "".join(texts)
